"""All that a reader wants to know of a run: what it is, its numbers with their noise, figures, and what it writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqvae.config import Config
from seqvae.data.store import TokenStore, prepare
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import row_seed
from seqvae.evaluation.report import metric_rows
from seqvae.evaluation.surroundings import texts_of
from seqvae.generation.codes import encode_store
from seqvae.io import disk, pretrained
from seqvae.textvae import TextVAE
from seqvae.training.history import read_history
from seqvae.training.layout import CONFIG, PROVENANCE

SAMPLES, PAIRS, STEPS, SENTENCES = 10, 3, 7, 8
MAPPED = 5_000


@dataclass(frozen=True, kw_only=True)
class FigureShown:
    title: str
    about: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """What stands on the page, in its order. Empty lists are what this kind of model does not have."""

    name: str
    kind: str
    verdict: str
    evidence: Sequence[str]
    advice: str | None
    split: str
    numbers: Sequence[tuple[str, str, str, str]]
    """Label, value, standard error, meaning."""
    figures: Sequence[FigureShown]
    no_figures: str | None
    """Why there are none."""
    samples: Sequence[str]
    reconstructions: Sequence[tuple[str, str]]
    paths: Sequence[tuple[str, str, Sequence[tuple[float, str]]]]
    """From this sentence, to this one: t and the text there."""
    facts: Sequence[tuple[str, str]]
    data: Sequence[tuple[str, str, str]]
    """Split, where it came from, sha256."""
    config: str


def run_page(run: Path, *, split: str, seed: int = 0, device: str = "cpu") -> RunPage:
    """Collect the page of a run from its files and its model, with numbers that ``seqvae eval`` has kept.

    What is written (samples, reconstructions, paths) is chosen by ``seed`` alone. Raises E404 where there is no run,
    E294 where the split has not been measured.
    """
    for name in (CONFIG, PROVENANCE):
        if not (run / name).is_file():
            hint = "name a folder that `seqvae train` made; a model that was copied out of its run has no history"
            raise SeqVAEError("E404", f"there is no run: {name} is missing", where=str(run), hint=hint)
    config, begun = Config.from_yaml(run / CONFIG), disk.read_json(run / PROVENANCE)
    report, _ = pretrained.kept_evaluation(run, split)
    vae = pretrained.load(run, device=device)
    store = prepare(config.data, vae.tokenizer, splits=[split], classes=vae.labels).splits[split]
    texts = texts_of(config.data, split, store)
    figures, no_figures = _figures(run, report, vae, store)
    rows = np.random.default_rng(row_seed(seed, "page")).permutation(len(store))
    return RunPage(
        name=run.resolve().name,
        kind=_kind(vae, report),
        verdict=report["verdict"]["text"],
        evidence=report["verdict"]["evidence"],
        advice=report["verdict"]["next"],
        split=split,
        numbers=list(metric_rows(report)),
        figures=figures,
        no_figures=no_figures,
        samples=[] if vae.noiseless else vae.sample(SAMPLES, seed=seed),
        reconstructions=_reconstructions(vae, store, texts, rows),
        paths=_paths(vae, store, texts, rows),
        facts=_facts(begun, config, vae),
        data=[(name, _origin(config, name), each["sha256"]) for name, each in begun["data"].items()],
        config=config.to_yaml(),
    )


def _kind(vae: TextVAE, report: Mapping[str, Any]) -> str:
    cells = vae.model.config.cells
    if vae.latent_dim == 0:
        return f"A language model ({cells})"
    what = "A plain autoencoder" if vae.noiseless else "A variational autoencoder"
    given = ", given a label" if report["conditional"] else ""
    return f"{what} over text ({cells}, {vae.latent_dim} latent dimensions){given}"


def _figures(
    run: Path, report: Mapping[str, Any], vae: TextVAE, store: TokenStore
) -> tuple[list[FigureShown], str | None]:
    from seqvae.plots import latent
    from seqvae.plots.style import svg
    from seqvae.plots.training import training_curves

    try:
        history = read_history(run)
        drawn = [("The course of training", "Lines are training, dots are validation.", training_curves([history]))]
        if latent.has_dimensions(report):
            about = "A dimension that costs nothing carries nothing."
            drawn.append(("What each dimension costs", about, latent.kl_by_dimension({history.name: report})))
        if vae.latent_dim > 0:
            rows = np.arange(len(store))[:MAPPED]
            codes = encode_store(vae.model, store, rows).mean
            drawn.append(
                (
                    "Where sentences lie",
                    "Posterior means on the two axes along which they differ most, coloured by length.",
                    latent.latent_map(codes, "tokens", values=store.lengths[rows] - 1),
                )
            )
    except SeqVAEError as error:
        if error.code != "E273":
            raise
        return [], f"{error.what}; {error.hint}"
    return [FigureShown(title=title, about=about, svg=svg(figure)) for title, about, figure in drawn], None


def _reconstructions(vae: TextVAE, store: TokenStore, texts: Sequence[str], rows: np.ndarray) -> list[tuple[str, str]]:
    if vae.latent_dim == 0:
        return []
    chosen = rows[:SENTENCES].tolist()
    given = [texts[row] for row in chosen]
    labels = None if vae.labels is None else [store.classes[store.labels[row]] for row in chosen]
    return list(zip(given, vae.reconstruct(given, label=labels), strict=True))


def _paths(
    vae: TextVAE, store: TokenStore, texts: Sequence[str], rows: np.ndarray
) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """The whole of a path is written under the label of its first sentence."""
    if vae.latent_dim == 0:
        return []
    chosen = rows[SENTENCES : SENTENCES + 2 * PAIRS].tolist()
    found = []
    for a, b in zip(chosen[::2], chosen[1::2], strict=False):
        label = None if vae.labels is None else store.classes[store.labels[a]]
        found.append((texts[a], texts[b], vae.interpolate(texts[a], texts[b], STEPS, label=label)))
    return found


def _facts(begun: Mapping[str, Any], config: Config, vae: TextVAE) -> list[tuple[str, str]]:
    phases = [strategy for phase in config.train.phases for strategy in phase.strategies or ()]
    methods = dict.fromkeys(strategy.name for strategy in (*config.objective.strategies, *phases))
    return [
        ("begun", begun["began"]),
        ("command", begun["argv"]),
        ("parameters", f"{sum(parameter.numel() for parameter in vae.model.parameters()):,}"),
        ("vocabulary", f"{vae.model.vocab_size:,}"),
        ("training methods", ", ".join(methods) or "none"),
        ("seed", str(config.train.seed)),
        ("versions", ", ".join(f"{name} {version}" for name, version in begun["versions"].items())),
        ("commit", begun["git"] or "unknown"),
        ("hardware", f"{begun['device']} ({begun['device_name']}), {begun['threads']} threads, {begun['precision']}"),
    ]


def _origin(config: Config, split: str) -> str:
    given = getattr(config.data, split)
    return f"corpus {config.data.corpus}" if given is None else str(given)

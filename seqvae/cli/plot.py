"""``seqvae plot``."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import (
    DeviceOption,
    JsonOption,
    LabelOption,
    MeasuredOption,
    Split,
    load_model,
    measured_split,
    read_sentences,
    run_config,
    split_to_measure,
    tell_unknown_words,
)
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["training", "kl", "rate", "map"]
Format = Literal["svg", "png", "pdf"]

MAPPED = 20_000
"""Sentences on a map; more would hide one another."""


@run_verb()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", autocompletion=completion.runs)],
    kind: Annotated[
        Kind | None,
        typer.Option(
            help="training: curves; kl: by dimension; rate: KL against rec; map: codes on a plane.",
            show_default="training, and kl and rate of runs that were evaluated",
        ),
    ] = None,
    path: Annotated[
        tuple[str, str] | None,
        typer.Option("--path", metavar="A B", help="Two sentences: which texts the points between them make likely."),
    ] = None,
    steps: Annotated[int, typer.Option(metavar="N", min=2, help="Points of the path.")] = 9,
    colour: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What colours the map: labels by name, or `length`.", show_default="labels"),
    ] = None,
    split: MeasuredOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write.", show_default="RUN/plots; ./plots of several or a model"),
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="How to write it.", show_default="svg and png")
    ] = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Draw figures of one run or several, and name the files on stdout.

    Curves come from the log of the runs, kl and rate from what `seqvae eval` kept; the map encodes a split. Needs
    matplotlib: `pip install 'seqvae[plots]'`.
    """
    from seqvae.io import manifests
    from seqvae.plots import style

    for run in runs:
        if not run.is_dir():
            raise SeqVAEError(
                "E404", "there is no such run", where=str(run), hint="`seqvae runs list` shows those here"
            )
    is_run = len(runs) == 1 and not (runs[0] / manifests.MANIFEST).is_file()  # a model folder is whole as it is
    folder = out or (runs[0] / "plots" if is_run else Path("plots"))
    drawers: dict[str, Callable[[], Figure]] = {
        "training": lambda: _training(runs),
        "kl": lambda: _kl(runs, split),
        "rate": lambda: _rate(runs, split),
        "map": lambda: _map(_only(runs, "map"), split, colour, device),
        "path": lambda: _path(_only(runs, "path"), path, steps, label, device),
    }
    asked = [name for name, wanted in ((kind, kind), ("path", path)) if wanted is not None]
    written = []
    for name in asked or _drawable(runs, split):
        written += style.save(drawers[name](), folder, name, ["svg", "png"] if form is None else [form])
    if json:
        emit_json([str(each) for each in written])
    else:
        emit_lines(map(str, written))


def _only(runs: Sequence[Path], what: str) -> Path:
    if len(runs) > 1:
        hint = "name one run"
        raise SeqVAEError("E274", f"a {what} is drawn of one model, and {len(runs)} are named", hint=hint)
    return runs[0]


def _drawable(runs: Sequence[Path], split: Split | None) -> list[Kind]:
    """What can be drawn of the files as they are."""
    found: list[Kind] = ["training"]
    try:
        reports = _reports(runs, split)
    except SeqVAEError as error:
        if error.code not in ("E294", "E404"):  # not measured yet, no model yet
            raise
        say(f"note     no figure of the KL: {error.what}; {error.hint}")
        return found
    from seqvae.plots.latent import has_dimensions, has_rate

    if any(map(has_dimensions, reports.values())):
        found.append("kl")
    if len(runs) > 1 and any(map(has_rate, reports.values())):
        found.append("rate")
    return found


def _reports(runs: Sequence[Path], split: Split | None) -> dict[str, dict[str, Any]]:
    from seqvae.io import pretrained

    split = measured_split(runs, split)
    return {_name(run, runs): pretrained.kept_evaluation(run, split)[0] for run in runs}


def _name(run: Path, runs: Sequence[Path]) -> str:
    """The end of its path that is no other one's: the name of its folder, with folders above it where need be."""
    own, others = run.resolve().parts, {other.resolve().parts for other in runs} - {run.resolve().parts}
    taken = max((_shared_end(own, other) for other in others), default=0)
    return "/".join(own[-1 - taken :])


def _shared_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts are the same."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _training(runs: Sequence[Path]) -> "Figure":
    from seqvae.plots.training import training_curves
    from seqvae.training.history import read_history

    return training_curves([replace(read_history(run), name=_name(run, runs)) for run in runs])


def _kl(runs: Sequence[Path], split: Split | None) -> "Figure":
    from seqvae.plots.latent import has_dimensions, kl_by_dimension

    return kl_by_dimension(_some(_reports(runs, split), has_dimensions, "KL by dimension"))


def _rate(runs: Sequence[Path], split: Split | None) -> "Figure":
    from seqvae.plots.latent import has_rate, rate_distortion

    return rate_distortion(_some(_reports(runs, split), has_rate, "KL"))


def _some(reports: dict[str, dict[str, Any]], has: Callable[[Any], bool], what: str) -> dict[str, dict[str, Any]]:
    if not any(map(has, reports.values())):
        raise SeqVAEError("E274", f"no run here has a {what}", hint="name a VAE that was evaluated by `seqvae eval`")
    return reports


def _map(run: Path, split: Split | None, colour: str | None, device: str) -> "Figure":
    import numpy as np

    from seqvae.evaluation.surroundings import labels_of
    from seqvae.generation.codes import encode_store
    from seqvae.plots.latent import latent_map

    vae, folder = load_model(run, device)
    vae.need_latent("draw a map")
    split = split_to_measure(folder, split, None)
    store = read_sentences(folder, vae, split, None)
    config = run_config(folder)
    named = {} if config is None else labels_of(config.data, split, store)
    by = colour or next(iter(named), "length")
    if by != "length" and by not in named:
        hint = f"it can be coloured by {' or '.join([*named, 'length'])}"
        raise SeqVAEError("E274", f"the {split} split has no labels `{by}`", hint=hint)
    rows = np.arange(len(store))
    if len(store) > MAPPED:
        rows = np.sort(np.random.default_rng(0).choice(len(store), MAPPED, replace=False))
        say(f"note     {MAPPED:,} of the {len(store):,} sentences are on the map")
    codes = encode_store(vae.model, store, rows).mean
    if by == "length":
        return latent_map(codes, "tokens", values=store.lengths[rows] - 1)
    return latent_map(codes, by, labels=[named[by][row] for row in rows])


def _path(run: Path, ends: tuple[str, str], steps: int, label: str | None, device: str) -> "Figure":
    from seqvae.generation.paths import fractions
    from seqvae.plots.paths import path_heatmap

    vae, _ = load_model(run, device)
    vae.need_latent("draw a path")
    tell_unknown_words(vae, ends)
    codes = vae.path(*ends, steps, label=label)
    texts = list(dict.fromkeys(vae.decode(codes, label=label)))
    return path_heatmap(fractions(steps), texts, vae.log_probs_at(texts, codes, label=label))

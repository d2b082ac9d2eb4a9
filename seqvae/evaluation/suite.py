"""The full suite: the basic report and everything else that can be measured about a model on a split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.evaluation import probes
from seqvae.evaluation.interpolation import InterpolationReport, measure_interpolation
from seqvae.evaluation.latent import encode_split, subset
from seqvae.evaluation.likelihood import OnProgress
from seqvae.evaluation.marginal import AggregatePosterior, aggregate_posterior
from seqvae.evaluation.passes import row_seed
from seqvae.evaluation.report import EvalConfig, EvalReport, evaluate_model
from seqvae.evaluation.samples import SampleReport, measure_samples
from seqvae.evaluation.sections import in_terminal, sections
from seqvae.evaluation.surroundings import Pairs, Surroundings
from seqvae.generation.aggregate import fit_aggregate
from seqvae.generation.codes import encode_store
from seqvae.notebook import html

OnStage = Callable[[str], None]
"""Called with the name of what is measured next."""


@dataclass(frozen=True, kw_only=True)
class FullReport:
    """Everything; a part that the model or its surroundings do not allow is None (or has no entries)."""

    basic: EvalReport
    aggregate_posterior: AggregatePosterior | None
    samples: SampleReport
    samples_from: str
    """Where the codes of the samples came from: prior, mixture (fitted to the codes of the text), or no code."""
    interpolation: InterpolationReport | None
    probes: dict[str, probes.Probe]
    retrieval: probes.Retrieval | None
    similarity: probes.Similarity | None

    def to_dict(self) -> dict[str, Any]:
        """The basic numbers as in `EvalReport.to_dict`, and each further part under its name; ready for JSON."""
        parts = {name: value for name, value in vars(self).items() if name != "basic"}
        parts["probes"] = {name: asdict(probe) for name, probe in self.probes.items()}
        for name, value in parts.items():
            if hasattr(value, "__dataclass_fields__"):
                parts[name] = asdict(value)
        return self.basic.to_dict() | parts

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(self.basic, *(part for section in sections(self) for part in in_terminal(section)))

    def _repr_html_(self) -> str:
        return self.basic._repr_html_() + html(*sections(self))


def evaluate_fully(
    model: nn.Module,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    split: str,
    around: Surroundings | None = None,
    config: EvalConfig | None = None,
    noiseless: bool = False,
    on_progress: OnProgress | None = None,
    on_stage: OnStage = lambda name: None,
) -> FullReport:
    """`evaluate_model`, and then all that ``around`` allows. The seed decides everything that is drawn."""
    around, config = around or Surroundings(), config or EvalConfig()
    on_stage("likelihood, use of the code, reconstruction")
    basic = evaluate_model(
        model, tokenizer, store, split=split, config=config, noiseless=noiseless, on_progress=on_progress
    )
    on_stage("samples, and two small language models")
    source = store if around.train is None else around.train
    codes, origin = _sample_codes(model, source, config, noiseless)
    labels = None
    if model.labels is not None:  # as frequent as in the text
        labels = torch.from_numpy(source.labels[subset(len(source), len(codes), config.seed)].astype(np.int64))
    samples = measure_samples(
        model,
        tokenizer,
        store,
        codes=codes,
        labels=labels,
        train=around.train,
        language_model=around.language_model,
        parses=around.parses,
        obeys=around.obeys,
        seed=config.seed,
    )
    found: dict[str, Any] = {"basic": basic, "samples": samples, "samples_from": origin}
    if model.latent_dim == 0:
        nothing = {"aggregate_posterior": None, "interpolation": None, "retrieval": None, "similarity": None}
        return FullReport(**found, **nothing, probes={})
    on_stage("aggregate posterior")
    aggregate = None if noiseless else _aggregate(model, store, config)
    on_stage("paths between sentences")
    paths = measure_interpolation(
        model,
        tokenizer,
        store,
        pairs=config.paths,
        language_model=around.language_model,
        parses=around.parses,
        seed=config.seed,
    )
    on_stage("what the code knows")
    return FullReport(
        **found,
        aggregate_posterior=aggregate,
        interpolation=paths,
        probes=_probes(model, tokenizer, store, around, config),
        retrieval=_retrieval(model, tokenizer, store, around, config),
        similarity=None
        if around.pairs is None or model.labels is not None
        else _similarity(model, tokenizer, around.pairs, config),
    )


def _sample_codes(
    model: nn.Module, text: TokenStore, config: EvalConfig, noiseless: bool
) -> tuple[Float[Tensor, "N Z"], str]:
    """As many codes as there are samples to write, at most one for each sentence of ``text``."""
    count = min(config.samples, len(text))
    generator = torch.Generator().manual_seed(row_seed(config.seed, "codes"))
    if model.latent_dim == 0:
        return torch.zeros(count, 0), "no code"
    if noiseless:
        mixture = fit_aggregate(model, text, seed=config.seed, noiseless=True, spherical=model.spherical)
        return mixture.sample(count, generator=generator), "mixture"
    with torch.no_grad():
        return model.prior.sample(count, generator=generator).cpu(), "prior"


def _aggregate(model: nn.Module, store: TokenStore, config: EvalConfig) -> AggregatePosterior:
    budget = {"seed": config.seed, "batch_tokens": config.batch_tokens}
    codes = encode_split(model, store, mi_sentences=config.mi_sentences, **budget)
    return aggregate_posterior(model, store, codes, seed=config.seed)


def _features(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, rows: Int[np.ndarray, " N"], config: EvalConfig
) -> tuple[probes.Features, probes.Features]:
    """Posterior means and bags of words of some sentences."""
    means = encode_store(model, store, rows, batch_tokens=config.batch_tokens).mean
    return means, probes.bag_of_words(store, tokenizer.vocab_size)[rows]


def _probes(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, around: Surroundings, config: EvalConfig
) -> dict[str, probes.Probe]:
    if around.train is None or not around.labels:
        return {}
    features, rows = [], []
    for some in (around.train, store):
        rows.append(subset(len(some), config.probe_sentences, config.seed))
        features.append(_features(model, tokenizer, some, rows[-1], config))
    found = {
        name: probes.probe(features[0], np.asarray(labels[0])[rows[0]], features[1], np.asarray(labels[1])[rows[1]])
        for name, labels in around.labels.items()
    }
    return {name: probe for name, probe in found.items() if probe is not None}


def _retrieval(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, around: Surroundings, config: EvalConfig
) -> probes.Retrieval | None:
    """Over at most ``probe_sentences`` rows, whole groups drawn by the seed: its cost is N^2."""
    if around.groups is None:
        return None
    _, group, sizes = np.unique(around.groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(row_seed(config.seed, "groups")).permutation(len(sizes))
    taken = np.zeros(len(sizes), dtype=bool)
    taken[order[np.cumsum(sizes[order]) <= config.probe_sentences]] = True
    rows = np.flatnonzero(taken[group])
    return probes.retrieval(*_features(model, tokenizer, store, rows, config), group[rows])


def _similarity(model: nn.Module, tokenizer: Tokenizer, pairs: Pairs, config: EvalConfig) -> probes.Similarity:
    stores = [TokenStore.from_texts(texts, tokenizer) for texts in (pairs.first, pairs.second)]
    sides = [_features(model, tokenizer, store, np.arange(len(store)), config) for store in stores]
    unknown, tokens = (sum(getattr(store.stats, name) for store in stores) for name in ("unknown", "tokens"))
    return probes.similarity(
        (sides[0][0], sides[1][0]),
        (sides[0][1], sides[1][1]),
        pairs.scores,
        unknown / max(1, tokens - 2 * len(pairs.scores)),
    )

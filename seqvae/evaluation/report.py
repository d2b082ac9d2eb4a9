"""Everything that is known about a model on one split, as one record: for JSON, for a table, for a model card."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from seqvae import notebook
from seqvae.bounds import LARGEST_SEED, MOST_IW_SAMPLES, MOST_SENTENCES
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import encode_split, mutual_information, prior_gap, rec_at, swap_gap
from seqvae.evaluation.likelihood import OnProgress, autoencoder_rec, elbo_and_iw, perplexity, refuse_non_finite
from seqvae.evaluation.passes import standard_error
from seqvae.evaluation.text import reconstruction, token_accuracy
from seqvae.evaluation.verdict import Evidence, Verdict, judge

_DIMS_SHOWN = 16


class EvalConfig(BaseModel):
    """Settings of the evaluation (section ``eval``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    iw_samples: int = Field(
        500,
        ge=1,
        le=MOST_IW_SAMPLES,
        description="samples of z per sentence for -ELBO and the importance-weighted bound",
    )
    batch_tokens: int = Field(16_384, ge=1, description="tokens decoded at once, samples counted: bounds the memory")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the decoder's products for -ELBO and the importance-weighted bound: bf16 is faster where the "
        "hardware has it, and rounds",
    )
    mi_sentences: int = Field(20_000, ge=1, description="most sentences for the mutual information (its cost is N^2)")
    reconstructions: int = Field(2_000, ge=1, description="most sentences to reconstruct for BLEU and exact match")
    samples: int = Field(
        2_000, ge=1, le=MOST_SENTENCES, description="full suite: samples to write, and to learn a language model from"
    )
    paths: int = Field(100, ge=1, description="full suite: pairs of sentences to walk between")
    probe_sentences: int = Field(
        10_000, ge=2, description="full suite: most sentences of each split for probes and for retrieval (cost N^2)"
    )
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="seed of the posterior samples and of the subsets")


def _metric(label: str, meaning: str, digits: int = 3) -> Any:
    return field(metadata={"label": label, "meaning": meaning, "digits": digits})


@dataclass(frozen=True, kw_only=True)
class EvalReport:
    """One model on one split. Nats are per sentence unless named otherwise, and positive; None: does not apply."""

    split: str
    conditional: bool
    """Whether each sentence is measured given its label: likelihoods are then -log p(x|label)."""
    sentences: int = _metric("sentences", "")
    tokens: int = _metric("tokens", "predicted: EOS counted, BOS not")
    elbo_nats: float | None = _metric("-ELBO", "rec + KL, an upper bound on the NLL")
    elbo_se: float | None
    rec_nats: float = _metric("rec", "-log p(x|z): the sentence by its code")
    rec_se: float | None
    kl_nats: float | None = _metric("KL", "the cost of the code, same z as rec")
    kl_se: float | None
    kl_analytic_nats: float | None = _metric("KL, closed form", "the same without sampling noise")
    kl_dims_nats: list[float] | None
    iw_nats: float | None = _metric("IW-NLL", "importance-weighted, tighter bound")
    iw_se: float | None
    iw_samples: int | None = _metric("k", "samples of z for each sentence")
    precision: str | None
    """Of the decoder's products for -ELBO and IW-NLL; None where neither applies."""
    ppl_iw: float | None = _metric("PPL (IW)", "exp(total IW-NLL / tokens)", 2)
    ppl_elbo: float | None = _metric("PPL (ELBO)", "exp(total -ELBO / tokens)", 2)
    nats_per_word: float | None = _metric("nats per word", "total IW-NLL / whitespace words")
    nats_per_character: float | None = _metric("nats per character", "total IW-NLL / characters")
    mi_nats: float | None = _metric("MI", "what the code tells of the sentence")
    mi_se: float | None
    mi_ceiling_nats: float | None = _metric("MI ceiling", "ln N: the most that N can show")
    mi_sentences: int | None
    marginal_kl_nats: float | None = _metric("marginal KL", "of all codes together to the prior")
    marginal_kl_se: float | None
    active_units: int | None = _metric("active units", "dimensions whose mean varies")
    unit_variances: list[float] | None
    latent_dim: int = _metric("latent_dim", "dimensions of the code")
    swap_gap_nats: float | None = _metric("swap gap", "rise of rec with another's code")
    swap_gap_se: float | None
    prior_gap_nats: float | None = _metric("prior gap", "rise of rec with z from the prior")
    prior_gap_se: float | None
    token_accuracy: float = _metric("token accuracy", "teacher-forced: a diagnosis")
    bleu: float | None = _metric("BLEU", "greedy reconstruction, 0 to 100", 2)
    bleu_signature: str | None
    chrf: float | None = _metric("chrF", "the same by characters, 0 to 100", 2)
    chrf_signature: str | None
    edit_distance: float | None = _metric("edit distance", "share of tokens to mend")
    edit_distance_se: float | None
    exact_match: float | None = _metric("exact match", "share that comes back whole")
    exact_match_se: float | None
    reconstructions: int | None
    unknown_rate: float = _metric("unknown tokens", "share outside the vocabulary", 4)
    data_fingerprint: str
    """Of the sentences and their tokens: where two reports agree in it, their sentences may be paired."""
    verdict: Verdict
    by_sentence: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    """The nats of each sentence by name (elbo, iw, rec), in the order of the split; not part of the JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: plain numbers, strings, lists; None becomes null."""
        return {name: value for name, value in asdict(self).items() if name != "by_sentence"}

    @property
    def title(self) -> str:
        given = ", given its label" if self.conditional else ""
        return f"{self.split} split, nats per sentence{given}{', products in bf16' if self.precision == 'bf16' else ''}"

    def _repr_html_(self) -> str:
        table = notebook.Table(title=self.title, columns=COLUMNS, rows=list(metric_rows(vars(self))))
        return notebook.html(table) + self.verdict._repr_html_()

    def __rich__(self) -> Any:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.title), box=box.SIMPLE, title_justify="left")
        table.add_column("")
        table.add_column("value", justify="right")
        table.add_column("± se", justify="right")
        table.add_column("meaning", style="dim")
        for row in metric_rows(vars(self)):
            table.add_row(*row)
        lines = [Text(self.verdict.text, style="bold")]
        if self.kl_dims_nats:
            largest = sorted(self.kl_dims_nats, reverse=True)[:_DIMS_SHOWN]
            lines.insert(0, Text(f"KL by dimension, largest first: {' '.join(f'{kl:.2f}' for kl in largest)}\n"))
        lines += [Text(f"  · {line}") for line in self.verdict.evidence]
        if self.verdict.next:
            # Not wrapped: what is to be copied stays in one piece.
            lines.append(Text(f"  next: {self.verdict.next}", no_wrap=True, overflow="ignore"))
        return Group(table, *lines)


COLUMNS = ("", "value", "± se", "meaning")
"""Of `metric_rows`."""


def metric_rows(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Label, value, standard error and meaning of every number that there is, of what `EvalReport.to_dict` gives."""
    for item in fields(EvalReport):
        value = values.get(item.name)
        if "label" in item.metadata and value is not None:
            error = values.get(item.name.removesuffix("_nats") + "_se")
            shown = _shown(value, item.metadata["digits"])
            yield item.metadata["label"], shown, _shown(error, 3), item.metadata["meaning"]


def _shown(value: float | int | None, digits: int) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def evaluate_model(
    model: nn.Module,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    split: str,
    config: EvalConfig | None = None,
    noiseless: bool = False,
    on_progress: OnProgress | None = None,
) -> EvalReport:
    """Evaluate ``model`` on one split. Its modes and the global random state are as before when it returns.

    ``noiseless``: a plain autoencoder, decoded from the posterior mean; likelihoods, KL and MI do not apply to it.
    Errors: E330 for a split without sentences, E531 for a model whose likelihood is not finite.
    """
    config = config or EvalConfig()
    if len(store) == 0:
        raise SeqVAEError("E330", f"the {split} split has no sentences", hint="check the file, or name another --split")
    found = _likelihood_numbers(model, store, config, noiseless, on_progress)
    if model.latent_dim > 0:
        found |= _latent_numbers(model, tokenizer, store, config, noiseless)
    accuracy = token_accuracy(model, store, batch_tokens=config.batch_tokens)
    blank = {item.name: None for item in fields(EvalReport)}
    found |= {"latent_dim": model.latent_dim, "token_accuracy": accuracy, "unknown_rate": store.stats.unknown_rate}
    found |= {
        "split": split,
        "conditional": model.labels is not None,
        "sentences": len(store),
        "data_fingerprint": store.fingerprint,
    }
    seen = {name: found.get(name) for name in Evidence.__dataclass_fields__}
    seen["kl_splits"] = found.get("kl_dims_nats") is not None
    posterior = model.config.posterior
    seen["kappa"] = posterior.kappa if posterior.family == "vmf" else None
    return EvalReport(**(blank | found | {"verdict": judge(Evidence(**seen), noiseless=noiseless)}))


def _likelihood_numbers(
    model: nn.Module, store: TokenStore, config: EvalConfig, noiseless: bool, on_progress: OnProgress | None
) -> dict[str, Any]:
    if noiseless:
        rec, tokens = autoencoder_rec(model, store, batch_tokens=config.batch_tokens)
        refuse_non_finite(rec)
        found = {"rec_nats": float(rec.mean()), "rec_se": standard_error(rec), "tokens": int(tokens.sum())}
        return found | {"by_sentence": {"rec": rec}}
    each = elbo_and_iw(
        model,
        store,
        samples=config.iw_samples,
        seed=config.seed,
        batch_tokens=config.batch_tokens,
        bf16=config.precision == "bf16",
        on_progress=on_progress,
    )
    refuse_non_finite(each.iw)
    iw, tokens = float(each.iw.sum()), int(each.tokens.sum())
    means = {"elbo": each.elbo, "rec": each.rec, "kl": each.kl, "kl_analytic": each.kl_analytic, "iw": each.iw}
    found = {f"{name}_nats": None if values is None else float(values.mean()) for name, values in means.items()}
    return found | {
        "tokens": tokens,
        "by_sentence": {
            "elbo": each.elbo,
            "iw": each.iw,
            "rec": each.rec,
            **({} if each.kl is None else {"kl": each.kl}),
        },
        "rec_se": standard_error(each.rec),
        "kl_se": None if each.kl is None else standard_error(each.kl),
        "elbo_se": standard_error(each.elbo),
        "iw_se": standard_error(each.iw),
        "iw_samples": each.samples,
        "precision": config.precision,
        "kl_dims_nats": None if each.kl_dims is None else each.kl_dims.tolist(),
        "ppl_iw": perplexity(iw, tokens),
        "ppl_elbo": perplexity(float(each.elbo.sum()), tokens),
        "nats_per_word": iw / store.stats.words if store.stats.words else None,
        "nats_per_character": iw / store.stats.characters if store.stats.characters else None,
    }


def _latent_numbers(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, config: EvalConfig, noiseless: bool
) -> dict[str, Any]:
    budget = {"seed": config.seed, "batch_tokens": config.batch_tokens}
    codes = encode_split(model, store, mi_sentences=config.mi_sentences, noiseless=noiseless, **budget)
    own = rec_at(model, store, codes.z, batch_tokens=config.batch_tokens)
    gap = swap_gap(model, store, codes, own=own, **budget)
    back = reconstruction(model, tokenizer, store, at_most=config.reconstructions, seed=config.seed)
    found: dict[str, Any] = {
        "active_units": codes.active_units,
        "unit_variances": codes.unit_variances,
        "swap_gap_nats": None if gap is None else gap.nats,
        "swap_gap_se": None if gap is None else gap.se,
        "reconstructions": back.sentences,
    }
    found |= {name: value for name, value in asdict(back).items() if name != "sentences"}
    if not noiseless:
        mi, off = mutual_information(codes, model.prior), prior_gap(model, store, codes, own=own, **budget)
        found |= {"mi_nats": mi.nats, "mi_se": mi.se, "mi_ceiling_nats": mi.ceiling_nats, "mi_sentences": mi.sentences}
        found |= {"marginal_kl_nats": mi.marginal_kl_nats, "marginal_kl_se": mi.marginal_kl_se}
        found |= {"prior_gap_nats": off.nats, "prior_gap_se": off.se}
    return found

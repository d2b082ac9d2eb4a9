"""Runs beside one another: seeds of one config together, differences with their noise."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from seqvae.notebook import Table, html

METRICS = (
    *("elbo_nats", "rec_nats", "kl_nats", "iw_nats", "ppl_iw", "nats_per_character", "mi_nats", "marginal_kl_nats"),
    *("active_units", "swap_gap_nats", "prior_gap_nats", "bleu", "chrf", "edit_distance", "exact_match"),
    *("samples.forward.ppl", "samples.reverse.ppl", "samples.samples.self_bleu", "samples.parsed"),
)
"""What is compared unless named otherwise: keys of ``eval.json``, dots leading into the parts of the full suite."""

PAIRED = {"elbo_nats": "elbo", "iw_nats": "iw", "rec_nats": "rec", "kl_nats": "kl"}
"""The metrics whose values are kept sentence by sentence."""

LABELS = {
    "elbo_nats": "-ELBO",
    "rec_nats": "rec",
    "kl_nats": "KL",
    "iw_nats": "IW-NLL",
    "ppl_iw": "PPL (IW)",
    "mi_nats": "MI",
    "marginal_kl_nats": "marginal KL",
    "active_units": "AU",
    "swap_gap_nats": "swap gap",
    "prior_gap_nats": "prior gap",
    "bleu": "BLEU",
    "chrf": "chrF",
    "samples.forward.ppl": "forward PPL",
    "samples.reverse.ppl": "reverse PPL",
    "samples.samples.self_bleu": "self-BLEU",
    "samples.parsed": "parsed",
}

SHOWN = ("elbo_nats", "kl_nats", "iw_nats", "ppl_iw", "mi_nats", "active_units", "swap_gap_nats")
"""What a terminal and a notebook show unless they are told otherwise; files have everything."""

Noise = Literal["seeds", "paired sentences", "sentences"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run, with what ``eval`` kept of it."""

    name: str
    report: Mapping[str, Any]
    by_sentence: Mapping[str, Float[np.ndarray, " R"]] = field(default_factory=dict, repr=False)
    settings: Mapping[str, Any] | None = None
    """The config as plain data; None for a model that was copied out of its run."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """A mean with what is known of its noise.

    ``noise`` is of ``seeds`` (standard deviation over the runs of a group; of a difference, the standard error by it),
    of ``paired sentences`` (standard error of the mean difference, both models on the same sentences) or of
    ``sentences`` (standard error over them). The last two do not know how much another seed would change.
    """

    value: float
    noise: float | None = None
    of: Noise | None = None
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """The runs of one config, whatever their seed, in the order given."""

    name: str
    runs: list[str]
    values: dict[str, Value | None]
    differences: dict[str, Value | None]
    """To the first group; none for that itself."""
    settings: dict[str, tuple[Any, Any]]
    """Where its settings differ from those of the first group: (there, here)."""

    @property
    def title(self) -> str:
        return self.name if len(self.runs) == 1 else f"{self.name} ({len(self.runs)} seeds)"

    def noise_of(self, metrics: Sequence[str]) -> str:
        """What the noise of its differences is of: ``seeds``, ``paired sentences``."""
        kinds = {value.of for name in metrics if (value := self.differences.get(name)) and value.of is not None}
        return ", ".join(sorted(kinds))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    split: str
    metrics: list[str]
    groups: list[Group]
    notes: list[str]
    """What keeps numbers from being compared."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @property
    def shown(self) -> list[str]:
        """The metrics of `SHOWN` that there are; where none is, all."""
        return [name for name in SHOWN if name in self.metrics] or self.metrics

    def _repr_html_(self) -> str:
        first, *others = self.groups
        columns, names = ["", *map(label, self.shown)], self.shown
        rows = [[each.title, *(cell(each.values[name]) for name in names)] for each in self.groups]
        gaps = [[each.title, *(cell(each.differences[name], signed=True) for name in names)] for each in others]
        parts = [Table(title=f"{self.split} split, nats per sentence", columns=columns, rows=rows)]
        if gaps:
            title = f"differences to {first.title}, ± standard error"
            parts.append(Table(title=title, columns=columns, rows=gaps))
        noise = [f"{each.title}: noise of {each.noise_of(names)}" for each in others]
        return html(*parts, *noise, *self.notes)


def label(metric: str) -> str:
    return LABELS.get(metric, metric.removesuffix("_nats").replace("_", " "))


def cell(value: Value | None, *, signed: bool = False) -> str:
    """``41.26 ± 0.31``; a dash where there is no number."""
    if value is None:
        return "-"
    digits = 0 if value.value == int(value.value) and value.noise is None else 2 if abs(value.value) >= 1 else 3
    shown = format(value.value, f"{'+' if signed else ''},.{digits}f")
    return shown if value.noise is None else f"{shown} ± {value.noise:.{max(digits, 2)}f}"


def compare(runs: Sequence[Measured], *, split: str, metrics: Sequence[str] | None = None) -> Comparison:
    """Group runs of one config and compare every group with the first.

    A group of several runs has its mean and standard deviation (ddof 1) over runs. The noise of a difference is, where
    both groups have two runs or more, Welch's: sqrt(s1^2 / n1 + s2^2 / n2) over seeds. Else, for bounds, rec and KL
    on the same sentences, the standard error of the mean paired difference; else that of two independent means.
    Without ``metrics``, those of `METRICS` that any run has.
    """
    grouped = _grouped(runs)
    if metrics is None:
        metrics = [name for name in METRICS if any(_number(run, name) is not None for run in runs)]
    groups = [
        Group(
            name=members[0].name,
            runs=[run.name for run in members],
            values={name: _value(members, name) for name in metrics},
            differences={} if members is grouped[0] else {n: _difference(grouped[0], members, n) for n in metrics},
            settings=_changed(grouped[0][0].settings, members[0].settings),
        )
        for members in grouped
    ]
    return Comparison(split=split, metrics=list(metrics), groups=groups, notes=_notes(runs, groups))


def _grouped(runs: Sequence[Measured]) -> list[list[Measured]]:
    groups: list[tuple[dict[str, Any] | None, list[Measured]]] = []
    for run in runs:
        settings = None if run.settings is None else _flat(run.settings)
        alike = next((members for known, members in groups if known == settings and known is not None), None)
        if alike is None:
            groups.append((settings, [run]))
        else:
            alike.append(run)
    return [members for _, members in groups]


def _flat(settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted names of the settings that make a method: not the seed, the machine, nor how it was evaluated."""
    found = {}
    for name, value in settings.items():
        dotted = f"{path}.{name}".lstrip(".")
        if dotted.startswith("eval.") or dotted in _NOT_THE_METHOD:
            continue
        found |= _flat(value, dotted) if isinstance(value, Mapping) else {dotted: value}
    return found


_NOT_THE_METHOD = {
    *("train.seed", "train.threads", "train.device", "train.log_every", "train.loggers", "train.cuda_graphs"),
    *("train.save_every", "train.keep_checkpoints", "train.micro_tokens", "data.workers"),
}


def _changed(first: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    if first is None or other is None:
        return {}
    a, b = _flat(first), _flat(other)
    return {name: (a.get(name), b.get(name)) for name in [*a, *(b.keys() - a.keys())] if a.get(name) != b.get(name)}


def _number(run: Measured, metric: str) -> float | None:
    found: Any = run.report
    for part in metric.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits, in a file of somebody else's
        return float(found)
    return None


def _error(run: Measured, metric: str) -> float | None:
    return _number(run, metric.removesuffix("_nats") + "_se")


def _value(members: Sequence[Measured], metric: str) -> Value | None:
    """Over the runs of a group; None unless all of them have it."""
    numbers = [_number(run, metric) for run in members]
    if any(number is None for number in numbers):
        return None
    if len(numbers) > 1:
        return Value(value=float(np.mean(numbers)), noise=float(np.std(numbers, ddof=1)), of="seeds", runs=len(numbers))
    error = _error(members[0], metric)
    return Value(value=numbers[0], noise=error, of=None if error is None else "sentences")


def _difference(first: Sequence[Measured], other: Sequence[Measured], metric: str) -> Value | None:
    """``other`` less ``first``."""
    a, b = _value(first, metric), _value(other, metric)
    if a is None or b is None:
        return None
    found = {"value": b.value - a.value, "runs": min(a.runs, b.runs)}
    if min(a.runs, b.runs) > 1:
        return Value(**found, noise=math.hypot(a.noise / math.sqrt(a.runs), b.noise / math.sqrt(b.runs)), of="seeds")
    gaps = _paired(first, other, metric)
    if gaps is not None:
        return Value(**found, noise=float(np.std(gaps, ddof=1) / math.sqrt(len(gaps))), of="paired sentences")
    errors = [_error(members[0], metric) if len(members) == 1 else None for members in (first, other)]
    if None in errors:
        return Value(**found)
    return Value(**found, noise=math.hypot(*errors), of="sentences")


def _paired(first: Sequence[Measured], other: Sequence[Measured], metric: str) -> Float[np.ndarray, " R"] | None:
    """Sentence by sentence, the mean over the runs of each group; None where the sentences are not the same."""
    runs, name = [*first, *other], PAIRED.get(metric)
    marks = {_mark(run) for run in runs}
    if name is None or len(marks) > 1 or None in marks or any(name not in run.by_sentence for run in runs):
        return None
    if len({len(run.by_sentence[name]) for run in runs}) > 1:
        return None
    means = [np.mean([run.by_sentence[name] for run in members], axis=0) for members in (first, other)]
    return means[1] - means[0] if len(means[0]) > 1 else None


def _mark(run: Measured) -> str | None:
    """What tells whether two runs were measured on the same sentences and tokens."""
    mark = run.report.get("data_fingerprint")
    return None if mark is None else str(mark)


def _notes(runs: Sequence[Measured], groups: Sequence[Group]) -> list[str]:
    notes = []
    if len({_mark(run) for run in runs}) > 1:
        notes.append("not all runs have the same sentences and tokens: compare nats per character, not perplexities")
    samples = {str(run.report.get("iw_samples")) for run in runs if run.report.get("latent_dim")}
    if len(samples) > 1:
        shown = ", ".join(sorted(samples))
        notes.append(f"IW-NLL with different numbers of samples ({shown}): the larger, the tighter")
    if len({run.report.get("precision") or "fp32" for run in runs}) > 1:
        notes.append("bounds of products in fp32 and in bf16: small differences may be rounding (`eval.precision`)")
    if any(len(group.runs) == 1 for group in groups) and len(groups) > 1:
        notes.append("a group of one run says nothing of the noise between seeds: train with other --seed and compare")
    return notes

"""Whether a method cured posterior collapse: by what its code carries beyond that of the uncured model, not by its KL.

Several methods fix a KL by construction, and a model can spend it on noise that its decoder ignores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqvae.evaluation.comparison import Group, Measured, Value, compare
from seqvae.evaluation.verdict import NEGLIGIBLE_NATS

METRICS = ("elbo_nats", "iw_nats", "rec_nats", "kl_nats", "mi_nats", "active_units", "swap_gap_nats")
DECISIVE = {"mi_nats": "MI", "swap_gap_nats": "swap gap"}
STANDARD_ERRORS = 2

Done = Mapping[str, Any]
"""One training and all that was measured of it, as it is kept."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``cured`` is None where it cannot be told; ``text`` gives the differences to the uncured model."""

    cured: bool | None
    text: str


def values(done: Sequence[Done], metrics: Sequence[str] = METRICS) -> dict[str, Value | None]:
    """The numbers of one row: the mean and standard deviation over seeds; of one seed, with its standard error."""
    return _compared(done, metrics=metrics)[0].values


def outcome(row: Sequence[Done], uncured: Sequence[Done]) -> Outcome:
    """A cure has more MI and a larger swap gap than the uncured model: by `NEGLIGIBLE_NATS` or more, and beyond
    `STANDARD_ERRORS` standard errors of the difference."""
    if not row or not uncured:
        return Outcome(cured=None, text="there is nothing to compare yet")
    differences = _compared(uncured, row)[1].differences
    raised = {name: _raised(differences[name]) for name in DECISIVE}
    told = ", ".join(f"{label} {shown(differences[name], signed=True)}" for name, label in DECISIVE.items())
    kl = differences["kl_nats"]
    text = f"{told} nats against the uncured model" + ("" if kl is None else f", at a KL of {kl.value:+.2f}")
    return Outcome(cured=None if None in raised.values() else all(raised.values()), text=text)


def _raised(difference: Value | None) -> bool | None:
    if difference is None or difference.noise is None:
        return None
    return difference.value >= NEGLIGIBLE_NATS and difference.value > STANDARD_ERRORS * difference.noise


def _compared(*rows: Sequence[Done], metrics: Sequence[str] = METRICS) -> Sequence[Group]:
    # The position keeps a row apart from the one that it is compared with, even where that is itself.
    runs = [
        Measured(name=f"{number}-{each['seed']}", report=each["report"], settings={"row": number})
        for number, row in enumerate(rows)
        for each in row
    ]
    return compare(runs, split="test", metrics=metrics).groups


def shown(value: Value | None, *, signed: bool = False, digits: int = 2) -> str:
    if value is None:
        return "-"
    noise = "" if value.noise is None else f" ± {value.noise:.{digits}f}"
    return format(value.value, f"{'+' if signed else ''}.{digits}f") + noise

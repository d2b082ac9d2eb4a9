"""Two sides in turn, and what is kept of it."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.speed.material import Sides
from seqvae.machine import Ceiling, ceiling, in_turn

Work = Callable[[], object]
CEILING_S = {True: 0.2, False: 6.0}
"""Seconds of measuring what the machine does at its best, where that is done quickly and otherwise."""


@dataclass(kw_only=True)
class Measured:
    """A row: how many times as fast (or as small) seqvae is, and what it was measured on.

    ``work``: floating-point operations and bytes for one of the ``unit`` by part, in the same order as in the run.
    """

    ratio: float
    low: float
    high: float
    """The least and the greatest ratio of one round."""
    unit: str
    seqvae: float
    """Of the ``unit`` a second (of memory: in all), the median over the rounds."""
    textbook: float
    seconds: Mapping[str, list[float]] = field(default_factory=dict)
    precision: str
    threads: int
    ceiling: Ceiling | None = None
    work: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    agreement: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def measured(
    works: Mapping[str, tuple[Work, float]], sides: Sides, *, rounds: int, quick: bool, unit: str = "tokens/s"
) -> Measured:
    """``works``: of seqvae and of the textbook, each with how many units it does. Done in turn, ``rounds`` times."""
    device = sides.runtime.device
    seconds = in_turn({name: work for name, (work, _) in works.items()}, device, 0.0, rounds=rounds)
    rates = {name: [works[name][1] / taken for taken in times] for name, times in seconds.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["seqvae"], rates["textbook"], strict=True)]
    middle = {name: statistics.median(values) for name, values in rates.items()}
    return Measured(
        ratio=middle["seqvae"] / middle["textbook"],
        low=min(ratios),
        high=max(ratios),
        unit=unit,
        seqvae=middle["seqvae"],
        textbook=middle["textbook"],
        seconds=seconds,
        precision=sides.runtime.precision,
        threads=sides.runtime.threads,
        ceiling=ceiling(device, CEILING_S[quick]),
    )

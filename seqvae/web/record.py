"""What a run wrote down: its training curves and what was measured of its model."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqvae.errors import SeqVAEError
from seqvae.io import disk
from seqvae.io.pretrained import EVALUATION
from seqvae.training.history import read_history

POINTS = 600
"""At most so many of each curve are shown."""

CURVES = {
    "train": ("step", "elbo_nats", "rec_nats", "kl_nats", "kl_weight"),
    "valid": ("step", "elbo_nats", "rec_nats", "kl_nats", "active_units", "ppl_elbo"),
}


def training_curves(run: Path) -> dict[str, Any]:
    """For each kind of event its columns, for JSON; where there are none to be had, the reason as ``why_none``."""
    try:
        history = read_history(run)
    except SeqVAEError as error:
        return {"why_none": error.what}
    kinds = {"train": history.train, "valid": history.valid}
    return {kind: _columns(series, CURVES[kind]) for kind, series in kinds.items() if series}


def _columns(series: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[float | None]]:
    chosen = _thinned(len(series["step"]))
    return {name: [_number(series[name][index]) if name in series else None for index in chosen] for name in names}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _thinned(length: int) -> list[int]:
    every = -(-length // POINTS)
    return [*range(0, length - 1, every), length - 1] if every > 1 else list(range(length))


def measured(model: Path) -> dict[str, dict[str, Any]]:
    """The report of each split that `eval` measured, as it is kept with the model; none where it cannot be read."""
    try:
        found = disk.read_json(model / EVALUATION)
    except SeqVAEError:
        return {}
    reports = found.items() if isinstance(found, dict) else ()
    return {split: report for split, report in reports if isinstance(report, dict) and "verdict" in report}

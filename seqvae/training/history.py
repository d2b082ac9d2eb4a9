"""What a run has logged so far, as series of numbers: read from its ``metrics.jsonl`` alone, without PyTorch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from seqvae.errors import Location, SeqVAEError
from seqvae.io import disk
from seqvae.training.layout import METRICS

Series = Mapping[str, Float[np.ndarray, " _"]]


@dataclass(frozen=True, kw_only=True)
class History:
    """The course of one run. A number that an event does not have, or that is null there, is NaN."""

    name: str
    train: Series
    """By updates: ``step``, and means since the line before of ``rec_nats``, ``kl_nats``, ``elbo_nats``; ``kl_weight``,
    ``lr``, ``tokens_per_s``."""
    valid: Series
    """By validations: ``step``, ``elbo_nats`` (-ELBO), ``rec_nats``, ``kl_nats``, ``active_units``, ``ppl_elbo``."""
    phases: Sequence[tuple[int, str]]
    """(updates before it, name) of each phase."""


def read_history(run: Path) -> History:
    """The history of a run folder, of one that still goes on too.

    Raises SeqVAEError: E404 where there is no run or it has logged nothing yet, E401 where its log is damaged.
    """
    path = run / METRICS
    if not path.is_file():
        hint = "name a folder that `seqvae train` made; `seqvae runs list` shows those here"
        raise SeqVAEError("E404", "there is no run", where=str(run), hint=hint)
    events = read_events(path)
    if not any(event["event"] in ("train", "valid") for event in events):
        hint = "wait for its first line, or lower `train.log_every`"
        raise SeqVAEError("E404", "the run has logged nothing yet", where=str(run), hint=hint)
    phases = [(event["step"], event["name"]) for event in events if event["event"] == "phase"]
    return History(
        name=run.resolve().name, train=_series(events, "train"), valid=_series(events, "valid"), phases=phases
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every event; a last line that is still being written does not count."""
    with disk.storage_errors(path):
        lines = path.read_bytes().split(b"\n")[:-1]
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            hint = "take the line out, or go on with the run: `--resume` cuts what is behind the last checkpoint"
            raise SeqVAEError("E401", "a line is no event", where=Location(str(path), number), hint=hint)
        events.append(event)
    return events


def _series(events: Sequence[Mapping[str, Any]], kind: str) -> Series:
    chosen = [event for event in events if event["event"] == kind]
    names = dict.fromkeys(name for event in chosen for name, value in event.items() if is_number(value))
    return {
        name: np.array([event[name] if is_number(event.get(name)) else math.nan for event in chosen], dtype=float)
        for name in names
    }


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""What a run wrote down: its training curves and what was measured of its model."""

import json
from pathlib import Path
from typing import Any

from seqvae.errors import SeqVAEError
from seqvae.io import storage
from seqvae.io.pretrained import EVALUATION

POINTS = 600
"""At most so many of each curve are shown."""

CURVES = {
    "train": ("step", "elbo_nats", "rec_nats", "kl_nats", "kl_weight"),
    "valid": ("step", "elbo_nats", "rec_nats", "kl_nats", "active_units", "ppl_elbo"),
}


def training_curves(metrics: Path) -> dict[str, dict[str, list[Any]]]:
    """The columns of each kind of event in ``metrics.jsonl``; a line that cannot be read is passed over."""
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in CURVES}
    try:
        with open(metrics, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except ValueError:  # the last line of a run that was killed
                    continue
                if isinstance(event, dict) and event.get("event") in rows:
                    rows[event["event"]].append(event)
    except OSError:
        return {}
    return {
        kind: {name: [event.get(name) for event in _thinned(events)] for name in CURVES[kind]}
        for kind, events in rows.items()
        if events
    }


def _thinned(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    every = -(-len(events) // POINTS)
    return events if every <= 1 else [*events[:-1:every], events[-1]]


def measured(model: Path) -> dict[str, dict[str, Any]]:
    """The report of each split that `eval` measured, as it is kept with the model; none where it cannot be read."""
    try:
        found = storage.read_json(model / EVALUATION)
    except SeqVAEError:
        return {}
    reports = found.items() if isinstance(found, dict) else ()
    return {split: report for split, report in reports if isinstance(report, dict) and "verdict" in report}

"""What runs there are and how each stands, from their files alone: without PyTorch, and without touching them."""

import itertools
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from seqvae.errors import SeqVAEError
from seqvae.io import disk
from seqvae.training.layout import CHECKPOINTS, METRICS, MODEL, PROVENANCE
from seqvae.training.lock import is_held

BEGAN = "%Y-%m-%dT%H:%M:%S%z"
"""How provenance.json writes the local time at which the run began."""

_TAIL_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run folder; what its files do not say is None."""

    folder: str
    began: str | None
    """Local time, ``2025-01-31T12:00:00+0100``."""
    config: str | None
    """As it was named on the command line."""
    state: Literal["running", "finished", "stopped"]
    has_model: bool
    steps: int
    """Updates done by the last line of the log or the last checkpoint."""
    best: float | None
    """Of ``monitor`` in the last phase, in nats per sentence: lower is better."""
    monitor: str | None
    """What picks the best weights: elbo, rec or iw."""
    bytes: int


def list_runs(runs: Path) -> list[RunSummary]:
    """The runs in a folder, the one begun last first. Raises SeqVAEError (E404) where there is no such folder."""
    if not runs.is_dir():
        hint = "`seqvae train` makes ./runs in the directory that it is started in"
        raise SeqVAEError("E404", "there is no such folder", where=str(runs), hint=hint)
    return [summarise(folder) for folder in newest_first(runs)]


def newest_first(runs: Path) -> list[Path]:
    """The folders of the runs in a folder, the one begun last first."""
    return sorted((path.parent for path in runs.glob(f"*/{PROVENANCE}")), key=_begun, reverse=True)


def _begun(folder: Path) -> tuple[float, int, Path]:
    """When the run says that it began, in seconds since 1970; of a damaged one, when that file was written."""
    path = folder / PROVENANCE
    written = path.stat().st_mtime_ns
    try:
        began = datetime.strptime(_json(path).get("began"), BEGAN).timestamp()
    except (TypeError, ValueError):
        began = written / 1e9
    return began, written, folder


def summarise(folder: Path) -> RunSummary:
    """How a run stands; a damaged file in it leaves what it would have said unknown."""
    provenance, progress = _json(folder / PROVENANCE), {}
    for checkpoint in sorted((folder / CHECKPOINTS).glob("step-*"), reverse=True):
        progress = _json(checkpoint / "state.json").get("progress", {})
        if progress:
            break
    events = list(_last_events(folder / METRICS))
    finished = bool(progress.get("finished"))
    logged = max((event["step"] for event in events if isinstance(event.get("step"), int)), default=0)
    best = progress.get("best")
    return RunSummary(
        folder=str(folder),
        began=provenance.get("began"),
        config=_config_name(provenance.get("argv")),
        state="finished" if finished else "running" if is_held(folder) else "stopped",
        has_model=(folder / MODEL).is_dir(),
        steps=max(logged, progress.get("step", 0)),
        best=best if isinstance(best, (int, float)) else None,
        monitor=next((event["monitor"] for event in reversed(events) if event.get("monitor")), None),
        bytes=sum(_sizes(folder)),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = disk.read_json(path)
    except SeqVAEError:
        return {}
    return found if isinstance(found, dict) else {}


def _last_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events at the end of metrics.jsonl; the first and the last line of the piece may be cut."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _config_name(argv: Any) -> str | None:
    try:
        words = shlex.split(argv) if isinstance(argv, str) else []
    except ValueError:  # a quote that is not closed
        return None
    for word, value in itertools.pairwise([*words, ""]):
        if word in ("--config", "-c"):
            return value
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return None


def _sizes(folder: Path) -> Iterator[int]:
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(parent, name)).st_size
            except OSError:  # removed meanwhile: the run goes on
                continue

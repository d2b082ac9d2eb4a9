"""Where the events of a run go: metrics.jsonl, log.txt, a terminal."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from seqvae.io import disk

Event = Mapping[str, Any]

COLUMNS = ("step", "epoch", "-elbo", "rec", "kl", "beta", "active", "ppl≤", "tok/s", "left")
_WIDTHS = (7, 5, 7, 7, 6, 5, 6, 7, 7, 6)
"""With the mark behind a row, 78 characters."""


EXPLODED_KL_NATS = 10_000.0
"""A KL per sentence that no text is worth: a few nats a word would be hundreds."""


class MetricsFile:
    """``metrics.jsonl``: one JSON object a line, append only.

    It holds the events that belong to a step; those about this process (start, resume) would differ where a run was
    resumed. ``keep_bytes``: a resumed run cuts what it will write again.
    """

    def __init__(self, path: Path, *, keep_bytes: int = 0):
        with disk.storage_errors(path):
            self._file = open(path, "ab+")  # noqa: SIM115 - closed by close()
            self._file.truncate(min(keep_bytes, self._file.seek(0, os.SEEK_END)))
            self._file.seek(0, os.SEEK_END)
        self._path = path

    def __call__(self, event: Event) -> None:
        if "step" in event and event["event"] != "resume":
            line = json.dumps(disk.jsonable(event), ensure_ascii=False) + "\n"
            with disk.storage_errors(self._path):
                self._file.write(line.encode())
                self._file.flush()

    def size(self) -> int:
        """Bytes so far, safely on the disk."""
        with disk.storage_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # Every line is flushed: only one that has failed already fails again.
            self._file.close()


class Rows:
    """Turns events into the lines of a table that reads the same in a terminal and in a file."""

    def __init__(self) -> None:
        self._last_train: Event = {}
        self._total = 0
        self._began: tuple[float, int] | None = None
        self._warned = False

    def render(self, event: Event, *, train_rows: bool) -> list[str]:
        """Lines to show for an event; lines of training metrics only if ``train_rows``."""
        kind = event["event"]
        if kind == "start":
            return [f"{name:<9}{text}" for name, text in event["facts"].items()]
        if kind == "note":
            return [f"note     {event['text']}"]
        if kind in ("phase", "resume"):
            self._total = event["total_steps"]
            self._began = self._began or (time.monotonic(), event["step"])
            title = [f"phase    {event['name']}: at most {event['steps']:,} updates"] if event["phases"] > 1 else []
            title += [f"resume   at update {event['step']:,}"] if kind == "resume" else []
            return [*title, _line(COLUMNS)]
        if kind == "train":
            self._last_train = event
            warning = [] if self._warned else _warnings(event)
            self._warned = self._warned or bool(warning)
            return [*([self._row(event, active="", mark="")] if train_rows or warning else []), *warning]
        if kind == "valid":
            active = "" if event["active_units"] is None else str(event["active_units"])
            return [self._row(event, active=active, mark=" best" if event["best"] else " valid")]
        if kind == "end":
            found = event["best"] is not None
            return [f"best     {event['best']:.2f} nats at update {event['best_step']:,}"] if found else []
        return []

    def seconds_left(self, step: int) -> float | None:
        """From the mean pace so far; by a clock that nobody sets. None before the first update."""
        if self._began is None or step <= self._began[1]:
            return None
        began, first = self._began
        return (time.monotonic() - began) / (step - first) * max(0, self._total - step)

    def _row(self, event: Event, *, active: str, mark: str) -> str:
        left = self.seconds_left(event["step"])
        weight = event.get("kl_weight", self._last_train.get("kl_weight"))
        pace = event.get("tokens_per_s", self._last_train.get("tokens_per_s"))
        cells = (
            str(event["step"]),
            f"{event['epoch']:.1f}",
            _number(event["elbo_nats"]),
            _number(event["rec_nats"]),
            _number(event["kl_nats"]),
            _number(weight),
            active,
            _number(event.get("ppl_elbo")),
            "" if pace is None else f"{pace:,.0f}",
            "" if left is None else duration(left),
        )
        return _line(cells) + mark


def _warnings(event: Event) -> list[str]:
    """Signs that the encoder explodes, in the metrics of some updates."""
    found = []
    if (share := event.get("logvar_clamped", 0.0)) > 0:
        found.append(f"{share:.1%} of the log-variances are at an end of their range")
    if event["kl_nats"] > EXPLODED_KL_NATS:
        found.append(f"the KL has come to {event['kl_nats']:.2g} nats per sentence")
    return [f"warning  {'; '.join(found)}: lower train.optimizer.lr or train.clip_norm"] if found else []


def duration(seconds: float) -> str:
    """``75`` gives ``1m15s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, rest_hours = divmod(hours, 24)
    if days > 1:
        return f"{days:,}d{rest_hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) < 10000 else f"{value:.1e}"


def _line(cells: tuple[str, ...]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


class PlainLog:
    """Lines to a stream: validation rows always, training rows at most every ``every_s`` seconds."""

    def __init__(self, stream: TextIO, *, every_s: float = 15.0):
        self._stream, self._every_s, self._rows = stream, every_s, Rows()
        self._shown = time.monotonic()

    def __call__(self, event: Event) -> None:
        lines = self._rows.render(event, train_rows=time.monotonic() - self._shown > self._every_s)
        for line in lines:
            print(line, file=self._stream, flush=True)
            self._shown = time.monotonic()

"""What is told while a large text is prepared."""

import time
from collections.abc import Callable

from seqvae.data.workers import processes

EVERY_S = 10.0
"""A text that takes less is prepared without a word."""


class Told:
    """Says now and then how far preparing has come; it is the ``on_progress`` of `seqvae.data.store.prepare`."""

    def __init__(self, say: Callable[[str], None], *, workers: int | None, every_s: float = EVERY_S):
        """``workers`` is the setting `data.workers`."""
        self._say, self._processes, self._every_s = say, processes(workers), every_s
        self._what, self._lines = "", 0
        self._began = self._told = time.monotonic()

    def __call__(self, what: str, lines: int) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._lines, self._began = what, 0, now
        self._lines += lines
        if now - self._told >= self._every_s:
            self._told = now
            self._say(self.text(now))

    def text(self, now: float) -> str:
        """As of ``now`` (seconds of `time.monotonic`)."""
        rate = self._lines / max(now - self._began, 1e-3)
        # A vocabulary is counted by this process alone.
        alone = self._processes == 1 or self._what == "vocabulary"
        by = "" if alone else f", by up to {self._processes} processes"
        return f"preparing {self._what}: {self._lines:,} lines, {rate:,.0f} a second{by}"

"""How fast a run is: tokens a second of the updates alone."""

import contextlib
import time
from collections.abc import Iterator


class Pace:
    """A clock that is stopped for whatever is no update."""

    def __init__(self) -> None:
        self.restart(0.0)

    def restart(self, tokens: float) -> None:
        """Measure from here on; ``tokens``: read before, and still in the sums."""
        self._began, self._before = time.monotonic(), tokens

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def tokens_per_s(self, tokens: float) -> float:
        return (tokens - self._before) / max(time.monotonic() - self._began, 1e-9)

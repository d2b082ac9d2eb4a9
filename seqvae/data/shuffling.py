"""A random order of any number of things that is computed where it is needed instead of being kept."""

import numpy as np
from jaxtyping import Int64

_ROUNDS = 6


class Shuffled:
    """A permutation of 0 .. n - 1, drawn by ``key``; ``at`` gives what stands at some places of it.

    A balanced Feistel network over the next power of four (Luby and Rackoff 1988), walked along its cycles until the
    number is below n (Black and Rogaway 2002). A pure function of n and key, in whole numbers alone: the same on every
    machine.

    >>> sorted(Shuffled(10, [7]).at(np.arange(10)).tolist()) == list(range(10))
    True
    """

    def __init__(self, n: int, key: list[int]):
        self.n = n
        self._half = np.uint64(max(1, -(-(n - 1).bit_length() // 2)))
        self._mask = (np.uint64(1) << self._half) - np.uint64(1)
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def at(self, places: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """The numbers at ``places``; places below n."""
        found = self._mixed(places.astype(np.uint64))
        while len(outside := np.flatnonzero(found >= self.n)):
            found[outside] = self._mixed(found[outside])
        return found.astype(np.int64)

    def _mixed(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            # The upper bits of the second product depend on every bit of the key and of the number.
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & self._mask)
        return (left << self._half) | right

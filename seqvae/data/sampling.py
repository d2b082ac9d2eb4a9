"""Samples of lines to learn a vocabulary from: one pass over the text, the same lines each time."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, compress, islice
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

SAMPLE_LINES = 1_000_000
SAMPLE_LINES_IS = (
    "Lines to make the vocabulary from, or somewhat less: of a longer text one in 2, 4, 8 .. is drawn, all over it."
)
"""The setting of words and characters."""

_DRAW = 0x5EED
"""Seed of the sample: fixed, so that equal text gives an equal vocabulary."""
_AT_ONCE = 1 << 6

Taken = TypeVar("Taken")


def reservoir(texts: Iterable[str], size: int, take: Callable[[str], Taken] = str) -> list[Taken]:
    """``take`` of ``size`` of the texts, each with the same chance; all of them in their order where there are no more.

    Only what is drawn is kept in memory (Vitter 1985, Random sampling with a reservoir, algorithm R).

    >>> reservoir(["a", "b", "c"], 5)
    ['a', 'b', 'c']
    """
    iterator = iter(texts)
    kept = [take(text) for text in islice(iterator, size)]
    draw = np.random.default_rng(_DRAW)
    for seen, some in _chunks(iterator, size):
        # Text number n takes one of n places with equal chance, of which only the first are kept.
        places = (draw.random(len(some)) * np.arange(seen + 1, seen + len(some) + 1)).astype(np.int64)
        for index in np.flatnonzero(places < size).tolist():
            kept[places[index]] = take(some[index])
    return kept


def counted(texts: Iterable[str], units: Callable[[str], Iterable[str]], size: int) -> Counter[str]:
    """How often each unit occurs in about one in `one_in` of the texts, which makes ``size`` or fewer; none is kept.

    >>> counted(["a b", "b"], str.split, 5)
    Counter({'b': 2, 'a': 1})
    """
    # Each text has a level, the next higher one half as often. Where there are too many, the lowest level is forgotten.
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    lowest = 0
    for seen, some in _chunks(iter(texts), 0):
        levels = _levels(seen, len(some))
        for level in np.unique(levels[levels >= lowest]).tolist():
            counts[level].update(chain.from_iterable(map(units, compress(some, levels == level))))
        while one_in(seen + len(some), size) > 1 << lowest:
            counts.pop(lowest, None)
            lowest += 1
    total: Counter[str] = Counter()
    for each in counts.values():
        total.update(each)
    return total


def one_in(lines: int, size: int) -> int:
    """Of so many lines `counted` takes about one in this number, a power of two: the smallest that keeps to ``size``.

    >>> one_in(10, 10), one_in(11, 10), one_in(70, 10)
    (1, 2, 8)
    """
    return 1 << (-(-lines // size) - 1).bit_length()


def _chunks(iterator: Iterator[str], seen: int) -> Iterator[tuple[int, list[str]]]:
    """(how many came before, some texts)."""
    while some := list(islice(iterator, _AT_ONCE)):
        yield seen, some
        seen += len(some)


def _levels(begin: int, count: int) -> Int64[np.ndarray, " count"]:
    """The level of the texts with these numbers: n or higher with chance 2^-n, independent of any order in the text.

    Trailing zeros of the number once its bits are mixed (the finalizer of SplitMix64, Steele et al. 2014).
    """
    mixed = np.arange(begin, begin + count, dtype=np.uint64) + np.uint64(_DRAW)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    lowest_bit = mixed & (~mixed + np.uint64(1))
    return np.log2(np.maximum(lowest_bit, 1)).astype(np.int64)

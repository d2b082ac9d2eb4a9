"""The order of batches as a pure function, and rows made into tensors.

No state is kept between epochs, so a resumed run asks for the plan of its epoch and goes on at an index.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, overload, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64

from seqvae.data.shuffling import Shuffled
from seqvae.data.store import TokenStore
from seqvae.types import BOS, EOS, PAD, UNK, Batch

POOL_BATCHES = 100
"""Rows are sorted by length within random pools of about this many batches: little padding, still random company."""

LARGE_ROWS = 1 << 20
"""A corpus of more rows is planned a part at a time; a smaller one, or a part, as a whole."""
PART_ROWS = 1 << 17
"""About so many rows are a part; their plan takes some hundredths of a second and a few MB."""

Rows = Int64[np.ndarray, " _"]


@runtime_checkable
class Lengths(Protocol):
    """The tokens of every row: an array, or what looks them up."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Rows) -> Rows: ...
    def mean(self) -> float: ...


class Plan(Sequence[Rows]):
    """The rows of each batch, in order. They are made a part at a time, when they are asked for."""

    def __init__(self, part: Callable[[int], list[Rows]], sizes: Sequence[int]):
        """``part`` gives the batches of the part of a number, and ``sizes`` how many each has."""
        self._ends = np.cumsum(sizes, dtype=np.int64)
        # Two: what is drawn at random besides must not push out the part that training is at.
        self._part = lru_cache(maxsize=2)(part)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> Rows: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rows]: ...
    def __getitem__(self, index: int | slice) -> Rows | list[Rows]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        batches = self._part(number)
        return batches[index - int(self._ends[number])]


def epoch_plan(
    lengths: Lengths,
    *,
    seed: int,
    epoch: int,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    equal_length: bool = False,
    rank: int = 0,
    world: int = 1,
) -> Plan:
    """The rows of each batch of one epoch, in order: sentences of similar length together, every row exactly once.

    A batch has ``batch_size`` sentences or, where ``batch_tokens`` is set, as many as keep sentences times longest
    within it (a single longer sentence is a batch of its own). With ``equal_length`` all sentences of a batch have one
    length. The sizes are those of the update as a whole: each of ``world`` ranks gets every ``world``-th row of every
    batch, so all ranks have the same number of batches and nearly the same work; where a batch has fewer rows than
    ranks, the last ranks get an empty array for it.

    Of more than `LARGE_ROWS` rows the plan is made in parts, each of rows from all over the corpus: memory does not
    grow with the corpus. Where the bound is ``batch_size`` alone, nothing is made before it is asked for; else all
    lengths are gone through once, to count the batches.

    >>> plan = epoch_plan(np.array([3, 9, 3, 9]), seed=0, epoch=0, batch_size=2)
    >>> sorted(sorted(rows.tolist()) for rows in plan)
    [[0, 2], [1, 3]]
    """
    assert batch_size or batch_tokens, "a batch is bounded by sentences or by tokens"
    pool = POOL_BATCHES * _typical_batch(lengths, batch_size, batch_tokens)
    size = len(lengths) if len(lengths) <= LARGE_ROWS else max(1, PART_ROWS // pool) * pool
    begins = range(0, len(lengths), max(1, size))
    shuffled = Shuffled(len(lengths), [seed, epoch]) if len(begins) > 1 else None

    def planned(number: int) -> tuple[Rows, list[int], np.random.Generator]:
        places = np.arange(begins[number], min(begins[number] + size, len(lengths)))
        rows, key = (places, [seed, epoch]) if shuffled is None else (shuffled.at(places), [seed, epoch, number])
        random = np.random.default_rng(key)
        order = rows[random.permutation(len(rows))]
        own = lengths[order]
        groups = own if equal_length else np.arange(len(order)) // pool
        # A stable sort leaves rows of one length in their random order.
        sort = np.lexsort((own, groups))
        return order[sort], _cut(own[sort], np.sort(groups), batch_size, batch_tokens), random

    def part(number: int) -> list[Rows]:
        order, edges, random = planned(number)
        batches = np.split(order, edges[1:-1])
        return [batches[index][rank::world] for index in random.permutation(len(batches))]

    if len(begins) == 1:
        whole = part(0)
        return Plan(lambda number: whole, [len(whole)])
    if batch_tokens is None and not equal_length:
        sizes = [-(-min(size, len(lengths) - begin) // batch_size) for begin in begins]
    else:
        sizes = [len(planned(number)[1]) - 1 for number in range(len(begins))]
    return Plan(part, sizes)


def largest_batch(
    lengths: Lengths, *, batch_size: int | None = None, batch_tokens: int | None = None, equal_length: bool = False
) -> Rows:
    """The rows, shortest first, of a batch than which no `epoch_plan` of these sizes has a larger one.

    The size is that of its tokens, sentences times longest. Lengths are gone through a part at a time.
    """
    parts = [np.arange(begin, min(begin + LARGE_ROWS, len(lengths))) for begin in range(0, len(lengths), LARGE_ROWS)]
    counts = np.zeros(1, np.int64)
    for rows in parts:
        found = np.bincount(lengths[rows], minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    longest = np.flatnonzero(counts)
    there = (counts if equal_length else counts.cumsum())[longest]
    most = np.full(len(longest), batch_size) if batch_tokens is None else np.maximum(1, batch_tokens // longest)
    sizes = np.minimum(there, most)
    best = len(longest) - 1 - int(np.argmax((longest * sizes)[::-1]))
    size, top = int(sizes[best]), longest[best]
    chosen = np.empty(0, np.int64)
    for rows in parts:
        own = lengths[rows]
        chosen = np.concatenate([chosen, rows[(own == top) if equal_length else (own <= top)]])
        chosen = chosen[np.argsort(lengths[chosen], kind="stable")][-size:]
    return chosen


def evaluation_plan(
    lengths: Int64[np.ndarray, " n"], *, batch_tokens: int = 8192, rank: int = 0, world: int = 1
) -> list[Rows]:
    """Every row once, shortest first, with at most ``batch_tokens`` tokens (padding included) in a batch.

    Each of ``world`` ranks gets every ``world``-th batch.
    """
    order = np.argsort(lengths, kind="stable")
    edges = _cut(lengths[order], np.zeros(len(order), np.int64), None, batch_tokens)
    return np.split(order, edges[1:-1])[rank::world] if len(order) else []


def collate(store: TokenStore, rows: Int64[np.ndarray, " B"]) -> Batch:
    """The batch of these rows, padded on the right to its longest sentence."""
    rows = np.asarray(rows, dtype=np.int64)
    starts = store.offsets[rows]
    lengths = store.offsets[rows + 1] - starts
    columns = np.arange(lengths.max(initial=2))
    inside = columns < lengths[:, None]
    tokens = np.full(inside.shape, PAD, dtype=np.int64)
    tokens[inside] = store.tokens[(starts[:, None] + columns)[inside]]
    labels = None if store.labels is None else torch.from_numpy(store.labels[rows].astype(np.int64))
    return Batch(
        tokens=torch.from_numpy(tokens),
        lengths=torch.from_numpy(lengths),
        rows=torch.from_numpy(rows.copy()),
        labels=labels,
    )


def smallest_batch() -> Batch:
    """Two sentences of one unknown word, with the first of the labels: every model and method takes it."""
    tokens = torch.tensor([[BOS, UNK, EOS]] * 2)
    return Batch(tokens=tokens, lengths=torch.tensor([3, 3]), rows=torch.arange(2), labels=torch.zeros(2).long())


def _typical_batch(lengths: Lengths, batch_size: int | None, batch_tokens: int | None) -> int:
    if batch_tokens is None:
        return batch_size
    return max(1, int(batch_tokens / lengths.mean())) if len(lengths) else 1


def _cut(lengths: np.ndarray, groups: np.ndarray, batch_size: int | None, batch_tokens: int | None) -> list[int]:
    """Edges of the batches over rows that are sorted by length within each group; no batch spans two groups."""
    ends = [*(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(lengths)]
    edges = [0]
    for end in ends:
        while (start := edges[-1]) < end:
            if batch_tokens is None:
                size = batch_size
            else:
                window = lengths[start : min(end, start + max(1, batch_tokens // int(lengths[start])))]
                cost = window * np.arange(1, len(window) + 1)
                size = max(1, int(np.searchsorted(cost, batch_tokens, side="right")))
            edges.append(min(end, start + size))
    return edges

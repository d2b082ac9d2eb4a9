"""The order of batches as a pure function, and rows made into tensors.

No state is kept between epochs, so a resumed run asks for the plan of its epoch and goes on at an index.
"""

import numpy as np
import torch
from jaxtyping import Int64

from seqvae.data.store import TokenStore
from seqvae.types import PAD, Batch

POOL_BATCHES = 100
"""Rows are sorted by length within random pools of about this many batches: little padding, still random company."""

Plan = list[Int64[np.ndarray, " _"]]


def epoch_plan(
    lengths: Int64[np.ndarray, " n"],
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

    >>> plan = epoch_plan(np.array([3, 9, 3, 9]), seed=0, epoch=0, batch_size=2)
    >>> sorted(sorted(rows.tolist()) for rows in plan)
    [[0, 2], [1, 3]]
    """
    assert batch_size or batch_tokens, "a batch is bounded by sentences or by tokens"
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if equal_length:
        groups = lengths[order]
    else:
        pool = POOL_BATCHES * _typical_batch(lengths, batch_size, batch_tokens)
        groups = np.arange(len(order)) // pool
    # A stable sort leaves rows of one length in their random order.
    order = order[np.lexsort((lengths[order], groups))]
    edges = _cut(lengths[order], np.sort(groups), batch_size, batch_tokens)
    batches = np.split(order, edges[1:-1]) if len(order) else []
    return [batches[index][rank::world] for index in random.permutation(len(batches))]


def evaluation_plan(lengths: Int64[np.ndarray, " n"], *, batch_tokens: int = 8192) -> Plan:
    """Every row once, shortest first, with at most ``batch_tokens`` tokens (padding included) in a batch."""
    order = np.argsort(lengths, kind="stable")
    edges = _cut(lengths[order], np.zeros(len(order), np.int64), None, batch_tokens)
    return np.split(order, edges[1:-1]) if len(order) else []


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


def _typical_batch(lengths: np.ndarray, batch_size: int | None, batch_tokens: int | None) -> int:
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

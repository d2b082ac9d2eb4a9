"""How long an update takes on many devices: a model with few coefficients, fitted to measurements.

An update of one process takes

    launch + step * 2 T + recurrent * F_r + output * F_o + update * bytes

for sentences of T tokens: what every update costs; what every step of the two LSTMs costs beside its arithmetic, since
steps follow one another; the arithmetic of the LSTMs and of the output layer, in operations; and the pass of clipping
and optimizer over all parameters, in bytes. Operations and bytes are counted by `seqvae.models.cost`.

Several processes add the exchange of all gradients, with nothing of it hidden behind the backward pass, and three small
exchanges: the number of sentences, the losses, and which parameters were used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

TERMS = ("launch", "step", "recurrent", "output", "update")
SMALL_EXCHANGES, SMALL_BYTES = 3, 64.0


@dataclass(frozen=True, kw_only=True)
class Update:
    """An update of one process, counted."""

    length: float
    """Predicted tokens of each sentence."""
    recurrent_flops: float
    output_flops: float
    update_bytes: float

    @property
    def terms(self) -> tuple[float, ...]:
        """What each coefficient is multiplied with, in the order of `TERMS`."""
        return (1.0, 2 * self.length, self.recurrent_flops, self.output_flops, self.update_bytes)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds for one of each of the `TERMS`, none negative."""

    coefficients: tuple[float, ...]

    @classmethod
    def fitted(cls, updates: Sequence[Update], seconds: Sequence[float]) -> "Cost":
        """Least squares of the relative errors (Lawson and Hanson 1974, non-negative)."""
        taken = np.asarray(seconds)
        terms = np.array([update.terms for update in updates]) / taken[:, None]
        scale = np.maximum(terms.max(0), np.finfo(float).tiny)
        found, _ = nnls(terms / scale, np.ones(len(taken)))
        return cls(coefficients=tuple((found / scale).tolist()))

    def parts(self, update: Update) -> dict[str, float]:
        """Seconds of each part."""
        return dict(zip(TERMS, (c * t for c, t in zip(self.coefficients, update.terms, strict=True)), strict=True))

    def seconds(self, update: Update) -> float:
        return sum(self.parts(update).values())


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a message between two neighbours costs."""

    latency_s: float
    bytes_per_s: float

    @classmethod
    def fitted(cls, sizes: Sequence[float], seconds: Sequence[float], ranks: int) -> "Link":
        """From all-reduces of ``sizes`` bytes."""
        terms = np.array([[2 * (ranks - 1), 2 * (ranks - 1) / ranks * size] for size in sizes])
        relative = terms / np.asarray(seconds)[:, None]
        scale = relative.max(0)
        found, _ = nnls(relative / scale, np.ones(len(sizes)))
        latency, per_byte = (found / scale).tolist()
        return cls(latency_s=latency, bytes_per_s=1 / per_byte if per_byte else float("inf"))

    def all_reduce_s(self, size: float, ranks: int) -> float:
        """A ring: twice ranks - 1 messages of a ``ranks``-th each (Patarasuk and Yuan 2009)."""
        return 2 * (ranks - 1) * (self.latency_s + size / ranks / self.bytes_per_s)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes of ``per_node`` devices. Every device of a node exchanges its share with those of the other nodes."""

    per_node: int
    inside: Link
    between: Link

    def all_reduce_s(self, size: float, ranks: int) -> float:
        """Within the nodes; across them each device with a share of the bytes."""
        near = min(ranks, self.per_node)
        return self.inside.all_reduce_s(size, near) + self.between.all_reduce_s(size / near, -(-ranks // near))

    def exchange_s(self, gradient_bytes: float, ranks: int) -> float:
        """All that an update exchanges."""
        small = SMALL_EXCHANGES * self.all_reduce_s(SMALL_BYTES, ranks)
        return self.all_reduce_s(gradient_bytes, ranks) + small


def errors(predicted: Sequence[float], measured: Sequence[float]) -> Mapping[str, float]:
    """Median and greatest relative error."""
    relative = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    return {"median": float(np.median(relative)), "greatest": float(relative.max())}

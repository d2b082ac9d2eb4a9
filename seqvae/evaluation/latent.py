"""Is the latent code in use? Mutual information, active units and the swap gap, over the whole split."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.store import TokenStore
from seqvae.evaluation.passes import batches, evaluating, one_code, row_seed, standard_error
from seqvae.types import Posterior

ACTIVE_VARIANCE = 0.01
"""A unit is active when its posterior mean varies by at least this over sentences (Burda et al. 2016)."""

_PAIRWISE_ELEMENTS = 1 << 20
"""Elements of one block of the pairwise densities: a few MB, so that it stays in cache."""


class RunningMoments:
    """Count, mean and variance of the posterior means, batch by batch.

    Chan, Golub and LeVeque 1983: merging batch sums of squared deviations keeps its precision where the mean is
    far larger than its spread, unlike E[x^2] - E[x]^2.
    """

    def __init__(self) -> None:
        self.count, self._mean, self._squares, self._by_dimension = 0, 0.0, 0.0, True

    def add(self, q: Posterior) -> None:
        self._by_dimension = self._by_dimension and q.std is not None
        means = q.mean.cpu().double()
        n, mean = len(means), means.mean(0)
        delta, total = mean - self._mean, self.count + n
        self._squares = self._squares + (means - mean).square().sum(0) + delta.square() * (self.count * n / total)
        self._mean = self._mean + delta * (n / total)
        self.count = total

    def variance(self) -> Float[Tensor, " Z"] | None:
        """Var over sentences of the posterior mean (divided by the count); None before the first batch."""
        return self._squares / self.count if self.count else None

    def active_units(self) -> int | None:
        """Units whose posterior mean varies; None without a latent code or for a family not split by dimension."""
        if not self.count or not self._by_dimension:
            return None
        return int((self.variance() >= ACTIVE_VARIANCE).sum())


@dataclass(frozen=True, kw_only=True)
class SplitCodes:
    """What one pass of the encoder leaves: a code for each sentence of the split, and posteriors to compare them."""

    z: Float[Tensor, "R Z"]
    """One code per sentence, in the order of the store."""
    posteriors: list[Posterior] = field(repr=False)
    """q(z|x) of the sentences ``rows``, in pieces."""
    rows: list[Int[np.ndarray, " _"]] = field(repr=False)
    active_units: int | None


def encode_split(
    model: nn.Module,
    store: TokenStore,
    *,
    seed: int = 0,
    batch_tokens: int = 16_384,
    mi_sentences: int = 20_000,
    noiseless: bool = False,
) -> SplitCodes:
    """Encode every sentence once; keep the posteriors of at most ``mi_sentences`` of them, drawn by ``seed``."""
    z = torch.zeros(len(store), model.latent_dim)
    kept = np.zeros(len(store), dtype=bool)
    kept[subset(len(store), mi_sentences, seed)] = True
    posteriors, kept_rows, moments = [], [], RunningMoments()
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            q = model.encode(batch).detach()
            moments.add(q)
            z[torch.from_numpy(rows)] = one_code(q, rows, seed, noiseless=noiseless).float().cpu()
            if kept[rows].any():
                posteriors.append(q[torch.from_numpy(np.flatnonzero(kept[rows])).to(q.mean.device)])
                kept_rows.append(rows[kept[rows]])
    return SplitCodes(z=z, posteriors=posteriors, rows=kept_rows, active_units=moments.active_units())


def subset(count: int, at_most: int, seed: int) -> Int[np.ndarray, " R"]:
    """All rows, or ``at_most`` of them drawn without replacement by ``seed``; ascending."""
    if count <= at_most:
        return np.arange(count)
    return np.sort(np.random.default_rng(row_seed(seed, count)).choice(count, at_most, replace=False))


@dataclass(frozen=True, kw_only=True)
class MutualInformation:
    nats: float
    se: float | None
    """Standard error of the mean over sentences, q(z) taken as given."""
    ceiling_nats: float
    """ln N: what N sentences can show at most."""
    sentences: int


def mutual_information(codes: SplitCodes) -> MutualInformation:
    """I(x; z) = E log q(z|x) - E log q(z), with q(z) the mean of q(z|x) over the same N sentences; nats.

    Hoffman and Johnson 2016. One sample per sentence; the sentence's own component is part of q(z), so the estimate
    is at most ln N exactly. It costs N^2 densities, computed in blocks of bounded memory.
    """
    with torch.no_grad():
        pieces = [
            codes.z[torch.from_numpy(rows)].to(q.mean) for rows, q in zip(codes.rows, codes.posteriors, strict=True)
        ]
        own = torch.cat([q.log_prob(z[None])[0] for z, q in zip(pieces, codes.posteriors, strict=True)])
        z = torch.cat(pieces)
        log_sum = torch.full_like(own, -math.inf)
        for q in codes.posteriors:
            size = len(q.mean)
            block = max(1, _PAIRWISE_ELEMENTS // q.mean.numel())
            for start in range(0, len(z), block):
                some = z[start : start + block]
                pairs = q.log_prob(some[:, None].expand(-1, size, -1))
                view = log_sum[start : start + block]
                torch.logaddexp(view, torch.logsumexp(pairs, dim=1), out=view)
    ceiling = math.log(len(z))
    values = (own - log_sum).cpu().double().numpy() + ceiling
    return MutualInformation(
        nats=float(values.mean()), se=standard_error(values), ceiling_nats=ceiling, sentences=len(values)
    )


@dataclass(frozen=True, kw_only=True)
class SwapGap:
    nats: float
    se: float | None


def derangement(count: int, seed: int) -> Int[np.ndarray, " R"]:
    """A random permutation that leaves nothing in place: one cycle through all, in random order."""
    order = np.random.default_rng(row_seed(seed, count)).permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, -1)
    return partner


def swap_gap(
    model: nn.Module, store: TokenStore, codes: SplitCodes, *, seed: int = 0, batch_tokens: int = 16_384
) -> SwapGap | None:
    """Mean rise of -log p(x|z), nats per sentence, when each sentence is decoded from another's code.

    The codes are swapped by one fixed derangement of the whole split. A decoder that ignores z shows 0. None for a
    split of one sentence, which has nobody to swap with.
    """
    if len(store) < 2:
        return None
    partner = torch.from_numpy(derangement(len(store), seed))
    rise = np.zeros(len(store))
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            own = torch.from_numpy(rows)
            q = model.encode(batch)
            recs = [
                model.terms(batch, q=q, z=codes.z[index].to(q.mean)[None]).rec[0].cpu().double()
                for index in (own, partner[own])
            ]
            rise[rows] = (recs[1] - recs[0]).numpy()
    return SwapGap(nats=float(rise.mean()), se=standard_error(rise))

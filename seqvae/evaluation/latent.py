"""Is the latent code in use? Mutual information, marginal KL, active units and the two gaps, over the whole split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.store import TokenStore
from seqvae.evaluation.passes import batches, evaluating, one_code, row_seed, standard_error
from seqvae.types import Posterior, Prior

ACTIVE_VARIANCE = 0.01
"""A unit is active when its posterior mean varies by at least this over sentences (Burda et al. 2016)."""

COSTLY_SENTENCES = 500
"""Sentences for the mutual information where a density takes many passes; the report says how many were used."""

_PAIRWISE_ELEMENTS = 1 << 20
"""Elements of one block of the pairwise densities: a few MB, so that it stays in cache."""

_PRIOR_CODES = 1_024
"""Codes whose density under the prior is asked for at once: a learned prior compares each with all its components."""


class RunningMoments:
    """Count, mean and variance of the posterior means, batch by batch.

    Chan, Golub and LeVeque 1983: merging batch sums of squared deviations keeps its precision where the mean is
    far larger than its spread, unlike E[x^2] - E[x]^2.
    """

    def __init__(self, latent_dim: int) -> None:
        self.count, self._by_dimension = 0, True
        self._mean, self._squares = torch.zeros(2, latent_dim, dtype=torch.float64)

    def add(self, q: Posterior) -> None:
        self._by_dimension = self._by_dimension and q.std is not None
        means = q.mean.cpu().double()
        mean = means.mean(0)
        self._add(len(means), mean, (means - mean).square().sum(0))

    def _add(self, count: int, mean: Float[Tensor, " Z"], squares: Float[Tensor, " Z"]) -> None:
        delta, total = mean - self._mean, self.count + count
        self._squares = self._squares + squares + delta.square() * (self.count * count / total)
        self._mean = self._mean + delta * (count / total)
        self.count = total

    def packed(self) -> Float[Tensor, " _"]:
        """All of it in one tensor, to be sent to other processes."""
        return torch.cat([torch.tensor([self.count, self._by_dimension]).double(), self._mean, self._squares])

    @classmethod
    def merged(cls, shares: Sequence[Float[Tensor, " _"]]) -> "RunningMoments":
        """Those of all the sentences, from what `packed` gave of each share of them."""
        whole = cls((len(shares[0]) - 2) // 2)
        for share in shares:
            count, by_dimension = int(share[0]), bool(share[1])
            if count:
                whole._add(count, *share[2:].chunk(2))
                whole._by_dimension = whole._by_dimension and by_dimension
        return whole

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
    log_q: Float[Tensor, " R"] | None
    """log q(z|x) of each code under its own posterior, in nats; None for a noiseless autoencoder."""
    posteriors: list[Posterior] = field(repr=False)
    """q(z|x) of the sentences ``rows``, in pieces."""
    rows: list[Int[np.ndarray, " _"]] = field(repr=False)
    active_units: int | None
    unit_variances: list[float] | None = None
    """Variance of each dimension's posterior mean over the sentences; None where units do not apply."""

    def own(self) -> Float[Tensor, "N Z"]:
        """The codes of the sentences that ``posteriors`` holds, in their order."""
        return self.z[self._own_rows()]

    def own_log_q(self) -> Float[Tensor, " N"]:
        """``log_q`` of the same."""
        return self.log_q[self._own_rows()]

    def _own_rows(self) -> Int[Tensor, " N"]:
        return torch.from_numpy(np.concatenate(self.rows))


def encode_split(
    model: nn.Module,
    store: TokenStore,
    *,
    seed: int = 0,
    batch_tokens: int = 16_384,
    mi_sentences: int = 20_000,
    noiseless: bool = False,
) -> SplitCodes:
    """Encode every sentence once; keep the posteriors of at most ``mi_sentences`` of them, drawn by ``seed``.

    At most `COSTLY_SENTENCES` of a family whose density takes many passes.
    """
    z, log_q = torch.zeros(len(store), model.latent_dim), None if noiseless else torch.zeros(len(store))
    kept = np.zeros(len(store), dtype=bool)
    posteriors, kept_rows, moments = [], [], RunningMoments(model.latent_dim)
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            q = model.encode(batch).detach()
            if moments.count == 0:
                at_most = min(mi_sentences, COSTLY_SENTENCES) if q.costly_density else mi_sentences
                kept[subset(len(store), at_most, seed)] = True
            moments.add(q)
            places, draw = torch.from_numpy(rows), one_code(q, rows, seed, noiseless=noiseless)
            z[places] = draw.z[0].float().cpu()
            if log_q is not None:
                log_q[places] = draw.log_q[0].float().cpu()
            if kept[rows].any():
                posteriors.append(q[torch.from_numpy(np.flatnonzero(kept[rows])).to(q.mean.device)])
                kept_rows.append(rows[kept[rows]])
    active = moments.active_units()
    variances = None if active is None else moments.variance().tolist()
    units = {"active_units": active, "unit_variances": variances}
    return SplitCodes(z=z, log_q=log_q, posteriors=posteriors, rows=kept_rows, **units)


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
    marginal_kl_nats: float | None = None
    """KL(q(z) || p(z)): how far the codes of all sentences together lie from the prior; None without a prior."""
    marginal_kl_se: float | None = None


def mutual_information(codes: SplitCodes, prior: Prior | None = None) -> MutualInformation:
    """I(x; z) = E log q(z|x) - E log q(z), with q(z) the mean of q(z|x) over the same N sentences; nats.

    Hoffman and Johnson 2016. One sample per sentence; the sentence's own component is part of q(z), so the estimate
    is at most ln N exactly. It costs N^2 densities, computed in blocks of bounded memory.

    The same samples give the marginal KL = E log q(z) - E log p(z), so that the two sum to the KL at these samples
    exactly. Where MI is near its ceiling ln N it is too small, and the marginal KL too large by as much.
    """
    z, own = codes.own(), codes.own_log_q().double().numpy()
    # No less than the sentence's own part of it, which is known from the drawing; found again it may be lost.
    together = np.maximum(log_aggregate(codes, z).double().numpy(), own - math.log(len(z)))
    values = own - together
    found = {"nats": float(values.mean()), "se": standard_error(values)}
    if prior is not None:
        off = together - _log_prior(prior, z, codes.posteriors[0].mean.device)
        found |= {"marginal_kl_nats": float(off.mean()), "marginal_kl_se": standard_error(off)}
    return MutualInformation(ceiling_nats=math.log(len(z)), sentences=len(z), **found)


def _log_prior(prior: Prior, z: Float[Tensor, "M Z"], device: torch.device) -> Float[np.ndarray, " M"]:
    with torch.no_grad():
        found = [prior.log_prob(some.to(device)[None])[0].cpu() for some in z.split(_PRIOR_CODES)]
    return torch.cat(found).double().numpy()


def log_aggregate(codes: SplitCodes, z: Float[Tensor, "M Z"]) -> Float[Tensor, " M"]:
    """log q(z) = log (1/N) sum_n q(z|x_n) in nats, on the CPU, over the N sentences whose posteriors ``codes`` holds.

    M N densities, in blocks of bounded memory.
    """
    with torch.no_grad():
        z = z.to(codes.posteriors[0].mean)
        log_sum = torch.full((len(z),), -math.inf, device=z.device, dtype=z.dtype)
        for q in codes.posteriors:
            size = len(q.mean)
            block = max(1, _PAIRWISE_ELEMENTS // q.mean.numel())
            for start in range(0, len(z), block):
                some = z[start : start + block]
                pairs = q.log_prob(some[:, None].expand(-1, size, -1))
                view = log_sum[start : start + block]
                torch.logaddexp(view, torch.logsumexp(pairs, dim=1), out=view)
    return log_sum.cpu() - math.log(sum(len(q.mean) for q in codes.posteriors))


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A mean rise of -log p(x|z), nats per sentence, where z is not the sentence's own."""

    nats: float
    se: float | None


def derangement(count: int, seed: int) -> Int[np.ndarray, " R"]:
    """A random permutation that leaves nothing in place: one cycle through all, in random order."""
    order = np.random.default_rng(row_seed(seed, count)).permutation(count)
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, -1)
    return partner


def rec_at(
    model: nn.Module, store: TokenStore, z: Float[Tensor, "R Z"], *, batch_tokens: int = 16_384
) -> Float[np.ndarray, " R"]:
    """-log p(x|z) of every sentence at the code in its row of ``z``, in nats."""
    rec = np.zeros(len(store))
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            q = model.encode(batch)
            codes = z[torch.from_numpy(rows)].to(q.mean)
            rec[rows] = model.terms(batch, q=q, z=codes[None]).rec[0].cpu().double().numpy()
    return rec


def swap_gap(
    model: nn.Module,
    store: TokenStore,
    codes: SplitCodes,
    *,
    own: Float[np.ndarray, " R"] | None = None,
    seed: int = 0,
    batch_tokens: int = 16_384,
) -> Gap | None:
    """Mean rise of -log p(x|z), nats per sentence, when each sentence is decoded from another's code.

    The codes are swapped by one fixed derangement of the whole split. A decoder that ignores z shows 0. None for a
    split of one sentence, which has nobody to swap with. ``own`` is `rec_at` the codes, where it is known.
    """
    if len(store) < 2:
        return None
    others = codes.z[torch.from_numpy(derangement(len(store), seed))]
    return _gap(model, store, codes, others, own, batch_tokens)


def prior_gap(
    model: nn.Module,
    store: TokenStore,
    codes: SplitCodes,
    *,
    own: Float[np.ndarray, " R"] | None = None,
    seed: int = 0,
    batch_tokens: int = 16_384,
) -> Gap:
    """Mean rise of -log p(x|z), nats per sentence, when each sentence is decoded from a code drawn from the prior.

    Where the codes of all sentences together fill the prior it agrees with the swap gap; a larger one says that
    the prior also draws from where no sentence lies. ``own`` is `rec_at` the codes, where it is known.
    """
    generator = torch.Generator().manual_seed(row_seed(seed, len(store)))
    with torch.no_grad():
        others = model.prior.sample(len(store), generator=generator).cpu()
    return _gap(model, store, codes, others, own, batch_tokens)


def _gap(
    model: nn.Module,
    store: TokenStore,
    codes: SplitCodes,
    others: Float[Tensor, "R Z"],
    own: Float[np.ndarray, " R"] | None,
    batch_tokens: int,
) -> Gap:
    own = rec_at(model, store, codes.z, batch_tokens=batch_tokens) if own is None else own
    rise = rec_at(model, store, others, batch_tokens=batch_tokens) - own
    return Gap(nats=float(rise.mean()), se=standard_error(rise))

"""The codes of a whole split against the prior, and mutual information as older papers estimate it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqvae import gaussian
from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.evaluation.latent import SplitCodes, log_aggregate
from seqvae.evaluation.passes import evaluating, row_seed, standard_error
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.types import Posterior, Prior

CONTINUOUS_NATS = 0.03
"""A unit is continuous when the KL from prior to aggregate posterior in it is below this (the DG-VAE code)."""

BATCH_OF_OLD = 32
"""Sentences that older code takes the mutual information over."""

_GRID = 513
_GRID_END = 6.0
"""The integrals over one dimension: points, and where the grid ends, in standard deviations of the prior."""

_ELEMENTS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class AggregatePosterior:
    """How q(z), the mean of q(z|x) over a split, lies to the prior, and the mutual information of older papers."""

    hole_nats: float | None
    """KL(p(z) || q(z)): how far the prior draws from where the codes lie; None for a noiseless autoencoder."""
    hole_se: float | None
    continuous_units: int | None
    """Dimensions in which KL(p || q) is below 0.03; None unless posterior and prior split by dimension."""
    unit_holes_nats: list[float] | None
    batch_mi_nats: float
    """Mutual information within batches of at most 32 sentences of one length."""
    batch_mi_ceiling_nats: float
    """The mean over sentences of ln(size of the batch): at most ln 32 = 3.47."""


def aggregate_posterior(
    model: nn.Module, store: TokenStore, codes: SplitCodes, *, draws: int = 2_000, seed: int = 0
) -> AggregatePosterior:
    """Everything of `AggregatePosterior`; q(z) is taken over the sentences whose posteriors ``codes`` holds."""
    hole = prior_hole(codes, model.prior, draws=draws, seed=seed)
    units = unit_holes(codes.posteriors, model.prior)
    information, ceiling = batch_mutual_information(model, store, codes)
    return AggregatePosterior(
        hole_nats=float(hole.mean()),
        hole_se=standard_error(hole),
        continuous_units=None if units is None else int((units < CONTINUOUS_NATS).sum()),
        unit_holes_nats=None if units is None else units.tolist(),
        batch_mi_nats=information,
        batch_mi_ceiling_nats=ceiling,
    )


def prior_hole(codes: SplitCodes, prior: Prior, *, draws: int = 2_000, seed: int = 0) -> Float[np.ndarray, " M"]:
    """log p(z) - log q(z) at ``draws`` codes from the prior; its mean estimates KL(p || q), nats.

    Zhang et al. 2022 ("density gap"; their code estimates it so). q(z) is the mixture over these N sentences alone: in
    many dimensions it leaves the prior's mass between them, so compare models only on the same sentences.
    """
    generator = torch.Generator().manual_seed(row_seed(seed, draws))
    with torch.no_grad():
        z = prior.sample(draws, generator=generator)
        log_p = prior.log_prob(z[None])[0].cpu().double()
    return (log_p - log_aggregate(codes, z).double()).numpy()


def unit_holes(posteriors: list[Posterior], prior: Prior) -> Float[np.ndarray, " Z"] | None:
    """KL(p(z_d) || q(z_d)) of each dimension d, nats: between N(0, 1) and a mixture of N Gaussians.

    By the trapezoidal rule, so without noise. None unless prior and posterior are Gaussians that split by dimension.
    """
    if not isinstance(prior, StandardPrior) or not all(isinstance(q, GaussianPosterior) for q in posteriors):
        return None
    grid = torch.linspace(-_GRID_END, _GRID_END, _GRID, dtype=torch.float64)
    log_p = -0.5 * (gaussian.LOG_2PI + grid.square())
    log_q = torch.full((_GRID, posteriors[0].mean.shape[1]), -math.inf, dtype=torch.float64)
    for q in posteriors:
        size = max(1, _ELEMENTS // (_GRID * q.mean.shape[1]))
        for mean, logvar in zip(q.mean.split(size), q.logvar.split(size), strict=True):
            torch.logaddexp(log_q, _log_densities(grid.to(mean), mean, logvar), out=log_q)
    log_q -= math.log(sum(len(q.mean) for q in posteriors))
    gap = log_p.exp()[:, None] * (log_p[:, None] - log_q)
    return torch.trapezoid(gap, grid, dim=0).numpy()


def _log_densities(
    grid: Float[Tensor, " G"], mean: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]
) -> Float[Tensor, "G Z"]:
    """log sum_b N(grid; mean_b, exp(logvar_b)), dimension by dimension."""
    squares = (grid[:, None, None] - mean).square() * torch.exp(-logvar)
    return torch.logsumexp(-0.5 * (gaussian.LOG_2PI + logvar + squares), dim=1).cpu().double()


def batch_mutual_information(model: nn.Module, store: TokenStore, codes: SplitCodes) -> tuple[float, float]:
    """Mutual information as in He et al. 2019's code, and its ceiling; nats. Not to be compared with that of a split.

    Sentences are sorted by length, batches of at most 32 of one length are cut, and q(z) is the mean of q(z|x) over
    the batch. Their code takes E log q(z|x) in closed form; here it is at the sample, so that ln(size) is never passed.
    """
    order = np.argsort(store.lengths, kind="stable")
    ends = np.flatnonzero(np.diff(store.lengths[order])) + 1
    total = ceiling = 0.0
    with evaluating(model):
        for group in np.split(order, ends):
            for start in range(0, len(group), BATCH_OF_OLD):
                rows = group[start : start + BATCH_OF_OLD]
                q = model.encode(collate(store, rows).to(model.device))
                z = codes.z[torch.from_numpy(rows)].to(q.mean)
                pairs = q.log_prob(z[:, None].expand(-1, len(rows), -1)).cpu().double()  # MPS has no fp64
                if codes.log_q is not None:  # known from the drawing; found again it may be lost
                    pairs.diagonal().copy_(codes.log_q[torch.from_numpy(rows)])
                total += float((pairs.diagonal() - torch.logsumexp(pairs, dim=1)).sum()) + len(rows) * math.log(
                    len(rows)
                )
                ceiling += len(rows) * math.log(len(rows))
    return total / len(store), ceiling / len(store)

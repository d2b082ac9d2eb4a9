"""Diagonal Gaussians: pure functions in fp32, each citing its equation.

Every function raises its arguments to fp32 first, whatever the autocast type: a small KL computed in bf16 comes
out several times too large.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

LOGVAR_RANGE = (-30.0, 20.0)
"""Log-variances are clamped to this range, so that exp() and its inverse stay finite in fp32."""


def wide(tensor: Tensor) -> Tensor:
    """``tensor`` in fp32, or in fp64 where it is."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def widest(device: torch.device) -> torch.dtype:
    """The widest type of numbers that a device has: Apple's GPUs have no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(map(wide, tensors))


def rsample(
    mean: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"], samples: int, generator: torch.Generator | None = None
) -> Float[Tensor, "S B Z"]:
    """z = mean + exp(logvar / 2) * eps with eps ~ N(0, I) (Kingma and Welling 2014, section 2.4)."""
    mean, logvar = _wide(mean, logvar)
    eps = torch.randn((samples, *mean.shape), generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + torch.exp(0.5 * logvar) * eps


def log_prob(
    z: Float[Tensor, "*S #B Z"], mean: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]
) -> Float[Tensor, "*S B"]:
    """log N(z; mean, diag(exp(logvar))) in nats, summed over Z."""
    z, mean, logvar = _wide(z, mean, logvar)
    return -0.5 * (LOG_2PI + logvar + (z - mean).square() * torch.exp(-logvar)).sum(-1)


def standard_log_prob(z: Float[Tensor, "*S Z"]) -> Float[Tensor, " *S"]:
    """log N(z; 0, I) in nats, summed over Z."""
    (z,) = _wide(z)
    return -0.5 * (LOG_2PI + z.square()).sum(-1)


def kl_to_standard(mean: Float[Tensor, "B Z"], logvar: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats, by dimension (Kingma and Welling 2014, appendix B).

    ``expm1(logvar) - logvar`` keeps its precision where logvar is near 0, which is where a collapsed model lives.
    """
    mean, logvar = _wide(mean, logvar)
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar)


def mixture_log_prob(
    z: Float[Tensor, "*S Z"], log_weights: Float[Tensor, " C"], mean: Float[Tensor, "C Z"], logvar: Float[Tensor, "C Z"]
) -> Float[Tensor, " *S"]:
    """log sum_c w_c N(z; mean_c, diag(exp(logvar_c))) in nats, for weights that sum to 1."""
    (log_weights,) = _wide(log_weights)
    return torch.logsumexp(log_weights + log_prob(z[..., None, :], mean, logvar), dim=-1)


def mixture_sample(
    n: int,
    log_weights: Float[Tensor, " C"],
    mean: Float[Tensor, "C Z"],
    logvar: Float[Tensor, "C Z"],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n Z"]:
    """Draws of a mixture: a component by its weight, then a point of its Gaussian.

    Drawn on the generator's device (CPU without one) and moved to that of the means.
    """
    device = torch.device("cpu") if generator is None else generator.device
    weights = log_weights.detach().to(device, widest(device)).exp()
    cdf = weights.new_ones(len(weights), len(weights)).tril() @ weights  # cumsum varies on a GPU
    uniform = torch.rand(n, generator=generator, dtype=widest(device), device=device)
    index = torch.searchsorted(cdf, uniform * cdf[-1], right=True).clamp_(max=len(cdf) - 1).to(mean.device)
    eps = torch.randn(n, mean.shape[1], generator=generator, device=device).to(mean.device)
    return (mean[index] + torch.exp(0.5 * logvar[index]) * eps).detach()

"""The von Mises-Fisher posterior: codes on the unit sphere, about a direction that the encoder gives."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from seqvae.models.prior_sphere import SpherePrior, log_uniform_density
from seqvae.types import Posterior, Prior


class VMFPosteriorConfig(BaseModel):
    """Settings of ``vmf``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["vmf"] = Field("vmf", description="von Mises-Fisher on the unit sphere, with prior.family: sphere")
    kappa: float = Field(
        30.0, gt=0, le=1e4, description="concentration about the mean direction; it is not trained, and fixes the KL"
    )


def log_bessel(order: float, x: float) -> float:
    """log I_order(x), the modified Bessel function of the first kind, where neither it nor exp(x) fits a float."""
    from scipy.special import gammaln, hyp0f1, ive

    scaled = float(ive(order, x))  # I(x) exp(-x)
    if scaled > 1e-290:
        return math.log(scaled) + x
    # Far below its order the function underflows: its series (DLMF 10.25.2, 16.2.1), in logarithms.
    return order * math.log(x / 2) - float(gammaln(order + 1)) + math.log(float(hyp0f1(order + 1, x * x / 4)))


def log_normaliser(kappa: float, dim: int) -> float:
    """log C_dim(kappa) of the density C exp(kappa mean . z) on the unit sphere in ``dim`` dimensions."""
    order = dim / 2 - 1
    return order * math.log(kappa) - dim / 2 * math.log(2 * math.pi) - log_bessel(order, kappa)


def kl_to_uniform(kappa: float, dim: int) -> float:
    """KL(vMF(mean, kappa) || uniform) in nats, the same for every mean (Xu and Durrett 2018).

    = kappa I_{dim/2}(kappa) / I_{dim/2-1}(kappa) + log C_dim(kappa) - log(1 / area of the sphere).
    """
    order = dim / 2 - 1
    length = math.exp(log_bessel(order + 1, kappa) - log_bessel(order, kappa))
    return kappa * length + log_normaliser(kappa, dim) - log_uniform_density(dim)


@dataclass(frozen=True)
class VMFPosterior:
    """q(z|x) = C exp(kappa mean . z) on the unit sphere; ``mean`` is the mean direction ``[B Z]``, of length 1.

    The expected code lies inside the sphere, where no code is; the mean direction is the likeliest one. There is no
    spread by dimension (``std`` is None), and so there are no active units.
    """

    mean: Float[Tensor, "B Z"]
    kappa: float
    log_constant: float
    """log C."""
    kl_nats: float
    """Against the uniform distribution."""

    costly_density: ClassVar[bool] = False

    @property
    def std(self) -> None:
        return None

    def rsample(self, samples: int, generator: torch.Generator | None = None) -> Float[Tensor, "S B Z"]:
        """z = w mean + sqrt(1 - w^2) v, with v uniform on the directions at right angles to the mean.

        Only the mean is trained, and for fixed w and v a code is a differentiable function of it, so the rejection of
        w needs no correction of the gradient (Davidson et al. 2018 give it for a trained kappa). Written here because
        SciPy's sampler is not differentiable, and no maintained one for PyTorch was found.
        """
        shape = (samples, *self.mean.shape)
        cosine, sine = _angles(self.kappa, shape, self.mean, generator)
        tangent = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        for _ in range(2):  # once more for noise nearly along the mean, of which rounding leaves a part
            tangent = functional.normalize(tangent - (tangent * self.mean).sum(-1, keepdim=True) * self.mean, dim=-1)
        return cosine * self.mean + sine * tangent

    def log_prob(self, z: Float[Tensor, "S #B Z"]) -> Float[Tensor, "S B"]:
        """Log-density with respect to the area of the unit sphere, on which z has to lie."""
        return self.log_constant + self.kappa * (z * self.mean).sum(-1)

    def kl(self, prior: Prior) -> tuple[Float[Tensor, " B"], None] | None:
        if not isinstance(prior, SpherePrior):
            return None
        return torch.full_like(self.mean[:, 0], self.kl_nats), None

    def detach(self) -> Posterior:
        return VMFPosterior(self.mean.detach(), self.kappa, self.log_constant, self.kl_nats)

    def __getitem__(self, index: slice | Tensor) -> Posterior:
        return VMFPosterior(self.mean[index], self.kappa, self.log_constant, self.kl_nats)


@torch.no_grad()
def _angles(
    kappa: float, shape: tuple[int, int, int], like: Tensor, generator: torch.Generator | None
) -> tuple[Float[Tensor, "S B 1"], Float[Tensor, "S B 1"]]:
    """Cosine and sine of the angle between each code and its mean, by rejection (Wood 1994, algorithm VM*).

    With d = 1 - (1 - b) beta, the cosine is (1 - (1 + b) beta) / d, and the paper's 1 - x0 w is 2 b / ((1 + b) d).
    """
    samples, sentences, dim = shape
    rest = dim - 1
    b = rest / (2 * kappa + math.sqrt(4 * kappa**2 + rest**2))
    mode = (1 - b) / (1 + b)
    beta = torch.empty(samples, sentences, dtype=like.dtype, device=like.device)
    waiting = torch.ones_like(beta, dtype=torch.bool)
    while waiting.any():
        # Beta(rest / 2, rest / 2) as a ratio of chi-squares: torch's own Beta takes no generator.
        squares = torch.randn((2, *shape[:2], rest), generator=generator, dtype=like.dtype, device=like.device).square()
        drawn = squares[0].sum(-1) / squares.sum((0, -1))
        d = 1 - (1 - b) * drawn
        log_ratio = kappa * ((1 - (1 + b) * drawn) / d - mode) + rest * (math.log((1 + b) / 2) - torch.log(d))
        uniform = torch.rand(shape[:2], generator=generator, dtype=like.dtype, device=like.device)
        accepted = waiting & (log_ratio >= torch.log(uniform))
        beta = torch.where(accepted, drawn, beta)
        waiting &= ~accepted
    d = 1 - (1 - b) * beta
    # The sine from beta itself: 1 - cosine^2 has no digits left where kappa is large.
    return ((1 - (1 + b) * beta) / d)[..., None], (2 * torch.sqrt(b * beta * (1 - beta)) / d)[..., None]


class VMFHead(nn.Module):
    """Features to a mean direction by a linear map without bias, scaled to length 1; kappa is fixed.

    Xu and Durrett 2018 (Spherical Latent Spaces for Stable Variational Autoencoders). With the uniform prior on the
    sphere the KL is a constant that kappa and the number of dimensions set: it cannot vanish, and is not trained.
    """

    def __init__(self, config: VMFPosteriorConfig, features: int, latent_dim: int):
        super().__init__()
        self.linear = nn.Linear(features, latent_dim, bias=False)
        self.kappa = config.kappa
        self.log_constant = log_normaliser(config.kappa, latent_dim)
        self.kl_nats = kl_to_uniform(config.kappa, latent_dim)

    def forward(self, features: Float[Tensor, "B H"]) -> VMFPosterior:
        mean = functional.normalize(self.linear(features).float(), dim=-1)
        return VMFPosterior(mean, self.kappa, self.log_constant, self.kl_nats)

"""The uniform prior on the unit sphere."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional


class SpherePriorConfig(BaseModel):
    """Settings of ``sphere``: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["sphere"] = Field("sphere", description="uniform on the unit sphere, with posterior.family: vmf")


def log_uniform_density(dim: int) -> float:
    """-log of the area of the unit sphere in ``dim`` dimensions, 2 pi^(dim/2) / Gamma(dim/2)."""
    return math.lgamma(dim / 2) - math.log(2) - dim / 2 * math.log(math.pi)


class SpherePrior(nn.Module):
    """p(z) = 1 / area of the unit sphere (Xu and Durrett 2018); densities are with respect to that area."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.log_density = log_uniform_density(latent_dim)
        self.register_buffer("origin", torch.zeros(0), persistent=False)  # follows the model to its device

    def log_prob(self, z: Float[Tensor, "S B Z"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "S B"]:
        return torch.full_like(z[..., 0], self.log_density)

    def sample(
        self, n: int, *, labels: Int[Tensor, " n"] | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n Z"]:
        """Drawn on the generator's device (CPU without one) and moved to the model's."""
        device = "cpu" if generator is None else generator.device
        z = torch.randn(n, self.latent_dim, generator=generator, device=device)
        return functional.normalize(z, dim=-1).to(self.origin.device)

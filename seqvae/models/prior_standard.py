"""The standard prior N(0, I)."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae import gaussian


class StandardPriorConfig(BaseModel):
    """Settings of ``standard``: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["standard"] = Field("standard", description="N(0, I)")


class StandardPrior(nn.Module):
    """p(z) = N(0, I) (Kingma and Welling 2014)."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("origin", torch.zeros(0), persistent=False)  # follows the model to its device

    def log_prob(self, z: Float[Tensor, "S B Z"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "S B"]:
        return gaussian.standard_log_prob(z)

    def sample(
        self, n: int, *, labels: Int[Tensor, " n"] | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n Z"]:
        """Drawn on the generator's device (CPU without one) and moved to the model's."""
        device = "cpu" if generator is None else generator.device
        return torch.randn(n, self.latent_dim, generator=generator, device=device).to(self.origin.device)

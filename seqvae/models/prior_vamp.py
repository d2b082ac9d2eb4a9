"""The VampPrior: a mixture of the model's own posteriors at learned pseudo-inputs."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae import gaussian
from seqvae.models.encoder import Encoder


class VampPriorConfig(BaseModel):
    """Settings of ``vamp``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["vamp"] = Field(
        "vamp", description="mixture of the model's own posteriors at learned pseudo-inputs"
    )
    components: int = Field(50, ge=1, le=100_000, description="pseudo-inputs (K)")
    length: int = Field(12, ge=1, le=10_000, description="positions of each pseudo-input, in tokens")


class VampPrior(nn.Module):
    """p(z) = (1/K) sum_k q(z|u_k) (Tomczak and Welling 2018, equation 9), with learned pseudo-inputs u_k.

    Words cannot be learned by gradient, so a pseudo-input is a sequence of ``length`` learned embeddings, which the
    encoder's recurrent layers read as they read those of words (no BOS or EOS, no dropout). The prior is thus a
    function of the encoder too: what trains or resets the encoder moves it, and gradients of log p(z) reach both the
    pseudo-inputs, which count with the decoder, and the encoder. It is as exact a density as the posteriors are; the
    KL to it has no closed form, and is estimated as under ``mixture``.
    """

    def __init__(self, config: VampPriorConfig, encoder: Encoder, posterior: nn.Module):
        super().__init__()
        self.shape = (config.components, config.length, encoder.config.embedding)
        self.inputs = nn.Embedding(config.components * config.length, encoder.config.embedding)
        # In a tuple: they belong to the model, which saves and moves them.
        self._networks = (encoder, posterior)

    def log_prob(self, z: Float[Tensor, "S B Z"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "S B"]:
        return gaussian.mixture_log_prob(z, *self._components())

    def sample(
        self, n: int, *, labels: Int[Tensor, " n"] | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n Z"]:
        """Drawn on the generator's device (CPU without one) and moved to the model's."""
        with torch.no_grad():
            return gaussian.mixture_sample(n, *self._components(), generator)

    def _components(self) -> tuple[Float[Tensor, " C"], Float[Tensor, "C Z"], Float[Tensor, "C Z"]]:
        encoder, posterior = self._networks
        inputs = self.inputs.weight.view(self.shape)
        count, length, _ = self.shape
        q = posterior(encoder.read(inputs, torch.full((count,), length, device=inputs.device)))
        return torch.full((count,), -math.log(count), device=inputs.device), q.mean, q.logvar

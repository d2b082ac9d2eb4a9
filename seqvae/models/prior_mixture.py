"""A mixture of Gaussians with learned weights, means and variances as prior."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae import gaussian


class MixturePriorConfig(BaseModel):
    """Settings of ``mixture``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["mixture"] = Field("mixture", description="learned mixture of diagonal Gaussians")
    components: int = Field(10, ge=1, le=100_000, description="Gaussians in the mixture")


class MixturePrior(nn.Module):
    """p(z) = sum_c w_c N(z; mean_c, diag(exp(logvar_c))), all learned with the decoder.

    The mixture that Tomczak and Welling 2018 compare the VampPrior with; here the weights are learned too. The KL from
    a Gaussian to it has no closed form: in training and evaluation it is the mean of log q(z|x) - log p(z) over the
    samples that rec uses, without a split by dimension. Means begin as draws of N(0, I), variances at 1.
    """

    def __init__(self, config: MixturePriorConfig, latent_dim: int):
        super().__init__()
        self.logits = nn.Parameter(torch.empty(config.components))
        self.mean = nn.Parameter(torch.empty(config.components, latent_dim))
        self.logvar = nn.Parameter(torch.empty(config.components, latent_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.logits)
        nn.init.normal_(self.mean)
        nn.init.zeros_(self.logvar)

    def log_prob(self, z: Float[Tensor, "S B Z"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "S B"]:
        return gaussian.mixture_log_prob(z, *self._components())

    def sample(
        self, n: int, *, labels: Int[Tensor, " n"] | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n Z"]:
        """Drawn on the generator's device (CPU without one) and moved to the model's."""
        return gaussian.mixture_sample(n, *self._components(), generator)

    def _components(self) -> tuple[Float[Tensor, " C"], Float[Tensor, "C Z"], Float[Tensor, "C Z"]]:
        return torch.log_softmax(self.logits.float(), 0), self.mean, self.logvar.clamp(*gaussian.LOGVAR_RANGE)

"""The Gaussian posterior with a batch-normalised mean, which keeps the expected KL above a bound."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from seqvae import gaussian
from seqvae.models.posterior_gaussian import GaussianPosterior


class BatchNormPosteriorConfig(BaseModel):
    """Settings of ``batchnorm``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["batchnorm"] = Field("batchnorm", description="Gaussian whose mean is batch-normalised")
    gamma: float = Field(
        0.6, gt=0, description="standard deviation over sentences of each dimension's posterior mean; it is not trained"
    )


class BatchNormHead(nn.Module):
    """mean = gamma (m - m_B) / sqrt(v_B + eps) + beta, with m linear in the features and m_B, v_B over the batch.

    Zhu et al. 2020 (A Batch Normalized Inference Network Keeps the KL Vanishing Away): gamma is fixed and the same
    for all dimensions, beta is learned from 0. In training the mean of the KL over a batch is then

        E KL >= sum_d (E mean_d^2) / 2 >= Z gamma^2 / 2 * min_d v_B / (v_B + eps),

    whatever the log-variance, which is not touched. eps is 1e-12: from under PyTorch's 1e-5 an encoder slips away by
    making v_B small (measured on the built-in corpus: v_B of 1e-6, and a KL of 0.3 nats where 2.9 were bound). In evaluation m_B and v_B are running averages (momentum 0.1),
    and the bound holds as far as they fit the split. A rate is guaranteed, not that it carries information.

    The statistics are those of a micro-batch, so trajectories depend on how an update is split. A batch of one
    sentence has no variance: it is normalised by the running averages, and leaves them as they are.
    """

    def __init__(self, config: BatchNormPosteriorConfig, features: int, latent_dim: int):
        super().__init__()
        self.gamma = config.gamma
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.norm = nn.BatchNorm1d(latent_dim, eps=1e-12, affine=False)
        self.beta = nn.Parameter(torch.zeros(latent_dim))

    def reset_parameters(self) -> None:
        """Its own parameter, beside those of its modules."""
        nn.init.zeros_(self.beta)

    def forward(self, features: Float[Tensor, "B H"]) -> GaussianPosterior:
        raw, logvar = self.linear(features).float().chunk(2, dim=-1)
        if self.training and len(raw) == 1:
            norm = self.norm
            scaled = functional.batch_norm(raw, norm.running_mean, norm.running_var, training=False, eps=norm.eps)
        else:
            scaled = self.norm(raw)
        return GaussianPosterior(self.gamma * scaled + self.beta, logvar.clamp(*gaussian.LOGVAR_RANGE))

"""Free bits: some of the KL costs nothing. Four readings of it, which differ in what is compared with the bits."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.types import Terms

_BY_DIMENSION = ("dimension_mean", "sentence_dimension")


class FreeBitsConfig(StrategyConfig):
    """Settings of ``free_bits``."""

    name: Literal["free_bits"] = "free_bits"
    variant: Literal["dimension_mean", "sentence_dimension", "sentence_total", "mean_total"] = Field(
        "dimension_mean",
        description="what is free up to its bits: dimension_mean - the batch mean of each dimension's (or group's) KL;"
        " sentence_dimension - each dimension of each sentence; sentence_total - the whole KL of each sentence;"
        " mean_total - the batch mean of the whole KL",
    )
    nats_per_dim: float = Field(
        0.25, ge=0, description="free nats for each latent dimension; a total is this times the dimensions"
    )
    group_size: int = Field(
        1, ge=1, description="dimensions that share their bits (dimension_mean; the last: the rest)"
    )

    @model_validator(mode="after")
    def _groups(self) -> "FreeBitsConfig":
        if self.group_size > 1 and self.variant != "dimension_mean":
            raise ValueError(f"group_size belongs to variant dimension_mean, not to {self.variant}")
        return self


class FreeBits(Strategy):
    """Shaped KL, with b = ``nats_per_dim``, B = b * Z, KL_id that of sentence i in dimension d, mean_i over the batch:

    - ``dimension_mean``: sum over groups g of max(b * |g|, mean_i KL_ig). Kingma et al. 2016, equation 15.
    - ``sentence_dimension``: sum_d max(b, KL_id). Li et al. 2019, the paper's hinge, as their code has it (``--fb 2``).
    - ``sentence_total``: max(B, KL_i). Li et al. 2019, code (``--fb 1``).
    - ``mean_total``: max(B, mean_i KL_i). Li et al. 2019, code (``--fb 3``).

    Li et al. set to zero what lies below its bits, where here it stays at them: the gradients are equal. The two means
    couple the sentences of a micro-batch, so trajectories depend on how an update is split. Where the KL is estimated
    from samples (a learned prior, a flow) only ``mean_total`` is right, up to the noise of the mean: the mean of what
    lies above the bits is not what the mean lies above them. A rate is guaranteed, not that it carries information:
    judge by mutual information and the swap gap.
    """

    Config = FreeBitsConfig
    config: FreeBitsConfig
    capturable = True

    @property
    def couples_sentences(self) -> bool:
        return self.config.variant in ("dimension_mean", "mean_total")

    def shape_kl(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        if terms.z.shape[-1] == 0:
            return terms.kl
        variant, bits = self.config.variant, self.config.nats_per_dim
        if variant in _BY_DIMENSION and terms.kl_dims is None:
            raise SeqVAEError(
                "E270",
                f"`free_bits` with `variant: {variant}` needs a KL that splits by dimension; this model's does not",
                hint="use `variant: mean_total`, or leave it out where the KL is fixed, as with a posterior `vmf`",
            )
        if variant == "sentence_total" and terms.kl_estimated:
            raise SeqVAEError(
                "E270",
                "`free_bits` with `variant: sentence_total` needs the KL of each sentence; this model's is an estimate",
                hint="use `variant: mean_total`",
            )
        total = bits * terms.z.shape[-1]
        if variant == "sentence_dimension":
            return terms.kl_dims.clamp_min(bits).sum(-1)
        if variant == "sentence_total":
            return terms.kl.clamp_min(total)
        if variant == "mean_total":
            return terms.kl.mean().clamp_min(total).expand(len(terms.kl))
        groups: Sequence[Tensor] = terms.kl_dims.mean(0).split(self.config.group_size)
        return torch.stack([g.sum().clamp_min(bits * len(g)) for g in groups]).sum().expand(len(terms.kl))

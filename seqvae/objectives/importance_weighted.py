"""The importance-weighted bound as the objective, with a gradient for the encoder that does not fade."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.types import Terms

_REACHES_Z = "its importance weights act on every gradient that reaches z"


class ImportanceWeightedConfig(StrategyConfig):
    """Settings of ``importance_weighted``; the number of samples is ``objective.samples``."""

    name: Literal["importance_weighted"] = "importance_weighted"
    gradient: Literal["doubly_reparameterised", "standard"] = Field(
        "doubly_reparameterised", description="estimator of the encoder's gradient; the decoder's is the same for both"
    )


class ImportanceWeighted(Strategy):
    """Loss = -log mean_s w_s with log w_s = log p(x|z_s) + log p(z_s) - log q(z_s|x) over the samples z_s of q(z|x).

    Source: Burda et al. 2016, equation 8. The standard gradient of the bound, sum_s v_s * d log w_s with the normalised
    weights v_s, tells the encoder less the more samples there are (Rainforth et al. 2018). The doubly reparameterised
    one (Tucker et al. 2019, equation 8) is unbiased too and does not: sum_s v_s^2 * (d log w_s / d z_s) * d z_s, with
    q's parameters constant in log q. Decoder and prior keep sum_s v_s * d log w_s. With one sample the loss is -ELBO.

    ``monitor: auto`` picks the best weights by this bound on the validation split.
    """

    Config = ImportanceWeightedConfig
    config: ImportanceWeightedConfig
    capturable = True
    monitor = "iw"
    conflicts: ClassVar = {
        "bag_of_words": _REACHES_Z,
        "dip": _REACHES_Z,
        "minimum_rate": "it is a bound on the KL of the ELBO, which this loss does not have",
    }

    def objective(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        if terms.z.shape[-1] == 0:
            return terms.rec.mean(0)
        doubly = self.config.gradient == "doubly_reparameterised"
        q = terms.q.detach() if doubly else terms.q
        log_w = terms.log_p - terms.rec - q.log_prob(terms.z)
        if doubly and terms.z.requires_grad:
            weights = log_w.detach().softmax(0)[:, :, None]
            # The bound's own gradient brings the first power of the weights.
            terms.z.register_hook(lambda gradient: gradient * weights)
        return math.log(len(log_w)) - torch.logsumexp(log_w, 0)

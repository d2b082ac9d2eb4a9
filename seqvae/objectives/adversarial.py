"""The adversarial autoencoder: a critic holds the aggregate posterior to the prior."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import Batch, Terms


class AdversarialConfig(StrategyConfig):
    """Settings of ``adversarial``."""

    name: Literal["adversarial"] = "adversarial"
    weight: float = Field(10.0, gt=0, description="weight of deceiving the critic, beside rec")
    hidden: int = Field(512, ge=1, description="units of the critic's hidden layer")
    lr: float = Field(5e-4, gt=0, description="learning rate of the critic (Adam, betas 0.5 and 0.999)")


class Adversarial(Strategy):
    """Loss = rec - weight * E_q(z)[log D(z)]; the critic D ascends E_p(z)[log D(z)] + E_q(z)[log(1 - D(z))].

    Source: Makhzani et al. 2015, section 2; for text, with these sizes and weights, Shen et al. 2020 (with
    ``input_noise`` it is their denoising adversarial autoencoder). In every update the model and the critic make one
    step each, both from the weights before it, as in the code of Shen et al.; the critic has an optimizer of its own
    and is part of every checkpoint. Codes are sampled from q(z|x) (with ``autoencoder``: its mean).
    """

    Config = AdversarialConfig
    config: AdversarialConfig
    without_kl = "the critic takes the place of the KL, which has no weight"

    def build(self, dims: Dims) -> None:
        self._latent = dims.latent
        if dims.latent > 0:
            hidden = self.config.hidden
            self.critic = nn.Sequential(nn.Linear(dims.latent, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        if self._latent == 0:
            return {}
        return {"critic": torch.optim.Adam(self.critic.parameters(), lr=self.config.lr, betas=(0.5, 0.999))}

    def kl_weight(self, step: int) -> float:
        return 0.0

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        if self._latent == 0:
            return 0.0
        codes = terms.z.flatten(0, 1)
        labels = None if batch.labels is None else batch.labels.repeat(len(terms.z))
        real = terms.prior.sample(len(codes), labels=labels, generator=generator).detach()
        # The critic's parameters are fixed where the model is to deceive it, and the codes where it is to tell them.
        fixed = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        deceive = softplus(-functional_call(self.critic, fixed, (codes,)).float()).mean()
        tell = softplus(-self.critic(real).float()).mean() + softplus(self.critic(codes.detach()).float()).mean()
        return self.config.weight * deceive + tell

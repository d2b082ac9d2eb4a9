"""The inverse autoregressive flow: a Gaussian posterior bent by transforms that depend on the sentence."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from seqvae import gaussian
from seqvae.models.masked import MaskedNetwork
from seqvae.types import Posterior, Prior

OPEN = 2.0
"""Added to a gate's logit, so that an untrained transform leaves most of z as it is (Kingma et al. 2016, section 4)."""


class IAFPosteriorConfig(BaseModel):
    """Settings of ``iaf``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["iaf"] = Field("iaf", description="inverse autoregressive flow on a diagonal Gaussian")
    steps: int = Field(2, ge=1, le=64, description="autoregressive transforms, one after the other")
    hidden: int = Field(64, ge=1, description="hidden units of each transform's network")
    context: int = Field(64, ge=1, description="size of what the encoder tells every transform of the sentence")


class InverseAutoregressiveFlow(nn.Module):
    """z_t = s * z_{t-1} + (1 - s) * m with (m, s) of each dimension from those before it and the context.

    Kingma et al. 2016 (Improving Variational Inference with Inverse Autoregressive Flow), equations 10 to 14, with s a
    sigmoid; the order of the dimensions is reversed from one transform to the next.
    """

    def __init__(self, config: IAFPosteriorConfig, latent_dim: int):
        super().__init__()
        self.networks = nn.ModuleList(
            MaskedNetwork(latent_dim, config.context, config.hidden) for _ in range(config.steps)
        )

    def forward(
        self, z: Float[Tensor, "S B Z"], context: Float[Tensor, "B K"], inverse: bool = False
    ) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
        """The transformed z and log |det dz_T/dz_0|; with ``inverse``, z_0 of a given z_T and the same determinant."""
        total = torch.zeros_like(z[..., 0])
        for network in reversed(self.networks) if inverse else self.networks:
            z = z if inverse else z.flip(-1)
            z, log_gates = (_undo if inverse else _apply)(network, z, context)
            z = z.flip(-1) if inverse else z
            total = total + log_gates.sum(-1)
        return z, total


def _gates(network: MaskedNetwork, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """m, and the logit of s."""
    shift, logit = network(z, context)
    return shift, logit + OPEN


def _apply(network: MaskedNetwork, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    shift, logit = _gates(network, z, context)
    gate = torch.sigmoid(logit)
    return gate * z + (1 - gate) * shift, functional.logsigmoid(logit)


def _undo(network: MaskedNetwork, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """One dimension after the other, since each needs those before it; what is not known yet is held at 0."""
    dims, found, logit = torch.arange(z.shape[-1], device=z.device), torch.zeros_like(z), z
    for known in range(z.shape[-1]):
        shift, logit = _gates(network, found, context)
        gate = torch.sigmoid(logit)
        found = torch.where(dims <= known, (z - (1 - gate) * shift) / gate, 0.0)
    return found, functional.logsigmoid(logit)


@dataclass(frozen=True)
class FlowPosterior:
    """q(z|x) of z = flow(z0; context) with z0 ~ N(base_mean, diag(exp(base_logvar))).

    The density is exact. At samples of its own it is known from the drawing; at any other code the flow is inverted,
    which takes a pass for each dimension. There is no closed form of the moments, so ``std`` is None (and there are no
    active units), and the KL is estimated from samples.
    """

    base_mean: Float[Tensor, "B Z"]
    base_logvar: Float[Tensor, "B Z"]
    context: Float[Tensor, "B K"]
    flow: InverseAutoregressiveFlow
    frozen: bool = False
    """Whether no gradient may reach the flow's own parameters."""
    _last: list[tuple[Tensor, int, Tensor]] = field(default_factory=list, repr=False, compare=False)
    """The codes last drawn or asked for, their version (which a change in place moves), and their log-density."""

    costly_density: ClassVar[bool] = True

    @property
    def mean(self) -> Float[Tensor, "B Z"]:
        """The code of the base's mean: one fixed code for each sentence, in one pass, where q has its mass.

        It is not E[z], which would need sampling, and so would be noisy or costly wherever a code is asked for.
        """
        return self._run(self.base_mean[None], inverse=False)[0][0]

    @property
    def std(self) -> None:
        return None

    def rsample(self, samples: int, generator: torch.Generator | None = None) -> Float[Tensor, "S B Z"]:
        base = gaussian.rsample(self.base_mean, self.base_logvar, samples, generator)
        z, log_det = self._run(base, inverse=False)
        self._last[:] = [(z, z._version, gaussian.log_prob(base, self.base_mean, self.base_logvar) - log_det)]
        return z

    def log_prob(self, z: Float[Tensor, "S #B Z"]) -> Float[Tensor, "S B"]:
        """log q(z|x) = log N(z0; base) - log |det dz/dz0| (change of variables)."""
        for last, version, known in self._last:
            if last is z and version == z._version and (known.requires_grad or not torch.is_grad_enabled()):
                return known if torch.is_grad_enabled() else known.detach()
        codes = z.expand(-1, len(self.base_mean), -1)
        base, log_det = self._run(codes, inverse=True)
        found = gaussian.log_prob(base, self.base_mean, self.base_logvar) - log_det
        # From a code far outside of q the way back grows beyond all numbers: its base lies infinitely far out.
        lost = torch.isfinite(codes).all(-1) & torch.isfinite(self.context).all(-1) & ~torch.isfinite(base).all(-1)
        found = torch.where(lost, -torch.inf, found)
        self._last[:] = [(z, z._version, found)]
        return found

    def kl(self, prior: Prior) -> None:
        return None

    def detach(self) -> Posterior:
        fixed = (self.base_mean.detach(), self.base_logvar.detach(), self.context.detach())
        return FlowPosterior(*fixed, self.flow, frozen=True)

    def __getitem__(self, index: slice | Tensor) -> Posterior:
        parts = (self.base_mean[index], self.base_logvar[index], self.context[index])
        return FlowPosterior(*parts, self.flow, self.frozen)

    def _run(self, z: Float[Tensor, "S B Z"], inverse: bool) -> tuple[Float[Tensor, "S B Z"], Float[Tensor, "S B"]]:
        parameters = {name: p.detach() if self.frozen else p for name, p in self.flow.named_parameters()}
        with torch.autocast(z.device.type, enabled=False):  # log-densities are fp32 throughout
            return torch.func.functional_call(self.flow, parameters, (z, self.context, inverse))


class IAFHead(nn.Module):
    """Features to the base's (mean, logvar) and the flow's context by one linear map without bias.

    Kingma et al. 2016, algorithm 1.
    """

    def __init__(self, config: IAFPosteriorConfig, features: int, latent_dim: int):
        super().__init__()
        self.sizes = (latent_dim, latent_dim, config.context)
        self.linear = nn.Linear(features, sum(self.sizes), bias=False)
        self.flow = InverseAutoregressiveFlow(config, latent_dim)

    def forward(self, features: Float[Tensor, "B H"]) -> FlowPosterior:
        mean, logvar, context = self.linear(features).float().split(self.sizes, dim=-1)
        return FlowPosterior(mean, logvar.clamp(*gaussian.LOGVAR_RANGE), context, self.flow)

"""Semi-amortised inference: the encoder's guess at q(z|x) is improved by gradient steps, sentence by sentence."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Model, Strategy, StrategyConfig
from seqvae.types import Batch, Posterior

_DIFFERENCE = 1e-2
"""Length of a finite difference in (mean, logvar): fp32 leaves about 1e-4 of the gradient's size as its error."""

Gradients = Callable[[int, Tensor, Sequence[Tensor]], Sequence[Tensor | None]]
"""(step, parameters of q, model parameters) -> gradients of -ELBO by q's parameters and by those of the model."""


class SemiAmortisedConfig(StrategyConfig):
    """Settings of ``semi_amortised``, saved with the model."""

    name: Literal["semi_amortised"] = "semi_amortised"
    steps: int = Field(
        5, ge=1, le=1000, description="gradient steps on mean and log-variance of each sentence, in use too"
    )
    lr: float = Field(0.5, gt=0, description="length of a step per unit of gradient")
    momentum: float = Field(0.5, ge=0, lt=1, description="momentum of the steps")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient of one sentence")
    through_steps: bool = Field(
        True, description="train the model through the steps, by finite differences; false: as if they were a shift"
    )


class SemiAmortised(Strategy):
    """q(z|x) has the parameters l_K that K steps of stochastic variational inference make of the encoder's l_0:

    v_k+1 = momentum * v_k + clip(d -ELBO(l_k)), l_k+1 = l_k - lr * v_k+1, with l = (mean, logvar) and one draw of the
    noise in each step. The same is done in evaluation and in use.

    Source: Kim et al. 2018, algorithms 1 and 2. The loss is differentiated through the steps as there: the LSTM of
    cuDNN has no second derivative, so Hessian-vector products are finite differences of gradients (central ones here,
    of one length for the whole batch). Deviations: the inner -ELBO has KL weight 1 whatever the schedule; its decoder
    has no dropout; clipping is by sentence, so that no sentence depends on its company, and its factor counts as
    constant; the noise is drawn anew in training, and is fixed, one draw a step for all sentences, otherwise. With
    ``through_steps: false`` the encoder's gradient is that at l_K, and the model's through the steps is left out.

    What a posterior family keeps by construction, a least KL say, holds for l_0 alone.
    """

    Config = SemiAmortisedConfig
    config: SemiAmortisedConfig

    def refine(self, q: Posterior, batch: Batch, model: Model) -> Posterior:
        if not dataclasses.is_dataclass(q) or {field.name for field in dataclasses.fields(q)} != {"mean", "logvar"}:
            raise SeqVAEError(
                "E272",
                "`semi_amortised` refines the mean and log-variance of a Gaussian; this posterior is none",
                hint="use `model.posterior: {family: gaussian}`",
            )
        start = torch.cat([q.mean, q.logvar], dim=-1)
        gradients = self._gradients(q, batch, model)
        if self.config.through_steps:
            parameters = [p for p in model.parameters() if p.requires_grad]
            end = _Descent.apply(start, self.config, gradients, *parameters)
        else:
            end = start + (_Descent.apply(start.detach(), self.config, gradients) - start).detach()
        mean, logvar = end.chunk(2, dim=-1)
        return dataclasses.replace(q, mean=mean, logvar=logvar)

    def _gradients(self, q: Posterior, batch: Batch, model: Model) -> Gradients:
        noise = self._noise(q.mean, fresh=model.training)

        def gradients(step: int, at: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with torch.enable_grad(), torch.autocast(at.device.type, enabled=False), _without_dropout(model):
                at = at.detach().requires_grad_()
                mean, logvar = at.chunk(2, dim=-1)
                here = dataclasses.replace(q, mean=mean, logvar=logvar)
                terms = model.terms(batch, q=here, z=(mean + torch.exp(0.5 * logvar) * noise[step])[None])
                loss = (terms.rec[0] + terms.kl).sum()
                return torch.autograd.grad(loss, [at, *parameters], allow_unused=True)

        return gradients

    def _noise(self, mean: Float[Tensor, "B Z"], *, fresh: bool) -> Float[Tensor, "K #B Z"]:
        """Drawn on the CPU: from the global random state, or always the same."""
        rows, generator = (len(mean), None) if fresh else (1, torch.Generator().manual_seed(0))
        return torch.randn(self.config.steps, rows, mean.shape[1], generator=generator).to(mean)


class _Descent(torch.autograd.Function):
    """l_0 to l_K; backward goes through the steps in reverse."""

    @staticmethod
    def forward(
        ctx: Any, start: Tensor, config: SemiAmortisedConfig, gradients: Gradients, *parameters: Tensor
    ) -> Tensor:
        at, velocity, path = start, torch.zeros_like(start), []
        for step in range(config.steps):
            gradient = gradients(step, at, ())[0]
            norm = gradient.norm(dim=-1, keepdim=True)
            scale = config.clip_norm / norm.clamp_min(config.clip_norm)
            path.append((at, scale))
            velocity = config.momentum * velocity + scale * gradient
            at = at - config.lr * velocity
        ctx.path, ctx.config, ctx.gradients, ctx.parameters = path, config, gradients, parameters
        return at

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        by_velocity = torch.zeros_like(above)
        totals: list[Tensor | None] = [None] * len(ctx.parameters)
        for step, (at, scale) in reversed(list(enumerate(ctx.path))):
            by_velocity = by_velocity - ctx.config.lr * above
            own, *others = _hessian_product(ctx.gradients, step, at, scale * by_velocity, ctx.parameters)
            above = above + own
            totals = [_added(total, other) for total, other in zip(totals, others, strict=True)]
            by_velocity = ctx.config.momentum * by_velocity
        return above, None, None, *totals


def _hessian_product(
    gradients: Gradients, step: int, at: Tensor, direction: Tensor, parameters: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """The second derivatives of -ELBO by (``at`` or ``parameters``) and ``at``, times ``direction``."""
    longest = direction.norm(dim=-1).max().clamp_min(torch.finfo(direction.dtype).tiny)
    length = _DIFFERENCE / longest
    ahead = gradients(step, at + length * direction, parameters)
    behind = gradients(step, at - length * direction, parameters)
    return [None if a is None else (a - b) / (2 * length) for a, b in zip(ahead, behind, strict=True)]


def _added(total: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if total is None else total if other is None else total + other


@contextlib.contextmanager
def _without_dropout(model: Model) -> Iterator[None]:
    """Evaluation mode, in which gradients flow all the same: cuDNN has none for an RNN in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with contextlib.ExitStack() as stack:
        stack.callback(_restore, modes)
        rnns = [module for module, _ in modes if isinstance(module, nn.RNNBase)]
        if next(model.parameters()).is_cuda:
            if any(rnn.num_layers > 1 and rnn.dropout > 0 for rnn in rnns):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            else:  # Training mode of an RNN is its dropout between layers, and here there is none.
                for rnn in rnns:
                    rnn.train()
        yield


def _restore(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training

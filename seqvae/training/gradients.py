"""What one micro-batch adds to an update: its gradients, and the sums that are told of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seqvae.training.runtime import Runtime
from seqvae.training.stage import Stage
from seqvae.types import Batch, Terms


@dataclass(frozen=True, kw_only=True)
class Added:
    """Of one micro-batch: loss and (rec, kl, sentences, tokens), each summed over its sentences; and the terms."""

    loss: Float[Tensor, ""]
    counts: Float[Tensor, " 4"]
    terms: Terms


class Gradients:
    """The gradients of a phase's parameters: empty at ``begin``, then the sum of what every micro-batch adds."""

    overwritten = False
    """Whether gradients and terms of an update lie where the next one puts its own."""

    def __init__(self, stage: Stage, runtime: Runtime, noise: torch.Generator):
        self.stage, self.runtime, self.noise = stage, runtime, noise

    def begin(self) -> None:
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def let_go(self) -> bool:
        """Give back the memory that only speed asks for; whether there was any."""
        return False

    def add(self, batch: Batch, step: int, share: int | Tensor) -> Added:
        """A forward and a backward pass; gradients are those of the summed loss over ``share``."""
        return self._pass(batch, step, share)

    def _pass(self, batch: Batch, step: int, share: int | Tensor, kl_weight: Tensor | None = None) -> Added:
        with self.runtime.autocast():
            loss, terms = self.stage.loss_of(batch, step, self.noise, kl_weight)
        (loss / share).backward()
        rec, kl, tokens = terms.rec.detach().mean(0).sum(), terms.kl.detach().sum(), terms.tokens.sum()
        counts = torch.stack([rec, kl, torch.full_like(rec, len(batch)), tokens])
        return Added(loss=loss.detach(), counts=counts, terms=terms)

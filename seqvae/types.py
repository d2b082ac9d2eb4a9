"""The axis legend and the types that flow between the layers.

Axis legend (used in every shape annotation of the package)::

    B   sentences in a batch          T   tokens, BOS and EOS included
    V   vocabulary                    Z   latent dimensions
    H   hidden units                  S   posterior samples per sentence
    N   hypotheses being decoded

Every log-quantity is in nats and fp32. One glossary: ``mean``, ``logvar``, ``z``, ``rec`` (-log p(x|z), summed
over the tokens of a sentence), ``kl`` (KL(q(z|x) || p(z))), ``elbo`` (reported as -ELBO = rec + kl), ``nll``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqvae.specials import BOS, EOS, PAD, SPECIALS, UNK

__all__ = ["BOS", "EOS", "PAD", "SPECIALS", "UNK", "Batch", "Posterior", "Prior", "Terms"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sentences padded on the right: ``<bos> w1 .. wn <eos> <pad> ..``.

    ``lengths`` counts BOS and EOS, so ``2 <= lengths <= T``; ``rows`` are line numbers (from 0) in the split.
    """

    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, " B"]
    rows: Int[Tensor, " B"]
    labels: Int[Tensor, " B"] | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on ``device`` (of CUDA asynchronous where the memory is pinned).

        On Apple's GPUs nothing holds on to the memory that such a copy is still to read.
        """
        later = torch.device(device).type == "cuda"
        return self._with_each(lambda tensor: tensor.to(device, non_blocking=later))

    def clone(self) -> "Batch":
        """The same batch in memory of its own."""
        return self._with_each(torch.clone)

    def copy_(self, other: "Batch") -> None:
        """Take over the sentences of a batch of the same shapes (asynchronous where the memory is pinned)."""
        for name, tensor in self._tensors().items():
            tensor.copy_(getattr(other, name), non_blocking=True)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(self, **{name: change(tensor) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def with_tokens(self, tokens: Int[Tensor, "B T2"], lengths: Int[Tensor, " B"] | None = None) -> "Batch":
        """The same sentences (rows, labels) with other tokens: what a corruption returns."""
        return replace(self, tokens=tokens, lengths=self.lengths if lengths is None else lengths)


@runtime_checkable
class Prior(Protocol):
    """p(z), or p(z|label) for a conditional model."""

    def log_prob(self, z: Float[Tensor, "S B Z"], labels: Int[Tensor, " B"] | None = None) -> Float[Tensor, "S B"]: ...

    def sample(
        self, n: int, *, labels: Int[Tensor, " n"] | None = None, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n Z"]: ...


@runtime_checkable
class Posterior(Protocol):
    """One batch of q(z|x), whatever its family."""

    @property
    def mean(self) -> Float[Tensor, "B Z"]: ...

    @property
    def std(self) -> Float[Tensor, "B Z"] | None:
        """Standard deviation by dimension, or None for a family that has none."""

    @property
    def costly_density(self) -> bool:
        """Whether ``log_prob`` takes many passes at codes that it did not draw: few sentences then do for the MI."""

    def rsample(self, samples: int, generator: torch.Generator | None = None) -> Float[Tensor, "S B Z"]:
        """Reparameterised samples: gradients flow to the parameters of q."""

    def log_prob(self, z: Float[Tensor, "S B Z"]) -> Float[Tensor, "S B"]: ...

    def kl(self, prior: Prior) -> tuple[Float[Tensor, " B"], Float[Tensor, "B Z"] | None] | None:
        """KL(q || prior) by sentence, and by dimension where it splits (else None); None without a closed form."""

    def detach(self) -> "Posterior": ...

    def __getitem__(self, index: slice | Tensor) -> "Posterior":
        """The posteriors of some of the sentences."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What one pass of the model gives; every objective and every reported number is made from these.

    For a language model (latent dimension 0) ``q`` and ``prior`` are None, ``kl`` is zero and ``z`` has no columns.
    """

    rec: Float[Tensor, "S B"]
    kl: Float[Tensor, " B"]
    kl_dims: Float[Tensor, "B Z"] | None
    z: Float[Tensor, "S B Z"]
    q: Posterior | None
    prior: Prior | None
    tokens: Int[Tensor, " B"]
    """Predicted tokens of each sentence: EOS counted, BOS not."""
    kl_estimated: bool = False
    """Whether ``kl`` is a Monte-Carlo mean over ``z``, for want of a closed form."""
    known_log_q: Float[Tensor, "S B"] | None = None
    """``log_q`` where it was found already."""

    @property
    def log_q(self) -> Float[Tensor, "S B"]:
        """log q(z|x) at the samples."""
        if self.known_log_q is not None:
            return self.known_log_q
        return torch.zeros_like(self.rec) if self.q is None else self.q.log_prob(self.z)

    @property
    def log_p(self) -> Float[Tensor, "S B"]:
        """log p(z) at the samples."""
        return torch.zeros_like(self.rec) if self.prior is None else self.prior.log_prob(self.z)

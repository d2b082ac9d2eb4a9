"""An autoregressive network by masks: what it says of a dimension depends on the dimensions before it alone."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


class MaskedLinear(nn.Linear):
    """A linear layer whose weights count as 0 where ``mask [outputs inputs]`` is false."""

    def __init__(self, mask: Bool[Tensor, "O I"]):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, inputs: Float[Tensor, "*S I"]) -> Float[Tensor, "*S O"]:
        return functional.linear(inputs, self.weight * self.mask, self.bias)


class MaskedNetwork(nn.Module):
    """Two numbers for each dimension from the dimensions before it and a context (Germain et al. 2015, MADE).

    One hidden layer. Hidden unit j reads the first j mod Z dimensions and the context; dimension d (from 0) is told by
    the units that read d dimensions or fewer.
    """

    def __init__(self, latent_dim: int, context: int, hidden: int):
        super().__init__()
        dims, reads = torch.arange(latent_dim), torch.arange(hidden) % latent_dim
        self.inner = MaskedLinear(dims[None] < reads[:, None])
        self.context = nn.Linear(context, hidden, bias=False)
        self.outer = MaskedLinear((reads[None] <= dims[:, None]).repeat(2, 1))

    def forward(
        self, z: Float[Tensor, "*S B Z"], context: Float[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "*S B Z"], Float[Tensor, "*S B Z"]]:
        hidden = functional.elu(self.inner(z) + self.context(context))
        first, second = self.outer(hidden).chunk(2, dim=-1)
        return first, second

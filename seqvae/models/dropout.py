"""Dropout by token, or with one mask for a whole sentence."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

DropoutOver = Literal["tokens", "sentence"]

OVER = (
    "what a dropout mask is drawn for: each token, or once for all tokens of a sentence (variational dropout; between"
    " several layers each token has its own)"
)


class SentenceDropout(nn.Module):
    """One mask for all positions of a sentence (Gal and Ghahramani 2016, "A theoretically grounded application of
    dropout in recurrent neural networks", on the inputs and the outputs)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        if not self.training or self.rate == 0:
            return inputs
        kept = inputs.new_empty(inputs.shape[0], 1, inputs.shape[2]).bernoulli_(1 - self.rate)
        return inputs * kept.div_(1 - self.rate)


def make_dropout(rate: float, over: DropoutOver) -> nn.Module:
    return nn.Dropout(rate) if over == "tokens" else SentenceDropout(rate)

"""LSTMs over right-padded sentences, never packed.

A causal LSTM needs no packing: what it says at a position does not depend on the padding to the right. A backward
direction reads each sentence reversed by its own length, so it needs none either. Packed input would fall back to a
slow loop on CPU and synchronise on a GPU.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def causal_lstm(
    lstm: nn.LSTM,
    inputs: Float[Tensor, "B T I"],
    state: tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]] | None = None,
) -> tuple[Float[Tensor, "B T H"], tuple[Float[Tensor, "L B H"], Float[Tensor, "L B H"]]]:
    """Run ``lstm`` over whole, unpacked sentences, in the type of its weights even under autocast.

    Autocast would run cuDNN's LSTM in fp16, whatever type was asked for, without scaling the loss; on a CPU the bf16
    kernel does not exist on every processor and is slower than fp32 where the hidden size is small.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        dtype = lstm.weight_hh_l0.dtype
        state = None if state is None else (state[0].to(dtype), state[1].to(dtype))
        return lstm(inputs.to(dtype), state)


def reversed_index(lengths: Int[Tensor, " B"], size: int) -> Int[Tensor, "B T"]:
    """Index that reverses each sentence within its own length and leaves its padding in place."""
    positions = torch.arange(size, device=lengths.device)
    mirrored = lengths[:, None] - 1 - positions
    return torch.where(mirrored >= 0, mirrored, positions)


class SentenceLSTM(nn.Module):
    """A stack of LSTM layers, each with one or two directions; padding never reaches a state."""

    def __init__(self, *, inputs: int, hidden: int, layers: int, bidirectional: bool):
        super().__init__()
        self.directions = 2 if bidirectional else 1
        sizes = [inputs] + [hidden * self.directions] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(
            nn.LSTM(size, hidden, batch_first=True) for size in sizes * (self.directions - 1)
        )

    def forward(self, inputs: Float[Tensor, "B T I"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T H"]:
        """Outputs of the last layer; positions past a sentence's length hold values that nothing may read."""
        if self.directions == 1:
            for layer in self.forwards:
                inputs, _ = causal_lstm(layer, inputs)
            return inputs
        index = reversed_index(lengths, inputs.shape[1])[:, :, None]
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            right, _ = causal_lstm(ahead, inputs)
            left, _ = causal_lstm(back, inputs.gather(1, index.expand_as(inputs)))
            inputs = torch.cat([right, left.gather(1, index.expand_as(left))], dim=-1)
        return inputs

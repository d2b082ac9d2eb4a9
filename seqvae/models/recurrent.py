"""LSTMs and GRUs over right-padded sentences, never packed.

A causal network needs no packing: what it says at a position does not depend on the padding to the right. A backward
direction reads each sentence reversed by its own length, so it needs none either. Packed input would fall back to a
slow loop on CPU and synchronise on a GPU.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Cell = Literal["lstm", "gru"]
"""Kinds of recurrent cell: Hochreiter and Schmidhuber 1997; Cho et al. 2014, in PyTorch's (cuDNN's) form, whose reset
gate acts on the product of the recurrent weights with the state and not on the state."""

NETWORKS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def run_causal(
    network: nn.LSTM | nn.GRU,
    inputs: Float[Tensor, "B T I"],
    state: tuple[Float[Tensor, "L B H"], ...] | None = None,
) -> tuple[Float[Tensor, "B T H"], tuple[Float[Tensor, "L B H"], ...]]:
    """Run ``network`` over whole, unpacked sentences, in the type of its weights even under autocast.

    ``state`` is (h, c) of an LSTM and (h,) of a GRU; None stands for zeros. Autocast would run cuDNN's networks in
    fp16, whatever type was asked for, without scaling the loss; on a CPU the bf16 kernel does not exist on every
    processor and is slower than fp32 where the hidden size is small.
    """
    single = isinstance(network, nn.GRU)
    with torch.autocast(inputs.device.type, enabled=False):
        dtype = network.weight_hh_l0.dtype
        state = None if state is None else tuple(part.to(dtype) for part in state)
        outputs, last = network(inputs.to(dtype), state[0] if single and state else state)
    return outputs, (last,) if single else last


def reversed_index(lengths: Int[Tensor, " B"], size: int | Int[Tensor, ""]) -> Int[Tensor, "B T"]:
    """Index that reverses each sentence within its own length and leaves its padding in place.

    ``size`` is a tensor while the model is traced.
    """
    positions = torch.arange(size, device=lengths.device)
    mirrored = lengths[:, None] - 1 - positions
    return torch.where(mirrored >= 0, mirrored, positions)


class SentenceNetwork(nn.Module):
    """A stack of recurrent layers, each with one or two directions; padding never reaches a state."""

    def __init__(self, *, cell: Cell, inputs: int, hidden: int, layers: int, bidirectional: bool):
        super().__init__()
        self.directions = 2 if bidirectional else 1
        sizes, network = [inputs] + [hidden * self.directions] * (layers - 1), NETWORKS[cell]
        self.forwards = nn.ModuleList(network(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(
            network(size, hidden, batch_first=True) for size in sizes * (self.directions - 1)
        )

    def forward(self, inputs: Float[Tensor, "B T I"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B T H"]:
        """Outputs of the last layer; positions past a sentence's length hold values that nothing may read."""
        if self.directions == 1:
            for layer in self.forwards:
                inputs, _ = run_causal(layer, inputs)
            return inputs
        index = reversed_index(lengths, inputs.shape[1])[:, :, None]
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            right, _ = run_causal(ahead, inputs)
            left, _ = run_causal(back, inputs.gather(1, index.expand_as(inputs)))
            inputs = torch.cat([right, left.gather(1, index.expand_as(left))], dim=-1)
        return inputs

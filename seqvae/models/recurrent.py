"""LSTMs and GRUs over right-padded sentences, never packed.

A causal network needs no packing: what it says at a position does not depend on the padding to the right. A backward
direction reads each sentence reversed by its own length, so it needs none either. Packed input would fall back to a
slow loop on CPU and synchronise on a GPU.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

Cell = Literal["lstm", "gru"]
"""Kinds of recurrent cell: Hochreiter and Schmidhuber 1997; Cho et al. 2014, in PyTorch's (cuDNN's) form, whose reset
gate acts on the product of the recurrent weights with the state and not on the state."""

NETWORKS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


def run_causal(
    network: nn.LSTM | nn.GRU,
    inputs: Float[Tensor, "B T I"],
    state: tuple[Float[Tensor, "L B H"], ...] | None = None,
    weight_dropout: float = 0.0,
) -> tuple[Float[Tensor, "B T H"], tuple[Float[Tensor, "L B H"], ...]]:
    """Run ``network`` over whole, unpacked sentences; outputs and states are of the type of its weights.

    ``state`` is (h, c) of an LSTM and (h,) of a GRU; None stands for zeros. ``weight_dropout`` is the rate of dropout
    on the weights from state to state, with one mask for all sentences and positions (DropConnect: Merity et al. 2018,
    "Regularizing and optimizing LSTM language models"). Under autocast a CPU computes in the type
    that was asked for (its bf16 networks take half the time of fp32), and a GPU in that of the weights: autocast itself
    would run cuDNN's networks in fp16, whatever type was asked for, without scaling the loss.
    """
    kind, single, own = inputs.device.type, isinstance(network, nn.GRU), network.weight_hh_l0.dtype
    low = torch.get_autocast_dtype(kind) if kind == "cpu" and torch.is_autocast_enabled(kind) else own
    with torch.autocast(kind, enabled=False):
        state = None if state is None else tuple(part.to(low) for part in state)
        if low == own and not weight_dropout:
            outputs, last = network(inputs.to(own), state[0] if single and state else state)
            return outputs, (last,) if single else last
        outputs, *last = _run_with(network, _weights(network, low, weight_dropout), inputs.to(low), state)
        return outputs.to(own), tuple(part.to(own) for part in last)


def _weights(network: nn.LSTM | nn.GRU, dtype: torch.dtype, dropout: float) -> list[Tensor]:
    """Its weights in a type, those from state to state under dropout."""
    return [
        (functional.dropout(weight, dropout) if dropout and name.startswith("weight_hh") else weight).to(dtype)
        for name, weight in network.named_parameters()
    ]


def _run_with(
    network: nn.LSTM | nn.GRU,
    weights: list[Tensor],
    inputs: Float[Tensor, "B T I"],
    state: tuple[Float[Tensor, "L B H"], ...] | None,
) -> tuple[Tensor, ...]:
    """(outputs, *state) with other weights than its own, of the type of the inputs.

    On a GPU PyTorch says once, in a warning, that it copies them for cuDNN, since they are not one piece of memory.
    """
    single, layers = isinstance(network, nn.GRU), network.num_layers
    if state is None:
        state = (inputs.new_zeros(layers, len(inputs), network.hidden_size),) * (1 if single else 2)
    settings = weights, True, layers, network.dropout, network.training, False, True  # biases, one way, batch first
    return torch.gru(inputs, state[0], *settings) if single else torch.lstm(inputs, state, *settings)


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

"""An exponential moving average of the weights: where the settings say so, it is validated, kept and saved."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seqvae.training.state import Weights, require_fit

_PREFIX = "average."


class Average:
    """The average over the updates of a phase (Polyak and Juditsky 1992); nothing where ``decay`` is None.

    After update n the average moves towards the weights by 1 - min(decay, n / (n + 9)): the first weights, which are
    far off, are soon forgotten. Buffers, such as running statistics, are those of the model.
    """

    def __init__(self, model: nn.Module, decay: float | None):
        self.decay = decay
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """From the weights as they are."""
        self._weights = {} if self.decay is None else {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def follow(self, model: nn.Module, update: int) -> None:
        """Towards the weights after an update, numbered from 1."""
        if self.decay is not None:
            move = get_ema_multi_avg_fn(min(self.decay, update / (update + 9)))
            move(list(self._weights.values()), list(model.parameters()), None)

    @contextlib.contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Inside, the weights of the model are the average."""
        own = {name: p.detach().clone() for name, p in model.named_parameters() if name in self._weights}
        _copy(self._weights, model)
        try:
            yield
        finally:
            _copy(own, model)

    def tensors(self) -> Weights:
        """What a checkpoint keeps."""
        return {f"{_PREFIX}{name}": tensor for name, tensor in self._weights.items()}

    def restore(self, tensors: Weights) -> None:
        """What a checkpoint kept; SeqVAEError (E401) where it does not fit."""
        own = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}
        require_fit(self._weights, own, "average of the weights")
        for name, tensor in own.items():
            self._weights[name].copy_(tensor)


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])

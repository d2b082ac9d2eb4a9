"""Passes that are captured once for each shape of batch and replayed (CUDA graphs).

A pass over a small batch is hundreds of small kernels, and a GPU computes them faster than the host can launch them. A
graph is launched at once. It computes with the memory and the numbers that it was captured with, so that what changes
from update to update has a place of its own, which is written before each replay: the batch, the weight of the KL, the
number of sentences. Gradients add up in memory that stays; random numbers come from the generators as they are.
"""

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seqvae.models.families import DRAWN_BY_REJECTION
from seqvae.training import state as states
from seqvae.training.gradients import Added, Gradients
from seqvae.training.runtime import Runtime
from seqvae.training.stage import Stage
from seqvae.types import Batch, Terms

MOST_SHAPES = 256
"""Shapes whose passes are kept; then the one that was not used for longest is captured again where it comes back."""

WARM_UP = 3
"""Passes before a capture, in which libraries choose their kernels and take their workspaces."""


class CudaRecorder:
    """CUDA graphs that share one pool of memory: what one of them gives is used before another one is replayed.

    ``generators`` beside the device's own are those that passes draw from.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]):
        self._generators, self._stream = generators, _side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, compute: Callable[[], Added]) -> None:
        """Passes that are thrown away."""
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP):
                    compute()
        finally:
            current.wait_stream(self._stream)

    def capture(self, compute: Callable[[], Added]) -> tuple[Added, Callable[[], None]]:
        """Where the results will lie, and what computes them into it."""
        device = self._stream.device
        # A capture that fails may leave its stream the current one: the outer block takes that back.
        with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            graph = torch.cuda.CUDAGraph()
            for generator in self._generators:
                graph.register_generator_state(generator)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                added = compute()
        return added, graph.replay


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures: libraries keep a workspace for each stream that they have seen."""
    return torch.cuda.Stream(device)


@dataclass(frozen=True)
class _Pass:
    """A captured pass: the batch that it reads, what it gives, and what replays it."""

    batch: Batch
    added: Added
    replay: Callable[[], None]


class CapturedGradients(Gradients):
    """Gradients of a phase that has no `obstacle`."""

    overwritten = True

    def __init__(self, stage: Stage, runtime: Runtime, noise: torch.Generator):
        super().__init__(stage, runtime, noise)
        self._recorder = CudaRecorder(runtime.device, [noise])
        self._kept: OrderedDict[tuple[int | bool, ...], _Pass] = OrderedDict()
        self._kl_weight, self._share = (torch.zeros((), device=runtime.device) for _ in range(2))
        self._own: dict[nn.Parameter, Tensor] = {}
        """The memory of the gradients, of those parameters that get one."""

    def begin(self) -> None:
        for parameter, gradient in self._own.items():
            parameter.grad = gradient  # others may have let go of it meanwhile
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=False)

    def let_go(self) -> bool:
        had = bool(self._kept)
        self._kept.clear()
        self._recorder = CudaRecorder(self.runtime.device, [self.noise])  # with a pool of its own
        return had

    def add(self, batch: Batch, step: int, share: int | Tensor) -> Added:
        self._kl_weight.fill_(self.stage.objective.kl_weight(step))
        self._share.fill_(share)
        shape = (*batch.tokens.shape, batch.labels is None)
        found = self._kept.get(shape)
        if found is None:
            found = self._kept[shape] = self._captured(batch, step)
            if len(self._kept) > MOST_SHAPES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shape)
        found.batch.copy_(batch)
        found.replay()
        return found.added

    def _captured(self, batch: Batch, step: int) -> _Pass:
        """A pass over batches of this shape."""
        own = batch.clone()
        compute = functools.partial(self._detached_pass, own, step)
        if not self._own:
            for parameter in self._parameters():
                parameter.grad = None  # of an earlier phase: not all of them need get one here
        with self._undone():
            self._recorder.warm_up(compute)
        if not self._own:
            self._own = {p: torch.zeros_like(p) for p in self._parameters() if p.grad is not None}
            self.begin()
        added, replay = self._recorder.capture(compute)
        return _Pass(own, added, replay)

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Afterwards gradients, buffers and random states are as before."""
        device, generators = self.runtime.device, {"noise": self.noise}
        random = states.random_tensors(generators, device)
        changing = [*self._own.values(), *self.stage.buffers()]
        before = [tensor.clone() for tensor in changing]
        try:
            yield
        finally:
            for tensor, value in zip(changing, before, strict=True):
                tensor.copy_(value)
            states.restore_random(generators, random, device)

    def _detached_pass(self, batch: Batch, step: int) -> Added:
        # Autocast keeps copies of weights for other passes: none may be used here or be left behind.
        with torch.autocast(self.runtime.device.type, enabled=False, cache_enabled=False):
            added = self._pass(batch, step, self._share, self._kl_weight)
        return replace(added, terms=_detached(added.terms))  # else a pass would hold on to the graph of another

    def _parameters(self) -> Iterable[nn.Parameter]:
        for optimizer in self.stage.optimizers.values():
            for group in optimizer.param_groups:
                yield from group["params"]


def gradients_of(stage: Stage, runtime: Runtime, noise: torch.Generator) -> Gradients:
    """Captured where the settings say so and the phase can be."""
    captured = runtime.cuda_graphs and obstacle(stage, runtime) is None
    return (CapturedGradients if captured else Gradients)(stage, runtime, noise)


def obstacle(stage: Stage, runtime: Runtime) -> str | None:
    """Why the passes of a phase cannot be captured, if they cannot."""
    for strategy in stage.objective.strategies:
        if not strategy.capturable:
            return f"`{strategy.name}` does not say that its passes can be replayed (`Strategy.capturable`)"
    config = stage.model.config
    if config.latent_dim > 0 and config.posterior.family in DRAWN_BY_REJECTION:
        family = config.posterior.family
        return f"codes of the posterior `{family}` are drawn until they are accepted, which the host waits for"
    if any(isinstance(each, nn.RNNBase) and each.num_layers > 1 and each.dropout > 0 for each in stage.model.modules()):
        return "the dropout between recurrent layers is cuDNN's, which keeps its random state to itself"
    if runtime.deterministic:
        return "with `train.deterministic`, some operations wait for the host"
    return None


def _detached(terms: Terms) -> Terms:
    return replace(
        terms,
        rec=terms.rec.detach(),
        kl=terms.kl.detach(),
        kl_dims=None if terms.kl_dims is None else terms.kl_dims.detach(),
        known_log_q=None if terms.known_log_q is None else terms.known_log_q.detach(),
        z=terms.z.detach(),
        q=None if terms.q is None else terms.q.detach(),
    )

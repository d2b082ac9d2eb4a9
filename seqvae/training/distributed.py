"""Several processes that train one model: who they are, and what they tell one another.

``torchrun`` starts them. Each holds the whole model and reads its share of every batch; gradients are averaged by
PyTorch's DistributedDataParallel. All processes call the methods of their `World` in the same order.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seqvae.data.batching import smallest_batch
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import row_seed
from seqvae.types import Batch, Terms

LossOf = Callable[[Batch, int, torch.Generator, Tensor | None], tuple[Tensor, Terms]]
"""(batch, step, noise, kl_weight) -> (loss summed over the sentences of the batch, terms), as `Objective.forward`."""

_STOPS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = timedelta(days=7)
"""How long processes wait for one that prepares the text; one that dies is noticed at once."""


class World:
    """The processes of a run: this one alone. Nothing is sent and nothing is copied."""

    rank, size = 0, 1
    local_rank, local_size = 0, 1
    """Among the processes of this machine."""

    @contextlib.contextmanager
    def ahead(self, leads: bool) -> Iterator[None]:
        """Processes that lead go through the block first; the others begin when these are through."""
        yield

    def told(self, make: Callable[[], str]) -> str:
        """A text that rank 0 makes, for all."""
        return make()

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Raises E505 in every process where one sees another value of a fact."""

    def gather(self, values: Tensor) -> list[Tensor]:
        """``values``, on the CPU and of one shape, of every rank in their order."""
        return [values]

    def collected(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of all ranks (CPU, of equal shapes): rank 0's by their names, others' as ``rank.<r>.<name>``."""
        return {
            _prefix(rank) + name: tensor
            for name, mine in sorted(own.items())
            for rank, tensor in enumerate(self.gather(mine))
        }

    def own(self, collected: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """This rank's of what `collected` gave; None where that was said by another number of ranks."""
        if ranks_of(collected) != self.size:
            return None
        prefix = _prefix(self.rank)
        return {name.removeprefix(prefix): tensor for name, tensor in collected.items() if name.startswith(prefix)}

    def joint(self, text: str) -> str:
        """The texts of all ranks made one, which differs where any of them does."""
        return "-".join(f"{int(seen):016x}" for seen in self.gather(torch.tensor([row_seed(0, text)])))

    def align(self, module: nn.Module) -> None:
        """Every rank takes the parameters and buffers of rank 0."""

    def parallel(self, model: nn.Module, objective: nn.Module) -> LossOf:
        """``objective`` such that after ``backward`` gradients are the means over the ranks. From here on they hold the
        same model and methods, those of rank 0."""
        return objective

    def holding(self, more: bool) -> contextlib.AbstractContextManager:
        """Inside, losses of an update to which ``more`` will be added: gradients need not be averaged yet."""
        return contextlib.nullcontext()

    def share(self, sentences: int, received: signal.Signals | None, device: torch.device) -> int | Tensor:
        """What to divide the loss of ``sentences`` by, so that the mean over ranks is that over all sentences.

        An update begins with it, and all ranks learn on the way which of them ``received`` a signal.
        """
        return sentences

    def stopping(self, received: signal.Signals | None) -> signal.Signals | None:
        """The signal that stops the run after this update, on every rank."""
        return received

    def summed(self, values: Tensor) -> Tensor:
        """The sum over the ranks."""
        return values


class Group(World):
    """The processes that ``torchrun`` started."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._waiting = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self._signals, self._parallel = torch.zeros(len(_STOPS)), None

    @contextlib.contextmanager
    def ahead(self, leads: bool) -> Iterator[None]:
        if not leads:
            self._wait()
        yield
        if leads:
            self._wait()

    def _wait(self) -> None:
        dist.all_reduce(torch.zeros(1), group=self._waiting)

    def told(self, make: Callable[[], str]) -> str:
        text = make().encode() if self.rank == 0 else b""
        length = torch.tensor([len(text)])
        dist.broadcast(length, 0, group=self._waiting)
        content = torch.tensor([*text, 0] if self.rank == 0 else [0] * (int(length) + 1), dtype=torch.uint8)
        dist.broadcast(content, 0, group=self._waiting)
        return bytes(content[:-1].tolist()).decode()

    def require_same(self, facts: Mapping[str, str]) -> None:
        seen = self.gather(torch.tensor([row_seed(0, value) for value in facts.values()]))
        for index, name in enumerate(facts):
            if any(values[index] != seen[0][index] for values in seen):
                hint = "runs and texts must lie on a file system that all nodes share, under the same paths"
                raise SeqVAEError("E505", f"the processes of the run do not see the same {name}", hint=hint)

    def gather(self, values: Tensor) -> list[Tensor]:
        found = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(found, values.contiguous(), group=self._waiting)
        return found

    def align(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)

    def parallel(self, model: nn.Module, objective: nn.Module) -> LossOf:
        # A phase may have parameters that no loss reaches (a network for a code that there is not, say), and which they
        # are may change from step to step.
        replica = _Replica(model, objective)
        self._parallel = DistributedDataParallel(replica, find_unused_parameters=True)

        def loss_of(batch: Batch, step: int, noise: torch.Generator, kl_weight: Tensor | None) -> tuple[Tensor, Terms]:
            return self._parallel(batch, step, noise, kl_weight), replica.terms

        return loss_of

    def holding(self, more: bool) -> contextlib.AbstractContextManager:
        return self._parallel.no_sync() if more else contextlib.nullcontext()

    def share(self, sentences: int, received: signal.Signals | None, device: torch.device) -> int | Tensor:
        sums = torch.tensor([sentences, *(received == number for number in _STOPS)], dtype=torch.float32, device=device)
        dist.all_reduce(sums)
        self._signals = sums[1:]
        return sums[0] / self.size

    def stopping(self, received: signal.Signals | None) -> signal.Signals | None:
        counts = self._signals.tolist()
        return next((number for number, count in zip(_STOPS, counts, strict=True) if count), None)

    def summed(self, values: Tensor) -> Tensor:
        sums = values.clone()
        dist.all_reduce(sums)
        return sums


def ranks_of(collected: Mapping[str, Tensor]) -> int:
    """How many ranks `World.collected` was called by."""
    return 1 + max((int(name.split(".")[1]) for name in collected if name.startswith("rank.")), default=0)


def _prefix(rank: int) -> str:
    return f"rank.{rank}." if rank else ""


class _Replica(nn.Module):
    """Model and methods as the one module that DistributedDataParallel asks for.

    It gives the loss alone: parameters that only the terms depend on would be waited for. A rank whose share of a batch
    is empty computes the loss of a stand-in that counts for nothing, so that all ranks average the same gradients.
    """

    def __init__(self, model: nn.Module, objective: nn.Module):
        super().__init__()
        self.model, self.objective = model, objective
        self.terms: Terms | None = None
        self.unused = nn.Parameter(torch.zeros(1, device=next(model.parameters()).device))
        """PyTorch warns where it looks for unused parameters and there are none."""

    def forward(self, batch: Batch, step: int, noise: torch.Generator, kl_weight: Tensor | None) -> Tensor:
        if len(batch) > 0:
            loss, self.terms = self.objective(batch, step, noise, kl_weight)
            return loss
        loss, terms = self.objective(smallest_batch().to(batch.tokens.device), step, noise, kl_weight)
        self.terms = replace(
            terms,
            rec=terms.rec[:, :0],
            kl=terms.kl[:0],
            kl_dims=None if terms.kl_dims is None else terms.kl_dims[:0],
            z=terms.z[:, :0],
            q=None if terms.q is None else terms.q[:0],
            tokens=terms.tokens[:0],
        )
        return 0.0 * loss


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The processes of this run for the length of the block; where they are joined already, these.

    Raises E236 where ``torchrun`` has not told enough, E503 where they do not find one another, and E504 where one of
    them ends before the others.
    """
    if not _several():
        yield World()
    elif dist.is_initialized():
        yield Group()
    else:
        with _told_of_loss("E503", "the processes of the run do not find one another", _FIND):
            gpus = torch.cuda.is_available() and dist.is_nccl_available()
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
            group = Group()
        with _told_of_loss("E504", "another process of the run has ended, and this one cannot go on without it", _LOST):
            yield group
        dist.destroy_process_group()


_FIND = "all nodes need the same MASTER_ADDR and MASTER_PORT (of `torchrun`: --rdzv-endpoint), and a way through to it"
_LOST = "what it says tells why; `seqvae train --resume RUN`, with torchrun as before, goes on from the last checkpoint"


def _several() -> bool:
    """Whether ``torchrun`` started more processes than this one."""
    names = ["WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"]
    if torch.cuda.is_available():  # or all processes of a machine would take its first GPU
        names += ["LOCAL_RANK", "LOCAL_WORLD_SIZE"]
    given = {name: os.environ.get(name, "") for name in names}
    if given["WORLD_SIZE"] in ("", "1"):
        return False
    missing = [name for name, value in given.items() if not value]
    wrong = [name for name in names if name != "MASTER_ADDR" and given[name] and not given[name].isdecimal()]
    if not missing and not wrong and int(given["RANK"]) >= int(given["WORLD_SIZE"]):
        wrong = ["RANK"]
    if missing or wrong:
        fault = f"{', '.join(missing or wrong)} {'not set' if missing else 'no such number'}"
        hint = "start it with `torchrun --nproc-per-node N -m seqvae train ...`; for one process, unset WORLD_SIZE"
        raise SeqVAEError("E236", f"WORLD_SIZE asks for {given['WORLD_SIZE']} processes, but: {fault}", hint=hint)
    return True


@contextlib.contextmanager
def _told_of_loss(code: str, what: str, hint: str) -> Iterator[None]:
    """Errors of the network between the processes become one of ours; others stay as they are."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), "")
        network = isinstance(error, dist.DistError) or any(name in first.lower() for name in ("gloo", "nccl"))
        if code != "E503" and not network:
            raise
        raise SeqVAEError(code, f"{what}: {first}", hint=hint) from error

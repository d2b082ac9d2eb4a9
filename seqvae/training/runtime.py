"""The machine under a run: device, precision, threads, signals."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

import torch

from seqvae.errors import SeqVAEError
from seqvae.training.distributed import World
from seqvae.training.settings import TrainConfig

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable that cuBLAS reads when it starts, and PyTorch at its first product on a GPU, whatever that was
for: with the same workspaces, sums have the same order."""


@dataclass(frozen=True)
class Runtime:
    """Where and in which precision a run computes."""

    device: torch.device
    bf16: bool
    threads: int
    world: World = field(default_factory=World)
    deterministic: bool = False
    cuda_graphs: bool = False

    @classmethod
    def choose(cls, config: TrainConfig, world: World | None = None) -> "Runtime":
        """Resolve ``auto`` settings and set the thread count of this process.

        Raises SeqVAEError: E207 where the device asked for is not there, or no GPU for `TrainConfig.cuda_graphs`; E238
        and E239 where the processes of ``world`` cannot have one each, E238 where several would capture.
        """
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        world = world or World()
        device = choose_device(config.device) if world.size == 1 else _device_of_rank(config.device, world)
        if config.deterministic and device.type == "cuda":
            os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
        bf16 = gains_from_bf16(device) if config.precision == "auto" else config.precision == "bf16"
        if config.cuda_graphs:
            _check_graphs(device, world)
        return cls(device, bf16, torch.get_num_threads(), world, config.deterministic, config.cuda_graphs)

    @property
    def precision(self) -> str:
        return "bf16" if self.bf16 else "fp32"

    def autocast(self) -> contextlib.AbstractContextManager:
        """Matrix products in bf16 where that was chosen; KL, densities and sums stay fp32."""
        if not self.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Inside the block, with `TrainConfig.deterministic`, operations that cannot give the same bits twice raise."""
        if not self.deterministic:
            yield
            return
        former = torch.get_deterministic_debug_mode()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(former)


def choose_device(name: str) -> torch.device:
    """``auto``: CUDA, else MPS, else CPU; a device that is named must be there."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    there = ["cpu", *mps, *(["cuda"] if cuda else []), *cuda]
    if name not in there:
        hint = f"auto takes the best of what is here: {', '.join(there)}"
        hint += "" if torch.version.cuda else " (this PyTorch is built without CUDA)"
        raise SeqVAEError("E207", f"there is no device `{name}` here", hint=hint)
    return torch.device(name)


def _device_of_rank(name: str, world: World) -> torch.device:
    """A GPU for each process of a machine in turn, or the CPU for all."""
    chosen = choose_device("cpu" if name == "auto" and not torch.cuda.is_available() else name)
    if chosen.index is not None or chosen.type == "mps":
        hint = "set `train.device` to auto, or to cuda: each process then takes a GPU of its own"
        raise SeqVAEError("E238", f"{world.size} processes cannot all train on `{name}`", hint=hint)
    if chosen.type == "cpu":
        return chosen
    there = torch.cuda.device_count()
    if world.local_size > there:
        what = f"{world.local_size} processes on this machine, which has {there} GPU{'s' if there > 1 else ''}"
        raise SeqVAEError("E239", what, hint=f"start `torchrun --nproc-per-node {there}`, or set `train.device=cpu`")
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device


def _check_graphs(device: torch.device, world: World) -> None:
    hint = "leave `train.cuda_graphs` at false"
    if device.type != "cuda":
        raise SeqVAEError("E207", f"`train.cuda_graphs` needs a GPU, and this run would be on `{device}`", hint=hint)
    if world.size > 1:
        raise SeqVAEError("E238", f"{world.size} processes cannot have their passes captured", hint=hint)


def gains_from_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products have hardware of their own (elsewhere they run several times slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # PyTorch has no public name for it; without the private one, fp32 is always right.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a flag that the loop reads between updates; a second one ends at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopSignals"]:
        """Handle the signals inside the block and put the former handlers back after it (main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""What this machine does at its best, measured: products of matrices, and memory."""

import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

_MATRIX = {"cpu": 1024, "cuda": 8192}
"""Rows of the square matrices that are multiplied: large enough for the device to be at its best. A type that the
device has no products of its own for takes smaller ones: it would take minutes."""

_COPIED_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Size of the array that is copied: more than any cache holds."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The best that a device does, by this measurement."""

    fp32_flops_per_s: float
    """Floating-point operations a second in products of fp32 matrices; a multiplication and an addition are two."""
    bf16_flops_per_s: float
    bytes_per_s: float
    """Memory that is read and written in a second."""


def ceiling(device: torch.device, seconds: float) -> Ceiling:
    """All three, measured for ``seconds`` together."""
    fp32, bf16 = (matrix_flops_per_s(device, kind, seconds / 3) for kind in (torch.float32, torch.bfloat16))
    return Ceiling(fp32_flops_per_s=fp32, bf16_flops_per_s=bf16, bytes_per_s=copied_bytes_per_s(device, seconds / 3))


def matrix_flops_per_s(device: torch.device, kind: torch.dtype, seconds: float) -> float:
    """Floating-point operations a second in a product of two square matrices."""
    size, largest = 256, _MATRIX.get(device.type, 2048)
    while size < largest and 8 * _product_seconds(device, kind, size, 0.0) < seconds / 4:
        size *= 2
    return 2 * size**3 / _product_seconds(device, kind, size, seconds)


def _product_seconds(device: torch.device, kind: torch.dtype, size: int, seconds: float) -> float:
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(device, kind)
    return seconds_of(lambda: a @ a, device, seconds)


def copied_bytes_per_s(device: torch.device, seconds: float) -> float:
    """Bytes a second that a copy reads and writes, both counted."""
    source = torch.zeros(_COPIED_BYTES.get(device.type, 1 << 27), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds_of(lambda: target.copy_(source), device, seconds)


def seconds_of(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The median time of ``work``, which is done again and again for ``seconds``, but once at least."""
    return statistics.median(in_turn({"": work}, device, seconds)[""])


def in_turn(
    works: Mapping[str, Callable[[], object]], device: torch.device, seconds: float, *, rounds: int = 1
) -> dict[str, list[float]]:
    """The times of several things done in turn, for ``seconds`` together and ``rounds`` times at least.

    So that what else the machine does falls on all of them. Each is done once before, untimed: the first time is
    slower. On a GPU the clock waits for what was queued.
    """
    for work in works.values():
        work()
    settle(device)
    taken: dict[str, list[float]] = {name: [] for name in works}
    began, done = time.perf_counter(), 0
    while done < rounds or time.perf_counter() - began < seconds:
        for name, work in works.items():
            start = time.perf_counter()
            work()
            settle(device)
            taken[name].append(time.perf_counter() - start)
        done += 1
    return taken


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_bytes(device: torch.device) -> int | None:
    """The most memory so far: of the device where that is a GPU, else of this process; None where it is not told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands the peak of a process down to those that it starts: getrusage tells of both
        (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="ascii"), re.MULTILINE)
        return int(peak) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

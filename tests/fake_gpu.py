"""A GPU for machines that have none: what lies on it is computed by the CPU, but may not meet what does not.

Where a tensor lies is known by its storage. As on a real GPU, an operation on tensors of both devices raises, but for
single numbers and for indices into what lies there; so do `numpy()` without `cpu()`, and a generator of the other
device. Kernels, memory and random numbers are those of the CPU: rounding and speed cannot be tried here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)

INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations whose indices may lie on the CPU."""


class Generator(torch.Generator):
    """A generator that says it is of the device that it was asked for on."""

    def __new__(cls, device: torch.device | str = CPU) -> "Generator":
        made = super().__new__(cls)
        made.place = GPU if torch.device(device).type == "cuda" else CPU
        return made

    @property
    def device(self) -> torch.device:
        return self.place


class Event:
    """A place in the work of the GPU, which is always done."""

    def record(self, *_: Any) -> None: ...

    def synchronize(self) -> None: ...


class Placed:
    """The storages that lie on the GPU. They are kept, so that no other one takes their place in memory."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self.operations = 0
        """Made on the GPU so far."""

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._storages

    def add(self, found: Any) -> None:
        for tensor in _tensors(found):
            storage = tensor.untyped_storage()
            self._storages[storage._cdata] = storage

    def device_of(self, tensor: torch.Tensor) -> torch.device:
        return GPU if tensor in self else CPU


class _Operations(TorchDispatchMode):
    """Sees every operation, those of backward passes too."""

    def __init__(self, placed: Placed):
        super().__init__()
        self.placed, self.backward = placed, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, function.overloadpacket.__name__
        found = function(*args, **kwargs)
        tensors = _tensors((args[:1] if name in INDEXED else args, kwargs))
        there = [tensor in self.placed for tensor in tensors]
        if self.backward and not tensors:  # the zeros of a gradient that nobody asked for
            self.placed.add(found)
        if not any(there) or name == "copy_":
            return found
        if any(not on_gpu and tensor.dim() > 0 for tensor, on_gpu in zip(tensors, there, strict=True)):
            raise RuntimeError(f"{function}: expected all tensors to be on the same device, but found cuda:0 and cpu")
        self.placed.operations += 1
        self.placed.add(found)
        return found


class _Devices(TorchFunctionMode):
    """Answers what names a device or asks for one."""

    def __init__(self, placed: Placed, operations: _Operations):
        super().__init__()
        self.placed, self.operations = placed, operations

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        kwargs.pop("pin_memory", None)  # there is no driver that could pin it
        own = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if own is not None and name == "__get__":
            asked = getattr(function, "__self__", None)
            if asked is torch.Tensor.device:
                return self.placed.device_of(own)
            if asked is torch.Tensor.is_cuda:
                return own in self.placed
        if own is not None and name == "numpy" and own in self.placed:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if own is not None and name in ("to", "cpu", "cuda"):
            return self._moved(name, own, list(args[1:]), kwargs)
        named = kwargs.get("device")
        place = self.placed.device_of(own) if named is None and own is not None else torch.device(named or CPU)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != place.type:
            raise RuntimeError(
                f"Expected a '{place.type}' device type for generator but found '{generator.device.type}'"
            )
        if named is None or place.type != "cuda":
            return function(*args, **kwargs)
        found = function(*args, **(kwargs | {"device": CPU}))
        found = found.clone() if name in ("as_tensor", "asarray") and found not in self.placed else found
        self.placed.add(found)
        return found

    def _moved(self, name: str, own: torch.Tensor, rest: list[Any], kwargs: dict[str, Any]) -> torch.Tensor:
        target, dtype = {"cpu": CPU, "cuda": GPU}.get(name, kwargs.get("device")), kwargs.get("dtype")
        for each in rest if name == "to" else []:
            if isinstance(each, torch.Tensor):
                target, dtype = self.placed.device_of(each), each.dtype
            elif isinstance(each, torch.dtype):
                dtype = each
            elif isinstance(each, (str, torch.device)):
                target = each
        found = own if dtype is None else own.to(dtype)
        before, after = (self.placed.device_of(own).type, torch.device(target or self.placed.device_of(own)).type)
        if before == after:
            return found
        with _without(self.operations):
            found = found.clone()
        if after == "cuda":
            self.placed.add(found)
        return found


@contextlib.contextmanager
def _without(mode: _Operations) -> Iterator[None]:
    """Nothing that is done inside is looked at."""
    kept, mode.placed = mode.placed, Placed()
    try:
        yield
    finally:
        mode.placed = kept


def _tensors(found: Any) -> list[torch.Tensor]:
    return [each for each in tree_iter(found) if isinstance(each, torch.Tensor)]


@contextlib.contextmanager
def fake_gpu() -> Iterator[Placed]:
    """Inside, PyTorch has a GPU. ``device=auto`` takes it."""
    placed = Placed()
    operations = _Operations(placed)
    answers = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "a GPU that is none",
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "synchronize": lambda *_: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda *_: None,
        "max_memory_allocated": lambda *_: 1 << 20,
        "is_current_stream_capturing": lambda: False,
        "Event": Event,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)
        # Of a PyTorch that is built with CUDA an optimizer would ask the driver whether it is being captured.
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        devices, run_backward = _Devices(placed, operations), torch.autograd._engine_run_backward

        def run_backward_here(*args, **kwargs):
            operations.backward = True
            try:
                with devices:  # else what is written in Python there would not be seen: `backward` is a function itself
                    return run_backward(*args, **kwargs)
            finally:
                operations.backward = False

        patch.setattr(torch.autograd, "_engine_run_backward", run_backward_here)
        with operations, devices:
            yield placed

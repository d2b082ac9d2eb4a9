"""Tensors in files, without pickle: safetensors, written whole or not at all."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.errors import SeqVAEError
from seqvae.io.disk import DISK_ERRORS, damaged, replacing, require_utf8, storage_errors

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 16 * 2**20
"""A tensor file's header is a few hundred bytes per tensor: anything near this bound is not ours."""


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, "Tensor"]) -> None:
    """Writes tensors atomically as safetensors, without metadata: equal tensors give equal bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    require_utf8(path)
    with replacing(path) as temporary:
        try:
            save_file(_separate(tensors), temporary)
        except SafetensorError as error:
            raise _disk_error(error, path) from error


def load_tensors(path: str | os.PathLike[str]) -> dict[str, "Tensor"]:
    """Reads what :func:`save_tensors` wrote, on the CPU. Nothing in the file is ever executed.

    Raises SeqVAEError: E402 where the file is missing, E401 where it is not a whole safetensors file.
    """
    with _tensor_file(Path(path)) as file:
        # The clone lets go of the file: a mapped tensor would follow what happens to it.
        return {name: file.get_tensor(name).clone() for name in sorted(file.keys())}


def tensor_shapes(path: str | os.PathLike[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind (``F32``, ``I64``) and shape of each tensor of a file, by its header alone. Errors as `load_tensors`."""
    with _tensor_file(Path(path)) as file:
        slices = {name: file.get_slice(name) for name in sorted(file.keys())}
        return {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}


@contextlib.contextmanager
def _tensor_file(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    require_utf8(path)
    if not path.is_file():
        raise SeqVAEError("E402", f"`{path.name}` is missing", where=str(path), hint="check the path, or copy it again")
    with storage_errors(path), open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise damaged(path, f"`{path.name}` is damaged: its header claims {header_bytes} bytes")
    try:
        with storage_errors(path), safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise damaged(path, f"`{path.name}` is damaged: {error}") from error


def _separate(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Contiguous CPU tensors in the order of their names, none sharing memory with another (the format forbids it)."""
    separate, seen = {}, set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


def _disk_error(error: Exception, path: Path) -> Exception:
    """The OSError behind a message such as ``I/O error: No space left on device (os error 28)``."""
    number = str(error).rpartition("os error ")[2].rstrip(")")
    for code in DISK_ERRORS:
        if number == str(code) or os.strerror(code) in str(error):
            return OSError(code, os.strerror(code), str(path))
    return error

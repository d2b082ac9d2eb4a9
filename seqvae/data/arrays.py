"""One-dimensional .npy files that are written piece by piece and mapped back into memory."""

import tokenize
from pathlib import Path

import numpy as np

_BUFFER_BYTES = 1 << 20
_HEADER_BYTES = 128


class ArrayWriter:
    """Appends numbers to a new .npy file whose length is not known beforehand; memory stays flat."""

    def __init__(self, path: Path, dtype: str):
        self.items, self.dtype = 0, dtype
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._file.write(bytes(_HEADER_BYTES))

    def extend(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self.dtype, casting="same_kind", copy=False).data)
        self.items += len(values)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *raised: object) -> None:
        with self._file:
            if raised[0] is None:
                self._file.seek(0)
                self._file.write(_header(self.dtype, self.items))


def map_array(path: Path, dtype: str, items: int) -> np.ndarray:
    """The array of a .npy file, read-only and mapped; ValueError where it is not what is expected."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (tokenize.TokenError, SyntaxError, EOFError, OverflowError) as error:  # what a damaged header brings about
        raise ValueError(f"{path.name} has no header of NumPy: {error}") from None
    if array.shape != (items,) or array.dtype.str != dtype:
        raise ValueError(f"{path.name} holds {array.dtype.str} {array.shape}, expected {dtype} ({items},)")
    return array


def _header(dtype: str, items: int) -> bytes:
    """Header of a version 1.0 .npy file, padded to a fixed size so that it can be written last (NumPy's NEP 1)."""
    head = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({items},), }}".encode()
    return head + text.ljust(_HEADER_BYTES - len(head) - 1) + b"\n"

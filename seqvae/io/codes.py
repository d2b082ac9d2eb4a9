"""Files of latent codes, one row for each sentence: written piece by piece, read without ever running code.

``.npz``      arrays ``mean`` [N Z] and ``std`` [N Z] (no text: NumPy holds text of any length only as pickled objects)
``.parquet``  columns ``text``, ``mean``, ``std``; the last two are lists of Z numbers
``.jsonl``    one object a line, ``{"text": ..., "mean": [...], "std": [...]}``

All numbers are fp32 and come back bit by bit. ``std`` is absent where the posterior family has none. To be read again,
a file needs ``mean`` alone: what `numpy.savez`, pandas or any program wrote will do.
"""

import contextlib
import json
import shutil
import stat
import tempfile
import tokenize
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from seqvae.data.lines import file_lines, is_blank, reading
from seqvae.errors import Location, SeqVAEError
from seqvae.io import disk

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SUFFIXES = (".npz", ".parquet", ".jsonl")

Matrix = Float[np.ndarray, "N Z"]

_MOST_BY_COLUMN = 2**30
"""Bytes of an array that has to be held in memory as a whole; a small archive may unpack to any size."""

_AGAIN = "`seqvae encode ... --out FILE` writes such a file"

_NPZ_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, tokenize.TokenError),
    *(NotImplementedError, RuntimeError),  # a way to pack that zipfile does not know; a password
)


def check_suffix(path: Path) -> None:
    """Raises E249 for a file that is none of the three by its name."""
    if path.suffix.lower() not in SUFFIXES:
        what = f"codes are kept in {', '.join(SUFFIXES)} files, not in `{path.name}`"
        raise SeqVAEError("E249", what, hint="`seqvae encode ... --out codes.npz` writes such a file")


class CodesWriter(ABC):
    """Takes codes piece by piece; every piece has the same columns."""

    @abstractmethod
    def write(self, texts: Sequence[str], mean: Matrix, std: Matrix | None) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


@contextlib.contextmanager
def writing(path: Path) -> Iterator[CodesWriter]:
    """A writer by the suffix of ``path``, which appears (or is replaced) when the block ends, whole or not at all.

    Memory does not grow with the number of codes. Raises E249 for the suffix, E345 for text that is not Unicode,
    E7xx for what the disk answers.
    """
    check_suffix(path)
    kinds: dict[str, Callable[[Path], CodesWriter]]
    kinds = {".npz": _NpzWriter, ".parquet": _ParquetWriter, ".jsonl": _JsonlWriter}
    with disk.replacing(path) as temporary:
        writer = kinds[path.suffix.lower()](temporary)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(Exception):  # what is half-written is thrown away
                writer.close()
            raise
        writer.close()


def json_rows(texts: Sequence[str], mean: Matrix, std: Matrix | None) -> Iterator[dict[str, Any]]:
    """What the lines of a ``.jsonl`` file hold; each number in the fewest digits that give it back."""
    columns = {"mean": _shortest(mean)} | ({} if std is None else {"std": _shortest(std)})
    for row, text in enumerate(texts):
        yield {"text": text} | {name: column[row] for name, column in columns.items()}


def _shortest(values: Matrix) -> list[list[float]]:
    """Numbers whose shortest decimal form is that of the fp32 ``values``.

    One by one: NumPy turns an array of text into numbers no faster, and swallows a Ctrl-C that comes meanwhile.
    """
    return [[float(str(value)) for value in row] for row in values.astype(np.float32)]


class _JsonlWriter(CodesWriter):
    def __init__(self, path: Path):
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, texts: Sequence[str], mean: Matrix, std: Matrix | None) -> None:
        with _unicode(texts):
            for row in json_rows(texts, mean, std):
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _NpzWriter(CodesWriter):
    """Rows go to nameless temporary files beside the target: the header of an array says how many there are."""

    def __init__(self, path: Path):
        self._path, self._rows, self._width = path, 0, 0
        self._columns: dict[str, IO[bytes]] = {}

    def write(self, texts: Sequence[str], mean: Matrix, std: Matrix | None) -> None:
        for name, values in (("mean", mean), ("std", std)):
            if values is not None:
                if name not in self._columns:
                    self._columns[name] = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
                self._columns[name].write(np.ascontiguousarray(values, dtype="<f4").tobytes())
        self._rows, self._width = self._rows + len(mean), mean.shape[1]

    def close(self) -> None:
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            for name, column in self._columns.items():
                with column, archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._width)}
                    np.lib.format.write_array_header_1_0(member, header)
                    column.seek(0)
                    shutil.copyfileobj(column, member)


class _ParquetWriter(CodesWriter):
    def __init__(self, path: Path):
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, texts: Sequence[str], mean: Matrix, std: Matrix | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with _unicode(texts):
            columns = {"text": pa.array(texts, pa.string())}
        for name, values in (("mean", mean), ("std", std)):
            if values is not None:
                flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        table = pa.table(columns)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def _unicode(texts: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        hint = "a half of a surrogate pair stands in it: mend the text, or write an .npz file, which holds no text"
        shown = ascii(error.object[max(0, error.start - 20) : error.end + 20])
        raise SeqVAEError("E345", f"a text is not valid Unicode: {shown}", hint=hint) from None


def read_means(path: Path, latent_dim: int, *, rows: int = 4096) -> Iterator[Matrix]:
    """The column ``mean`` of a file, at most ``rows`` rows at once.

    Errors name the row, from 1: E301 and E305 for a file that is missing or none, E303 for JSON lines that are not
    UTF-8, E341 for what is damaged or of another kind, E342 without a ``mean``, E343 for codes of another size than
    ``latent_dim``, E344 for what is not a finite number; E249 for the suffix.
    """
    check_suffix(path)
    with reading(path, str(path)):
        if not stat.S_ISREG(path.stat().st_mode):
            raise SeqVAEError("E305", "not a regular file", where=Location(path), hint="name a file of codes")
    kind = path.suffix.lower()
    if kind == ".jsonl":
        return means_of_lines(file_lines(path, str(path)), str(path), latent_dim, rows=rows)
    return (_read_npz if kind == ".npz" else _read_parquet)(path, latent_dim, rows)


def means_of_lines(
    lines: Iterable[tuple[int, str]], name: str, latent_dim: int, *, rows: int = 4096
) -> Iterator[Matrix]:
    """The same of (line number, JSON), from a file or a pipe that errors call ``name``; blank lines are no rows."""
    piece: list[Matrix] = []
    for number, line in lines:
        if is_blank(line):
            continue
        where = Location(name, number)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"not a line of JSON: {getattr(error, 'msg', error)}"
            raise SeqVAEError("E341", what, where=where, hint=_AGAIN) from None
        if not isinstance(row, dict) or row.get("mean") is None:
            raise _no_mean(where, list(row) if isinstance(row, dict) else [])
        values = row["mean"]
        if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
            raise SeqVAEError("E344", "`mean` is not a list of numbers", where=where, hint=_AGAIN)
        if len(values) != latent_dim:
            raise _wrong_size(where, len(values), latent_dim)
        piece.append(_finite(_floats(values), lambda _, where=where: where))
        if len(piece) == rows:
            yield np.concatenate(piece)
            piece = []
    if piece:
        yield np.concatenate(piece)


def _floats(values: list[int | float]) -> Matrix:
    try:
        return np.array([values], dtype=np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        return np.full((1, len(values)), np.inf)


def _read_npz(path: Path, latent_dim: int, rows: int) -> Iterator[Matrix]:
    """Row by row out of the archive: neither its size nor what a header claims is ever held in memory."""
    with _whole(path, *_NPZ_FAULTS), zipfile.ZipFile(path) as archive:
        if "mean.npy" not in archive.namelist():
            raise _no_mean(Location(path), [name.removesuffix(".npy") for name in archive.namelist()])
        with archive.open("mean.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_column, dtype = read(member)
            if dtype.kind not in "fiu":
                raise SeqVAEError("E344", f"`mean` holds {dtype}, not numbers", where=Location(path), hint=_AGAIN)
            if len(shape) != 2 or shape[1] != latent_dim:
                raise _wrong_size(Location(path), shape[1] if len(shape) == 2 else shape, latent_dim)
            width = latent_dim * dtype.itemsize
            if shape[0] < 0 or member.tell() + shape[0] * width != archive.getinfo("mean.npy").file_size:
                raise ValueError("`mean` has not the length that its header says")
            step = shape[0] if by_column else rows  # column by column, no row is whole before the end
            if by_column and shape[0] * width > _MOST_BY_COLUMN:
                raise ValueError("`mean` lies column by column (Fortran order), and is too large to be turned")
            for start in range(0, shape[0], max(1, step)):
                size = min(step, shape[0] - start) * width
                content = member.read(size)
                if len(content) != size:
                    raise EOFError("it ends too early")
                block = np.frombuffer(content, dtype)
                block = block.reshape((-1, latent_dim), order="F" if by_column else "C")
                yield _finite(block, lambda row, start=start: f"{path}, row {start + row + 1}")


def _read_parquet(path: Path, latent_dim: int, rows: int) -> Iterator[Matrix]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _whole(path, pa.ArrowException, OSError, ValueError), pq.ParquetFile(path) as file:
        schema, start = file.schema_arrow, 0
        if "mean" not in schema.names:
            raise _no_mean(Location(path), schema.names)
        kind = schema.field("mean").type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise SeqVAEError("E344", f"`mean` holds {kind}, not lists of numbers", where=Location(path), hint=_AGAIN)
        for batch in file.iter_batches(batch_size=rows, columns=["mean"]):
            column = batch.column(0)
            sizes = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(sizes != latent_dim)[:1]:
                where = f"{path}, row {start + row + 1}"
                raise _no_mean(where, []) if sizes[row] < 0 else _wrong_size(where, sizes[row], latent_dim)
            block = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, latent_dim)
            yield _finite(block, lambda row, start=start: f"{path}, row {start + row + 1}")
            start += len(batch)


@contextlib.contextmanager
def _whole(path: Path, *faults: type[Exception]) -> Iterator[None]:
    """Turns what a damaged file makes its reader raise into E341."""
    try:
        yield
    except faults as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        what = f"not a whole {path.suffix.lower()} file: {first_line}"
        raise SeqVAEError("E341", what, where=Location(path), hint=_AGAIN) from None


def _finite(values: np.ndarray, where: Callable[[int], Location | str]) -> Matrix:
    """fp32 values, all finite; ``where`` names the place of a row (from 0)."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    for row in np.flatnonzero(~np.isfinite(values).all(axis=1))[:1]:
        what = "`mean` holds NaN, infinity or what is too large"
        raise SeqVAEError("E344", what, where=where(int(row)), hint="check where the code comes from")
    return values


def _no_mean(where: Location | str, found: list[str]) -> SeqVAEError:
    shown = ", ".join(f"`{name}`" for name in found[:8])
    what = "there is no `mean`" + (f"; found {shown}" if shown else "")
    return SeqVAEError("E342", what, where=where, hint=_AGAIN)


def _wrong_size(where: Location | str, found: object, latent_dim: int) -> SeqVAEError:
    size = f"shape {found}" if isinstance(found, tuple) else f"{found} dimension{'' if found == 1 else 's'}"
    what = f"codes of {size} do not fit a model with {latent_dim} latent dimensions"
    return SeqVAEError("E343", what, where=where, hint="were they encoded by another model? name it with `--model`")

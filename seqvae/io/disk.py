"""Files that are either whole or absent, JSON, and what the disk answers.

What is written is made beside its target as ``.tmp-<name>-<pid>``, flushed to the disk and renamed.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from seqvae.errors import Location, SeqVAEError

MAX_JSON_BYTES, MAX_JSON_VALUES = 64 * 2**20, 4_000_000
"""Bounds of a JSON file. A value of three bytes (`{},`) takes a hundred in memory, so their number is bounded too."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_DEVICE = {
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
    *(errno.EBUSY, errno.ELOOP, errno.EXDEV, errno.ESTALE, errno.EEXIST),
}

DISK_ERRORS = _FULL | _REFUSED | _DEVICE
"""What `storage_errors` has a word for."""

_writing: set[Path] = set()
"""Temporary paths that this process is writing now. A process id alone does not tell: in containers it is often 1."""


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what the disk answers into an error that says what to do: E701 full, E702 not allowed, E703 the rest."""
    try:
        yield
    except OSError as error:
        place = str(error.filename or path)
        if error.errno in _FULL:
            hint = "free some space or raise the quota, then run again; what was there before is intact"
            raise SeqVAEError(
                "E701", f"no room left while writing: {error.strerror}", where=place, hint=hint
            ) from error
        if error.errno in _REFUSED:
            hint = "check the owner and the permissions of the folder, or choose another one"
            raise SeqVAEError("E702", f"not allowed: {error.strerror}", where=place, hint=hint) from error
        if error.errno in _DEVICE:
            hint = "check the path and the disk, then run again"
            raise SeqVAEError("E703", f"the file system refused: {error.strerror}", where=place, hint=hint) from error
        raise


def is_surrogate(character: str) -> bool:
    """Whether this is half a character: a Python string may hold it, text in UTF-8 never does."""
    return "\ud800" <= character <= "\udfff"


def require_utf8(path: str | os.PathLike[str]) -> None:
    """Raises E703 for a path that is not UTF-8: libraries that write and read models and figures take none such."""
    if any(map(is_surrogate, str(path))):
        hint = "choose a folder and a file whose names are UTF-8"
        raise SeqVAEError("E703", "the path is not UTF-8", where=str(path), hint=hint)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as the user means it: ``~`` is the home folder. Names that only look alike (``~notes.txt``) are kept."""
    return Path(os.path.expanduser(path))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with storage_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """Yields a path to write at and, inside the block, to rename to ``target``; what is there vanishes if it raises."""
    temporary = beside(target, "tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    _writing.add(temporary)
    try:
        yield temporary
    except BaseException:
        delete(temporary)
        raise
    finally:
        _writing.discard(temporary)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write a file at, which becomes ``path`` when the block ends, or vanishes when it raises."""
    with storage_errors(path):
        with temporary_beside(path) as temporary:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        flush(path.parent)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file atomically: after a crash it holds the old content or the new, never a part."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes :func:`jsonable` of ``value`` atomically, in UTF-8, indented."""
    text = json.dumps(jsonable(value), ensure_ascii=False, indent=2, allow_nan=False)
    # Half a character, as in the name of a file that is not UTF-8, becomes the escape that JSON has for it.
    write_bytes(path, (text + "\n").encode("utf-8", errors="backslashreplace"))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file. Raises SeqVAEError: E402 where it is missing, E401 where it is not JSON."""
    path = Path(path)
    missing = SeqVAEError("E402", f"`{path.name}` is missing", where=str(path), hint="check the path, or copy it again")
    if not path.is_file():
        raise missing
    try:
        with storage_errors(path):
            if path.stat().st_size > MAX_JSON_BYTES:
                raise damaged(path, f"`{path.name}` is larger than {MAX_JSON_BYTES // 2**20} MB")
            content = path.read_bytes()
    except FileNotFoundError:  # another process has removed it since
        raise missing from None
    if content.count(b",") > MAX_JSON_VALUES:
        raise damaged(path, f"`{path.name}` holds more than {MAX_JSON_VALUES:,} values")
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = Location(path, error.lineno, error.colno)
        raise damaged(where, f"`{path.name}` is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of thousands of digits, nested too deeply
        raise damaged(path, f"`{path.name}` is not JSON: {error}") from error


def jsonable(value: Any) -> Any:
    """``value`` in the types that JSON has: NumPy and torch scalars and arrays unpacked, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    return str(value) if isinstance(value, PurePath) else value


def damaged(where: Path | Location, what: str, hint: str = "copy it again, or use another checkpoint") -> SeqVAEError:
    """E401, to be raised."""
    return SeqVAEError("E401", what, where=where if isinstance(where, Location) else str(where), hint=hint)


def beside(target: Path, kind: str) -> Path:
    if target.name in ("", ".."):  # the working directory, the root, the folder above are no one's to replace
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return target.with_name(f".{kind}-{target.name}-{os.getpid()}")


def parse_beside(path: Path) -> tuple[str | None, Path]:
    """What :func:`beside` made: its kind and its target; kind None where it is not ours or still being written."""
    prefix, _, rest = path.name.partition("-")
    name, _, pid = rest.rpartition("-")
    if prefix not in (".tmp", ".old") or not name or not pid.isdecimal() or path in _writing:
        return None, path
    if int(pid) != os.getpid() and _alive(int(pid)):
        return None, path
    return prefix[1:], path.with_name(name)


def delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until the disk has it. Windows has no such call for folders."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _alive(pid: int) -> bool:
    if os.name == "nt":  # There, signal 0 is Ctrl-C: asking would interrupt the process. Leave its files alone.
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

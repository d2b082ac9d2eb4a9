"""Folders and files that are either whole or absent.

A folder is written beside its target as ``.tmp-<name>-<pid>``, every file is flushed to the disk, ``MANIFEST.json``
(size and sha256 of every file) is written last, and one rename makes it visible. What a crash leaves behind is
swept by :func:`recover`; what a disk damages later is found by :func:`verify`.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from seqvae.errors import Location, SeqVAEError

MANIFEST = "MANIFEST.json"
SCHEMA_VERSION = 1
"""Version of the layout of our folders; a folder with a higher one was saved by a newer seqvae."""

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

_TRIES, _PAUSE_S = 100, 0.05

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


@contextlib.contextmanager
def atomic_folder(target: str | os.PathLike[str], *, amend: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes ``target`` when the block ends, or vanishes when it raises.

    A ``target`` that exists is replaced: set aside, then removed once the new one is in place; no failure leaves
    neither. Of several processes that replace it at once the last one stays.

    With ``amend`` the folder starts as a copy of the present ``target``, and `ChangedMeanwhile` is raised where another
    process has replaced that before the block ends: nothing that another has written is lost. See `tries`.
    """
    target = Path(target)
    with storage_errors(target):
        temporary = _beside(target, "tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        _delete(temporary)
        _writing.add(temporary)
        try:
            expected = _copy(target, temporary) if amend else None
            if not amend:
                temporary.mkdir()
            yield temporary
            _write_manifest(temporary)
            _flush_tree(temporary)
            _swap(temporary, target, expected)
        except BaseException:
            _delete(temporary)
            raise
        finally:
            _writing.discard(temporary)


class ChangedMeanwhile(Exception):
    """Another process has replaced a folder while a copy of it was amended."""


def tries(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Rounds of a loop that is left once the ``folder`` is replaced.

    Of those who amend a folder at once one succeeds at each round, so that few are needed. Raises E703 where others
    still replace it after many, E402 where it is not whole, which is how it looks while it is replaced.
    """
    for _ in range(_TRIES):
        yield
        time.sleep(_PAUSE_S)
    if not (Path(folder) / MANIFEST).is_file():
        verify(folder)
    hint = "wait until nothing else writes to it, then run again"
    raise SeqVAEError("E703", "other processes keep replacing the folder", where=str(folder), hint=hint)


def check_replaceable(folder: str | os.PathLike[str], mark: str) -> None:
    """Raises E443 unless ``folder`` is not there, is empty, or is one of ours that holds the file ``mark``.

    What a user names by hand may be anything, and a folder that is replaced loses all that is in it.
    """
    folder = Path(folder)
    with storage_errors(folder):
        ours = (folder / MANIFEST).is_file() and (folder / mark).is_file()
        if not ours and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            what = "there is something else here, which would be lost"
            raise SeqVAEError("E443", what, where=str(folder), hint="name a folder that is new or empty")


def recover(parent: str | os.PathLike[str]) -> list[Path]:
    """Sweeps what killed processes left in ``parent`` and returns the paths that it removed or renamed back.

    A folder that was set aside and never replaced comes back; temporary ones go. A live process's are left alone.
    """
    parent, handled = Path(parent), []
    with storage_errors(parent):
        for orphan in sorted(parent.iterdir()) if parent.is_dir() else []:
            kind, target = _parse_beside(orphan)
            if kind is None:
                continue
            if kind == "old" and not target.exists():
                os.rename(orphan, target)
            else:
                _delete(orphan)
            handled.append(orphan)
    return handled


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Removes a folder so that no reader, and no crash half-way, ever sees a part of it."""
    path = Path(path)
    aside = _beside(path, "tmp")
    with storage_errors(path):
        _delete(aside)
        os.rename(path, aside)
        _delete(aside)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as the user means it: ``~`` is the home folder. Names that only look alike (``~notes.txt``) are kept."""
    return Path(os.path.expanduser(path))


def verify(folder: str | os.PathLike[str], *, editable: Collection[str] = ()) -> None:
    """Checks a folder against its manifest, every byte of it, and raises the first of its :func:`faults`."""
    for fault in faults(folder, editable=editable):
        raise fault


def faults(folder: str | os.PathLike[str], *, editable: Collection[str] = ()) -> Iterator[SeqVAEError]:
    """What is wrong with a folder by its manifest, file by file.

    Names that begin with a dot at the top of the folder are no part of it (editors and Git leave such files). Of the
    files ``editable`` neither what they hold nor whether they are there is looked at.

    E402 where the folder, its manifest or a file is missing, E403 where a newer seqvae saved it, E401 where it is
    damaged or holds what it should not (a link, an extra file, a path that leads outside). What leaves nothing else to
    look at is raised.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SeqVAEError("E402", "there is no such folder", where=str(folder), hint="check the path")
    if not (folder / MANIFEST).is_file():
        hint = "the folder is only partly copied, or seqvae did not write it: copy it again"
        raise SeqVAEError("E402", f"{MANIFEST} is missing", where=str(folder), hint=hint)
    expected = {name: entry for name, entry in _read_manifest(folder).items() if name not in editable}
    with storage_errors(folder):
        present = _files(folder).difference(editable)
        for name in sorted(expected.keys() - present):
            hint = "the folder is only partly copied: copy it again, or use another checkpoint"
            yield SeqVAEError("E402", f"`{name}` is missing", where=str(folder / name), hint=hint)
        for name in sorted(present - expected.keys()):
            yield damaged(folder / name, f"`{name}` does not belong here", hint="remove it, if you put it there")
        for name in sorted(expected.keys() & present):
            entry, size = expected[name], (folder / name).stat().st_size
            if size != entry["size"]:
                yield damaged(folder / name, f"`{name}` is damaged: it has {size} bytes, not {entry['size']}")
            elif sha256_file(folder / name) != entry["sha256"]:
                yield damaged(folder / name, f"`{name}` is damaged: its sha256 is not the one in {MANIFEST}")


def recorded_sha256(folder: str | os.PathLike[str], name: str) -> str | None:
    """What the manifest of a folder says of one of its files; None where it names no such file."""
    entry = _read_manifest(Path(folder)).get(name)
    return None if entry is None else entry["sha256"]


def manifest_names(folder: str | os.PathLike[str]) -> list[str]:
    """The files that the manifest of a folder names, each inside of it; whether they are there is not looked at."""
    return sorted(_read_manifest(Path(folder)))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with storage_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write a file at, which becomes ``path`` when the block ends, or vanishes when it raises."""
    with storage_errors(path):
        temporary = _beside(path, "tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        _writing.add(temporary)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
        except BaseException:
            _delete(temporary)
            raise
        finally:
            _writing.discard(temporary)
        _flush(path.parent)


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


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


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


def _write_manifest(folder: Path) -> None:
    names = sorted(_files(folder))
    files = {name: {"size": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in names}
    write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": files})


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a manifest, once their names and types are known to be harmless."""
    path = folder / MANIFEST
    if path.is_symlink():
        raise damaged(path, f"{MANIFEST} is a link", hint="replace it by the file itself")
    manifest = read_json(path)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"saved by a newer seqvae (layout {version}; this one reads up to {SCHEMA_VERSION})"
        raise SeqVAEError("E403", what, where=str(folder), hint="upgrade seqvae: pip install -U seqvae")
    files = manifest.get("files") if version == SCHEMA_VERSION else None
    if not isinstance(files, dict):
        raise damaged(path, f"{MANIFEST} is damaged: it lists no files")
    for name, entry in files.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
            raise damaged(path, f"{MANIFEST} names `{name}`, which is not inside the folder")
        if not isinstance(entry, dict) or entry.keys() != {"size", "sha256"}:
            raise damaged(path, f"{MANIFEST} is damaged at `{name}`")
    return files


def _files(folder: Path) -> set[str]:
    """Relative posix paths of the regular files in ``folder``; a link or a special file is refused."""
    names = set()
    for directory, folders, files in os.walk(folder):
        if Path(directory) == folder:
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".") and name != MANIFEST]
        for name in [*folders, *files]:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(folder).as_posix()
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise damaged(path, f"`{relative}` is a link or a special file", hint="replace it by the file itself")
            if stat.S_ISREG(mode):
                names.add(relative)
    return names


def _beside(target: Path, kind: str) -> Path:
    if target.name in (
        "",
        "..",
    ):  # the working directory, the root, the folder above: what is there is no one's to replace
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    return target.with_name(f".{kind}-{target.name}-{os.getpid()}")


def _parse_beside(path: Path) -> tuple[str | None, Path]:
    """What :func:`_beside` made: its kind and its target; kind None where it is not ours or still being written."""
    prefix, _, rest = path.name.partition("-")
    name, _, pid = rest.rpartition("-")
    if prefix not in (".tmp", ".old") or not name or not pid.isdecimal() or path in _writing:
        return None, path
    if int(pid) != os.getpid() and _alive(int(pid)):
        return None, path
    return prefix[1:], path.with_name(name)


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


def _copy(target: Path, temporary: Path) -> bytes:
    """Copies a folder as a whole, and returns its manifest."""
    try:
        expected = (target / MANIFEST).read_bytes()
        _copy_files(target, temporary)
    except FileNotFoundError as error:  # it is being replaced
        raise ChangedMeanwhile from error
    if _manifest(target) != expected:
        raise ChangedMeanwhile
    return expected


def _copy_files(source: Path, target: Path) -> None:
    """`shutil.copytree` would gather what the disk answers into an error of its own, without its number."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir() and not path.is_symlink():
            _copy_files(path, target / path.name)
        else:
            shutil.copy2(path, target / path.name, follow_symlinks=False)
    shutil.copystat(source, target)


def _swap(temporary: Path, target: Path, expected: bytes | None = None) -> None:
    """Puts ``temporary`` in the place of ``target``, which must have the manifest that is ``expected``, if one is.

    A rename takes a folder as a whole and from one process alone: what was set aside is looked at in peace.
    """
    aside = _beside(target, "old")
    for _ in tries(target):
        if expected is not None and _manifest(target) != expected:  # most are seen here, and nothing is moved for them
            raise ChangedMeanwhile
        replaced = _set_aside(target, aside)
        try:
            if expected is not None and not (replaced and _manifest(aside) == expected):
                raise ChangedMeanwhile
            os.rename(temporary, target)
            break
        except BaseException as error:
            overtaken = _is_in_the_way(error, target)
            if replaced and overtaken:
                _delete(aside)
            elif replaced:
                _put_back(aside, target)
            if not overtaken:
                raise
            if expected is not None:
                raise ChangedMeanwhile from error
    _flush(target.parent)
    if replaced:
        with contextlib.suppress(OSError):  # The new folder is in place; `recover` sweeps what would not go.
            _delete(aside)


def _manifest(folder: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return (folder / MANIFEST).read_bytes()
    return None


def _set_aside(target: Path, aside: Path) -> bool:
    """Whether ``target`` was there to be set aside: another process may have it aside at this moment."""
    if not target.exists():
        return False
    _delete(aside)
    try:
        os.rename(target, aside)
    except FileNotFoundError:
        return False
    return True


def _put_back(aside: Path, target: Path) -> None:
    """What was set aside comes back, or goes where another process has put a newer folder in its place."""
    try:
        os.rename(aside, target)
    except OSError as error:
        if not _is_in_the_way(error, target):
            raise
        _delete(aside)


def _is_in_the_way(error: BaseException, target: Path) -> bool:
    """Whether a rename to ``target`` failed because another process has put a folder there. Windows has its own way."""
    if isinstance(error, PermissionError):
        return os.name == "nt" and target.exists()
    return isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush_tree(folder: Path) -> None:
    for directory, _, files in os.walk(folder, topdown=False):
        for name in files:
            _flush(Path(directory, name))
        _flush(Path(directory))


def _flush(path: Path) -> None:
    """Waits until the disk has it. Windows has no such call for folders."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

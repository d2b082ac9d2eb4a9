"""Folders that are either whole or absent.

A folder is written beside its target as ``.tmp-<name>-<pid>``, every file is flushed to the disk, its manifest is
written last, and one rename makes it visible. What a crash leaves behind is swept by :func:`recover`; what a disk
damages later is found by :func:`seqvae.io.manifests.verify`.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests

_TRIES, _PAUSE_S = 100, 0.05


@contextlib.contextmanager
def atomic_folder(target: str | os.PathLike[str], *, amend: bool = False) -> Iterator[Path]:
    """Yields an empty folder to fill, which becomes ``target`` when the block ends, or vanishes when it raises.

    A ``target`` that exists is replaced: set aside, then removed once the new one is in place; no failure leaves
    neither. Of several processes that replace it at once the last one stays.

    With ``amend`` the folder starts as a copy of the present ``target``, and `ChangedMeanwhile` is raised where another
    process has replaced that before the block ends: nothing that another has written is lost. See `tries`.
    """
    target = Path(target)
    with disk.storage_errors(target), disk.temporary_beside(target) as temporary:
        disk.delete(temporary)
        expected = _copy(target, temporary) if amend else None
        if not amend:
            temporary.mkdir()
        yield temporary
        manifests.write(temporary)
        _flush_tree(temporary)
        _swap(temporary, target, expected)


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
    if not (Path(folder) / manifests.MANIFEST).is_file():
        manifests.verify(folder)
    hint = "wait until nothing else writes to it, then run again"
    raise SeqVAEError("E703", "other processes keep replacing the folder", where=str(folder), hint=hint)


def check_replaceable(folder: str | os.PathLike[str], mark: str) -> None:
    """Raises E443 unless ``folder`` is not there, is empty, or is one of ours that holds the file ``mark``.

    What a user names by hand may be anything, and a folder that is replaced loses all that is in it.
    """
    folder = Path(folder)
    with disk.storage_errors(folder):
        ours = (folder / manifests.MANIFEST).is_file() and (folder / mark).is_file()
        if not ours and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            what = "there is something else here, which would be lost"
            raise SeqVAEError("E443", what, where=str(folder), hint="name a folder that is new or empty")


def recover(parent: str | os.PathLike[str]) -> list[Path]:
    """Sweeps what killed processes left in ``parent`` and returns the paths that it removed or renamed back.

    A folder that was set aside and never replaced comes back; temporary ones go. A live process's are left alone.
    """
    parent, handled = Path(parent), []
    with disk.storage_errors(parent):
        for orphan in sorted(parent.iterdir()) if parent.is_dir() else []:
            kind, target = disk.parse_beside(orphan)
            if kind is None:
                continue
            if kind == "old" and not target.exists():
                os.rename(orphan, target)
            else:
                disk.delete(orphan)
            handled.append(orphan)
    return handled


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Removes a folder so that no reader, and no crash half-way, ever sees a part of it."""
    path = Path(path)
    aside = disk.beside(path, "tmp")
    with disk.storage_errors(path):
        disk.delete(aside)
        os.rename(path, aside)
        disk.delete(aside)


def _copy(target: Path, temporary: Path) -> bytes:
    """Copies a folder as a whole, and returns its manifest."""
    try:
        expected = (target / manifests.MANIFEST).read_bytes()
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
    aside = disk.beside(target, "old")
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
                disk.delete(aside)
            elif replaced:
                _put_back(aside, target)
            if not overtaken:
                raise
            if expected is not None:
                raise ChangedMeanwhile from error
    disk.flush(target.parent)
    if replaced:
        with contextlib.suppress(OSError):  # The new folder is in place; `recover` sweeps what would not go.
            disk.delete(aside)


def _manifest(folder: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return (folder / manifests.MANIFEST).read_bytes()
    return None


def _set_aside(target: Path, aside: Path) -> bool:
    """Whether ``target`` was there to be set aside: another process may have it aside at this moment."""
    if not target.exists():
        return False
    disk.delete(aside)
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
        disk.delete(aside)


def _is_in_the_way(error: BaseException, target: Path) -> bool:
    """Whether a rename to ``target`` failed because another process has put a folder there. Windows has its own way."""
    if isinstance(error, PermissionError):
        return os.name == "nt" and target.exists()
    return isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY)


def _flush_tree(folder: Path) -> None:
    for directory, _, files in os.walk(folder, topdown=False):
        for name in files:
            disk.flush(Path(directory, name))
        disk.flush(Path(directory))

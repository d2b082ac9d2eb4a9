"""The folder where what was fetched, read once or prepared is kept, and what keeps it tidy."""

import errno
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage

STALE_AFTER_S = 24 * 3600
"""A temporary entry that nobody wrote to for so long was left by a process that is gone."""

_OTHER_CACHE = "set SEQVAE_CACHE to a folder that can be written, on a disk with room"
_CHUNK_BYTES = 1 << 20
_TRIES = 3
_OVERTAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT}
"""What the file system answers where another put the same entry in place first."""

Entry = TypeVar("Entry")


def user_cache() -> Path:
    """``$SEQVAE_CACHE``, else the folder for caches that the operating system gives its users."""
    if folder := os.environ.get("SEQVAE_CACHE"):
        return disk.expanded(folder)
    import pooch

    return Path(pooch.os_cache("seqvae"))


@contextmanager
def writing_cache(folder: Path) -> Iterator[None]:
    """Makes the parent of ``folder``, and turns what the disk answers into an error that says how to choose another."""
    try:
        with disk.storage_errors(folder):
            if folder.parent.is_file():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder.parent))
            folder.parent.mkdir(parents=True, exist_ok=True)
            yield
    except PermissionError as error:  # pooch raises one without its number
        raise SeqVAEError("E702", f"the cache: {error}", where=str(folder), hint=_OTHER_CACHE) from error
    except SeqVAEError as error:
        if not error.code.startswith("E7"):
            raise
        raise SeqVAEError(error.code, f"the cache: {error.what}", where=error.where, hint=_OTHER_CACHE) from error


@contextmanager
def adding(target: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; it becomes the entry ``target`` when the block ends, or vanishes when it raises.

    A whole entry is never replaced, not even for a moment: where another process or thread was first, its entry stays.
    """
    with writing_cache(target):
        place = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
        try:
            made = place / "entry"
            with storage.atomic_folder(made) as folder:
                yield folder
            _put(made, target, aside=place / "damaged")
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _put(made: Path, target: Path, aside: Path) -> None:
    try:
        if target.exists() and not _is_whole(target):
            os.rename(target, aside)
        os.rename(made, target)
    except OSError as error:  # there is a folder in the way, or no more the damaged one
        if error.errno not in _OVERTAKEN:
            raise


def _is_whole(target: Path) -> bool:
    with suppress(SeqVAEError, FileNotFoundError):
        manifests.verify(target)
        return True
    return False


def kept(target: Path, write: Callable[[Path], None], read: Callable[[Path], Entry]) -> Entry:
    """What ``read`` finds in the whole folder ``target`` of the cache, made by ``write`` where it is not whole.

    Several processes, and threads, may ask for the same entry at once.
    """
    for _ in range(_TRIES):
        with suppress(SeqVAEError, FileNotFoundError):
            manifests.verify(target)
            return read(target)
        with adding(target) as folder:
            write(folder)
    manifests.verify(target)
    return read(target)


def sweep(folder: Path) -> None:
    """Removes the temporary entries of ``folder`` that are older than a day: a killed process left them.

    Age decides, not the process id in the name: several machines may share a cache.
    """
    oldest = time.time() - STALE_AFTER_S
    for entry in folder.glob(".tmp-*"):
        with suppress(OSError):  # another process may sweep at once, or the entry is not ours to remove
            if max(path.lstat().st_mtime for path in (entry, *entry.rglob("*"))) < oldest:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


@functools.lru_cache(maxsize=1)
def spooled(stream: BinaryIO) -> Path:
    """A file of the cache with all that ``stream`` (standard input) still holds, named by its sha256.

    A stream can be read once, text is read several times and again on resume. Asked again in the same process, it is
    the same file.
    """
    folder = user_cache() / "stdin"
    digest = hashlib.sha256()
    with writing_cache(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        # A process id would not tell the writers of a shared cache apart: in containers it is often 1.
        handle, name = tempfile.mkstemp(prefix=".tmp-stdin-", dir=folder)
        temporary = Path(name)
        try:
            with open(handle, "wb") as file:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
            target = folder / f"{digest.hexdigest()}.txt"
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return target

"""One process at a time in a run folder."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from seqvae.errors import SeqVAEError
from seqvae.io import disk

if os.name == "nt":
    import msvcrt
else:
    import fcntl

LOCK = "train.lock"

_FAR = 2**30
"""Windows locks bytes against readers too; this one is beyond the text, which tells who holds the lock."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems answer that have no locks (some network disks). Training goes on there, unguarded."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run inside the block; SeqVAEError (E705) where another process does.

    The operating system lets go of the lock when the process ends, however it ends: none is ever left behind.
    """
    path = folder / LOCK
    descriptor = _take(path)
    try:
        with disk.storage_errors(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file: there it stays, unlocked.
            path.unlink()
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process trains the run now. Nobody is kept from beginning meanwhile, but for the moment of the test
    where the process that wrote the lock file may live."""
    path = folder / LOCK
    try:
        words = path.read_text(encoding="utf-8", errors="replace").split()
        if words[:1] == ["process"] and words[-1] == platform.node() and not _lives(int(words[1])):
            return False  # killed: the file stayed, the lock did not
        descriptor = os.open(path, os.O_RDWR)
    except (OSError, ValueError, IndexError):
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _lives(process: int) -> bool:
    """Whether there is such a process; true where it cannot be told (on Windows, signal 0 would end it)."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _take(path: Path) -> int:
    """An open, locked file; another process may have removed the one that we opened, so look again."""
    while True:
        with disk.storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock(descriptor):
            holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
            os.close(descriptor)
            what = f"the run is being trained already, by {holder}"
            hint = "wait for that process or stop it, then resume; or begin another run"
            raise SeqVAEError("E705", what, where=str(path), hint=hint)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether nobody else holds the lock."""
    try:
        if os.name == "nt":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True

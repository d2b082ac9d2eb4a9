"""MANIFEST.json of a folder: size and sha256 of each of its files, by which damage is found."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from seqvae.errors import SeqVAEError
from seqvae.io import disk

MANIFEST = "MANIFEST.json"
SCHEMA_VERSION = 1
"""Version of the layout of our folders; a folder with a higher one was saved by a newer seqvae."""


def write(folder: Path) -> None:
    """Writes the manifest of what a folder holds now."""
    files = {name: _entry(folder / name) for name in sorted(_files(folder))}
    disk.write_json(folder / MANIFEST, {"schema_version": SCHEMA_VERSION, "files": files})


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
    with disk.storage_errors(folder):
        present = _files(folder).difference(editable)
        for name in sorted(expected.keys() - present):
            hint = "the folder is only partly copied: copy it again, or use another checkpoint"
            yield SeqVAEError("E402", f"`{name}` is missing", where=str(folder / name), hint=hint)
        for name in sorted(present - expected.keys()):
            yield disk.damaged(folder / name, f"`{name}` does not belong here", hint="remove it, if you put it there")
        for name in sorted(expected.keys() & present):
            entry, size = expected[name], (folder / name).stat().st_size
            if size != entry["size"]:
                yield disk.damaged(folder / name, f"`{name}` is damaged: it has {size} bytes, not {entry['size']}")
            elif disk.sha256_file(folder / name) != entry["sha256"]:
                yield disk.damaged(folder / name, f"`{name}` is damaged: its sha256 is not the one in {MANIFEST}")


def recorded_sha256(folder: str | os.PathLike[str], name: str) -> str | None:
    """What the manifest of a folder says of one of its files; None where it names no such file."""
    entry = _read_manifest(Path(folder)).get(name)
    return None if entry is None else entry["sha256"]


def names(folder: str | os.PathLike[str]) -> list[str]:
    """The files that the manifest of a folder names, each inside of it; whether they are there is not looked at."""
    return sorted(_read_manifest(Path(folder)))


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The entries of a manifest, once their names and types are known to be harmless."""
    path = folder / MANIFEST
    if path.is_symlink():
        raise disk.damaged(path, f"{MANIFEST} is a link", hint="replace it by the file itself")
    manifest = disk.read_json(path)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"saved by a newer seqvae (layout {version}; this one reads up to {SCHEMA_VERSION})"
        raise SeqVAEError("E403", what, where=str(folder), hint="upgrade seqvae: pip install -U seqvae")
    files = manifest.get("files") if version == SCHEMA_VERSION else None
    if not isinstance(files, dict):
        raise disk.damaged(path, f"{MANIFEST} is damaged: it lists no files")
    for name, entry in files.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
            raise disk.damaged(path, f"{MANIFEST} names `{name}`, which is not inside the folder")
        if not isinstance(entry, dict) or entry.keys() != {"size", "sha256"}:
            raise disk.damaged(path, f"{MANIFEST} is damaged at `{name}`")
    return files


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": disk.sha256_file(path)}


def _files(folder: Path) -> set[str]:
    """Relative posix paths of the regular files in ``folder``; a link or a special file is refused."""
    found = set()
    for directory, folders, files in os.walk(folder):
        if Path(directory) == folder:
            folders[:] = [name for name in folders if not name.startswith(".")]
            files = [name for name in files if not name.startswith(".") and name != MANIFEST]
        for name in [*folders, *files]:
            path = Path(directory, name)
            mode = path.lstat().st_mode
            relative = path.relative_to(folder).as_posix()
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                hint = "replace it by the file itself"
                raise disk.damaged(path, f"`{relative}` is a link or a special file", hint=hint)
            if stat.S_ISREG(mode):
                found.add(relative)
    return found

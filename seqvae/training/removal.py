"""Removing runs: whole run folders that nobody trains, and nothing else."""

import os
from pathlib import Path

from seqvae.errors import SeqVAEError
from seqvae.io import storage
from seqvae.training.layout import CONFIG, PROVENANCE
from seqvae.training.lock import is_held, locked


def find_run(name: str) -> Path:
    """The folder of a run that may be removed, by its path or by its name under ./runs.

    Raises SeqVAEError: E404 where there is nothing of that name, E254 for what is no run, or more than one, E705 where
    a process trains it.
    """
    folder = next((each for each in (Path(name), Path("runs", name)) if each.is_symlink() or each.exists()), None)
    if folder is None:
        hint = "`seqvae runs list` shows the runs in ./runs"
        raise SeqVAEError("E404", f"there is no run `{name}`", where=name, hint=hint)
    if reason := _why_not(folder):
        hint = "only the folder of a run is removed, and everything in it; `seqvae runs list` shows those in ./runs"
        raise SeqVAEError("E254", f"{reason}: nothing was removed", where=str(folder), hint=hint)
    if is_held(folder):
        hint = "stop it first: Ctrl-C, or SIGTERM, saves it and ends"
        raise SeqVAEError("E705", "the run is being trained: nothing was removed", where=str(folder), hint=hint)
    return folder


def _why_not(folder: Path) -> str | None:
    if folder.is_symlink():
        return "this is a link to another folder"
    if not all((folder / name).is_file() for name in (CONFIG, PROVENANCE)):
        return "this is not the folder of a run"
    if Path.cwd().is_relative_to(folder.resolve()):
        return "this is the working directory, or holds it"
    inside = next((path.parent for path in sorted(folder.rglob(PROVENANCE)) if path.parent != folder), None)
    return None if inside is None else f"another run lies in it ({inside.relative_to(folder)})"


def remove_run(folder: Path) -> None:
    """Remove a run that `find_run` gave; links in it go, what they point to stays. Nobody sees half of it."""
    with locked(folder):
        if os.name != "nt":
            storage.remove_folder(folder)
            return
    storage.remove_folder(folder)  # Windows moves no folder in which a file is open, as the lock is

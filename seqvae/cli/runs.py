"""``seqvae runs``."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.compare import compare
from seqvae.cli.console import aligned, emit_json, emit_lines, run_verb, say
from seqvae.cli.options import JsonOption
from seqvae.cli.usage import verbs
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.training.listing import RunSummary

app = verbs("runs", "The runs in a folder: listing, comparing, removing.")

HEAD = ("run", "began", "config", "state", "steps", "best", "size")


@app.callback()
def _group() -> None:
    """The runs in a folder: listing, comparing, removing."""


@app.command("list")
@run_verb()
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder that the runs lie in.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """List the runs, the newest first: when, with which config, how each stands, its best value and its size.

    A run is running, finished or stopped (`seqvae train --resume` goes on with it); it has a model from its first
    validation on. The best value is that of validation, in nats per sentence: lower is better.
    """
    from seqvae.training import listing

    found = listing.list_runs(folder)
    if json:
        emit_json([asdict(each) for each in found])
    elif found:
        emit_lines(_table(found))
    else:
        say(f"note     there is no run in {folder}; `seqvae train --config tiny.yaml` makes one")


app.command()(compare)


@app.command()
@run_verb()
def rm(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Runs: paths, or names in ./runs.", autocompletion=completion.removable),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove runs for good, with their checkpoints and models, after asking.

    A run that is being trained is refused, and so is what is not the folder of a run; then nothing at all is removed.
    Prints the folders that went.
    """
    from seqvae.training.listing import summarise
    from seqvae.training.removal import find_run, remove_run

    folders = list({folder.resolve(): folder for folder in map(find_run, names)}.values())
    found = [summarise(folder) for folder in folders]
    if not yes and not _agreed(found):
        say("note     nothing was removed")
        return
    for folder in folders:
        remove_run(folder)
        if not json:
            emit_lines([str(folder)])
    if json:
        emit_json({"removed": [each.folder for each in found], "bytes": sum(each.bytes for each in found)})


def _agreed(found: "list[RunSummary]") -> bool:
    if not _is_terminal():
        hint = "add `--yes` where nobody can answer"
        raise SeqVAEError("E255", "removing runs has to be agreed to, and nobody can be asked here", hint=hint)
    for line in _table(found):
        say(line)
    these = "this run" if len(found) == 1 else f"these {len(found)} runs"
    return typer.confirm(f"remove {these}, {_size(sum(each.bytes for each in found))}?", err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _table(found: "list[RunSummary]") -> list[str]:
    return aligned([HEAD, *map(_row, found)])


def _row(run: "RunSummary") -> tuple[str, ...]:
    state = run.state if run.has_model else f"{run.state}, no model yet"
    best = "-" if run.best is None else f"{run.best:.2f} {run.monitor or ''}".rstrip()
    began = (run.began or "-").replace("T", " ")[:16]
    return run.folder, began, run.config or "-", state, f"{run.steps:,}", best, _size(run.bytes)


def _size(count: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.0f} {units[0]}" if count >= 10 or units[0] == "B" else f"{count:.1f} {units[0]}"

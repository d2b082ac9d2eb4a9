"""``seqvae runs``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import JsonOption
from seqvae.cli.usage import verbs

if TYPE_CHECKING:
    from seqvae.training.listing import RunSummary

app = verbs("runs", "The runs in a folder.")

HEAD = ("run", "began", "config", "state", "steps", "best", "size")


@app.callback()
def _group() -> None:
    """The runs in a folder."""


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
        rows = [HEAD, *(_row(each) for each in found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        emit_lines("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    else:
        say(f"note     there is no run in {folder}; `seqvae train --config tiny.yaml` makes one")


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

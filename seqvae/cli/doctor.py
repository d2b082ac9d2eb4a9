"""``seqvae doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from seqvae.cli.console import run_verb, say
from seqvae.cli.findings import show_findings
from seqvae.cli.options import JsonOption


@run_verb()
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]", help="Where runs are written.", show_default="./runs, or the working directory"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check this installation: versions, devices, threads, precision, determinism, cache, variables and disk.

    Where runs are kept a small folder is written, flushed, renamed and read back. Each check is ok, a warning or
    failed, with the next step; the exit code is 0 unless one failed. The lines are what a report should hold.
    """
    from seqvae.health import examine

    runs = Path("runs")
    place = folder if folder is not None else runs if runs.is_dir() else Path()
    show_findings(examine(folder=place), kind="checks", code="E268", as_json=json)
    if not json:
        say("report   when you report a fault, paste the lines above: they hold versions and paths, none of your text")

"""``seqvae report``."""

from pathlib import Path
from typing import Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import DeviceOption, JsonOption, MeasuredOption, measured_split, seed_option


@run_verb()
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder that `seqvae eval` has measured.", autocompletion=completion.runs
        ),
    ],
    split: MeasuredOption = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to write.", show_default="RUN/report")] = None,
    seed: Annotated[int, seed_option("What is drawn and chosen.")] = 0,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write all about a run on one page, as HTML to be read and as Markdown to be put beside code.

    Config, data, numbers with their meaning and noise, verdict, figures, samples, reconstructions and paths. The HTML
    is one file that needs no network and runs no script. Figures need matplotlib: `pip install 'seqvae[plots]'`.
    """
    from seqvae.io import disk
    from seqvae.pages.render import html, markdown
    from seqvae.pages.run_page import run_page
    from seqvae.training.runtime import choose_device

    page = run_page(run, split=measured_split([run], split), seed=seed, device=str(choose_device(device)))
    if page.no_figures is not None:
        say(f"note     no figures: {page.no_figures}")
    folder = out or run / "report"
    files = {"report.html": html(page), "report.md": markdown(page, "figures")}
    files |= {f"figures/{number}.svg": figure.svg for number, figure in enumerate(page.figures, 1)}
    for name, content in files.items():
        disk.write_bytes(folder / name, content.encode())
    written = [str(folder / name) for name in files]
    if json:
        emit_json(written)
    else:
        emit_lines(written)

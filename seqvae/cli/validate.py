"""``seqvae validate``."""

from pathlib import Path
from typing import Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import run_verb
from seqvae.cli.findings import show_findings
from seqvae.cli.options import JsonOption


@run_verb()
def validate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model folder, or a run.", autocompletion=completion.runs)
    ],
    json: JsonOption = False,
) -> None:
    """Check the folder of a model or a run, step by step: nothing is changed, and nothing in it is run.

    Files by size and sha256, description, tokenizer, tensors (names, shapes, finite), a sentence through the model and
    back, kept evaluations; of a run its settings and every checkpoint. Each step is ok, a warning or failed, with the
    next step; the exit code is 4 where one failed, else 0.
    """
    from seqvae.inspection import inspect_folder

    show_findings(inspect_folder(model), kind="steps", code="E414", as_json=json, numbered=True)

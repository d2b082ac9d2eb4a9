"""``seqvae explain``."""

import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import JsonOption

_WIDTH = 96


@run_verb()
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="A code such as E204; without one all are listed.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what an error code means: its cause, how to mend it, an example.

    The first digit of a code is the exit code of the command: 2 usage or config, 3 data, 4 checkpoint or model, 5
    diverged, 6 memory, 7 storage.
    """
    from seqvae.error_catalogue import EXIT_CODES, catalogue, entry

    entries = list(catalogue().values()) if code is None else [entry(code)]
    if json:
        found = [asdict(each) | {"exit_code": each.exit_code} for each in entries]
        emit_json(found if code is None else found[0])
    elif code is None:
        emit_lines(f"{each.code}  {each.title}" for each in entries)
    else:
        (one,) = entries
        emit_lines(
            [
                f"{one.code}  {one.title}  (exit code {one.exit_code}: {EXIT_CODES[one.exit_code]})",
                "",
                *_paragraph("cause  ", one.cause),
                *_paragraph("cure   ", one.cure),
                "",
                *textwrap.indent(one.example, "    ").splitlines(),
            ]
        )


def _paragraph(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{head}  ", subsequent_indent=" " * (len(head) + 2))

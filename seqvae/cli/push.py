"""``seqvae push``."""

from pathlib import Path
from typing import Annotated

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import JsonOption, ModelOption, load_model


@run_verb()
def push(
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where on the Hub: made where there is none.")],
    model: ModelOption = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who may see a new repository.", show_default="as your account says"),
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Message of the commit.")] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="Branch to push to.", show_default="main")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            "--card", metavar="FILE", help="Markdown for the model card.", show_default="README.md of the model"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Push a model to the Hugging Face Hub, where `seqvae.load("user/name")` and `--model user/name` find it.

    The model folder as it is: safetensors, JSON, the tokenizer, kept evaluations and the card, in one commit. You have
    to be logged in (`hf auth login`), or HF_TOKEN has to hold a token that may write. Prints what pins this very
    commit.
    """
    from seqvae.io import hub

    hub.reference(name, revision)  # before a model is read
    _, folder = load_model(model, "cpu")
    pushed = hub.push(folder, name, private=private, commit_message=message, revision=revision, page=card)
    say(f"load     seqvae.load({pushed.partition('@')[0]!r})")
    if json:
        emit_json({"model": pushed.partition("@")[0], "commit": pushed.partition("@")[2]})
    else:
        emit_lines([pushed])

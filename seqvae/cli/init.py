"""``seqvae init``."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import emit_json, run_verb, say
from seqvae.cli.options import JsonOption, TextColumnOption, naming_options
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.starter import Profile, Starter


@run_verb()
def init(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Your text: one sentence a line, or a table.")],
    out: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="The config to write.", show_default="FILE's name, as .yaml")
    ] = None,
    text_column: TextColumnOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a config that is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a commented config for a text of yours, its sizes chosen from the text.

    The model trains in a few minutes on a laptop and is a place to start from: every choice stands in the config with
    its reason.
    """
    from seqvae import starter
    from seqvae.data.sources import STDIN, open_source
    from seqvae.io import disk

    if file == STDIN:
        hint = "write it to a file first: `cat > mine.txt`, then `seqvae init mine.txt`"
        raise SeqVAEError("E267", "a config needs a text that stays, not standard input", hint=hint)
    out = Path(Path(file.rpartition(":")[2]).name.split(".")[0] + ".yaml") if out is None else out
    if out.exists() and not force:
        hint = "choose another name with `--out`, or overwrite it with `--force`"
        raise SeqVAEError("E266", "there is a file of that name already", where=str(out), hint=hint)
    for name in (file, out):
        disk.require_utf8(name)
    with naming_options():
        source = open_source(file, text_column=text_column)
        text = starter.profile(source)
    chosen = starter.choose(text, source)
    content = starter.config_text(text, chosen, out=str(out), train=file, text_column=text_column)
    disk.write_bytes(out, content.encode())
    if json:
        emit_json({"config": str(out), "sentences": text.sentences, "blank": text.blank} | asdict(chosen))
    _tell(text, chosen, out)


def _tell(text: "Profile", chosen: "Starter", out: Path) -> None:
    blank = f" · {text.blank:,} blank" if text.blank else ""
    say(f"text     {text.name} · {text.sentences:,} lines{blank} · {len(text.words):,} different words")
    unit = {"word": "words", "char": "characters", "sentencepiece": "SentencePiece"}[chosen.tokenizer]
    say(f"tokens   {unit}: {chosen.why}")
    say(f"model    z {chosen.latent} · decoder {chosen.hidden} · vocabulary {chosen.vocabulary:,}")
    length = f"{chosen.steps:,} updates" if chosen.steps else f"{chosen.epochs} epochs"
    minutes = max(1, round(chosen.seconds / 60))
    say(f"train    {length}, about {minutes} minute{'s' if minutes > 1 else ''} on two laptop cores")
    if text.sentences < 1_000:
        say("note     this is little text: expect a model that repeats it; some thousands of lines work better")
    say(f"wrote    {out}")
    say(f"next     seqvae train --config {shlex.quote(str(out))}")
    if text.examples:
        say(f"then     seqvae interpolate {' '.join(map(shlex.quote, text.examples))}")

"""The sentences that a verb reads: its arguments, a file or standard input, piece by piece."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from seqvae.cli.console import say
from seqvae.cli.options import naming_options, tell_unknown_words
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.data.store import TokenStore
    from seqvae.textvae import TextVAE

TextsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="Sentences, or - for standard input, one a line.", show_default=False),
]
InputOption = Annotated[
    Path | None,
    typer.Option(
        "--input", metavar="FILE", help="Read sentences from a file: text, one a line (also .gz), or a table."
    ),
]
ColumnOption = Annotated[
    str | None, typer.Option("--text-column", metavar="NAME", help="Column of the table that holds the sentences.")
]

STDIN, STDIN_NAME = "-", "standard input"

_FIRST, _AT_MOST = 64, 4096
"""Sentences in the first piece, so that a pipe soon sees something, and in the largest."""

_CHARACTERS = 1 << 20
"""A piece with as many has enough sentences."""


class Piece(NamedTuple):
    """Some sentences in their order: the text, and what the tokenizer makes of it."""

    texts: list[str]
    store: "TokenStore"
    first_row: int
    """Sentences before this piece."""


class Sentences:
    """Sentences as the user named them. What cannot be is refused here, before a model is loaded.

    Every line is a sentence, a blank one too, so that results stay parallel to lines.
    """

    def __init__(
        self,
        texts: list[str] | None,
        file: Path | None = None,
        column: str | None = None,
        *,
        ways: str = "write TEXT..., `--input FILE` or `-` for stdin",
    ):
        if texts and file is not None:
            hint = "give the sentences themselves, or a file"
            raise SeqVAEError("E215", "TEXT and --input contradict each other", hint=hint)
        if not texts and file is None:
            raise SeqVAEError("E250", "no sentences are given", hint=ways)
        refuse_column_alone(column, file)
        self.file, self.column = file, column
        self.streamed = file is not None or texts == [STDIN]
        self.arguments = [] if self.streamed else as_sentences(texts or [])

    def pieces(self, vae: "TextVAE") -> Iterator[Piece]:
        """The sentences in memory that does not grow with their number; unknown words are told on stderr.

        There is one piece at least, be it empty. Raises what reading a file raises, when it comes to it.
        """
        if not self.streamed:
            tell_unknown_words(vae, self.arguments)
        from seqvae.data.store import TokenStore

        row = lost = unknown = tokens = 0
        for texts in _cut(text for _, text in self.rows()):
            store = TokenStore.from_texts(texts, vae.tokenizer)
            yield Piece(texts, store, row)
            row += len(texts)
            unknown, tokens = unknown + store.stats.unknown, tokens + store.stats.tokens - len(store)
            lost += _without_known_word(store)
        if self.streamed:
            _tell_unknown(vae, lost, row, unknown / max(1, tokens))

    def rows(self) -> Iterable[tuple[int, str]]:
        """Each sentence as it is written, with its number from 1: of a file, its line."""
        from seqvae.data.lines import text_lines

        if not self.streamed:
            return enumerate(self.arguments, 1)
        if self.file is None:
            return text_lines(sys.stdin.buffer, STDIN_NAME)
        return _rows(self.file, self.column)


def refuse_column_alone(column: str | None, file: Path | None) -> None:
    """Raises E215 for ``--text-column`` without ``--input``."""
    if column is not None and file is None:
        what = "--text-column names a column of a file, and there is no --input"
        raise SeqVAEError("E215", what, hint="add `--input FILE`, or leave --text-column away")


def _rows(file: Path, column: str | None) -> Iterator[tuple[int, str]]:
    """The rows of a file, be they all blank, or none."""
    from seqvae.data.sources import open_source

    try:
        with naming_options():
            yield from open_source(file, text_column=column).lines()
    except SeqVAEError as error:
        if error.code != "E302":  # which comes after the rows
            raise


def as_sentences(arguments: Sequence[str]) -> list[str]:
    """Each argument as `one_line`. Raises E247 for one that is not UTF-8."""
    from seqvae.data.lines import one_line

    for number, text in enumerate(arguments, 1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            byte = ord(text[error.start]) & 0xFF  # as Python keeps a byte that it cannot decode
            hint = "convert it, or put the text into a file in UTF-8 and name it with `--input`"
            raise SeqVAEError("E247", f"sentence {number} is not UTF-8: byte 0x{byte:02X}", hint=hint) from None
    return [one_line(text).replace("\r", " ") for text in arguments]


def _cut(lines: Iterable[str]) -> Iterator[list[str]]:
    """Pieces that grow to a bounded size; a single empty one where there are no lines."""
    piece: list[str] = []
    size, characters, empty = _FIRST, 0, True
    for line in lines:
        piece.append(line)
        characters += len(line)
        if len(piece) == size or characters >= _CHARACTERS:
            yield piece
            piece, characters, size, empty = [], 0, min(2 * size, _AT_MOST), False
    if piece or empty:
        yield piece


def _without_known_word(store: "TokenStore") -> int:
    """Sentences that have words, none of them known."""
    import numpy as np

    from seqvae.types import UNK

    row = np.repeat(np.arange(len(store)), store.lengths)
    unknown = np.bincount(row, weights=store.tokens == UNK, minlength=len(store))
    return int(((unknown == store.lengths - 2) & (unknown > 0)).sum())


def _tell_unknown(vae: "TextVAE", lost: int, sentences: int, rate: float) -> None:
    from seqvae.data.store import HIGH_UNKNOWN_RATE

    unit = vae.tokenizer.unit
    if lost:
        say(f"note     {lost:,} of {sentences:,} sentences have no {unit} that the model knows")
    if rate > HIGH_UNKNOWN_RATE:
        say(f"note     {rate:.1%} of the {unit}s are unknown to the model")

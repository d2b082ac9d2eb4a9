"""Sentences with gaps in them, as a user writes them: ``the ___ said it would ___``."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.types import BOS, EOS

MARK = re.compile(r"_{3,}\*?")
"""Three underscores or more are a gap of one token; with a star behind them, of any number up to a given one."""

MOST_SHAPES = 64
"""Combinations of lengths that are tried for one sentence."""

FIRST, NEXT = -1, -2
"""In a shape: the first token of a gap, and one of those behind it in the same gap."""

_WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"
"""How a piece is written that begins a word (SentencePiece)."""


class Shape(NamedTuple):
    """A sentence with gaps of known lengths: token ids, with `FIRST` and `NEXT` in the gaps."""

    tokens: list[int]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class GappedText:
    """A text cut at its gaps: what stands around them, as text and as tokens, and the number of tokens in each."""

    around: tuple[str, ...]
    """One more than there are gaps."""
    tokens: tuple[tuple[int, ...], ...]
    starred: tuple[bool, ...]
    """Whether a gap may be of several lengths."""

    @classmethod
    def read(cls, text: str, tokenizer: Tokenizer) -> "GappedText":
        """Raises E298 for a text without a gap, and for a gap inside a word."""
        marks = [(match.start(), match.end(), match.group().endswith("*")) for match in MARK.finditer(text)]
        if not marks:
            hint = "write ___ for a missing word, ___* for any number of them"
            raise SeqVAEError("E298", "there is no gap to fill in the text", where=text, hint=hint)
        if tokenizer.unit != "character":
            inside = [text[start:end] for start, end, _ in marks if (text[:start][-1:] + text[end:][:1]).strip()]
            if inside:
                hint = "put spaces around it; only a model of characters fills gaps inside a word"
                what = f"`{inside[0]}` stands for whole words, and here it touches one"
                raise SeqVAEError("E298", what, where=text, hint=hint)
        edges = [0, *(edge for start, end, _ in marks for edge in (start, end)), len(text)]
        around = tuple(text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
        tokens = tuple(tuple(tokenizer.encode(part)) for part in around)
        return cls(around, tokens, tuple(starred for *_, starred in marks))

    def shapes(self, most: int) -> list[Shape]:
        """The sentence for each choice of the lengths of its gaps.

        A starred gap has 0 to ``most`` tokens, another has one. Raises E298 where there are too many choices.
        """
        ranges = [range(most + 1) if starred else (1,) for starred in self.starred]
        choices = (most + 1) ** sum(self.starred)
        if choices > MOST_SHAPES:
            what = f"gaps of 0 to {most} tokens make {choices:,} sentences to try, more than {MOST_SHAPES}"
            raise SeqVAEError("E298", what, hint="lower the longest gap (`--most`), or star fewer of them")
        return [self._shape(lengths) for lengths in itertools.product(*ranges)]

    def _shape(self, lengths: tuple[int, ...]) -> Shape:
        shape = [BOS, *self.tokens[0]]
        for length, tokens in zip(lengths, self.tokens[1:], strict=True):
            shape += ([FIRST] + [NEXT] * (length - 1) if length else []) + list(tokens)
        return Shape([*shape, EOS], lengths)

    def fills(self, sentence: Sequence[int], lengths: Sequence[int], tokenizer: Tokenizer) -> tuple[str, ...]:
        """What stands in each gap of a filled sentence (with BOS and EOS)."""
        found, place = [], 1
        for length, tokens in zip(lengths, self.tokens[:-1], strict=True):
            place += len(tokens)
            fill = tokenizer.decode(sentence[place : place + length])
            found.append(fill if tokenizer.unit == "character" else fill.strip())
            place += length
        return tuple(found)

    def filled(self, fills: Sequence[str], tokenizer: Tokenizer) -> str:
        """The text as the user wrote it, the gaps filled; spaces around an empty one are joined."""
        text = "".join(itertools.chain.from_iterable(zip(self.around, (*fills, ""), strict=True)))
        return text if tokenizer.unit == "character" else " ".join(text.split())


def starters(tokenizer: Tokenizer) -> list[bool] | None:
    """Which tokens may be the first of a gap; None where any may. A piece has to begin a word."""
    if tokenizer.unit != "piece":
        return None
    return [token.startswith(_WORD_START) and token != _WORD_START for token in tokenizer.vocabulary]

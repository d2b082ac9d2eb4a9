"""From the texts of rows to their token ids, and the counts of what was seen on the way."""

from dataclasses import dataclass, fields
from itertools import chain, compress
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt

from seqvae.data.tokenizers import Tokenizer
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import Location, SeqVAEError
from seqvae.specials import BOS, EOS, SPECIALS, UNK

TokenType = Literal["<u2", "<u4"]


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """Counts over one split, after what is too long was dropped or truncated."""

    rows: int = 0
    tokens: int = 0
    """Predicted tokens: EOS counted, BOS not."""
    words: int = 0
    """Words between white space."""
    characters: int = 0
    """Unicode code points of the lines, without the line end."""
    unknown: int = 0
    """Tokens that are the unknown token."""
    blank_dropped: int = 0
    too_long: int = 0
    """Sentences longer than the limit, dropped or truncated."""
    joined: int = 0
    """Texts with line breaks inside, which became spaces."""

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens (EOS not counted) that are unknown; 0 where there are none."""
        return self.unknown / max(1, self.tokens - self.rows)

    def __add__(self, other: "StoreStats") -> "StoreStats":
        return StoreStats(
            **{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The ids of some texts, one after another, each with its BOS and EOS."""

    tokens: UInt[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " kept"]
    """Tokens of each text that is kept, BOS and EOS counted."""
    kept: Bool[np.ndarray, " texts"]
    """Which of the texts were kept."""
    stats: StoreStats
    refused: tuple[int, int] | None = None
    """The first text that may not be so long, by its place and its number of tokens; no text is kept then."""


@dataclass(frozen=True, kw_only=True)
class RowEncoder:
    """Texts to the ids of rows. It knows nothing of where they stand, so that any process can have some of them.

    ``max_length`` is in tokens without BOS and EOS. With "error" a longer sentence is refused, and so is one of more
    than ``most_tokens`` where there is no ``max_length``.
    """

    tokenizer: Tokenizer
    max_length: int | None = None
    too_long: Literal["drop", "truncate", "error"] = "drop"
    most_tokens: int | None = None

    def encode(self, texts: list[str]) -> Encoded:
        """The rows of ``texts``, none of which has a line end in it."""
        ids = [self.tokenizer.encode(text) for text in texts]
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        kept = np.ones(len(ids), bool)
        over, cut_characters = 0, 0
        limit = self.most_tokens if self.max_length is None else self.max_length
        long = np.flatnonzero(counts > limit) if limit is not None else ()
        if len(long):
            if self.max_length is None or self.too_long == "error":
                return self._refused(int(long[0]), int(counts[long[0]]), len(texts))
            over = len(long)
            if self.too_long == "drop":
                kept = counts <= limit
                ids, texts = list(compress(ids, kept)), list(compress(texts, kept))
                counts = counts[kept]
            else:
                texts = list(texts)
                for place in long.tolist():
                    ids[place] = ids[place][:limit]
                    # Words and characters are those of the tokens kept; an unknown one counts as it stands in the text.
                    cut_characters += self._beyond_shown(texts[place], ids[place])
                    texts[place] = self.tokenizer.decode(ids[place])
                counts = np.minimum(counts, limit)
        tokens = self._rows(ids, counts)
        # The tokens of a word tokenizer are the words.
        by_words = type(self.tokenizer) is WordTokenizer
        stats = StoreStats(
            rows=len(ids),
            tokens=int(counts.sum()) + len(ids),
            words=int(counts.sum()) if by_words else sum(len(text.split()) for text in texts),
            characters=sum(map(len, texts)) + cut_characters,
            unknown=int(np.count_nonzero(tokens == UNK)),
            too_long=over,
        )
        return Encoded(tokens=tokens, lengths=counts + 2, kept=kept, stats=stats)

    def refusal(self, length: int, where: Location) -> SeqVAEError:
        """The error for a sentence of ``length`` tokens that was refused."""
        if self.max_length is None:
            return SeqVAEError(
                "E310",
                f"a sentence of {length:,} tokens: no model here can take more than {self.most_tokens:,}",
                where=where,
                hint="set `data.max_length`: what is longer is dropped, or cut with `data.too_long=truncate`",
            )
        return SeqVAEError(
            "E310",
            f"a sentence of {length} tokens is longer than data.max_length={self.max_length}",
            where=where,
            hint="raise `data.max_length`, or set `data.too_long` to drop or truncate",
        )

    def _refused(self, place: int, length: int, texts: int) -> Encoded:
        return Encoded(
            tokens=np.zeros(0, token_type(self.tokenizer)),
            lengths=np.zeros(0, np.int64),
            kept=np.zeros(texts, bool),
            stats=StoreStats(),
            refused=(place, length),
        )

    def _rows(self, ids: list[list[int]], counts: Int64[np.ndarray, " kept"]) -> UInt[np.ndarray, " n"]:
        dtype = token_type(self.tokenizer)
        ends = np.cumsum(counts + 2)
        tokens = np.empty(int(ends[-1]) if len(ends) else 0, dtype)
        inside = np.ones(len(tokens), bool)
        for places, special in ((ends - counts - 2, BOS), (ends - 1, EOS)):
            tokens[places] = special
            inside[places] = False
        tokens[inside] = np.fromiter(chain.from_iterable(ids), dtype, int(counts.sum()))
        return tokens

    def _beyond_shown(self, text: str, ids: list[int]) -> int:
        """Code points that the unknown tokens among the first ``ids`` have in ``text`` beyond those of ``<unk>``."""
        if UNK not in ids:
            return 0
        unknown = (token for token, identity in zip(self.tokenizer.tokens(text), ids, strict=False) if identity == UNK)
        return sum(len(token) - len(SPECIALS[UNK]) for token in unknown)


def token_type(tokenizer: Tokenizer) -> TokenType:
    """The ids of this tokenizer take 16 bits where they fit, else 32."""
    return "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"

"""From the text of a row to its token ids, and the counts of what was seen on the way."""

from dataclasses import dataclass
from typing import Literal

from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import Location, SeqVAEError
from seqvae.specials import BOS, EOS, SPECIALS, UNK


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """Counts over one split, after what is too long was dropped or truncated."""

    rows: int
    tokens: int
    """Predicted tokens: EOS counted, BOS not."""
    words: int
    """Words between white space."""
    characters: int
    """Unicode code points of the lines, without the line end."""
    unknown: int
    """Tokens that are the unknown token."""
    blank_dropped: int
    too_long: int
    """Sentences longer than the limit, dropped or truncated."""
    joined: int = 0
    """Texts with line breaks inside, which became spaces."""

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens (EOS not counted) that are unknown; 0 where there are none."""
        return self.unknown / max(1, self.tokens - self.rows)


class RowEncoder:
    """Text to the ids of a row, with its BOS and EOS; counts what it sees.

    ``max_length`` is in tokens without BOS and EOS. With "error" a longer sentence raises E310, naming its line, and so
    does one of more than ``most_tokens`` where there is no ``max_length``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        too_long: Literal["drop", "truncate", "error"] = "drop",
        name: str = "",
        most_tokens: int | None = None,
    ):
        self.tokenizer, self.max_length, self.too_long, self.name = tokenizer, max_length, too_long, name
        self.most_tokens = most_tokens
        self.blank_dropped = self.joined = 0
        self._rows = self._tokens = self._words = self._characters = self._unknown = self._long = 0

    def encode(self, line: int, text: str) -> list[int] | None:
        """The ids of the row, or None where the sentence is dropped."""
        ids = self.tokenizer.encode(text)
        if self.max_length is None and self.most_tokens is not None and len(ids) > self.most_tokens:
            raise SeqVAEError(
                "E310",
                f"a sentence of {len(ids):,} tokens: no model here can take more than {self.most_tokens:,}",
                where=Location(self.name, line),
                hint="set `data.max_length`: what is longer is dropped, or cut with `data.too_long=truncate`",
            )
        if self.max_length is not None and len(ids) > self.max_length:
            self._long += 1
            if self.too_long == "error":
                raise SeqVAEError(
                    "E310",
                    f"a sentence of {len(ids)} tokens is longer than data.max_length={self.max_length}",
                    where=Location(self.name, line),
                    hint="raise `data.max_length`, or set `data.too_long` to drop or truncate",
                )
            if self.too_long == "drop":
                return None
            ids = ids[: self.max_length]
            # Words and characters are those of the tokens kept; an unknown one counts as it stands in the text.
            self._characters += self._beyond_shown(text, ids)
            text = self.tokenizer.decode(ids)
        self._rows += 1
        self._tokens += len(ids) + 1
        self._words += len(text.split())
        self._characters += len(text)
        self._unknown += ids.count(UNK)
        return [BOS, *ids, EOS]

    def _beyond_shown(self, text: str, ids: list[int]) -> int:
        """Code points that the unknown tokens among the first ``ids`` have in ``text`` beyond those of ``<unk>``."""
        if UNK not in ids:
            return 0
        unknown = (token for token, identity in zip(self.tokenizer.tokens(text), ids, strict=False) if identity == UNK)
        return sum(len(token) - len(SPECIALS[UNK]) for token in unknown)

    def stats(self) -> StoreStats:
        """The counts so far."""
        return StoreStats(
            rows=self._rows,
            tokens=self._tokens,
            words=self._words,
            characters=self._characters,
            unknown=self._unknown,
            blank_dropped=self.blank_dropped,
            too_long=self._long,
            joined=self.joined,
        )

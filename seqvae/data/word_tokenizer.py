"""Words as they stand between white space."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsInt

from pydantic import BaseModel, ConfigDict, Field

from seqvae.data.sampling import SAMPLE_LINES, SAMPLE_LINES_IS, counted
from seqvae.data.tokenizer_file import KnownIds, ListedTokenizer
from seqvae.errors import SeqVAEError
from seqvae.io.disk import is_surrogate
from seqvae.specials import SPECIALS, UNK


class WordTokenizerConfig(BaseModel):
    """Words as they stand between white space, the most frequent first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["word"] = Field("word", description="The kind of tokenizer.")
    max_size: int | None = Field(
        None, ge=len(SPECIALS) + 1, description="Largest vocabulary in words, the four special tokens included."
    )
    min_freq: int = Field(1, ge=1, description="A word must occur this many times in the training text to be known.")
    lowercase: bool = Field(False, description="Read every word in lower case.")
    sample_lines: int = Field(SAMPLE_LINES, ge=1, description=SAMPLE_LINES_IS)
    unknown_word: str | None = Field(
        None, description="The word that the corpus itself writes for an unknown word, read as the unknown token."
    )


class _WordFile(BaseModel):
    """What stands in the JSON file of a `WordTokenizer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    name: Literal["word"]
    lowercase: bool
    unknown_word: str | None
    words: list[str]


class WordTokenizer(ListedTokenizer):
    """Splits on white space; word number i of ``words`` has the id i + 4.

    >>> tokenizer = WordTokenizer(["the", "market", "fell"])
    >>> tokenizer.encode("the  price fell")
    [4, 3, 6]
    >>> tokenizer.decode([1, 4, 3, 6, 2])
    'the <unk> fell'
    """

    name = "word"
    File = _WordFile
    unit = "word"

    def __init__(self, words: Sequence[str], *, lowercase: bool = False, unknown_word: str | None = None):
        self.words, self.lowercase, self.unknown_word = list(words), lowercase, unknown_word
        problem = self._problem()
        if problem:
            raise SeqVAEError("E410", f"not a vocabulary: {problem}")
        self._shown = [*SPECIALS, *self.words]
        self._ids = KnownIds({word: index for index, word in enumerate(self.words, len(SPECIALS))})
        if unknown_word is not None:
            self._ids[self._fold(unknown_word)] = UNK

    def _fold(self, text: str) -> str:
        return text.lower() if self.lowercase else text

    def _problem(self) -> str | None:
        for word in [*self.words, *([] if self.unknown_word is None else [self.unknown_word])]:
            if word.split() != [word]:
                return f"{word!r} is empty or has white space in it"
            if any(map(is_surrogate, word)):
                return f"{word!r} is not valid Unicode"
        repeated = [word for word, count in Counter(self.words).items() if count > 1]
        if repeated:
            return f"the word {repeated[0]!r} stands there twice"
        if self.unknown_word is not None and self._fold(self.unknown_word) in self.words:
            return f"{self.unknown_word!r} is both a word and the sign for an unknown word"
        return None

    @classmethod
    def train(cls, lines: Iterable[str], config: WordTokenizerConfig) -> "WordTokenizer":
        """The vocabulary of a sample of ``lines``: most frequent first, ties in alphabetical order.

        Raises E311 where no word is frequent enough.
        """
        lowered = (line.lower() for line in lines) if config.lowercase else lines
        counts = counted(lowered, str.split, config.sample_lines)
        unknown = config.unknown_word
        if unknown is not None:
            counts.pop(unknown.lower() if config.lowercase else unknown, None)
        frequent = sorted((-count, word) for word, count in counts.items() if count >= config.min_freq)
        if not frequent:
            raise SeqVAEError(
                "E311",
                f"the training text has no word that occurs {config.min_freq} times: the vocabulary would be empty",
                hint="lower `tokenizer.min_freq`",
            )
        room = None if config.max_size is None else config.max_size - len(SPECIALS)
        return cls([word for _, word in frequent[:room]], lowercase=config.lowercase, unknown_word=unknown)

    def encode(self, text: str) -> list[int]:
        return [*map(self._ids.__getitem__, self._fold(text).split())]

    def tokens(self, text: str) -> list[str]:
        return text.split()

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return " ".join(self._shown[index] for index in map(int, ids) if index >= UNK)

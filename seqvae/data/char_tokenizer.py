"""Characters: every Unicode code point is a token, white space included."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal, SupportsInt

from pydantic import BaseModel, ConfigDict, Field

from seqvae.data.sampling import SAMPLE_LINES, SAMPLE_LINES_IS, counted
from seqvae.data.tokenizer_file import KnownIds, ListedTokenizer, Normalization, fold
from seqvae.errors import SeqVAEError
from seqvae.io.disk import is_surrogate
from seqvae.specials import SPECIALS, UNK


class CharTokenizerConfig(BaseModel):
    """Characters (Unicode code points), the most frequent first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["char"] = Field("char", description="The kind of tokenizer.")
    max_size: int | None = Field(
        None, ge=len(SPECIALS) + 1, description="Largest vocabulary in characters, the four special tokens included."
    )
    min_freq: int = Field(1, ge=1, description="A character must occur this many times in the training text.")
    lowercase: bool = Field(False, description="Read every character in lower case.")
    sample_lines: int = Field(SAMPLE_LINES, ge=1, description=SAMPLE_LINES_IS)
    normalization: Normalization = Field(
        "none",
        description="Unicode form to read the text in: none (exact), NFC (accents composed), NFKC (variants replaced).",
    )


class _CharFile(BaseModel):
    """What stands in the JSON file of a `CharTokenizer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    name: Literal["char"]
    lowercase: bool
    normalization: Normalization
    characters: list[str]


class CharTokenizer(ListedTokenizer):
    """One token for each code point; number i of ``characters`` has the id i + 4. Known text comes back exactly.

    Code points, not what a reader sees as one sign: a combining accent or a joined emoji is several tokens.

    >>> tokenizer = CharTokenizer(["a", " ", "b"])
    >>> tokenizer.encode("a b!")
    [4, 5, 6, 3]
    >>> tokenizer.decode([1, 4, 5, 6, 3, 2])
    'a b<unk>'
    """

    name = "char"
    File = _CharFile
    unit = "character"

    def __init__(self, characters: Sequence[str], *, lowercase: bool = False, normalization: Normalization = "none"):
        self.characters, self.lowercase, self.normalization = list(characters), lowercase, normalization
        problem = self._problem()
        if problem:
            raise SeqVAEError("E410", f"not a vocabulary: {problem}")
        self._shown = [*SPECIALS, *self.characters]
        self._ids = KnownIds({character: index for index, character in enumerate(self.characters, len(SPECIALS))})

    def _problem(self) -> str | None:
        for character in self.characters:
            if len(character) != 1:
                return f"{character!r} is not one character"
            if is_surrogate(character):
                return f"{character!r} is not valid Unicode"
        repeated = [character for character, count in Counter(self.characters).items() if count > 1]
        return f"the character {repeated[0]!r} stands there twice" if repeated else None

    @classmethod
    def train(cls, lines: Iterable[str], config: CharTokenizerConfig) -> "CharTokenizer":
        """The characters of a sample of ``lines`` (blank ones are none): most frequent first, ties by code point.

        Raises E311 where no character is frequent enough.
        """
        sentences = (line for line in lines if not line.isspace())
        folded = partial(fold, lowercase=config.lowercase, normalization=config.normalization)
        counts = counted(sentences, folded, config.sample_lines)
        frequent = sorted(
            (-count, character)
            for character, count in counts.items()
            if count >= config.min_freq and not is_surrogate(character)
        )
        if not frequent:
            raise SeqVAEError(
                "E311",
                f"the training text has no character that occurs {config.min_freq} times: "
                "the vocabulary would be empty",
                hint="lower `tokenizer.min_freq`",
            )
        room = None if config.max_size is None else config.max_size - len(SPECIALS)
        characters = [character for _, character in frequent[:room]]
        return cls(characters, lowercase=config.lowercase, normalization=config.normalization)

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.__getitem__, fold(text, self.lowercase, self.normalization)))

    def tokens(self, text: str) -> list[str]:
        return list(fold(text, self.lowercase, self.normalization))

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return "".join(self._shown[index] for index in map(int, ids) if index >= UNK)

"""From text to token ids and back.

Every tokenizer has the four special ids of `seqvae.types` (0 to 3); text never produces PAD, BOS or EOS, whatever
is written in it. A tokenizer is saved as one JSON file and loaded without running any code.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Protocol, SupportsInt, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seqvae.errors import Location, SeqVAEError
from seqvae.io import storage
from seqvae.types import SPECIALS, UNK

FILE_NAME = "tokenizer.json"
SCHEMA_VERSION = 1


class WordTokenizerConfig(BaseModel):
    """Words as they stand between white space, the most frequent first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["word"] = Field("word", description="The kind of tokenizer.")
    max_size: int | None = Field(
        None, ge=len(SPECIALS) + 1, description="Largest vocabulary in words, the four special tokens included."
    )
    min_freq: int = Field(1, ge=1, description="A word must occur this many times in the training text to be known.")
    lowercase: bool = Field(False, description="Read every word in lower case.")
    unknown_word: str | None = Field(
        None, description="The word that the corpus itself writes for an unknown word, read as the unknown token."
    )


TokenizerConfig = WordTokenizerConfig
"""The configs of all tokenizers: the section ``tokenizer``."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; ``vocab_size`` counts the four special ids."""

    name: str

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Ids of one sentence, without BOS and EOS; what is not known gives UNK."""

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The sentence of these ids; PAD, BOS and EOS are skipped and UNK is shown as ``<unk>``."""

    def fingerprint(self) -> str:
        """Hex sha256 of all that decides how text is encoded."""

    def save(self, folder: Path | str) -> None:
        """Writes the tokenizer into ``folder`` (``model/tokenizer``), which is made if need be."""


class _WordFile(BaseModel):
    """What stands in the JSON file of a `WordTokenizer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    name: Literal["word"]
    lowercase: bool
    unknown_word: str | None
    words: list[str]


class WordTokenizer:
    """Splits on white space; word number i of ``words`` has the id i + 4.

    >>> tokenizer = WordTokenizer(["the", "market", "fell"])
    >>> tokenizer.encode("the  price fell")
    [4, 3, 6]
    >>> tokenizer.decode([1, 4, 3, 6, 2])
    'the <unk> fell'
    """

    name = "word"

    def __init__(self, words: Sequence[str], *, lowercase: bool = False, unknown_word: str | None = None):
        self.words, self.lowercase, self.unknown_word = list(words), lowercase, unknown_word
        problem = self._problem()
        if problem:
            raise SeqVAEError("E410", f"not a vocabulary: {problem}")
        self._shown = [*SPECIALS, *self.words]
        self._ids = {word: index for index, word in enumerate(self._shown) if index >= len(SPECIALS)}
        if unknown_word is not None:
            self._ids[self._fold(unknown_word)] = UNK

    def _fold(self, text: str) -> str:
        return text.lower() if self.lowercase else text

    def _problem(self) -> str | None:
        for word in [*self.words, *([] if self.unknown_word is None else [self.unknown_word])]:
            if word.split() != [word]:
                return f"{word!r} is empty or has white space in it"
            if any("\ud800" <= character <= "\udfff" for character in word):
                return f"{word!r} is not valid Unicode"
        repeated = [word for word, count in Counter(self.words).items() if count > 1]
        if repeated:
            return f"the word {repeated[0]!r} stands there twice"
        if self.unknown_word is not None and self._fold(self.unknown_word) in self.words:
            return f"{self.unknown_word!r} is both a word and the sign for an unknown word"
        return None

    @classmethod
    def train(cls, lines: Iterable[str], config: WordTokenizerConfig) -> "WordTokenizer":
        """The vocabulary of ``lines``: most frequent first, ties in alphabetical order.

        Raises E311 where no word is frequent enough.
        """
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update((line.lower() if config.lowercase else line).split())
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

    @property
    def vocab_size(self) -> int:
        return len(self._shown)

    def encode(self, text: str) -> list[int]:
        ids = self._ids
        return [ids.get(word, UNK) for word in self._fold(text).split()]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        return " ".join(self._shown[index] for index in map(int, ids) if index >= UNK)

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._content()).encode()).hexdigest()

    def _content(self) -> dict[str, object]:
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "lowercase": self.lowercase,
            "unknown_word": self.unknown_word,
            "words": self.words,
        }

    def save(self, folder: Path | str) -> None:
        storage.write_json(Path(folder) / FILE_NAME, self._content())

    @classmethod
    def load(cls, folder: Path | str) -> "WordTokenizer":
        """Reads what `save` wrote; raises E402, E401, E403 for a file that is missing, damaged or too new."""
        path = Path(folder) / FILE_NAME
        content = _read(path)
        try:
            file = _WordFile.model_validate(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise _damaged(path, f"{place}: {first['msg']}") from None
        try:
            return cls(file.words, lowercase=file.lowercase, unknown_word=file.unknown_word)
        except SeqVAEError as error:
            raise _damaged(path, error.what) from None


_KINDS = {"word": WordTokenizer}


def train_tokenizer(lines: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """A tokenizer made from the training text (one sentence a line)."""
    return _KINDS[config.name].train(lines, config)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer saved in ``folder`` (``model/tokenizer``), of whatever kind; errors as in `WordTokenizer.load`."""
    path = Path(folder) / FILE_NAME
    name = _read(path).get("name")
    if not isinstance(name, str) or name not in _KINDS:
        raise _damaged(path, f"no such kind of tokenizer: {name!r}")
    return _KINDS[name].load(folder)


def _read(path: Path) -> dict:
    content = storage.read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "not a JSON object")
    version = content.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        what = f"saved by a newer seqvae (tokenizer format {version}; this one reads up to {SCHEMA_VERSION})"
        raise SeqVAEError("E403", what, where=Location(path), hint="upgrade seqvae: pip install -U seqvae")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise _damaged(path, f"schema_version is {version!r}, expected {SCHEMA_VERSION}")
    return content


def _damaged(path: Path, what: str) -> SeqVAEError:
    hint = "copy the model folder again from where it was made"
    return SeqVAEError("E401", f"the tokenizer file is damaged: {what}", where=Location(path), hint=hint)

"""What all kinds of tokenizers share: the JSON file that they are saved in, and how a text is folded."""

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ValidationError

from seqvae.errors import Location, SeqVAEError
from seqvae.io import disk
from seqvae.specials import UNK

FILE_NAME = "tokenizer.json"
SCHEMA_VERSION = 1

Normalization = Literal["none", "NFC", "NFKC"]
"""Unicode normalization forms: NFC composes accents; NFKC also replaces variants of characters, and loses them."""

File = TypeVar("File", bound=BaseModel)


def fold(text: str, lowercase: bool, normalization: Normalization) -> str:
    """``text`` as a tokenizer reads it."""
    if lowercase:
        text = text.lower()
    return text if normalization == "none" else unicodedata.normalize(normalization, text)


def read_file(folder: Path | str) -> dict:
    """The JSON object saved in ``folder``. Raises E402, E401, E403 where it is missing, damaged or too new."""
    path = Path(folder) / FILE_NAME
    content = disk.read_json(path)
    if not isinstance(content, dict):
        raise damaged(path, "not a JSON object")
    version = content.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        what = f"saved by a newer seqvae (tokenizer format {version}; this one reads up to {SCHEMA_VERSION})"
        raise SeqVAEError("E403", what, where=Location(path), hint="upgrade seqvae: pip install -U seqvae")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise damaged(path, f"schema_version is {version!r}, expected {SCHEMA_VERSION}")
    return content


def read_as(model: type[File], folder: Path | str) -> File:
    """The same, checked against ``model``."""
    try:
        return model.model_validate(read_file(folder))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise damaged(Path(folder) / FILE_NAME, f"{place}: {first['msg']}") from None


def damaged(path: Path, what: str) -> SeqVAEError:
    hint = "copy the model folder again from where it was made"
    return SeqVAEError("E401", f"the tokenizer file is damaged: {what}", where=Location(path), hint=hint)


class KnownIds(dict[str, int]):
    """Ids by token. A lookup that finds nothing gives UNK, at the speed of a plain dict for what it knows."""

    def __missing__(self, token: str) -> int:
        return UNK


class SavedTokenizer:
    """What the kinds share: a JSON file with the fields of ``File``, each of them an attribute of the tokenizer."""

    name: ClassVar[str]
    File: ClassVar[type[BaseModel]]
    _shown: Sequence[str | bytes]
    """Every token by its id."""

    @property
    def vocab_size(self) -> int:
        return len(self._shown)

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self._content()).encode()).hexdigest()

    def _content(self) -> dict[str, object]:
        fields = {field: getattr(self, field) for field in self.File.model_fields if field != "schema_version"}
        return {"schema_version": SCHEMA_VERSION, **fields}

    def save(self, folder: Path | str) -> None:
        disk.write_json(Path(folder) / FILE_NAME, self._content())


class ListedTokenizer(SavedTokenizer):
    """A tokenizer that is wholly in its JSON file; the fields of ``File`` are the arguments that make it."""

    _shown: Sequence[str]

    @property
    def vocabulary(self) -> list[str]:
        return list(self._shown)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads what `save` wrote; raises E402, E401, E403 for a file that is missing, damaged or too new."""
        file = read_as(cls.File, folder)
        try:
            return cls(**file.model_dump(exclude={"schema_version", "name"}))
        except SeqVAEError as error:
            raise damaged(Path(folder) / FILE_NAME, error.what) from None

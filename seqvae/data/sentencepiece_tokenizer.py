"""SentencePiece: pieces of words, learned from the text or read from a model that exists already."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, SupportsInt

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seqvae.data.sampling import reservoir
from seqvae.data.tokenizer_file import (
    FILE_NAME,
    Normalization,
    SavedTokenizer,
    damaged,
    fold,
    read_as,
)
from seqvae.errors import Location, SeqVAEError
from seqvae.io import disk
from seqvae.specials import SPECIALS, UNK

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL_NAME = "tokenizer.model"
MAX_MODEL_BYTES, MAX_PIECES = 32 * 2**20, 2**20
"""Bounds for a file that may come from anywhere; a quarter of a million pieces, as large as in use, take 5 MB."""

LEARNED_CHARACTERS = 4_000
"""Of a longer line only so many characters are learned from: without spaces, it takes time and memory by its length."""

_SPACE = "\u2581"
"""How SentencePiece writes a space; the same character in a text must not become one."""
_APART = re.compile(f"([{_SPACE}\ud800-\udfff])")
"""Characters that SentencePiece does not read as they are: its own space, and halves of characters."""
_UNLEARNED = re.compile(f"[\0{_SPACE}\u2585\ud800-\udfff]")
"""Characters that no piece is learned from; U+2585 is SentencePiece's own too, and costs the whole line."""


class SentencePieceTokenizerConfig(BaseModel):
    """Pieces of words. By default every text comes back exactly, character by character."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["sentencepiece"] = Field("sentencepiece", description="The kind of tokenizer.")
    algorithm: Literal["unigram", "bpe"] = Field(
        "unigram", description="unigram: likeliest division into pieces; bpe: pairs of pieces joined by frequency."
    )
    vocab_size: int = Field(
        8_000, ge=len(SPECIALS) + 1, description="Pieces, the four special tokens and the bytes included."
    )
    character_coverage: float = Field(
        0.9995, ge=0.98, le=1, description="Share of the characters of the text that become pieces; the rest is rare."
    )
    byte_fallback: bool = Field(
        True, description="Write rare characters as bytes (256 pieces), so that none is unknown; else as <unk>."
    )
    sample_lines: int = Field(
        200_000,
        ge=1,
        description="Most lines to learn the pieces from, drawn over the whole training text; of each, the first "
        f"{LEARNED_CHARACTERS:,} characters.",
    )
    model_file: Path | None = Field(
        None, description="A SentencePiece model to use instead of learning one; its pieces stay as they are."
    )
    lowercase: bool = Field(False, description="Read every text in lower case.")
    normalization: Normalization = Field(
        "none",
        description="Unicode form to read the text in: none (exact), NFC (accents composed), NFKC (variants replaced).",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "SentencePieceTokenizerConfig":
        learning = ("algorithm", "vocab_size", "character_coverage", "byte_fallback", "sample_lines")
        idle = [name for name in learning if getattr(self, name) != type(self).model_fields[name].default]
        if self.model_file is not None and idle:
            raise ValueError(f"`{idle[0]}` is for learning pieces, and `model_file` has them already: leave one away")
        return self


class _PieceFile(BaseModel):
    """What stands in the JSON file of a `SentencePieceTokenizer`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int
    name: Literal["sentencepiece"]
    lowercase: bool
    normalization: Normalization
    space_before: bool
    model_sha256: str


class SentencePieceTokenizer(SavedTokenizer):
    """Pieces of a SentencePiece model; those that text can produce have the ids from 4, in the order of the model.

    ``model`` is the content of the ``.model`` file. ``space_before``: a space is put before each sentence, so that its
    first word is written with the same pieces as elsewhere, and taken away in decoding. Raises ValueError for what is
    no SentencePiece model.
    """

    name = "sentencepiece"
    File = _PieceFile
    unit = "piece"

    def __init__(
        self,
        model: bytes,
        *,
        lowercase: bool = False,
        normalization: Normalization = "none",
        space_before: bool = False,
    ):
        self.model, self.lowercase, self.normalization = model, lowercase, normalization
        self.space_before = space_before
        self.model_sha256 = hashlib.sha256(model).hexdigest()
        self._processor = _processor(model)
        size = self._processor.get_piece_size()
        if size > MAX_PIECES:
            raise ValueError(f"it has {size:,} pieces, and at most {MAX_PIECES:,} are read")
        kept = [index for index in range(size) if not _is_apart(self._processor, index)]
        if not kept:
            raise ValueError("it has no piece that text could produce")
        self._ids = [UNK] * size
        for identity, index in enumerate(kept, len(SPECIALS)):
            self._ids[index] = identity
        # Bytes rather than text: a character may be spread over several byte pieces.
        self._shown = [name.encode() for name in SPECIALS] + [_piece_bytes(self._processor, index) for index in kept]
        self._strips = space_before or self._processor.normalize("a").startswith(_SPACE)
        self._byte_ids = {
            self._shown[self._ids[index]][0]: self._ids[index] for index in kept if self._processor.is_byte(index)
        }

    @classmethod
    def train(cls, lines: Iterable[str], config: SentencePieceTokenizerConfig) -> "SentencePieceTokenizer":
        """Pieces learned from a sample of ``lines``, the same for the same lines; of a long line, from its beginning.

        Blank lines are no sentences. Raises E311 for text without characters, E314 and E315 for a ``vocab_size`` too
        large or too small for it, E316 for what else SentencePiece objects to.
        """
        folding = {"lowercase": config.lowercase, "normalization": config.normalization}
        sentences = (line for line in lines if not line.isspace())
        texts = reservoir(sentences, config.sample_lines, lambda line: fold(line, **folding)[:LEARNED_CHARACTERS])
        return cls(_learn(texts, config), **folding, space_before=True)

    @classmethod
    def from_model(cls, config: SentencePieceTokenizerConfig) -> "SentencePieceTokenizer":
        """The pieces of ``config.model_file`` as they are. Raises E411 where it cannot be used."""
        path = config.model_file
        assert path is not None
        try:
            return cls(_read_model(path), lowercase=config.lowercase, normalization=config.normalization)
        except ValueError as error:
            raise _unusable(path, f"this SentencePiece model cannot be used: {error}") from None

    @property
    def vocabulary(self) -> list[str]:
        kept = [index for index, identity in enumerate(self._ids) if identity >= len(SPECIALS)]
        return [*SPECIALS, *map(self._processor.id_to_piece, kept)]

    def encode(self, text: str) -> list[int]:
        text, ids = self._read(text), self._ids
        if _APART.search(text) is None:
            return [ids[index] for index in self._processor.encode(text)]
        found = []
        for part in _APART.split(text):
            if _APART.match(part):
                found += self._spell(part)
            else:
                found += [ids[index] for index in self._processor.encode(part)]
        return found

    def tokens(self, text: str) -> list[str]:
        found = []
        for part in _APART.split(self._read(text)):
            if _APART.match(part):
                found += [part] * len(self._spell(part))
            else:
                found += self._processor.encode(part, out_type=str)
        return found

    def _read(self, text: str) -> str:
        text = fold(text, self.lowercase, self.normalization)
        return " " + text if text and self.space_before else text

    def _spell(self, character: str) -> list[int]:
        """A character as its bytes, where the model has them; half a character has none."""
        try:
            return [self._byte_ids[byte] for byte in character.encode()]
        except (KeyError, UnicodeEncodeError):
            return [UNK]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        content = b"".join(self._shown[index] for index in map(int, ids) if index >= UNK)
        text = content.decode("utf-8", errors="replace")  # a model may write bytes that make no character
        return text.removeprefix(" ") if self._strips else text

    def save(self, folder: Path | str) -> None:
        disk.write_bytes(Path(folder) / MODEL_NAME, self.model)
        super().save(folder)

    @classmethod
    def load(cls, folder: Path | str) -> "SentencePieceTokenizer":
        """Reads what `save` wrote; raises E402, E401, E403 for a file that is missing, damaged or too new."""
        file = read_as(_PieceFile, folder)
        path = Path(folder) / MODEL_NAME
        if not path.is_file():
            raise SeqVAEError("E402", f"`{path.name}` is missing", where=str(path), hint="copy the model folder again")
        with disk.storage_errors(path):
            if path.stat().st_size > MAX_MODEL_BYTES:
                raise damaged(path, f"it is larger than {MAX_MODEL_BYTES // 2**20} MB")
            model = path.read_bytes()
        if hashlib.sha256(model).hexdigest() != file.model_sha256:
            raise damaged(path, f"its sha256 is not the one in {FILE_NAME}")
        try:
            return cls(
                model,
                lowercase=file.lowercase,
                normalization=file.normalization,
                space_before=file.space_before,
            )
        except ValueError as error:
            raise damaged(path, str(error)) from None


def size_that_fits(lines: Sequence[str], config: SentencePieceTokenizerConfig) -> int | None:
    """``config.vocab_size``, or another that pieces can be learned with where that is too large or too small.

    The pieces are learned to find out. None where there is no such size.
    """
    for _ in range(_TRIALS):
        try:
            SentencePieceTokenizer.train(lines, config)
        except SeqVAEError as error:
            if error.code not in ("E314", "E315"):
                return None
            config = config.model_copy(update={"vocab_size": int(error.what.rpartition(" ")[2])})
        else:
            return config.vocab_size
    return None


_TRIALS = 4
"""The size that SentencePiece names is not always the last word."""


def _read_model(path: Path) -> bytes:
    """The content of a SentencePiece model file that the user names. Raises E411 where it cannot be read."""
    path = disk.expanded(path)
    if not path.is_file():
        raise _unusable(path, "there is no such `tokenizer.model_file`", f"relative paths start at {Path.cwd()}")
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise _unusable(path, f"it is larger than {MAX_MODEL_BYTES // 2**20} MB: this is no SentencePiece model")
        return path.read_bytes()
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror or error}") from None


def _unusable(path: Path, what: str, hint: str = "name the `.model` file that SentencePiece wrote") -> SeqVAEError:
    return SeqVAEError("E411", what, where=Location(path), hint=hint)


def _processor(model: bytes) -> "SentencePieceProcessor":
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except (RuntimeError, ValueError, TypeError) as error:
        said = _message(error)
        raise ValueError("it is damaged or of another format" if "ParseFromArray" in said else said) from None


def _is_apart(processor: "SentencePieceProcessor", index: int) -> bool:
    """Whether a piece is never produced by text: control symbols, the unknown piece, pieces out of use."""
    return processor.is_control(index) or processor.is_unknown(index) or processor.is_unused(index)


def _piece_bytes(processor: "SentencePieceProcessor", index: int) -> bytes:
    piece = processor.id_to_piece(index)
    return bytes([int(piece[3:5], 16)]) if processor.is_byte(index) else piece.replace(_SPACE, " ").encode()


def _learnable(texts: Iterable[str]) -> Iterator[str]:
    """What is given to the trainer: each text with its space before it, without what cannot be learned from."""
    for text in texts:
        yield from _UNLEARNED.split(" " + text)


def _learn(texts: list[str], config: SentencePieceTokenizerConfig) -> bytes:
    """The content of a model file. One thread and no sampling: equal texts give equal bytes."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_learnable(texts),
            model_writer=model,
            model_type=config.algorithm,
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            max_sentence_length=4 * (LEARNED_CHARACTERS + 1),  # in bytes; longer ones would be left out
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=UNK,
            num_threads=1,
            minloglevel=3,
        )
    except (RuntimeError, ValueError) as error:
        raise _untrainable(_message(error), config) from None
    return model.getvalue()


def _untrainable(message: str, config: SentencePieceTokenizerConfig) -> SeqVAEError:
    """What SentencePiece's own words mean for the settings."""
    asked = f"tokenizer.vocab_size={config.vocab_size}"
    if found := re.search(r"Vocabulary size too high .*<= (\d+)", message):
        what = f"the training text has too few different pieces for {asked}: at most {found[1]}"
        return SeqVAEError("E314", what, hint=f"lower it: `--set tokenizer.vocab_size={found[1]}`")
    if found := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        bytes_too = ", the 256 bytes" if config.byte_fallback else ""
        what = f"{asked} is too small: the characters of the training text{bytes_too} and the special tokens need "
        hint = "raise it" + (", or set `tokenizer.byte_fallback=false`" if config.byte_fallback else "")
        return SeqVAEError("E315", f"{what}{found[1]}", hint=hint)
    if "sentences_.empty()" in message:
        return SeqVAEError("E311", "the training text has no character to learn pieces from", hint="check the file")
    return SeqVAEError("E316", f"SentencePiece could not learn pieces: {message}", hint="try `tokenizer.name=char`")


def _message(error: Exception) -> str:
    """SentencePiece's message without the place in its source; what it checked there, where it says no more."""
    found = re.fullmatch(r"(?:INTERNAL: )?(?:src/\S+\(\d+\) )?(\[.*?\] )?(.*)", str(error), re.DOTALL)
    checked, said = (found[1], found[2]) if found else (None, str(error))
    return said.strip() or f"it fails the check {(checked or '').strip()}"

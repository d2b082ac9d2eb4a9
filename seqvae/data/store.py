"""Token ids on disk: flat memory-mapped arrays that open in constant time and never fill the memory.

A store is a folder with ``tokens.npy`` (every sentence with its BOS and EOS, one after another, in 16 or 32 bits),
``offsets.npy`` (where each sentence begins, and where the last one ends), ``lines.npy`` (the line of the source file
that each came from) and ``store.json`` (counts, source, tokenizer). `prepare` makes stores once and keeps them in a
cache.
"""

import errno
import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Int64, Integer
from pydantic import BaseModel, ConfigDict, ValidationError

from seqvae.data.arrays import ArrayWriter, map_array
from seqvae.data.corpora import DataConfig, corpus_notes, resolve, user_cache, writing_cache
from seqvae.data.sources import TextSource, is_blank
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, given_tokenizer, load_tokenizer, train_tokenizer
from seqvae.errors import Location, SeqVAEError
from seqvae.io import storage
from seqvae.types import BOS, EOS, UNK

SCHEMA_VERSION = 1
FILE_NAME = "store.json"
HIGH_UNKNOWN_RATE = 0.05
"""Above this share of unknown tokens the user is told."""

_TRIES = 3
_OVERTAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT}
"""What the file system answers where another process put the same entry of the cache in place first."""

Entry = TypeVar("Entry")


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

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens (EOS not counted) that are unknown; 0 where there are none."""
        return self.unknown / max(1, self.tokens - self.rows)


class TokenStore:
    """The sentences of one split as token ids, by row; in memory or mapped from disk.

    >>> from seqvae.data.tokenizers import WordTokenizer
    >>> store = TokenStore.from_texts(["a b", ""], WordTokenizer(["a", "b"]))
    >>> store[0].tolist(), store.lengths.tolist()
    ([1, 4, 5, 2], [4, 2])
    """

    def __init__(
        self,
        *,
        tokens: Integer[np.ndarray, " n"],
        offsets: Int64[np.ndarray, " rows1"],
        lines: Int64[np.ndarray, " rows"],
        stats: StoreStats,
        fingerprint: str,
    ):
        self.tokens, self.offsets, self.lines = tokens, offsets, lines
        self.stats, self.fingerprint = stats, fingerprint

    @classmethod
    def from_texts(cls, texts: Iterable[str], tokenizer: Tokenizer) -> "TokenStore":
        """A store in memory, one row for each text in its order; an empty text is a sentence of BOS and EOS alone."""
        encoder = RowEncoder(tokenizer)
        encoded = [encoder.encode(row, text) for row, text in enumerate(texts, 1)]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
        flat = (token for ids in encoded for token in ids)
        tokens = np.fromiter(flat, dtype=_token_type(tokenizer.vocab_size), count=int(offsets[-1]))
        digest = hashlib.sha256(tokenizer.fingerprint().encode())
        digest.update(offsets.tobytes())
        digest.update(tokens.tobytes())
        lines = np.arange(1, len(encoded) + 1, dtype=np.int64)
        return cls(tokens=tokens, offsets=offsets, lines=lines, stats=encoder.stats(), fingerprint=digest.hexdigest())

    @classmethod
    def open(cls, folder: Path | str) -> "TokenStore":
        """Maps a store from disk in constant time; raises E401 for one that is not whole."""
        folder = Path(folder)
        try:
            described = _Description.model_validate_json((folder / FILE_NAME).read_bytes())
            offsets = map_array(folder / "offsets.npy", "<i8", described.stats.rows + 1)
            # A row has its predicted tokens (EOS among them) and one BOS.
            size = described.stats.tokens + described.stats.rows
            tokens = map_array(folder / "tokens.npy", described.token_type, size)
            lines = map_array(folder / "lines.npy", "<i8", described.stats.rows)
        except (OSError, ValueError) as error:
            raise _damaged(folder, f"bad {FILE_NAME}" if isinstance(error, ValidationError) else str(error)) from None
        return cls(
            tokens=tokens, offsets=offsets, lines=lines, stats=described.stats, fingerprint=described.fingerprint
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Integer[np.ndarray, " length"]:
        """The ids of a row, BOS and EOS included."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " rows"]:
        """Tokens of every row, BOS and EOS counted."""
        return np.diff(self.offsets)


class RowEncoder:
    """Text to the ids of a row, with its BOS and EOS; counts what it sees.

    ``max_length`` is in tokens without BOS and EOS. With "error" a longer sentence raises E310, naming its line.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int | None = None,
        too_long: Literal["drop", "truncate", "error"] = "drop",
        name: str = "",
    ):
        self.tokenizer, self.max_length, self.too_long, self.name = tokenizer, max_length, too_long, name
        self.blank_dropped = 0
        self._rows = self._tokens = self._words = self._characters = self._unknown = self._long = 0

    def encode(self, line: int, text: str) -> list[int] | None:
        """The ids of the row, or None where the sentence is dropped."""
        ids = self.tokenizer.encode(text)
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
            text = self.tokenizer.decode(ids)  # so that words and characters are those of the tokens kept
        self._rows += 1
        self._tokens += len(ids) + 1
        self._words += len(text.split())
        self._characters += len(text)
        self._unknown += ids.count(UNK)
        return [BOS, *ids, EOS]

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
        )


def write_store(
    folder: Path, lines: Iterable[tuple[int, str]], encoder: RowEncoder, *, fingerprint: str, source: dict[str, object]
) -> None:
    """Writes a store into the empty ``folder``, in memory that does not grow with the text.

    ``lines`` are (line number, text); blank ones are dropped and counted. Raises E312 where no row is left.
    """
    token_type = _token_type(encoder.tokenizer.vocab_size)
    with (
        ArrayWriter(folder / "tokens.npy", token_type) as tokens,
        ArrayWriter(folder / "offsets.npy", "<i8") as offsets,
        ArrayWriter(folder / "lines.npy", "<i8") as numbers,
    ):
        offsets.extend([0])
        for number, text in lines:
            if is_blank(text):
                encoder.blank_dropped += 1
                continue
            ids = encoder.encode(number, text)
            if ids is not None:
                tokens.extend(ids)
                offsets.extend([tokens.items])
                numbers.extend([number])
    stats = encoder.stats()
    if stats.rows == 0:
        raise SeqVAEError(
            "E312",
            f"no sentence is left: all {stats.too_long} are longer than data.max_length={encoder.max_length}",
            where=Location(encoder.name),
            hint="raise `data.max_length`, or set `data.too_long` to truncate",
        )
    description = _Description(
        schema_version=SCHEMA_VERSION,
        fingerprint=fingerprint,
        source=source,
        tokenizer=encoder.tokenizer.fingerprint(),
        token_type=token_type,
        stats=stats,
    )
    storage.write_json(folder / FILE_NAME, description.model_dump())


class _Description(BaseModel):
    """What stands in ``store.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    fingerprint: str
    source: dict[str, object]
    tokenizer: str
    token_type: Literal["<u2", "<u4"]
    stats: StoreStats


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The splits as stores, the tokenizer that they were made with, and what the user should be told."""

    tokenizer: Tokenizer
    splits: dict[str, TokenStore]
    notes: list[str]
    sources: dict[str, dict[str, object]]
    """What each split was read from: the sha256 of the file, and which of its rows."""


def prepare(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    *,
    cache: Path | None = None,
    splits: Collection[str] | None = None,
) -> Prepared:
    """The text of ``data`` as token stores: made once, then found in the cache by what they were made from.

    A tokenizer config trains the tokenizer on the training rows; a tokenizer (of a saved model) is used as it is.
    ``splits`` names those wanted (default: all there are). ``cache`` defaults to ``$SEQVAE_CACHE``, else the user's
    cache folder. Several processes may prepare at once. Raises what `resolve` and reading raise, E313 for training
    and validation text without a known word (of other text it is a note), E7xx where the cache cannot be written.
    """
    training = isinstance(tokenizer, BaseModel)
    required = {"train", "valid"} if splits is None else {*splits, *(["train"] if training else [])}
    sources = resolve(data, required)
    wanted = [split for split in sources if splits is None or split in splits]
    folder = Path(user_cache() if cache is None else cache) / "prepared"
    if training:
        tokenizer = _trained(tokenizer, sources["train"], folder)
    stores = {split: _stored(data, sources[split], tokenizer, folder) for split in wanted}
    notes = corpus_notes(data, {split: sources[split] for split in wanted})
    for split, store in stores.items():
        if training and split != "test":
            _require_known(split, sources[split].name, store.stats, tokenizer)
        notes += _notes(split, store.stats, data, tokenizer)
    read = {split: sources[split].identity() for split in wanted}
    return Prepared(tokenizer=tokenizer, splits=stores, notes=notes, sources=read)


def _trained(config: TokenizerConfig, source: TextSource, folder: Path) -> Tokenizer:
    given = given_tokenizer(config)
    if given is not None:
        return given
    key = {"schema_version": SCHEMA_VERSION, "train": source.identity(), "tokenizer": config.model_dump(mode="json")}

    def write(place: Path) -> None:
        train_tokenizer((text for _, text in source.lines()), config).save(place)

    return _entry(folder / _digest(key), write, load_tokenizer)


def _stored(data: DataConfig, source: TextSource, tokenizer: Tokenizer, folder: Path) -> TokenStore:
    limit = {} if data.max_length is None else {"max_length": data.max_length, "too_long": data.too_long}
    identity = source.identity()
    key = {"schema_version": SCHEMA_VERSION, "source": identity, "tokenizer": tokenizer.fingerprint(), **limit}
    fingerprint = _digest(key)

    def write(place: Path) -> None:
        encoder = RowEncoder(tokenizer, name=source.name, **limit)
        write_store(place, source.lines(), encoder, fingerprint=fingerprint, source=identity)

    return _entry(folder / fingerprint, write, TokenStore.open)


def _entry(target: Path, write: Callable[[Path], None], read: Callable[[Path], Entry]) -> Entry:
    """What ``read`` finds in the whole folder ``target`` of the cache, made by ``write`` where it is not whole."""
    for _ in range(_TRIES):
        with suppress(SeqVAEError):
            storage.verify(target)
            return read(target)
        try:
            with writing_cache(target), storage.atomic_folder(target) as folder:
                write(folder)
        except OSError as error:
            if error.errno not in _OVERTAKEN:
                raise
    storage.verify(target)
    return read(target)


def _require_known(split: str, name: str, stats: StoreStats, tokenizer: Tokenizer) -> None:
    if stats.unknown == stats.tokens - stats.rows:
        hint = "is it in the language, the case and the script of the training text? see `tokenizer.lowercase`"
        what = f"no {tokenizer.unit} of the {split} text is in the vocabulary"
        raise SeqVAEError("E313", what, where=name, hint=hint)


def _notes(split: str, stats: StoreStats, data: DataConfig, tokenizer: Tokenizer) -> list[str]:
    notes = []
    if stats.blank_dropped:
        notes.append(f"{split}: {_count(stats.blank_dropped, 'blank line')} dropped")
    if stats.too_long:
        done = "dropped" if data.too_long == "drop" else "truncated"
        notes.append(f"{split}: {_count(stats.too_long, 'sentence')} longer than {data.max_length} tokens {done}")
    if stats.unknown_rate > HIGH_UNKNOWN_RATE:
        notes.append(f"{split}: {stats.unknown_rate:.1%} of the tokens are unknown {tokenizer.unit}s")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _digest(content: object) -> str:
    """Hex sha256 of something that JSON can hold: what names an entry of the cache."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _token_type(vocab_size: int) -> Literal["<u2", "<u4"]:
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def _damaged(folder: Path, what: str) -> SeqVAEError:
    hint = "delete this folder; it is made again"
    return SeqVAEError("E401", f"the prepared data is damaged: {what}", where=str(folder), hint=hint)

"""Token ids on disk: flat memory-mapped arrays that open in constant time and never fill the memory.

A store is a folder with ``tokens.npy`` (every sentence with its BOS and EOS, one after another, in 16 or 32 bits),
``offsets.npy`` (where each sentence begins, and where the last one ends), ``lines.npy`` (the line of the source file
that each came from), where there are labels ``labels.npy`` (the class of each), and ``store.json`` (counts, source,
tokenizer, names of the classes). `prepare` makes stores once and keeps them in a cache.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64, Integer
from pydantic import BaseModel, ConfigDict, ValidationError

from seqvae.data.arrays import ArrayWriter, map_array
from seqvae.data.cache import kept, sweep, user_cache
from seqvae.data.corpora import DataConfig, corpus_notes, resolve
from seqvae.data.labels import class_names, class_number
from seqvae.data.row_encoder import RowEncoder, StoreStats
from seqvae.data.sources import Source, is_blank
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, given_tokenizer, load_tokenizer, train_tokenizer
from seqvae.errors import Location, SeqVAEError
from seqvae.io import storage

SCHEMA_VERSION = 1
FILE_NAME = "store.json"
HIGH_UNKNOWN_RATE = 0.05
"""Above this share of unknown tokens the user is told."""

MOST_TOKENS = 100_000
"""A longer sentence is refused where `data.max_length` does not say what to do with it: it would fill any memory."""


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
        labels: Int32[np.ndarray, " rows"] | None = None,
        classes: Sequence[str] | None = None,
    ):
        self.tokens, self.offsets, self.lines = tokens, offsets, lines
        self.stats, self.fingerprint = stats, fingerprint
        self.labels, self.classes = labels, classes

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
    def from_ids(cls, sentences: Sequence[Integer[np.ndarray, " _"] | Sequence[int]]) -> "TokenStore":
        """A store in memory of ids as they are, BOS and EOS included; of no text, so nothing is known of words."""
        offsets = np.zeros(len(sentences) + 1, np.int64)
        np.cumsum([len(ids) for ids in sentences], out=offsets[1:])
        tokens = np.concatenate([np.asarray(ids, np.int64) for ids in sentences])
        count = len(sentences)
        stats = StoreStats(
            rows=count, tokens=len(tokens) - count, words=0, characters=0, unknown=0, blank_dropped=0, too_long=0
        )
        lines = np.arange(1, count + 1, dtype=np.int64)
        return cls(tokens=tokens, offsets=offsets, lines=lines, stats=stats, fingerprint="")

    def with_labels(self, labels: Integer[np.ndarray, " rows"], classes: Sequence[str]) -> "TokenStore":
        """The same sentences with labels: numbers of ``classes``."""
        return TokenStore(
            tokens=self.tokens,
            offsets=self.offsets,
            lines=self.lines,
            stats=self.stats,
            fingerprint=self.fingerprint,
            labels=labels.astype(np.int32),
            classes=classes,
        )

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
            labelled = described.classes is not None
            labels = map_array(folder / "labels.npy", "<i4", described.stats.rows) if labelled else None
        except (OSError, ValueError) as error:
            raise _damaged(folder, f"bad {FILE_NAME}" if isinstance(error, ValidationError) else str(error)) from None
        return cls(
            tokens=tokens,
            offsets=offsets,
            lines=lines,
            stats=described.stats,
            fingerprint=described.fingerprint,
            labels=labels,
            classes=described.classes,
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


def write_store(
    folder: Path, source: Source, encoder: RowEncoder, *, fingerprint: str, classes: Sequence[str] | None = None
) -> None:
    """Writes the rows of ``source`` as a store into the empty ``folder``, in memory that does not grow with the text.

    Blank rows are dropped and counted. With ``classes`` each row has a label, which is one of them (else E325). Raises
    E312 where no row is left.
    """
    token_type = _token_type(encoder.tokenizer.vocab_size)
    with ExitStack() as stack:
        arrays = {"tokens": token_type, "offsets": "<i8", "lines": "<i8"} | (
            {} if classes is None else {"labels": "<i4"}
        )
        writers = {name: stack.enter_context(ArrayWriter(folder / f"{name}.npy", arrays[name])) for name in arrays}
        class_of = {name: number for number, name in enumerate(classes or ())}
        writers["offsets"].extend([0])
        for row in source.rows():
            if is_blank(row.text):
                encoder.blank_dropped += 1
                continue
            label = None if classes is None else class_number(row, class_of, source)
            ids = encoder.encode(row.number, row.text)
            if ids is None:
                continue
            encoder.joined += row.joined
            writers["tokens"].extend(ids)
            writers["offsets"].extend([writers["tokens"].items])
            writers["lines"].extend([row.number])
            if label is not None:
                writers["labels"].extend([label])
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
        source=source.identity(),
        tokenizer=encoder.tokenizer.fingerprint(),
        token_type=token_type,
        stats=stats,
        classes=None if classes is None else list(classes),
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
    classes: list[str] | None = None
    """Names of the classes that ``labels.npy`` numbers; stores made before there were labels have none."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The splits as stores, the tokenizer that they were made with, and what the user should be told."""

    tokenizer: Tokenizer
    splits: dict[str, TokenStore]
    notes: list[str]
    sources: dict[str, dict[str, object]]
    """What each split was read from: the sha256 of the file, and which of its rows."""
    classes: list[str] | None = None
    """Names of the classes, where the rows have labels."""


def prepare(
    data: DataConfig,
    tokenizer: TokenizerConfig | Tokenizer,
    *,
    cache: Path | None = None,
    splits: Collection[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Prepared:
    """The text of ``data`` as token stores: made once, then found in the cache by what they were made from.

    A tokenizer config trains the tokenizer on the training rows; a tokenizer (of a saved model) is used as it is.
    ``splits`` names those wanted (default: all there are). ``cache`` defaults to ``$SEQVAE_CACHE``, else the user's
    cache folder. Where rows have labels, ``classes`` are those of a saved model; default: those of the training text,
    or without it those of the splits wanted.
    Several processes may prepare at once. Raises what `resolve` and reading raise, E313 for training and validation
    text without a known word (of other text it is a note), E7xx where the cache cannot be written.
    """
    training = isinstance(tokenizer, BaseModel)
    required = {"train", "valid"} if splits is None else {*splits, *(["train"] if training else [])}
    sources = resolve(data, required)
    wanted = [split for split in sources if splits is None or split in splits]
    folder = Path(user_cache() if cache is None else cache) / "prepared"
    if training:
        tokenizer = _trained(tokenizer, sources["train"], folder)
    sweep(folder)
    if classes is None and any(sources[split].labelled for split in wanted):
        read = ["train"] if training or "train" in wanted else wanted
        classes = _classes([sources[split] for split in read], folder)
    stores = {split: _stored(data, sources[split], tokenizer, classes, folder) for split in wanted}
    notes = corpus_notes(data, {split: sources[split] for split in wanted})
    for split, store in stores.items():
        if training and split != "test":
            _require_known(split, sources[split].name, store.stats, tokenizer)
        notes += _notes(split, store.stats, data, tokenizer)
    read = {split: sources[split].identity() for split in wanted}
    classes = None if classes is None else list(classes)
    return Prepared(tokenizer=tokenizer, splits=stores, notes=notes, sources=read, classes=classes)


def _classes(sources: list[Source], folder: Path) -> list[str]:
    """The classes of these sources, found in the cache where they were looked for before."""
    key = {"schema_version": SCHEMA_VERSION, "classes_of": [source.identity() for source in sources]}
    file = "classes.json"

    def write(place: Path) -> None:
        storage.write_json(place / file, class_names(sources))
        for source in sources:
            source.require_unchanged()

    return kept(
        folder / _digest(key),
        write,
        lambda place: storage.read_json(place / file),
    )


def _trained(config: TokenizerConfig, source: Source, folder: Path) -> Tokenizer:
    given = given_tokenizer(config)
    if given is not None:
        return given
    key = {"schema_version": SCHEMA_VERSION, "train": source.identity(), "tokenizer": config.model_dump(mode="json")}

    def write(place: Path) -> None:
        train_tokenizer((text for _, text in source.lines()), config).save(place)
        source.require_unchanged()

    return kept(folder / _digest(key), write, load_tokenizer)


def _stored(
    data: DataConfig, source: Source, tokenizer: Tokenizer, classes: Sequence[str] | None, folder: Path
) -> TokenStore:
    limit = {} if data.max_length is None else {"max_length": data.max_length, "too_long": data.too_long}
    key = {"schema_version": SCHEMA_VERSION, "source": source.identity(), "tokenizer": tokenizer.fingerprint(), **limit}
    if not source.labelled:
        classes = None
    if classes is not None:
        key["classes"] = list(classes)
    fingerprint = _digest(key)

    def write(place: Path) -> None:
        encoder = RowEncoder(tokenizer, name=source.name, most_tokens=MOST_TOKENS, **limit)
        write_store(place, source, encoder, fingerprint=fingerprint, classes=classes)
        source.require_unchanged()

    return kept(folder / fingerprint, write, TokenStore.open)


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
    if stats.joined:
        notes.append(f"{split}: {_count(stats.joined, 'text')} with line breaks inside, read as one line each")
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

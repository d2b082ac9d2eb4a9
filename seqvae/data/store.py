"""Token ids on disk: flat memory-mapped arrays that open in constant time and never fill the memory.

A store is a folder with ``tokens.npy`` (every sentence with its BOS and EOS, one after another, in 16 or 32 bits),
``offsets.npy`` (where each sentence begins, and where the last one ends), ``lines.npy`` (the line of the source file
that each came from), where there are labels ``labels.npy`` (the class of each), and ``store.json`` (counts, source,
tokenizer, names of the classes). `prepare` makes stores once and keeps them in a cache.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, Integer
from pydantic import BaseModel, ValidationError

from seqvae.data.arrays import map_array
from seqvae.data.cache import kept, sweep, user_cache
from seqvae.data.corpora import DataConfig, corpus_notes, resolve
from seqvae.data.labels import class_names
from seqvae.data.row_encoder import RowEncoder, StoreStats
from seqvae.data.sampling import one_in
from seqvae.data.sources import Source
from seqvae.data.store_files import FILE_NAME, SCHEMA_VERSION, Description, OnLines, write_store
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, given_tokenizer, load_tokenizer, train_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.io import disk

HIGH_UNKNOWN_RATE = 0.05
"""Above this share of unknown tokens the user is told."""

MOST_TOKENS = 100_000
"""A longer sentence is refused where `data.max_length` does not say what to do with it: it would fill any memory."""

OnProgress = Callable[[str, int], None]
"""Is told what is being made ("vocabulary", or the name of a split) and how many more lines are done."""


class RowLengths:
    """The tokens of rows, BOS and EOS counted, looked up as they are asked for: none are kept."""

    def __init__(self, offsets: Int64[np.ndarray, " rows1"]):
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return self._offsets[rows + 1] - self._offsets[rows]

    def mean(self) -> float:
        return float(self._offsets[-1] - self._offsets[0]) / len(self)


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
        encoded = RowEncoder(tokenizer=tokenizer).encode(list(texts))
        offsets = np.zeros(len(encoded.lengths) + 1, np.int64)
        np.cumsum(encoded.lengths, out=offsets[1:])
        digest = hashlib.sha256(tokenizer.fingerprint().encode())
        digest.update(offsets.tobytes())
        digest.update(encoded.tokens.tobytes())
        lines = np.arange(1, len(offsets), dtype=np.int64)
        return cls(
            tokens=encoded.tokens, offsets=offsets, lines=lines, stats=encoded.stats, fingerprint=digest.hexdigest()
        )

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

    def head(self, rows: int) -> "TokenStore":
        """The first rows, by the counts and the name of the whole."""
        return TokenStore(
            tokens=self.tokens,
            offsets=self.offsets[: rows + 1],
            lines=self.lines[:rows],
            stats=self.stats,
            fingerprint=self.fingerprint,
            labels=None if self.labels is None else self.labels[:rows],
            classes=self.classes,
        )

    @classmethod
    def open(cls, folder: Path | str) -> "TokenStore":
        """Maps a store from disk in constant time; raises E401 for one that is not whole."""
        folder = Path(folder)
        try:
            described = Description.model_validate_json((folder / FILE_NAME).read_bytes())
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

    @property
    def lengths(self) -> Int64[np.ndarray, " rows"]:
        """Tokens of every row, BOS and EOS counted; made anew each time, for of a large corpus it is large."""
        return np.diff(self.offsets)

    @property
    def row_lengths(self) -> RowLengths:
        """The same for rows that are asked for, in constant memory."""
        return RowLengths(self.offsets)


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
    on_progress: OnProgress = lambda what, lines: None,
) -> Prepared:
    """The text of ``data`` as token stores: made once, then found in the cache by what they were made from.

    A tokenizer config trains the tokenizer on the training rows; a tokenizer (of a saved model) is used as it is.
    ``splits`` names those wanted (default: all there are). ``cache`` defaults to ``$SEQVAE_CACHE``, else the user's
    cache folder. Where rows have labels, ``classes`` are those of a saved model; default: those of the training text,
    or without it those of the splits wanted.
    Several processes may prepare at once; one may use several (`data.workers`), whose number changes nothing in what is
    made. ``on_progress`` hears of what is not in the cache. Raises what `resolve` and reading raise, E313 for training
    and validation text without a known word (of other text it is a note), E350 and E351 where processes fail, E7xx
    where the cache cannot be written.
    """
    training = isinstance(tokenizer, BaseModel)
    required = {"train", "valid"} if splits is None else {*splits, *(["train"] if training else [])}
    sources = resolve(data, required)
    wanted = [split for split in sources if splits is None or split in splits]
    folder = Path(user_cache() if cache is None else cache) / "prepared"
    if training:
        config, tokenizer = tokenizer, _trained(tokenizer, sources["train"], folder, partial(on_progress, "vocabulary"))
    sweep(folder)
    if classes is None and any(sources[split].labelled for split in wanted):
        read = ["train"] if training or "train" in wanted else wanted
        classes = _classes([sources[split] for split in read], folder)
    stores = {
        split: _stored(data, sources[split], tokenizer, classes, folder, partial(on_progress, split))
        for split in wanted
    }
    notes = corpus_notes(data, {split: sources[split] for split in wanted})
    for split, store in stores.items():
        if training and split != "test":
            _require_known(split, sources[split].name, store.stats, tokenizer)
        notes += _notes(split, store.stats, data, tokenizer)
    read = {split: sources[split].identity() for split in wanted}
    if training and "train" in stores:
        notes += _sampling_note(config, stores["train"].stats, data)
    classes = None if classes is None else list(classes)
    return Prepared(tokenizer=tokenizer, splits=stores, notes=notes, sources=read, classes=classes)


def _classes(sources: list[Source], folder: Path) -> list[str]:
    """The classes of these sources, found in the cache where they were looked for before."""
    key = {"schema_version": SCHEMA_VERSION, "classes_of": [source.identity() for source in sources]}
    file = "classes.json"

    def write(place: Path) -> None:
        disk.write_json(place / file, class_names(sources))
        for source in sources:
            source.require_unchanged()

    return kept(
        folder / _digest(key),
        write,
        lambda place: disk.read_json(place / file),
    )


def _trained(config: TokenizerConfig, source: Source, folder: Path, on_lines: OnLines) -> Tokenizer:
    given = given_tokenizer(config)
    if given is not None:
        return given
    key = {"schema_version": SCHEMA_VERSION, "train": source.identity(), "tokenizer": config.model_dump(mode="json")}

    def texts() -> Iterator[str]:
        for block in source.blocks():
            yield from block.texts
            on_lines(len(block.texts))

    def write(place: Path) -> None:
        train_tokenizer(texts(), config).save(place)
        source.require_unchanged()

    return kept(folder / _digest(key), write, load_tokenizer)


def _stored(
    data: DataConfig,
    source: Source,
    tokenizer: Tokenizer,
    classes: Sequence[str] | None,
    folder: Path,
    on_lines: OnLines,
) -> TokenStore:
    limit = {} if data.max_length is None else {"max_length": data.max_length, "too_long": data.too_long}
    key = {"schema_version": SCHEMA_VERSION, "source": source.identity(), "tokenizer": tokenizer.fingerprint(), **limit}
    if not source.labelled:
        classes = None
    if classes is not None:
        key["classes"] = list(classes)
    fingerprint = _digest(key)

    def write(place: Path) -> None:
        encoder = RowEncoder(tokenizer=tokenizer, most_tokens=MOST_TOKENS, **limit)
        write_store(
            place,
            source,
            encoder,
            fingerprint=fingerprint,
            classes=classes,
            workers=data.workers,
            on_lines=on_lines,
        )
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


def _sampling_note(config: TokenizerConfig, stats: StoreStats, data: DataConfig) -> list[str]:
    """Says so where the vocabulary was not made from all of the training text."""
    size = getattr(config, "sample_lines", None)
    lines = stats.rows + stats.blank_dropped + (stats.too_long if data.too_long == "drop" else 0)
    if size is None or lines <= size or given_tokenizer(config) is not None:
        return []
    drawn = f"{size:,} lines"
    if config.name != "sentencepiece":
        share = one_in(lines, size)
        drawn = f"one line in {share:,}, about {lines // share:,},"
    return [f"the vocabulary was made from {drawn} drawn over all {lines:,} (tokenizer.sample_lines)"]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _digest(content: object) -> str:
    """Hex sha256 of something that JSON can hold: what names an entry of the cache."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(folder: Path, what: str) -> SeqVAEError:
    hint = "delete this folder; it is made again"
    return SeqVAEError("E401", f"the prepared data is damaged: {what}", where=str(folder), hint=hint)

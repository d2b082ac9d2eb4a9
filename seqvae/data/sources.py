"""Sources of rows: what the user names as text, read as often as needed, whole or in the parts that a split makes."""

import glob
import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, compress, zip_longest
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Int64

from seqvae.data.cache import spooled
from seqvae.data.lines import BLOCK_BYTES, file_lines, is_blank, line_blocks, open_regular, reading
from seqvae.errors import Location, SeqVAEError
from seqvae.io.disk import expanded

STDIN = "-"
"""How the user names standard input."""

_DRAW = 0x5EED
"""Seed of the draw of held-out rows: fixed, so that the same file is always split in the same way."""

_BLOCK_ROWS = 1 << 12


class Row(NamedTuple):
    """One row of a source: its number from 1 (the line; in a Parquet file the row), its text and its label."""

    number: int
    text: str
    label: str | None = None
    joined: bool = False
    """Whether line breaks inside the text became spaces: a sentence is one line."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows that follow each other: the same as a list of `Row`, at a fraction of the time and memory."""

    numbers: Int64[np.ndarray, " rows"]
    texts: list[str]
    labels: list[str | None] | None = None
    joined: Bool[np.ndarray, " rows"] | None = None

    def rows(self) -> Iterator[Row]:
        labels = [None] * len(self.texts) if self.labels is None else self.labels
        joined = [False] * len(self.texts) if self.joined is None else self.joined.tolist()
        return map(Row, self.numbers.tolist(), self.texts, labels, joined)

    def where(self, mask: Bool[np.ndarray, " rows"]) -> "Block":
        """The rows at which ``mask`` is True."""
        if mask.all():
            return self
        return Block(
            numbers=self.numbers[mask],
            texts=list(compress(self.texts, mask)),
            labels=None if self.labels is None else list(compress(self.labels, mask)),
            joined=None if self.joined is None else self.joined[mask],
        )

    @cached_property
    def filled(self) -> Bool[np.ndarray, " rows"]:
        """Which rows are sentences: not blank."""
        return np.fromiter((not is_blank(text) for text in self.texts), bool, len(self.texts))


def gathered(rows: Iterable[Row]) -> Iterator[Block]:
    """``rows`` in blocks. Those before the one at which reading fails come first."""
    gathering: list[Row] = []
    characters, failure = 0, None
    iterator = iter(rows)
    while failure is None:
        try:
            row = next(iterator, None)
        except SeqVAEError as error:
            row, failure = None, error
        if row is not None:
            gathering.append(row)
            characters += len(row.text)
        if gathering and (row is None or len(gathering) == _BLOCK_ROWS or characters > BLOCK_BYTES):
            yield _block(gathering)
            gathering, characters = [], 0
        if row is None:
            break
    if failure is not None:
        raise failure


def _block(rows: list[Row]) -> Block:
    numbers, texts, labels, joined = zip(*rows, strict=True)
    return Block(
        numbers=np.array(numbers, np.int64), texts=list(texts), labels=list(labels), joined=np.array(joined, bool)
    )


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Rows of text that can be read again and again, or the share of them that `split` left in or took out.

    ``name`` is how the user wrote it. Nothing is opened before the rows or `identity` are asked for.
    """

    name: str
    part: Literal["all", "kept", "held_out"] = "all"
    fraction: float = 0.0
    """Fraction of the rows that are held out, where ``part`` is not "all"."""

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Whether each row has a label."""

    @property
    def label_name(self) -> str:
        """Where an error about a label points."""
        return self.name

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, if any, that the rows are read from each time."""
        return ()

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """What decides the rows of this source, whatever its path."""

    @abstractmethod
    def _all_rows(self) -> Iterator[Row]:
        """Every row, blank ones too, whatever ``part`` says."""

    def _all_blocks(self) -> Iterator[Block]:
        """The same in blocks: a source that can read many at once has a quicker way."""
        return gathered(self._all_rows())

    def split(self, fraction: float) -> tuple[Self, Self]:
        """(kept, held out): two sources that share out the rows of this one, always in the same way."""
        return replace(self, part="kept", fraction=fraction), replace(self, part="held_out", fraction=fraction)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, text) of every row, as `rows` gives them."""
        return ((row.number, row.text) for row in self.rows())

    def texts(self) -> Iterator[str]:
        """The text of every row, as `rows` gives them."""
        return chain.from_iterable(block.texts for block in self.blocks())

    def rows(self) -> Iterator[Row]:
        """Every row, blank ones too (those of a split source belong to the kept part).

        Raises E302 where there is no sentence, E307 where a single one should be shared out, E328 where there are more
        than were counted, and what reading raises.
        """
        return chain.from_iterable(block.rows() for block in self.blocks())

    def blocks(self) -> Iterator[Block]:
        """The same rows, many at a time; those before one that cannot be read come before its error."""
        held_out = None if self.part == "all" else self._held_out
        count = 0
        for block in self._all_blocks():
            begin, count = count, count + int(np.count_nonzero(block.filled))
            if held_out is None:
                yield block
                continue
            if count > len(held_out):
                raise changed(self.name)
            chosen = np.full(len(block.texts), self.part == "kept")
            chosen[block.filled] = held_out[begin:count] == (self.part == "held_out")
            yield block.where(chosen)
        if count == 0:
            raise SeqVAEError("E302", "the file has no sentences", where=Location(self.name))

    def require_unchanged(self) -> None:
        """Raises E328 where a file has been written to since `identity` was first asked for."""
        for path, seen in self._first_seen.items():
            if seen != _size_and_time(path):
                raise changed(str(path))

    @cached_property
    def _first_seen(self) -> dict[Path, object]:
        """Size and time of every file, before anything of it was read."""
        return {path: _size_and_time(path) for path in self.paths}

    @cached_property
    def _held_out(self) -> np.ndarray:
        """Mask over the sentences: True where held out. Both parts get at least one."""
        count = sum(int(np.count_nonzero(block.filled)) for block in self._all_blocks())
        if count == 1:
            raise SeqVAEError(
                "E307",
                "the file has one sentence: none can be held out for validation",
                where=Location(self.name),
                hint="give `data.valid` a file of its own",
            )
        mask = np.zeros(count, dtype=bool)
        if count:
            held = min(max(1, round(self.fraction * count)), count - 1)
            mask[np.random.default_rng(_DRAW).choice(count, held, replace=False)] = True
        return mask


@dataclass(frozen=True, kw_only=True)
class FileSource(Source):
    """A source that is a file on disk."""

    path: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of the bytes of the file as they lie on disk, read once."""
        return _sha256(self.path, self.name)

    def identity(self) -> dict[str, object]:
        _ = self._first_seen  # before the file is read for its hash
        return {"sha256": self.sha256, "part": self.part, "fraction": self.fraction}


@dataclass(frozen=True, kw_only=True)
class TextSource(FileSource):
    """A text file, plain or gzip, one sentence a line; line n of the file ``labels`` is the label of its line n.

    Raises when read: E301 missing, E302 without any sentence, E303 not UTF-8, E304 a NUL byte, E305 not a file,
    E306 damaged gzip, E324 more or fewer labels than lines, E326 a sentence without a label.
    """

    labels: Path | None = None

    @classmethod
    def of(cls, path: Path | str, labels: bool | str = False) -> "TextSource":
        """The whole file at ``path``, relative to the working directory; ``~`` is the home folder.

        With ``labels`` the label file lies beside it: ``train.labels`` beside ``train.txt`` or ``train.txt.gz``, and
        ``train.topic.labels`` where ``labels`` is ``"topic"``.
        """
        file = expanded(path)
        stem = file.name.removesuffix(".gz").removesuffix(".txt")
        ending = f".{labels}.labels" if isinstance(labels, str) else ".labels"
        return cls(path=file, name=str(path), labels=file.parent / (stem + ending) if labels else None)

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,) if self.labels is None else (self.path, self.labels)

    @property
    def label_name(self) -> str:
        return self.name if self.labels is None else str(self.labels)

    def kinds_of_labels(self) -> list[str]:
        """What ``labels`` of `of` can be beside true: the words of the label files that lie beside the text."""
        stem = self.path.name.removesuffix(".gz").removesuffix(".txt")
        beside = self.path.parent.glob(f"{glob.escape(stem)}.*.labels")
        return sorted(path.name.removeprefix(f"{stem}.").removesuffix(".labels") for path in beside if path.is_file())

    @cached_property
    def _labels_sha256(self) -> str:
        if not self.labels.exists():
            words = ", ".join(self.kinds_of_labels())
            hint = (
                f"`data.labels` can be: {words}" if words else "write a label a line into it, or train without labels"
            )
            what = f"there is no file with the labels of {self.name}"
            raise SeqVAEError("E301", what, where=Location(self.labels), hint=hint)
        return _sha256(self.labels, str(self.labels))

    def identity(self) -> dict[str, object]:
        return super().identity() | ({} if self.labels is None else {"labels": self._labels_sha256})

    def _all_rows(self) -> Iterator[Row]:
        if self.labels is None:
            yield from (Row(number, text) for number, text in self._lines())
            return
        text_count = label_count = 0
        for line, label in zip_longest(self._lines(), file_lines(self.labels, str(self.labels))):
            text_count += line is not None
            label_count += label is not None
            if line is None or label is None:
                continue
            name = label[1].strip()
            if not name and not is_blank(line[1]):
                raise missing_label(Location(self.labels, label[0]))
            yield Row(*line, name)
        if text_count != label_count:
            what = f"{label_count:,} labels for {text_count:,} lines of {self.name}"
            hint = "line n of the label file is the label of line n of the text, blank lines too"
            raise SeqVAEError("E324", what, where=Location(self.labels), hint=hint)

    def _lines(self) -> Iterator[tuple[int, str]]:
        return file_lines(self.path, self.name)

    def _all_blocks(self) -> Iterator[Block]:
        if self.labels is not None:
            return super()._all_blocks()
        blocks = line_blocks(self.path, self.name)
        return (
            Block(numbers=np.arange(first, first + len(texts), dtype=np.int64), texts=texts) for first, texts in blocks
        )


def changed(name: str) -> SeqVAEError:
    """What to raise for a text that was written to while it was read: its parts would not belong together."""
    hint = "wait until nothing writes to it, or copy it, then run again"
    return SeqVAEError("E328", "the text changed while it was read", where=Location(name), hint=hint)


def missing_label(where: Location) -> SeqVAEError:
    """What to raise for a sentence that has no label where every one should."""
    hint = "give every sentence a label, or train without labels"
    return SeqVAEError("E326", "a sentence has no label", where=where, hint=hint)


def open_source(
    path_or_name: Path | str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    labels: bool | str = False,
    split: str = "train",
) -> Source:
    """The source that a path or name means. Nothing is read yet but standard input.

    A file that ends in .jsonl, .json, .csv, .tsv or .parquet (with .gz behind it too, but for Parquet) is a table;
    ``hub:OWNER/NAME`` a dataset of the Hugging Face Hub, of which ``split`` is read unless the name says which; ``-``
    standard input; anything else lines of text. ``text_column`` (default: "text") and ``label_column`` are for tables,
    ``labels`` for text files (see `TextSource.of`); what is for the other kind is refused with E223.
    """
    from seqvae.data import hub, tables

    name = str(path_or_name)
    if has_columns(name):
        if labels:
            instead = "use data.label_column instead"
            raise misplaced("data.labels", "a label file lies beside a text file", name, instead)
        if name.startswith(hub.PREFIX):
            return hub.open_dataset(name, text_column=text_column or "text", label_column=label_column, split=split)
        return tables.TableSource.of(name, text_column=text_column or "text", label_column=label_column)
    if text_column is not None:
        hint = "leave it away, or name a table: its name ends in .jsonl, .csv, .tsv or .parquet"
        raise misplaced("data.text_column", "a text file has no columns", name, hint)
    if label_column is not None:
        raise misplaced("data.label_column", "a text file has no columns", name, "use data.labels instead")
    if name == STDIN:
        if labels:
            raise misplaced("data.labels", "nothing lies beside standard input", name, "use a file instead")
        return TextSource(path=spooled(sys.stdin.buffer), name="standard input")
    return TextSource.of(path_or_name, labels)


def has_columns(name: str) -> bool:
    """Whether a path or name means a table: a file of such a kind, or a dataset of the Hub."""
    from seqvae.data import hub, tables

    return name.startswith(hub.PREFIX) or tables.kind(name) is not None


def misplaced(setting: str, why: str, name: str, hint: str) -> SeqVAEError:
    """What to raise for a setting that is for another kind of text than the one of this name."""
    return SeqVAEError("E223", f"`{setting}` does not go with {name}: {why}", hint=hint)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: no file can have this name
        return None
    return found.st_size, found.st_mtime_ns


def _sha256(path: Path, name: str) -> str:
    with reading(path, name), open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

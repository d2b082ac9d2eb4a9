"""Text files read line by line, exactly: the same lines that a label file beside them has.

Only ``\\n`` ends a line and a ``\\r`` before it is dropped, so a lone ``\\r``, U+2028 or a form feed inside a sentence
never shifts the line numbers. Reading is streamed; ``.gz`` is recognised by its first bytes, not by its name.
"""

import glob
import gzip
import hashlib
import io
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

import numpy as np

from seqvae.data.cache import spooled
from seqvae.errors import Location, SeqVAEError

STDIN = "-"
"""How the user names standard input."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_DRAW = 0x5EED
"""Seed of the draw of held-out rows: fixed, so that the same file is always split in the same way."""


class Row(NamedTuple):
    """One row of a source: its number from 1 (the line; in a Parquet file the row), its text and its label."""

    number: int
    text: str
    label: str | None = None
    joined: bool = False
    """Whether line breaks inside the text became spaces: a sentence is one line."""


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

    def split(self, fraction: float) -> tuple[Self, Self]:
        """(kept, held out): two sources that share out the rows of this one, always in the same way."""
        return replace(self, part="kept", fraction=fraction), replace(self, part="held_out", fraction=fraction)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, text) of every row, as `rows` gives them."""
        return ((row.number, row.text) for row in self.rows())

    def rows(self) -> Iterator[Row]:
        """Every row, blank ones too (those of a split source belong to the kept part).

        Raises E302 where there is no sentence, E307 where a single one should be shared out, E328 where there are more
        than were counted, and what reading raises.
        """
        held_out = None if self.part == "all" else self._held_out
        count = 0
        for row in self._all_rows():
            if is_blank(row.text):
                if self.part != "held_out":
                    yield row
                continue
            if held_out is not None and count == len(held_out):
                raise changed(self.name)
            if held_out is None or held_out[count] == (self.part == "held_out"):
                yield row
            count += 1
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
        count = sum(not is_blank(row.text) for row in self._all_rows())
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
        file = Path(path).expanduser()
        stem = file.name.removesuffix(".gz").removesuffix(".txt")
        ending = f".{labels}.labels" if isinstance(labels, str) else ".labels"
        return cls(path=file, name=str(path), labels=file.with_name(stem + ending) if labels else None)

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,) if self.labels is None else (self.path, self.labels)

    @property
    def label_name(self) -> str:
        return self.name if self.labels is None else str(self.labels)

    @cached_property
    def _labels_sha256(self) -> str:
        if not self.labels.exists():
            stem = self.path.name.removesuffix(".gz").removesuffix(".txt")
            others = sorted(path.name for path in self.labels.parent.glob(f"{glob.escape(stem)}.*.labels"))
            words = ", ".join(name.removeprefix(f"{stem}.").removesuffix(".labels") for name in others)
            hint = (
                f"`data.labels` (of a verb, `--labels`) can be: {words}"
                if words
                else "write a label a line into it, or train without labels"
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
    ``labels`` for text files (see `TextSource.of`); the wrong one of the two is refused with E223.
    """
    from seqvae.data import hub, tables

    name = str(path_or_name)
    if name.startswith(hub.PREFIX) or tables.kind(name):
        if labels:
            raise _misplaced("data.labels", "a label file lies beside a text file", name, "data.label_column")
        if name.startswith(hub.PREFIX):
            return hub.open_dataset(name, text_column=text_column or "text", label_column=label_column, split=split)
        return tables.TableSource.of(name, text_column=text_column or "text", label_column=label_column)
    if label_column is not None:
        raise _misplaced("data.label_column", "a text file has no columns", name, "data.labels")
    if name == STDIN:
        if labels:
            raise _misplaced("data.labels", "nothing lies beside standard input", name, "a file")
        return TextSource(path=spooled(sys.stdin.buffer), name="standard input")
    return TextSource.of(path_or_name, labels)


def _misplaced(setting: str, why: str, name: str, instead: str) -> SeqVAEError:
    return SeqVAEError("E223", f"`{setting}` does not go with {name}: {why}", hint=f"use {instead} instead")


def file_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """`text_lines` of a file that the user calls ``name``; raises E301 and E305 besides."""
    with reading(path, name), _open(path) as file:
        yield from text_lines(file, name)


def raw_lines(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, its bytes and line end) of every line of a file, plain or gzip; E301, E305 and E306."""
    with reading(path, name), _open(path) as file:
        yield from _unpacked_lines(file, name)


def text_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line of a binary stream, plain or gzip; blank lines too.

    ``name`` is what errors call the stream. Raises E303 for what is not UTF-8, E304 for a NUL byte, both with the
    line, and E306 for damaged gzip. Lines come as soon as they are there, so that a pipe is read as it grows.
    """
    return ((number, _decode(name, number, raw)) for number, raw in _unpacked_lines(stream, name))


def _unpacked_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    packed = isinstance(stream, io.BufferedReader) and stream.peek(2)[:2] == _GZIP
    try:
        yield from enumerate(gzip.GzipFile(fileobj=stream) if packed else stream, 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        what = f"the gzip file is damaged: {error}"
        raise SeqVAEError("E306", what, where=Location(name), hint="copy or download it again") from None


def _decode(name: str, number: int, raw: bytes) -> str:
    dropped = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
    body = raw[dropped:].removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        encoding = "utf-16" if raw.startswith(_UTF16) else "latin1"
        raise SeqVAEError(
            "E303",
            f"not UTF-8: byte 0x{body[error.start]:02X} (the column counts bytes)",
            where=Location(name, number, dropped + error.start + 1),
            hint=f"convert the file, for example `iconv -f {encoding} -t utf-8 FILE > NEW_FILE`",
        ) from None
    if "\0" in text:
        where = Location(name, number, dropped + body.index(b"\0") + 1)
        raise SeqVAEError("E304", "a NUL byte: this is no text in UTF-8", where=where, hint="save it as plain text")
    return text


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _sha256(path: Path, name: str) -> str:
    with reading(path, name), _open(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_blank(text: str) -> bool:
    """Whether a line has nothing but white space: such a line is no sentence."""
    return not text or text.isspace()


def _open(path: Path) -> BinaryIO:
    if path.exists() and not path.is_file():
        # A pipe could be read only once, and a corpus is read several times.
        raise SeqVAEError(
            "E305",
            "a folder, not a file" if path.is_dir() else "not a regular file",
            where=Location(path),
            hint="name a text file, plain or gzip",
        )
    return path.open("rb")


@contextmanager
def reading(path: Path, name: str) -> Iterator[None]:
    """Turns what can go wrong with a file into errors that name it as the user did."""
    try:
        yield
    except FileNotFoundError:
        raise SeqVAEError("E301", "no such file", where=Location(name), hint=_nearest(path)) from None
    except OSError as error:
        raise SeqVAEError("E305", f"cannot be read: {error.strerror or error}", where=Location(name)) from None


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; relative paths start at {Path.cwd()}"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else f"relative paths start at {Path.cwd()}"

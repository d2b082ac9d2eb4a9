"""Text files read line by line, exactly: the same lines that a label file beside them has.

Only ``\\n`` ends a line and a ``\\r`` before it is dropped, so a lone ``\\r``, U+2028 or a form feed inside a sentence
never shifts the line numbers. Reading is streamed; ``.gz`` is recognised by its first bytes, not by its name.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from seqvae.errors import Location, SeqVAEError

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"
_DRAW = 0x5EED
"""Seed of the draw of held-out rows: fixed, so that the same file is always split in the same way."""


@dataclass(frozen=True)
class TextSource:
    """One text file, or the share of its rows that `split` left in it or took out of it.

    ``name`` is how the user wrote it. Nothing is opened before `lines` or `sha256` is asked for.
    """

    path: Path
    name: str
    part: Literal["all", "kept", "held_out"] = "all"
    fraction: float = 0.0
    """Fraction of the rows that are held out, where ``part`` is not "all"."""

    @classmethod
    def of(cls, path: Path | str) -> "TextSource":
        """The whole file at ``path``, relative to the working directory; ``~`` is the home folder."""
        return cls(Path(path).expanduser(), str(path))

    def split(self, fraction: float) -> tuple["TextSource", "TextSource"]:
        """(kept, held out): two sources that share out the rows of this file, always in the same way."""
        return replace(self, part="kept", fraction=fraction), replace(self, part="held_out", fraction=fraction)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(line number from 1, text) of every line, blank ones too (those of a split file belong to the kept part).

        Raises E301 to E306: missing, without any sentence, not UTF-8, a NUL byte, not a file, damaged gzip.
        """
        held_out = None if self.part == "all" else self._held_out_rows()
        row = 0
        for number, text in self._all_lines():
            if is_blank(text):
                if self.part != "held_out":
                    yield number, text
                continue
            if held_out is None or held_out[row] == (self.part == "held_out"):
                yield number, text
            row += 1
        if row == 0:
            raise SeqVAEError("E302", "the file has no sentences", where=Location(self.name))

    @cached_property
    def sha256(self) -> str:
        """Hex sha256 of the bytes of the file as they lie on disk, read once."""
        with _reading(self), _open(self.path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def identity(self) -> dict[str, object]:
        """What decides the lines of this source, whatever its path."""
        return {"sha256": self.sha256, "part": self.part, "fraction": self.fraction}

    def _held_out_rows(self) -> np.ndarray:
        """Mask over the rows: True where held out. Both parts get at least one row."""
        rows = sum(not is_blank(text) for _, text in self._all_lines())
        if rows == 1:
            raise SeqVAEError(
                "E307",
                "the file has one sentence: none can be held out for validation",
                where=Location(self.name),
                hint="give `data.valid` a file of its own",
            )
        mask = np.zeros(rows, dtype=bool)
        if rows:
            count = min(max(1, round(self.fraction * rows)), rows - 1)
            mask[np.random.default_rng(_DRAW).choice(rows, count, replace=False)] = True
        return mask

    def _all_lines(self) -> Iterator[tuple[int, str]]:
        with _reading(self), _open(self.path) as file:
            packed = file.peek(2)[:2] == _GZIP
            stream = gzip.GzipFile(fileobj=file) if packed else file
            for number, raw in enumerate(stream, 1):
                yield number, self._decode(number, raw)

    def _decode(self, number: int, raw: bytes) -> str:
        dropped = len(_BOM) if number == 1 and raw.startswith(_BOM) else 0
        body = raw[dropped:].removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            encoding = "utf-16" if raw.startswith(_UTF16) else "latin1"
            raise SeqVAEError(
                "E303",
                f"not UTF-8: byte 0x{body[error.start]:02X} (the column counts bytes)",
                where=Location(self.name, number, dropped + error.start + 1),
                hint=f"convert the file, for example `iconv -f {encoding} -t utf-8 FILE > NEW_FILE`",
            ) from None
        if "\0" in text:
            where = Location(self.name, number, dropped + body.index(b"\0") + 1)
            raise SeqVAEError("E304", "a NUL byte: this is no text in UTF-8", where=where, hint="save it as plain text")
        return text


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
def _reading(source: TextSource) -> Iterator[None]:
    """Turns what can go wrong with a file into errors that name it."""
    try:
        yield
    except FileNotFoundError:
        raise SeqVAEError("E301", "no such file", where=Location(source.name), hint=_nearest(source.path)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SeqVAEError(
            "E306", f"the gzip file is damaged: {error}", where=Location(source.name), hint="copy or download it again"
        ) from None
    except OSError as error:
        raise SeqVAEError("E305", f"cannot be read: {error.strerror or error}", where=Location(source.name)) from None


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; relative paths start at {Path.cwd()}"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else f"relative paths start at {Path.cwd()}"

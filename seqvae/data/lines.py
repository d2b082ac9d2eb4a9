"""Text files read line by line, exactly: the same lines that a label file beside them has.

Only ``\\n`` ends a line and a ``\\r`` before it is dropped, so a lone ``\\r``, U+2028 or a form feed inside a sentence
never shifts the line numbers. Reading is streamed; ``.gz`` is recognised by its first bytes, not by its name.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from seqvae.errors import Location, SeqVAEError

BLOCK_BYTES = 1 << 16
"""About how much text is read, and given to a tokenizer, at a time."""

_END = re.compile(r"\r?\n\Z")
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"


def one_line(text: str) -> str:
    """A text as the line of a file that it would be: its own end is dropped, and line ends inside are spaces."""
    return _END.sub("", text).replace("\r\n", " ").replace("\n", " ")


def is_blank(text: str) -> bool:
    """Whether a line has nothing but white space: such a line is no sentence."""
    return not text or text.isspace()


def line_blocks(path: Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a file that the user calls ``name``, many at a time, each time with the number of the first.

    Gives the lines, and raises the errors, that `file_lines` does, which takes ten times as long; lines before a bad
    one come first.
    """
    number = 1
    with reading(path, name), open_regular(path) as file:
        for raw in _unpacked_blocks(file, name):
            texts = _texts(raw.removeprefix(_BOM) if number == 1 else raw)
            if texts is None:
                texts = []
                try:
                    # Line by line, so that the error names its place.
                    for line in io.BytesIO(raw):
                        texts.append(_decode(name, number + len(texts), line))
                except SeqVAEError:
                    yield number, texts
                    raise
            yield number, texts
            number += len(texts)


def file_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """`text_lines` of a file that the user calls ``name``; raises E301 and E305 besides."""
    with reading(path, name), open_regular(path) as file:
        yield from text_lines(file, name)


def raw_lines(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, its bytes and line end) of every line of a file, plain or gzip; E301, E305 and E306."""
    with reading(path, name), open_regular(path) as file:
        yield from _unpacked_lines(file, name)


def text_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line of a binary stream, plain or gzip; blank lines too.

    ``name`` is what errors call the stream. Raises E303 for what is not UTF-8, E304 for a NUL byte, both with the
    line, and E306 for damaged gzip. Lines come as soon as they are there, so that a pipe is read as it grows.
    """
    return ((number, _decode(name, number, raw)) for number, raw in _unpacked_lines(stream, name))


def open_regular(path: Path) -> BinaryIO:
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
    if not can_be_named(path):
        raise SeqVAEError("E305", "no file can have this name", where=Location(name), hint="name a text file")
    try:
        yield
    except FileNotFoundError:
        raise SeqVAEError("E301", "no such file", where=Location(name), hint=_nearest(path)) from None
    except OSError as error:
        raise SeqVAEError("E305", f"cannot be read: {error.strerror or error}", where=Location(name)) from None


def can_be_named(path: Path) -> bool:
    """Whether there can be a file of that name: half a character, or a NUL, is in none."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _unpacked_lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    with _unpacking(name):
        yield from enumerate(_unpacked(stream), 1)


def _unpacked_blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of a stream in pieces that end where a line ends."""
    with _unpacking(name):
        unpacked = _unpacked(stream)
        while block := unpacked.read(BLOCK_BYTES):
            yield block if block.endswith(b"\n") else block + unpacked.readline()


def _unpacked(stream: BinaryIO) -> BinaryIO:
    packed = isinstance(stream, io.BufferedReader) and stream.peek(2)[:2] == _GZIP
    return gzip.GzipFile(fileobj=stream) if packed else stream


@contextmanager
def _unpacking(name: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        what = f"the gzip file is damaged: {error}"
        raise SeqVAEError("E306", what, where=Location(name), hint="copy or download it again") from None


def _texts(raw: bytes) -> list[str] | None:
    """The lines of whole lines at once; None where they are no plain text."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    texts = text.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in texts] if "\r" in text else texts


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


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; relative paths start at {Path.cwd()}"
    names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else f"relative paths start at {Path.cwd()}"

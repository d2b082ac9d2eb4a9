"""A tolerant reading of a source: bad lines are counted and remembered by number instead of ending it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, NamedTuple

from seqvae.data.lines import is_blank, raw_lines
from seqvae.data.sources import Block, Source, TextSource, gathered
from seqvae.errors import SeqVAEError

SHOWN = 5
"""Lines of each kind that are named."""

_BOM = b"\xef\xbb\xbf"
_SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


class Meaning(NamedTuple):
    """What is told of odd lines, behind their number: what they are, how bad that is, and the next step."""

    text: str
    status: Literal["ok", "warning", "failed"] = "ok"
    hint: str | None = None


KINDS: dict[str, dict[str, Meaning]] = {
    "encoding": {
        "utf8": Meaning("not in UTF-8", "failed", "convert: `iconv -f latin1 -t utf-8 FILE > NEW_FILE`"),
        "nul": Meaning("with a NUL byte", "failed", "save it as plain text"),
        "bom": Meaning("with a byte order mark, which is dropped"),
    },
    "line ends": {
        "crlf": Meaning("ending in CRLF, read as LF"),
        "cr": Meaning(
            "with a lone CR inside, which does not end a line",
            "warning",
            "if it should end a line: `tr '\\r' '\\n' < FILE > NEW_FILE`",
        ),
        "separator": Meaning(
            "with U+2028 or the like inside, which does not end a line",
            "warning",
            "replace it by a space or by a line end, whichever is meant",
        ),
        "joined": Meaning("with line breaks inside, read as spaces"),
    },
    "blank lines": {"blank": Meaning("blank, dropped", "warning", "take them out, if they are not meant")},
}
"""What can be odd about a line, by what it is about."""

FINE = {"encoding": "UTF-8", "line ends": "only LF", "blank lines": "none"}


@dataclass
class Odd:
    """Lines of one kind: how many, and the numbers of the first."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(number)

    def shown(self) -> tuple[str, ...]:
        """The numbers, as a line to show."""
        more = ", ..." if self.count > len(self.first) else ""
        return (f"line{'s' if self.count > 1 else ''} {', '.join(f'{number:,}' for number in self.first)}{more}",)


class Line(NamedTuple):
    """A row of a source; ``text`` is None where it is blank or cannot be read."""

    number: int
    text: str | None
    label: str | None = None


def lines(source: Source, odd: dict[str, Odd]) -> Iterator[Line]:
    """Every row, in one pass; what is odd is counted in ``odd`` by its kind (for a part of a file: in all of the file).

    A text file is read on past any bad line. In other sources the first bad row ends the reading, by the error that it
    raises in training too. Raises E302 where there is no sentence, and what is wrong with a file as a whole.
    """
    if isinstance(source, TextSource):
        values = {each.name: getattr(source, each.name) for each in fields(source)}
        source = _Tolerant(**values, odd=odd)
    try:
        for row in source.rows():
            if row.joined:
                odd.setdefault("joined", Odd()).add(row.number)
            text = row.text if isinstance(source, _Tolerant) else _looked_at(row.number, row.text, odd)
            yield Line(row.number, None if is_blank(row.text) else text, row.label)
    except SeqVAEError as error:
        if error.code != "E302" or not odd.keys() & {"utf8", "nul"}:
            raise


def digest(text: str) -> int:
    """64 bits that tell texts apart: two of a million different ones agree once in ten million files."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, kw_only=True)
class _Tolerant(TextSource):
    """A text file whose bad lines are read as blank ones."""

    odd: dict[str, Odd]

    def _all_blocks(self) -> Iterator[Block]:
        return gathered(self._all_rows())

    def _lines(self) -> Iterator[tuple[int, str]]:
        self.odd.clear()  # a part of a file is read twice
        for number, raw in raw_lines(self.path, self.name):
            body = raw.removesuffix(b"\n")
            if number == 1 and raw.startswith(_BOM):
                self._count("bom", number)
                body = body.removeprefix(_BOM)
            if body.endswith(b"\r"):
                self._count("crlf", number)
                body = body[:-1]
            try:
                text = body.decode("utf-8")
            except UnicodeDecodeError:
                self._count("utf8", number)
                yield number, ""
                continue
            if "\0" in text:
                self._count("nul", number)
                yield number, ""
            else:
                yield number, _looked_at(number, text, self.odd) or ""

    def _count(self, kind: str, number: int) -> None:
        self.odd.setdefault(kind, Odd()).add(number)


def _looked_at(number: int, text: str, odd: dict[str, Odd]) -> str | None:
    """The text of a sentence, None where it is blank; what is odd about it is counted."""
    if is_blank(text):
        odd.setdefault("blank", Odd()).add(number)
        return None
    if "\r" in text:
        odd.setdefault("cr", Odd()).add(number)
    if not text.isprintable() and any(separator in text for separator in _SEPARATORS):
        odd.setdefault("separator", Odd()).add(number)
    return text

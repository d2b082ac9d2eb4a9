"""The one exception that a user sees, and how it is shown.

Codes are ``E`` and three digits; the first digit is the exit code of the command line: 2 usage or config, 3 data,
4 checkpoint or model, 5 diverged, 6 memory, 7 storage.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXCERPT_COLUMNS = 100
"""Longer lines are shown in part, around the place."""


@dataclass(frozen=True)
class Location:
    """A place in a file or an argument: ``file``, and where known the 1-based ``line`` and ``column``.

    ``text`` is the line or the argument itself, and ``width`` the number of characters that the place covers.
    """

    file: str | Path
    line: int | None = None
    column: int | None = None
    text: str | None = None
    width: int = 1

    def __str__(self) -> str:
        parts = (self.file,) if self.line is None else (self.file, self.line, self.column)
        return ":".join(str(part) for part in parts if part is not None)


class SeqVAEError(Exception):
    """A mistake that the user can mend: a code, what is wrong, where, and the next step.

    ``also`` holds further mistakes found on the way, a line each.

    >>> error = SeqVAEError("E204", "`train.stpes` is not a setting", hint="did you mean `steps`?")
    >>> error.exit_code
    2
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: Location | str | None = None,
        hint: str | None = None,
        also: Sequence[str] = (),
    ):
        super().__init__(what)
        self.code, self.what, self.where, self.hint, self.also = code, what, where, hint, tuple(also)

    @property
    def exit_code(self) -> int:
        return int(self.code[1])

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple:
        """Travels between processes: keyword-only arguments are lost by the inherited way."""
        return _rebuild, (self.code, self.what, self.where, self.hint, self.also)

    def render(self) -> str:
        """The message as plain text, readable without colour: code, place, excerpt with a caret, help."""
        lines = [f"error[{self.code}]: {_visible(self.what)}"]
        if self.where is not None:
            lines.append(f"  --> {_visible(str(self.where))}")
        if isinstance(self.where, Location) and self.where.text is not None:
            lines += _excerpt(self.where)
        if self.hint:
            lines.append(f"help: {_visible(self.hint)}")
        if self.also:
            lines.append(f"and {len(self.also)} more:")
            lines += [f"  {_visible(line)}" for line in self.also]
        return "\n".join(lines)


def require_choice(name: str, given: object, choices: Sequence[str]) -> None:
    """Raises E287 where an argument of a Python function is none of the ``choices``."""
    if given not in choices:
        raise SeqVAEError("E287", f"`{name}` cannot be {given!r}", hint=f"choose from: {', '.join(choices)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of the machine, or of its device, was used up."""
    torch = sys.modules.get("torch")  # where nobody imported it, it cannot have failed
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    # Elsewhere PyTorch has no kind of error for it: the CPU's allocator on Linux and on Windows, MPS, cuBLAS and cuDNN.
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")


def _rebuild(code: str, what: str, where: Location | str | None, hint: str | None, also: Sequence[str]) -> SeqVAEError:
    return SeqVAEError(code, what, where=where, hint=hint, also=also)


def _excerpt(where: Location) -> list[str]:
    """The line with a caret under each character of the place, a window of it where it is long."""
    text, start = where.text or "", (where.column or 1) - 1
    first = max(0, start - EXCERPT_COLUMNS // 2) if len(text) > EXCERPT_COLUMNS else 0
    shown = text[first : first + EXCERPT_COLUMNS]
    before, marked = shown[: start - first], shown[start - first : start - first + where.width]
    number = "" if where.line is None else str(where.line)
    gutter = " " * len(number)
    caret = " " * _cells(before) + "^" * max(1, _cells(marked))
    lead = "" if where.line is None else " "
    return [f" {gutter}{lead}|", f" {number}{lead}| {_one_line(shown)}", f" {gutter}{lead}| {caret}"]


def _visible(text: str) -> str:
    """``text`` with control characters written as escapes, so that a file cannot steer the terminal."""
    return "".join(char if char == "\n" or not _hidden(char) else repr(char)[1:-1] for char in text)


def _one_line(text: str) -> str:
    """``text`` on one line in which every character keeps its width."""
    return "".join(" " if char == "\t" else "\N{REPLACEMENT CHARACTER}" if _hidden(char) else char for char in text)


def _hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _cells(text: str) -> int:
    """Columns that ``text`` takes in a terminal: East Asian wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me") for char in text)

"""The one exception that a user sees, and how it is shown.

Codes are ``E`` and three digits; the first digit is the exit code of the command line: 2 usage or config, 3 data,
4 checkpoint or model, 5 diverged, 6 memory, 7 storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A place in a file or argument: ``file``, and where known the 1-based ``line`` and ``column``, and the line's text."""

    file: str | Path
    line: int | None = None
    column: int | None = None
    text: str | None = None
    width: int = 1

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class SeqVAEError(Exception):
    """A mistake that the user can mend: a code, what is wrong, where, and the next step.

    >>> error = SeqVAEError("E204", "`train.stpes` is not a setting", hint="did you mean `steps`?")
    >>> error.exit_code
    2
    """

    def __init__(self, code: str, what: str, *, where: Location | str | None = None, hint: str | None = None):
        super().__init__(what)
        self.code, self.what, self.where, self.hint = code, what, where, hint

    @property
    def exit_code(self) -> int:
        return int(self.code[1])

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """The message as plain text, readable without colour: code, place, excerpt with a caret, help."""
        lines = [f"error[{self.code}]: {self.what}"]
        if self.where is not None:
            lines.append(f"  --> {self.where}")
        if isinstance(self.where, Location) and self.where.text is not None:
            lines += self._excerpt(self.where)
        if self.hint:
            lines.append(f"help: {self.hint}")
        return "\n".join(lines)

    @staticmethod
    def _excerpt(where: Location) -> list[str]:
        number = "" if where.line is None else str(where.line)
        gutter = " " * len(number)
        caret = " " * ((where.column or 1) - 1) + "^" * max(1, where.width)
        return [f" {gutter} |", f" {number} | {where.text}", f" {gutter} | {caret}"]

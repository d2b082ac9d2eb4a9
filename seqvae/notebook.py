"""How results look in a notebook: small tables in the notebook's own colours, light or dark, every text escaped."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

MOST_ROWS = 100
"""More are counted, not shown."""

_NUMBER = re.compile(r"[+\-−]?[\d.,]+%?( ± [\d.,]+)?")
_TABLE = "border-collapse: collapse; color: inherit; font: inherit; margin: 0.4em 0"
_CELL = "padding: 0.15em 0.9em 0.15em 0; vertical-align: top; text-align: "


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under their columns; floats are shown to four digits."""

    title: str = ""
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def html(*parts: "str | Table") -> str:
    """A piece of HTML, texts as paragraphs and tables as tables: it names no colour, and needs no style sheet."""
    shown = (_table(part) if isinstance(part, Table) else _paragraph(part) for part in parts if part)
    return f"<div>{''.join(shown)}</div>"


def _paragraph(text: str) -> str:
    return f'<p style="margin: 0.4em 0">{escape(text)}</p>'


def _table(table: Table) -> str:
    shown = [[_text(cell) for cell in row] for row in table.rows[:MOST_ROWS]]
    numeric = [all(_NUMBER.fullmatch(row[i]) for row in shown if row[i]) for i in range(len(table.columns))]
    sides = ["right; font-variant-numeric: tabular-nums" if each and shown else "left" for each in numeric]
    head = _row("th", table.columns, sides) if any(table.columns) else ""
    body = "".join(_row("td", row, sides) for row in shown)
    left = len(table.rows) - len(shown)
    more = _paragraph(f"and {left:,} more") if left > 0 else ""
    title = _paragraph(table.title) if table.title else ""
    return f'{title}<table style="{_TABLE}"><thead>{head}</thead><tbody>{body}</tbody></table>{more}'


def _row(tag: str, cells: Iterable[str], sides: Iterable[str]) -> str:
    made = (f'<{tag} style="{_CELL}{side}">{escape(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{''.join(made)}</tr>"


def _text(cell: Any) -> str:
    return "" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell)


class Shown(list):
    """A list like any other, which a notebook shows as a table: of texts, of tuples, or of objects with ``columns``."""

    def __init__(self, items: Iterable[Any], *columns: str):
        super().__init__(items)
        self._columns = columns

    def _repr_html_(self) -> str:
        return html(Table(columns=self._columns, rows=[self._cells(item) for item in self]))

    def _cells(self, item: Any) -> Sequence[Any]:
        if isinstance(item, str):
            return (item,)
        return item if isinstance(item, tuple) else [getattr(item, name) for name in self._columns]

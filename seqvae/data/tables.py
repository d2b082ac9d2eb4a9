"""Tables: JSON lines, CSV, TSV and Parquet files, of which one column is the text and another may be the label.

Parquet is read through `datasets`, as a stream. JSON lines and CSV are read here, line by line: guessing types over
blocks of lines turns a text that looks like a date into a date, and a missing text into null (measured with datasets
5.2), and an error could not name its line. Every value is taken as it stands in the file: "NA" is a text.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from seqvae.data.lines import file_lines, reading
from seqvae.data.quiet import quiet_datasets
from seqvae.data.sources import FileSource, Row, missing_label
from seqvae.errors import Location, SeqVAEError
from seqvae.io.disk import expanded, is_surrogate

_KINDS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_LONGEST_FIELD = 2**31 - 1
_BATCH_ROWS = 1000

Record = tuple[int, Mapping[str, object]]
"""A row of a table: its number, and its values by column."""


def kind(name: str) -> str | None:
    """The kind of table that a file name means, by its ending; None for any other file."""
    path = Path(name.lower())
    return _KINDS.get(path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)


@dataclass(frozen=True, kw_only=True)
class TableSource(FileSource):
    """One column of a table, and where ``label_column`` is given a label from another.

    Raises when read what `TextSource` raises, and E320 for a column that is not there, E321 for a text that is null or
    no text, E322 for a damaged table.
    """

    text_column: str
    label_column: str | None = None

    @classmethod
    def of(cls, path: Path | str, *, text_column: str = "text", label_column: str | None = None) -> "TableSource":
        file = expanded(path)
        return cls(path=file, name=str(path), text_column=text_column, label_column=label_column)

    @property
    def labelled(self) -> bool:
        return self.label_column is not None

    def identity(self) -> dict[str, object]:
        table = {"kind": kind(self.path.name), "text_column": self.text_column, "label_column": self.label_column}
        return super().identity() | table

    def _all_rows(self) -> Iterator[Row]:
        columns = [self.text_column, *([] if self.label_column is None else [self.label_column])]
        records = {"jsonl": _json_records, "csv": _csv_records, "tsv": _csv_records, "parquet": _parquet_records}
        for number, values in records[kind(self.path.name)](self.path, self.name, columns):
            yield to_row(self.name, number, values, *columns)


def to_row(
    name: str, number: int, values: Mapping[str, object], text_column: str, label_column: str | None = None
) -> Row:
    """The row that a record means. Line breaks inside a text become spaces; a label may also be a number or a truth."""
    where = Location(name, number)
    text = values[text_column]
    if not isinstance(text, str):
        found = "null" if text is None else f"{str(text)[:40]} ({type(text).__name__}), not text"
        hint = "take such rows out of the table, or write their text as a string"
        raise SeqVAEError("E321", f"the text in column `{text_column}` is {found}", where=where, hint=hint)
    if "\0" in text:
        raise SeqVAEError("E304", "a NUL byte: this is no text in UTF-8", where=where, hint="save it as plain text")
    if not text.isascii() and any(map(is_surrogate, text)):
        raise SeqVAEError(
            "E303", "not UTF-8: half of a surrogate pair", where=where, hint="mend the escape in the file"
        )
    joined = "\n" in text
    if joined:
        text = text.strip("\r\n").replace("\r\n", " ").replace("\n", " ")
    if label_column is None:
        return Row(number, text, joined=joined)
    label = values[label_column]
    if isinstance(label, (list, dict)):
        what = f"the label in column `{label_column}` is {str(label)[:40]} ({type(label).__name__}), not one value"
        raise SeqVAEError("E321", what, where=where, hint="write one label for each row")
    is_missing = label is None or label != label  # NaN
    name = "" if is_missing else str(label).strip()
    if not name and text.strip():
        raise missing_label(where)
    return Row(number, text, name, joined)


def check_columns(columns: Iterable[str], wanted: Iterable[str], where: Location) -> None:
    """Raises E320 for a column that is not there, with those that are."""
    present = [str(column) for column in columns]
    for column in wanted:
        if column not in present:
            close = get_close_matches(column, present, n=1)
            guess = f"did you mean `{close[0]}`? " if close else ""
            hint = f"{guess}the columns are: {', '.join(present) or 'none'}; choose with `data.text_column` or "
            raise SeqVAEError("E320", f"there is no column `{column}`", where=where, hint=hint + "`data.label_column`")


def _json_records(path: Path, name: str, columns: list[str]) -> Iterator[Record]:
    for number, line in file_lines(path, name):
        if not line.strip():
            continue
        where = Location(name, number)
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == 1 and line.lstrip().startswith("["):
                raise _not_lines(where) from None
            column = error.colno if isinstance(error, json.JSONDecodeError) else None
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise _damaged(f"not JSON: {reason}", Location(name, number, column)) from None
        if isinstance(values, list) and number == 1:
            raise _not_lines(where)
        if not isinstance(values, dict):
            raise _damaged("not a JSON object", where)
        if not all(column in values for column in columns):
            check_columns(values, columns, where)
        yield number, values


def _not_lines(where: Location) -> SeqVAEError:
    hint = "write one object a line: `jq -c '.[]' FILE > FILE.jsonl`"
    return SeqVAEError("E322", "the table is damaged: one JSON list, not JSON lines", where=where, hint=hint)


def _csv_records(path: Path, name: str, columns: list[str]) -> Iterator[Record]:
    """RFC 4180 for .csv; in .tsv a quote is a character like any other and a row is always one line."""
    quoting = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind(path.name) == "tsv" else {"delimiter": ","}
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader((line + "\n" for _, line in file_lines(path, name)), strict=True, **quoting)
    header: list[str] | None = None
    first = 1
    try:
        for fields in reader:
            first, number = reader.line_num + 1, first
            if not fields:
                continue
            if header is None:
                header = [field.strip() for field in fields]
                check_columns(header, columns, Location(name, number))
            elif len(fields) != len(header):
                raise _damaged(f"{len(fields)} fields, but the header has {len(header)}", Location(name, number))
            else:
                yield number, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise _damaged(str(error), Location(name, first)) from None


def _parquet_records(path: Path, name: str, columns: list[str]) -> Iterator[Record]:
    from glob import escape

    with reading(path, name):
        path.open("rb").close()  # what is missing or a folder is said in our words
    import datasets
    import pyarrow

    try:
        with quiet_datasets() as cache:
            files = {"data_files": [escape(str(path.resolve()))], "cache_dir": None if cache is None else str(cache)}
            # Else batches are as large as the first group of rows, which may be empty.
            size = {"batch_size": _BATCH_ROWS}
            table = datasets.load_dataset("parquet", split="train", streaming=True, **files, **size)
            check_columns(table.column_names, columns, Location(name))
            table = table.select_columns(columns).with_format("arrow")
            batches = (batch.to_pylist() for batch in table.iter(batch_size=_BATCH_ROWS))
            yield from enumerate(chain.from_iterable(batches), 1)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise _damaged(str(error).splitlines()[0], Location(name)) from None


def _damaged(what: str, where: Location) -> SeqVAEError:
    hint = "mend this row, or write the table again"
    return SeqVAEError("E322", f"the table is damaged: {what}", where=where, hint=hint)

"""The files of a token store, written piece by piece as the text is read. See `seqvae.data.store` for what they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32
from pydantic import BaseModel, ConfigDict

from seqvae.data.arrays import ArrayWriter
from seqvae.data.labels import class_number
from seqvae.data.row_encoder import Encoded, RowEncoder, StoreStats, TokenType, token_type
from seqvae.data.sources import Block, Source
from seqvae.data.workers import encoded
from seqvae.errors import Location, SeqVAEError
from seqvae.io import disk

SCHEMA_VERSION = 1
FILE_NAME = "store.json"

OnLines = Callable[[int], None]
"""Is told how many more lines of a text are done."""


class Description(BaseModel):
    """What stands in ``store.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    fingerprint: str
    source: dict[str, object]
    tokenizer: str
    token_type: TokenType
    stats: StoreStats
    classes: list[str] | None = None
    """Names of the classes that ``labels.npy`` numbers; stores made before there were labels have none."""


def write_store(
    folder: Path,
    source: Source,
    encoder: RowEncoder,
    *,
    fingerprint: str,
    classes: Sequence[str] | None = None,
    workers: int | None = 1,
    on_lines: OnLines = lambda lines: None,
) -> None:
    """Writes the rows of ``source`` as a store into the empty ``folder``, in memory that does not grow with the text.

    The files are the same for any number of ``workers`` (see `seqvae.data.workers`). Blank rows are dropped and
    counted. With ``classes`` each row has a label, which is one of them (else E325). Raises E310 for a sentence that
    may not be so long, E312 where no row is left.
    """
    class_of = None if classes is None else {name: number for number, name in enumerate(classes)}
    types = {"tokens": token_type(encoder.tokenizer), "offsets": "<i8", "lines": "<i8"}
    types |= {} if class_of is None else {"labels": "<i4"}
    blank: list[int] = []
    stats = StoreStats()
    with ExitStack() as stack:
        write = {name: stack.enter_context(ArrayWriter(folder / f"{name}.npy", types[name])).extend for name in types}
        write["offsets"](np.zeros(1, np.int64))
        end = 0
        pairs = stack.enter_context(closing(encoded(_sentences(source, blank), encoder, workers)))
        for block, rows in pairs:
            labels = _numbered(block, rows, class_of, source)
            if rows.refused is not None:
                place, length = rows.refused
                raise encoder.refusal(length, Location(source.name, int(block.numbers[place])))
            offsets = end + np.cumsum(rows.lengths)
            end = int(offsets[-1]) if len(offsets) else end
            write["tokens"](rows.tokens)
            write["offsets"](offsets)
            write["lines"](block.numbers[rows.kept])
            if labels is not None:
                write["labels"](labels[rows.kept])
            joined = 0 if block.joined is None else int(np.count_nonzero(block.joined & rows.kept))
            stats += replace(rows.stats, joined=joined)
            on_lines(len(block.texts))
    stats += StoreStats(blank_dropped=sum(blank))
    if stats.rows == 0:
        raise SeqVAEError(
            "E312",
            f"no sentence is left: all {stats.too_long} are longer than data.max_length={encoder.max_length}",
            where=Location(source.name),
            hint="raise `data.max_length`, or set `data.too_long` to truncate",
        )
    description = Description(
        schema_version=SCHEMA_VERSION,
        fingerprint=fingerprint,
        source=source.identity(),
        tokenizer=encoder.tokenizer.fingerprint(),
        token_type=types["tokens"],
        stats=stats,
        classes=None if classes is None else list(classes),
    )
    disk.write_json(folder / FILE_NAME, description.model_dump())


def _sentences(source: Source, blank: list[int]) -> Iterator[Block]:
    """The rows that are not blank; how many are goes to the end of ``blank``."""
    for block in source.blocks():
        blank.append(len(block.texts) - int(np.count_nonzero(block.filled)))
        yield block.where(block.filled)


def _numbered(
    block: Block, rows: Encoded, class_of: dict[str, int] | None, source: Source
) -> Int32[np.ndarray, " rows"] | None:
    """The class of each row of a block; raises E325 for the first label that is none, if no row before was refused."""
    if class_of is None:
        return None
    try:
        return np.fromiter(map(class_of.__getitem__, block.labels), np.int32, len(block.labels))
    except KeyError:
        refused = len(block.labels) if rows.refused is None else rows.refused[0]
        for place, row in enumerate(block.rows()):
            if place <= refused:
                class_number(row, class_of, source)
        return None

"""The points of a map as files for other programs: TSV and Parquet."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqvae.web.atlas import Map
from seqvae.web.explorer import Explorer


def _columns(explorer: Explorer, drawn: Map) -> dict[str, Any]:
    """Everything that is known of each sentence without measuring anything, by name.

    Labels of a name that the page gives another column (``y``) have ``label_`` before it.
    """
    corpus, codes = explorer.corpus, explorer.atlas.codes
    columns: dict[str, Any] = {"line": corpus.store.lines, "text": corpus.texts}
    own = {"tokens": corpus.store.lengths - 2, "x": drawn.xy[:, 0], "y": drawn.xy[:, 1], "mean": codes.mean}
    own |= {} if codes.std is None else {"std": codes.std}
    for each in corpus.labellings:
        name = f"label_{each.title}" if each.title in columns.keys() | own.keys() else each.title
        columns[name] = np.array(each.classes, object)[each.numbers]
    return columns | own


def as_tsv(explorer: Explorer, drawn: Map) -> Iterator[bytes]:
    """A header and a line for each sentence, piece by piece; arrays take a column for each dimension, ``mean_0`` on."""
    columns: dict[str, Any] = {}
    for name, values in _columns(explorer, drawn).items():
        if getattr(values, "ndim", 1) == 2:
            columns |= {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        else:
            columns[name] = values
    yield ("\t".join(columns) + "\n").encode()
    lines = []
    for row in range(len(explorer.corpus)):
        lines.append("\t".join(_cell(values[row]) for values in columns.values()) + "\n")
        if len(lines) == 1000:
            yield "".join(lines).encode()
            lines = []
    yield "".join(lines).encode()


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    return " ".join(str(value).split())


def as_parquet(explorer: Explorer, drawn: Map) -> bytes:
    """The same as a table; codes are lists of float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name, values in _columns(explorer, drawn).items():
        if getattr(values, "ndim", 1) == 2:
            flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            columns[name] = pa.array(values)
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()

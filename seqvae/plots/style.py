"""What all figures share: colours that the colour-blind and a grey print tell apart, type, and how they are saved."""

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.errors import SeqVAEError
from seqvae.io import disk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#000000")
"""Okabe and Ito's colours for everybody, ordered so that neighbours differ in lightness too."""

DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKERS = "osD^vPX"

SEQUENTIAL = "cividis"
"""A scale that rises in lightness, and looks the same to the colour-blind."""

_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""No date in a file: the same figure is the same bytes."""

FORMATS = ("svg", "pdf", "png")

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "seqvae",  # the same figure gives the same file
}


def look(number: int) -> dict[str, Any]:
    """Colour and dashes of the ``number``-th run: no two of the first 35 are alike, in grey neither."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[(number // len(COLOURS) + number) % 5]}


@contextlib.contextmanager
def figure(
    rows: int, columns: int, *, width: float = 3.2, height: float = 2.3
) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure of panels, ``width x height`` inches each, in the common style. Raises E273 without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        hint = "install it: `pip install 'seqvae[plots]'`"
        raise SeqVAEError("E273", f"figures are drawn by matplotlib, which is not here ({error})", hint=hint) from None
    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=(width * columns, height * rows), layout="constrained")
        yield made, list(itertools.chain.from_iterable(made.subplots(rows, columns, squeeze=False)))


def svg(drawn: "Figure") -> str:
    """The figure as the text of an SVG file."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        drawn.savefig(text, format="svg", metadata=_UNDATED["svg"])
    return text.getvalue()


def save(drawn: "Figure", folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write the figure as ``folder/name.FORMAT`` and give the paths."""
    import matplotlib

    paths = [folder / f"{name}.{form}" for form in formats]
    for path in paths:
        disk.require_utf8(path)
        with disk.storage_errors(path), matplotlib.rc_context(_STYLE):
            folder.mkdir(parents=True, exist_ok=True)
            drawn.savefig(path, metadata=_UNDATED.get(path.suffix[1:]))
    return paths

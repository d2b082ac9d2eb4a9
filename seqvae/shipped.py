"""Where the files that travel with the package lie: the configs and the small built-in corpus."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """The file or folder ``relative`` ("configs", "data/tiny") of this installation.

    A wheel carries it inside the package; a checkout and an editable install have it beside the package. Where
    neither has it, the path beside the package is returned, which then does not exist.
    """
    packaged = _PACKAGE / "_shipped" / relative
    return packaged if packaged.exists() else _PACKAGE.parent / relative

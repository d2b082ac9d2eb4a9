"""Where the files that travel with the package lie, the configs and the small built-in corpus; needs nothing heavy."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """The file or folder ``relative`` ("configs", "data/tiny") of this installation.

    A wheel carries it inside the package; a checkout and an editable install have it beside the package. Where
    neither has it, the path beside the package is returned, which then does not exist.
    """
    packaged = _PACKAGE / "_shipped" / relative
    return packaged if packaged.exists() else _PACKAGE.parent / relative


def shipped_configs() -> list[str]:
    """The configs that come with seqvae: ``tiny.yaml``, ``recipes/free_bits.yaml`` and so on."""
    folder = shipped("configs")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))

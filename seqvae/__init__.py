"""seqvae: variational autoencoders over text sequences.

>>> import seqvae
>>> vae = seqvae.load("runs/my-run")  # doctest: +SKIP
>>> vae.interpolate("the market fell", "she likes tea", steps=5)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seqvae.config import Config
    from seqvae.errors import SeqVAEError
    from seqvae.io.pretrained import load
    from seqvae.models.vae import SeqVAE
    from seqvae.textvae import TextVAE, evaluate
    from seqvae.training.run import train

__all__ = ["Config", "SeqVAE", "SeqVAEError", "TextVAE", "evaluate", "load", "train"]

_HOMES = {
    "Config": "seqvae.config",
    "SeqVAE": "seqvae.models.vae",
    "SeqVAEError": "seqvae.errors",
    "TextVAE": "seqvae.textvae",
    "evaluate": "seqvae.textvae",
    "load": "seqvae.io.pretrained",
    "train": "seqvae.training.run",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that ``import seqvae`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'seqvae' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

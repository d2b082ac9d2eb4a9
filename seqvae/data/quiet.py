"""Other people's libraries, kept from printing and from writing elsewhere than into the cache."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqvae.data.cache import user_cache


@contextmanager
def quiet(*loggers: logging.Logger) -> Iterator[None]:
    """Within the block these loggers say nothing: what goes wrong is said by our own error."""
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def quiet_datasets() -> Iterator[Path | None]:
    """`datasets` without progress bars and messages; yields the cache it is to use, None for its own.

    Its cache lies in ``$SEQVAE_CACHE`` where that is set: a folder chosen for want of room elsewhere is obeyed.
    """
    import datasets

    bars = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with quiet(*map(logging.getLogger, ("datasets", "huggingface_hub", "fsspec"))):
            yield user_cache() / "datasets" if os.environ.get("SEQVAE_CACHE") else None
    finally:
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def quiet_hub() -> Iterator[None]:
    """`huggingface_hub` without messages, and without progress bars where no terminal shows them."""
    from huggingface_hub import utils

    hide = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    try:
        if hide:
            utils.disable_progress_bars()
        with quiet(logging.getLogger("huggingface_hub")):
            yield
    finally:
        if hide:
            utils.enable_progress_bars()

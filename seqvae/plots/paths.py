"""A path between two sentences: how likely each text that lies on it is from every point of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from seqvae.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDEST = 48
"""Characters of a text that are shown."""


def path_heatmap(t: Sequence[float], texts: Sequence[str], log_probs: Float[np.ndarray, "N M"]) -> "Figure":
    """A row for each of N texts, a column for each of M points; dark where the text is likely from there.

    ``log_probs[i, j]`` is log p(text i | z at point j) in nats. A path that uses its code is light off the diagonal.
    """
    width = 2.6 + 0.32 * len(t) + 0.055 * max(len(_short(text)) for text in texts)
    with style.figure(1, 1, width=width, height=1.3 + 0.24 * len(texts)) as (drawn, (ax,)):
        image = ax.imshow(log_probs, cmap=f"{style.SEQUENTIAL}_r", aspect="auto")
        drawn.colorbar(image, label="log p(text | z), nats", shrink=0.9)
        ax.set_xticks(range(len(t)), [f"{value:.2f}" for value in t], rotation=90)
        ax.set_yticks(range(len(texts)), [_short(text) for text in texts])
        ax.set_xlabel("t, from the first sentence to the second")
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title("Which texts the points of the path make likely")
        return drawn


def _short(text: str) -> str:
    # A dollar sign would begin a formula.
    shown = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
    return shown.replace("$", r"\$")

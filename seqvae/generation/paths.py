"""Paths between two latent codes."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from seqvae.bounds import MOST_STEPS
from seqvae.errors import SeqVAEError

SMALLEST_ANGLE = 1e-4
"""Radians. Closer than this to parallel or to opposite, a great circle is not well defined and slerp is lerp."""


def check_steps(steps: int, what: str) -> None:
    """Raises E235 unless there are 1 to `MOST_STEPS` steps."""
    if not 1 <= steps <= MOST_STEPS:
        raise SeqVAEError(
            "E235", f"{what} has from 1 to {MOST_STEPS:,} steps, not {steps}", hint="both ends count: --steps 8"
        )


def fractions(steps: int) -> list[float]:
    """``steps`` values of t from 0 to 1, both ends included; a single step is t = 0, the start. Errors: E235."""
    check_steps(steps, "a path")
    return [i / (steps - 1) for i in range(steps)] if steps > 1 else [0.0]


def interpolate(
    a: Float[Tensor, " Z"], b: Float[Tensor, " Z"], steps: int, path: Literal["lerp", "slerp"] = "slerp"
) -> Float[Tensor, "{steps} Z"]:
    """Codes from ``a`` to ``b``, both ends included and exact.

    ``lerp``: (1 - t) a + t b. ``slerp``: the direction follows the great circle (Shoemake 1985) and the
    norm goes linearly from |a| to |b|, so that codes stay where a Gaussian has its mass. Slerp is lerp where the two
    are parallel, opposite, or one of them is zero.
    """
    t = torch.tensor(fractions(steps), dtype=torch.float64)[:, None]
    # On the CPU in fp64: a path is small, and squares of large codes overflow fp32.
    start, end = a.detach().cpu().double(), b.detach().cpu().double()
    points = (1 - t) * start + t * end
    lengths = start.norm(), end.norm()
    if path == "slerp" and min(lengths) > 0:
        u, v = start / lengths[0], end / lengths[1]
        # Kahan's formula: exact where acos(u . v) loses all its digits.
        angle = 2 * math.atan2((u - v).norm(), (u + v).norm())
        if SMALLEST_ANGLE < angle < math.pi - SMALLEST_ANGLE:
            direction = (torch.sin((1 - t) * angle) * u + torch.sin(t * angle) * v) / math.sin(angle)
            points = direction * ((1 - t) * lengths[0] + t * lengths[1])
    points = points.to(a.dtype).to(a.device)
    points[0] = a
    if steps > 1:
        points[-1] = b
    return points

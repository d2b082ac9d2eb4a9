"""The latent codes of sentences, as arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from seqvae.data.batching import collate, evaluation_plan
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import evaluating
from seqvae.models.conditional import check_classes

SMALLEST_NORM = 1e-6
"""A sum of codes that is shorter than this has no direction."""


@dataclass(frozen=True)
class Codes:
    """The posteriors of some sentences; as an array, it is their means."""

    mean: Float[np.ndarray, "N Z"]
    std: Float[np.ndarray, "N Z"] | None

    def __len__(self) -> int:
        return len(self.mean)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.mean, dtype=dtype)


def encode_store(
    model: nn.Module, store: TokenStore, rows: Int[np.ndarray, " N"] | None = None, *, batch_tokens: int = 16_384
) -> Codes:
    """Mean and standard deviation of q(z|x) of the sentences ``rows``, in their order; None: of all.

    Raises E234 where a model that diverged gives NaN, E285 for labels that a conditional model does not have.
    """
    check_classes(store.classes, model.labels)
    rows = np.arange(len(store)) if rows is None else rows
    mean = np.zeros((len(rows), model.latent_dim), np.float32)
    std: np.ndarray | None = np.zeros_like(mean)
    with evaluating(model):
        for some in evaluation_plan(store.lengths[rows], batch_tokens=batch_tokens):
            q = model.encode(collate(store, rows[some]).to(model.device))
            mean[some] = q.mean.cpu().numpy()
            if q.std is None or std is None:
                std = None
            else:
                std[some] = q.std.cpu().numpy()
    if not np.isfinite(mean).all():
        raise SeqVAEError("E234", "a latent code holds NaN or infinity", hint="the model diverged: train it again")
    return Codes(mean, std)


def as_codes(z: ArrayLike | Codes, latent_dim: int) -> Float[np.ndarray, "N Z"]:
    """Whatever holds codes as an array; raises E240 for what does not fit a model of ``latent_dim``."""
    hint = f"give an array of shape (n, {latent_dim}); one code is `z[None]`"
    try:
        codes = np.asarray(z.detach().cpu() if isinstance(z, Tensor) else z, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise SeqVAEError("E240", f"the codes are not an array of numbers: {error}", hint=hint) from None
    if codes.shape == (0,):  # an empty list has no second axis
        codes = codes.reshape(0, latent_dim)
    if codes.ndim != 2 or codes.shape[1] != latent_dim:
        what = f"codes of shape {codes.shape} do not fit a model with {latent_dim} latent dimensions"
        raise SeqVAEError("E240", what, hint=hint)
    return codes


def on_sphere(codes: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "N Z"]:
    """Sums of codes of a spherical model, scaled back to length 1; raises E299 for one that has no direction."""
    norms = np.linalg.norm(codes, axis=-1, keepdims=True)
    if (norms < SMALLEST_NORM).any():
        what = "the codes cancel each other: their sum is the centre of the sphere, which has no direction"
        raise SeqVAEError("E299", what, hint="take other sentences or another strength")
    return codes / norms

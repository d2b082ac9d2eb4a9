"""Arithmetic with codes: analogies, walks along one dimension, and directions that stand for a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import ACTIVE_VARIANCE, subset
from seqvae.generation.codes import Codes, encode_store, on_sphere
from seqvae.generation.paths import check_steps

AT_MOST = 20_000
"""Sentences that a deviation or a direction is taken from; of a larger corpus, a subset drawn by the seed."""

Dims = Sequence[int] | Literal["active", "all"]


def analogy_code(codes: Float[np.ndarray, "3 Z"], *, spherical: bool = False) -> Float[np.ndarray, "1 Z"]:
    """What is to c as b is to a: b - a + c (Mikolov et al. 2013, "Linguistic regularities"); on a sphere, of length 1.

    Raises E299 where nothing is left to scale.
    """
    return weighted_sum(codes, (-1.0, 1.0, 1.0), spherical=spherical)


def weighted_sum(
    codes: Float[np.ndarray, "N Z"], weights: Sequence[float], *, spherical: bool = False
) -> Float[np.ndarray, "1 Z"]:
    """Codes added up, each as often as its weight says; on a sphere, of length 1 (E299 where nothing is left)."""
    moved = (np.asarray(weights, np.float32) @ codes)[None]
    return on_sphere(moved) if spherical else moved


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Where the codes of a corpus lie in each dimension: moments of the aggregate posterior q(z) = E q(z|x)."""

    mean: Float[np.ndarray, " Z"]
    deviation: Float[np.ndarray, " Z"]
    """sqrt(Var[mean] + E[std^2]); of the means alone where the model has no ``std`` or no noise."""
    active: list[int] | None
    """Dimensions whose posterior mean varies by `ACTIVE_VARIANCE` or more; None where units do not apply."""
    sentences: int

    @classmethod
    def of(cls, codes: Codes, *, noiseless: bool = False) -> "Spread":
        means = codes.mean.astype(np.float64)
        variance = means.var(0)
        noise = 0.0 if codes.std is None or noiseless else np.square(codes.std.astype(np.float64)).mean(0)
        active = None if codes.std is None else np.flatnonzero(variance >= ACTIVE_VARIANCE).tolist()
        deviation = np.sqrt(variance + noise)
        return cls(mean=means.mean(0), deviation=deviation, active=active, sentences=len(means))

    def chosen(self, dims: Dims) -> list[int]:
        """The dimensions that ``dims`` means. Raises E297 where there are none such."""
        count = len(self.mean)
        if dims == "all":
            return list(range(count))
        if dims != "active":
            wrong = [dim for dim in dims if not 0 <= dim < count]
            if wrong:
                what = f"there is no dimension {wrong[0]}: this model has {count}, counted from 0"
                raise SeqVAEError("E297", what, hint=f"give a number from 0 to {count - 1}, or `all`")
            return list(dict.fromkeys(dims))
        if self.active is None:
            what = "this posterior has no variance by dimension, so that no dimension counts as active"
            raise SeqVAEError("E297", what, hint=f"name dimensions from 0 to {count - 1}, or `all`")
        if not self.active:
            what = f"no dimension is active: none of {count} posterior means varies over the sentences"
            raise SeqVAEError("E297", what, hint="the model ignores its code; `seqvae eval` says what to try")
        return self.active


def measure_spread(
    model: nn.Module, store: TokenStore, *, seed: int = 0, noiseless: bool = False, batch_tokens: int = 16_384
) -> Spread:
    """The spread of the codes of a corpus, from at most `AT_MOST` sentences. Raises E348 for fewer than two."""
    rows = subset(len(store), AT_MOST, seed)
    if len(rows) < 2:
        what = f"a deviation needs two sentences or more, not {len(rows)}"
        raise SeqVAEError("E348", what, hint="give more text")
    return Spread.of(encode_store(model, store, rows, batch_tokens=batch_tokens), noiseless=noiseless)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A way along one dimension: at ``t`` its value is ``mean + t * deviation``, the other dimensions stay."""

    dim: int
    mean: float
    deviation: float
    own: float
    """The t of the code that the walk is made for."""
    t: list[float]
    z: Float[np.ndarray, "steps Z"]


def walk(
    z: Float[np.ndarray, " Z"],
    dim: int,
    spread: Spread,
    *,
    reach: float = 3.0,
    steps: int = 7,
    spherical: bool = False,
) -> Walk:
    """``steps`` codes with t evenly from -reach to +reach, as Higgins et al. (2017) show what a dimension does.

    On a sphere the other coordinates shrink or grow together, so that the length stays 1, and the range ends where
    the sphere does. A dimension in which codes do not differ has t = 0 alone. Errors: E235.
    """
    check_steps(steps, "a walk")
    mean, deviation = float(spread.mean[dim]), float(spread.deviation[dim])
    low, high = -abs(reach), abs(reach)
    if deviation == 0:
        steps = 1
    elif spherical:
        low, high = max(low, (-1 - mean) / deviation), min(high, (1 - mean) / deviation)
    t = np.linspace(low, high, steps) if steps > 1 else np.zeros(1)
    points = np.repeat(z[None].astype(np.float64), steps, axis=0)
    points[:, dim] = mean + t * deviation
    if spherical:
        points = _keep_length(points, dim)
    own = (float(z[dim]) - mean) / deviation if deviation else 0.0
    return Walk(dim=dim, mean=mean, deviation=deviation, own=own, t=t.tolist(), z=points.astype(np.float32))


def _keep_length(points: Float[np.ndarray, "N Z"], dim: int) -> Float[np.ndarray, "N Z"]:
    value = points[:, dim].clip(-1.0, 1.0)
    rest = points.copy()
    rest[:, dim] = 0.0
    rest = on_sphere(rest) * np.sqrt(1 - np.square(value))[:, None]
    rest[:, dim] = value
    return rest


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Mean code of the sentences with a label minus the mean code of the others."""

    vector: Float[np.ndarray, " Z"]
    label: str
    having: int
    """Sentences with the label."""
    others: int

    def shifted(self, z: Float[np.ndarray, "N Z"], by: float, *, spherical: bool = False) -> Float[np.ndarray, "N Z"]:
        """z + by * vector; on a sphere scaled back to length 1 (E299 where nothing is left to scale)."""
        moved = (z + by * self.vector).astype(np.float32)
        return on_sphere(moved) if spherical else moved


def label_numbers(labels: Sequence[str], count: int) -> tuple[Int[np.ndarray, " N"], list[str]]:
    """The number of each of ``count`` labels, and the names in order. Raises E286 for another count."""
    if len(labels) != count:
        what = f"{len(labels):,} labels are given for {count:,} sentences"
        raise SeqVAEError("E286", what, hint="give one label for each sentence")
    names = sorted(set(labels))
    return np.array([names.index(label) for label in labels], np.int32), names


def label_direction(
    model: nn.Module, store: TokenStore, label: str, *, seed: int = 0, batch_tokens: int = 16_384
) -> Direction:
    """The attribute vector of a label, from at most `AT_MOST` posterior means.

    Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric".

    Errors: E296 for a conditional model, E346 for a text without labels, E347 for a label that no sentence has or that
    all have.
    """
    refuse_conditional(model)
    if store.labels is None or store.classes is None:
        hint = "name them: `--labels WORD` for FILE.WORD.labels beside the text, `--label-column` of a table"
        raise SeqVAEError("E346", "the text has no labels", hint=hint)
    rows = subset(len(store), AT_MOST, seed)
    having = _having(store, rows, label)
    means = encode_store(model, store, rows, batch_tokens=batch_tokens).mean.astype(np.float64)
    vector = means[having].mean(0) - means[~having].mean(0)
    count = int(having.sum())
    return Direction(vector=vector.astype(np.float32), label=label, having=count, others=len(rows) - count)


def refuse_conditional(model: nn.Module) -> None:
    """Raises E296 for a conditional model, in which the code need not tell the label."""
    if model.labels is not None:
        what = "this model is conditional: it gives the label to the decoder beside the code, which need not tell it"
        hint = "encode with one label and decode with another: `seqvae encode --label A --out z.npz TEXT`, then "
        raise SeqVAEError("E296", what, hint=f"{hint}`seqvae decode --label B z.npz`")


def _having(store: TokenStore, rows: np.ndarray, label: str) -> np.ndarray:
    names = list(store.classes)
    shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
    if label not in names:
        raise SeqVAEError("E347", f"no sentence has the label {label!r}", hint=f"the labels are {shown}")
    having = store.labels[rows] == names.index(label)
    if having.all() or not having.any():
        which = "every sentence has" if having.all() else "no sentence here has"
        what = f"{which} the label {label!r}: there is nothing to tell apart"
        raise SeqVAEError("E347", what, hint=f"give text of more labels; they are {shown}")
    return having

"""Where the sentences lie: their codes, flat maps of them, and the numbers that colour them."""

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32

from seqvae.data.cache import kept, sweep, user_cache
from seqvae.errors import SeqVAEError
from seqvae.generation.attributes import Spread
from seqvae.generation.codes import Codes
from seqvae.io.tensors import load_tensors, save_tensors
from seqvae.textvae import TextVAE
from seqvae.web.background import Background
from seqvae.web.corpus import Corpus

MapName = Literal["pca", "tsne", "umap"]
MAPS = get_args(MapName)
TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}

NEIGHBOURS = 10
"""Sentences of a map that is not linear which decide where another code is drawn on it."""

_NLL_SAMPLES = 1
"""Samples of z behind the NLL of each sentence: a colour, not a measurement."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Map:
    """A place in the plane for every sentence, and for any other code."""

    name: str
    xy: Float32[np.ndarray, "N 2"]
    centre: Float[np.ndarray, " Z"] | None = None
    axes: Float[np.ndarray, "2 Z"] | None = None
    """Of a linear map, which takes a code z to axes (z - centre)."""

    def place(self, z: Float[np.ndarray, "M Z"], means: Float[np.ndarray, "N Z"]) -> Float[np.ndarray, "M 2"]:
        """Where codes are drawn: by the map itself, or between the sentences whose codes lie nearest.

        The latter by the inverse of their squared distances (Shepard 1968).
        """
        if self.axes is not None:
            return (z - self.centre) @ self.axes.T
        z, means = z.astype(np.float64), means.astype(np.float64)
        squares = np.square(z).sum(1)[:, None] + np.square(means).sum(1) - 2 * z @ means.T
        near = np.argsort(squares, axis=1, kind="stable")[:, :NEIGHBOURS]
        weights = 1 / np.maximum(np.take_along_axis(squares, near, 1), 1e-9)
        return (weights[..., None] * self.xy[near]).sum(1) / weights.sum(1, keepdims=True)


class Atlas:
    """The codes of a corpus, and what is made from them; what takes long is made when asked for, and cached."""

    def __init__(self, vae: TextVAE, corpus: Corpus):
        self.vae, self.corpus = vae, corpus
        self._jobs: Background[Arrays] = Background()
        found = self._kept("codes", self._encode)
        self.codes = Codes(found["mean"], found.get("std"))
        self.spread = Spread.of(self.codes, noiseless=vae.noiseless)
        self.variance = self.codes.mean.astype(np.float64).var(0)
        """Of each dimension's posterior mean over the sentences."""
        self.maps: dict[str, Map] = {"pca": self._pca()}

    def map(self, name: MapName, *, wait: bool = False) -> Map | None:
        """A map; None while it is being made, unless it is waited for. Raises E431 where it cannot be made."""
        if name not in self.maps:
            if name == "umap" and importlib.util.find_spec("umap") is None:
                hint = "install it: `pip install 'seqvae[umap]'`; t-SNE needs nothing more"
                raise SeqVAEError("E431", "UMAP is not installed", hint=hint)
            make = {"tsne": self._tsne, "umap": self._umap}[name]
            found = self._ask(name, make, wait=wait)
            if found is None:
                return None
            self.maps[name] = Map(name=name, xy=_unit(found["xy"]))
        return self.maps[name]

    def nll(self, *, wait: bool = False) -> Float32[np.ndarray, " N"] | None:
        """Nats of each sentence, -ELBO or what stands for it in a model without one; None while it is measured."""
        found = self._ask("nll", self._score, wait=wait)
        return None if found is None else found["nats"]

    def places(self, z: Float[np.ndarray, "M Z"]) -> dict[str, list[list[float]]]:
        """Where codes are drawn, on every map that is there."""
        return {name: np.round(each.place(z, self.codes.mean), 5).tolist() for name, each in list(self.maps.items())}

    def _ask(self, name: str, make: Callable[[], Arrays], *, wait: bool) -> Arrays | None:
        if wait:
            return self._jobs.found(name) or self._kept(name, make)
        return self._jobs.ask(name, lambda: self._kept(name, make))

    def _kept(self, what: str, make: Callable[[], Arrays]) -> Arrays:
        """What ``make`` gives, from the cache where these sentences met these weights before."""
        if self.vae.weights_sha256 is None:
            return make()
        lines = hashlib.sha256(self.corpus.store.lines.tobytes()).hexdigest()
        key = "\n".join((self.vae.weights_sha256, self.corpus.store.fingerprint, lines, what))
        folder, file = user_cache() / "explore", "arrays.safetensors"
        sweep(folder)
        return kept(
            folder / hashlib.sha256(key.encode()).hexdigest(),
            lambda place: save_tensors(place / file, {k: torch.from_numpy(v) for k, v in make().items()}),
            lambda place: {name: tensor.numpy() for name, tensor in load_tensors(place / file).items()},
        )

    def _encode(self) -> Arrays:
        codes = self.vae.encode(self.corpus.store)
        return {"mean": codes.mean} | ({} if codes.std is None else {"std": codes.std})

    def _score(self) -> Arrays:
        samples = {} if self.vae.noiseless else {"samples": _NLL_SAMPLES}
        return {"nats": self.vae.score(self.corpus.store, **samples).nats.astype(np.float32)}

    def _pca(self) -> Map:
        from sklearn.decomposition import PCA

        means = self.codes.mean.astype(np.float64)
        pca = PCA(n_components=min(2, *means.shape), svd_solver="full").fit(means)
        axes = np.zeros((2, means.shape[1]))  # a code of one dimension lies on a line
        axes[: len(pca.components_)] = pca.components_
        xy = (means - pca.mean_) @ axes.T
        scale = 1 / max(np.abs(xy).max(), 1e-12)
        return Map(name="pca", xy=(xy * scale).astype(np.float32), centre=pca.mean_, axes=axes * scale)

    def _tsne(self) -> Arrays:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(self.corpus) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca" if self.vae.latent_dim > 1 else "random", random_state=0)
        return {"xy": tsne.fit_transform(self.codes.mean).astype(np.float32)}

    def _umap(self) -> Arrays:
        from umap import UMAP

        neighbours = min(15, len(self.corpus) - 1)
        found = UMAP(n_neighbors=neighbours, random_state=0, n_jobs=1).fit_transform(self.codes.mean)
        return {"xy": found.astype(np.float32)}


def _unit(xy: Float[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 2"]:
    """The same picture within [-1, 1]."""
    centred = xy - (xy.max(0) + xy.min(0)) / 2
    return (centred / max(np.abs(centred).max(), 1e-12)).astype(np.float32)

"""A scikit-learn transformer: texts to latent codes, and codes back to texts."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from seqvae import starter
from seqvae.config import Config
from seqvae.data.sources import open_source
from seqvae.io import disk
from seqvae.textvae import TextVAE, listed
from seqvae.training.resuming import is_unused
from seqvae.training.run import train


class TextVAETransformer(TransformerMixin, BaseEstimator):
    """Trains a VAE on texts as ``seqvae init`` and ``seqvae train`` do; a text becomes its posterior mean.

    ``settings`` are those of the config by their dotted names, in place of what is chosen from the texts;
    ``random_state`` is the seed of the training; ``out`` is a folder for the run, which otherwise is not kept, nor are
    the texts, which then lie beside it in ``OUT.texts.jsonl``. The model is there as ``vae_``.

    >>> codes = TextVAETransformer({"model.latent_dim": 8}).fit_transform(texts)       # doctest: +SKIP
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        random_state: int = 0,
        out: str | Path | None = None,
    ):
        self.settings = settings
        self.random_state = random_state
        self.out = out

    def fit(self, X: Sequence[str], y: object = None) -> Self:
        """Train on the texts; a twentieth of them is held out for validation. Raises what training raises."""
        with tempfile.TemporaryDirectory(prefix="seqvae-") as place:
            folder = Path(place) / "run" if self.out is None else Path(self.out)
            # In a folder that is in use no run can begin: the texts of the run that is there stay as they are.
            file = folder.with_name(f"{folder.name}.texts.jsonl") if is_unused(folder) else Path(place) / "texts.jsonl"
            rows = (json.dumps({"text": text}) + "\n" for text in listed(X))
            disk.write_bytes(file, "".join(rows).encode())
            self.vae_: TextVAE = train(self._config(file, Path(place)), out=folder).load()
        self.vae_.need_latent("turn texts into codes")
        return self

    def _config(self, file: Path, place: Path) -> Config:
        source = open_source(str(file))
        text = starter.profile(source)
        written = place / "chosen.yaml"
        content = starter.config_text(text, starter.choose(text, source), out=str(written), train=str(file))
        written.write_text(content, encoding="utf-8")
        return Config.from_yaml(written).replace(**{"train.seed": self.random_state} | dict(self.settings or {}))

    def transform(self, X: Sequence[str]) -> Float[np.ndarray, "N Z"]:
        """The posterior mean of each text."""
        check_is_fitted(self)
        return self.vae_.encode(listed(X)).mean

    def inverse_transform(self, X: Float[np.ndarray, "N Z"]) -> list[str]:
        """The text that the decoder writes from each code, greedily."""
        check_is_fitted(self)
        return self.vae_.decode(X)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """``z0``, ``z1``, ... for the dimensions of the code."""
        check_is_fitted(self)
        return np.array([f"z{number}" for number in range(self.vae_.latent_dim)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.no_validation = True
        return tags

"""TextVAE: a trained model with its tokenizer; strings in, strings out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import OnProgress
from seqvae.evaluation.passes import batches, evaluating
from seqvae.evaluation.report import EvalConfig, EvalReport, evaluate_model
from seqvae.evaluation.score import SAMPLES, By, Scores, score_sentences
from seqvae.generation.aggregate import Aggregate, fit_aggregate
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.generation.paths import fractions, interpolate
from seqvae.models.vae import SeqVAE

GREEDY = DecodeConfig(strategy="greedy")

BATCH_TOKENS = 16_384
"""Tokens read at once, padding counted; samples of z count too."""

Texts = Sequence[str] | TokenStore
"""Sentences, or what the model's tokenizer made of them."""

Seed = int | torch.Generator | None
"""Of whatever is drawn: the same number gives the same result, a generator goes on where it stands, None is fresh."""


@dataclass(frozen=True)
class Codes:
    """The posteriors of some sentences; as an array, it is their means."""

    mean: Float[np.ndarray, "N Z"]
    std: Float[np.ndarray, "N Z"] | None

    def __len__(self) -> int:
        return len(self.mean)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.mean, dtype=dtype)


class TextVAE:
    """A model and its tokenizer, ready to use: in evaluation mode, deterministic unless a seed says otherwise.

    Lists in, lists out, in the same order; ``[]`` gives nothing and ``""`` is a sentence like any other. Codes are
    NumPy arrays. ``batch_size`` is how many sentences are written at once. Safe to use from several threads.

    >>> vae = seqvae.load("runs/my-run")                               # doctest: +SKIP
    >>> vae.decode(vae.encode(["the market fell"]))                    # doctest: +SKIP
    ['the market fell']
    """

    def __init__(self, model: SeqVAE, tokenizer: Tokenizer, *, noiseless: bool = False, batch_size: int = 256):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.noiseless = noiseless
        """Trained as a plain autoencoder: its codes follow no prior."""
        self.batch_size = batch_size
        self.weights_sha256: str | None = None
        """Of the file that the weights were loaded from."""

    @property
    def latent_dim(self) -> int:
        return self.model.latent_dim

    def to(self, device: str | torch.device) -> "TextVAE":
        self.model.to(device)
        return self

    def encode(self, texts: Texts) -> Codes:
        """Mean and standard deviation of q(z|x) for each text. Raises E234 where a model that diverged gives NaN."""
        self.need_latent("encode")
        store = self._store(texts)
        mean = np.zeros((len(store), self.latent_dim), np.float32)
        std: np.ndarray | None = np.zeros_like(mean)
        with evaluating(self.model):
            for rows, batch in batches(self.model, store, batch_tokens=BATCH_TOKENS):
                q = self.model.encode(batch)
                mean[rows] = q.mean.cpu().numpy()
                if q.std is None or std is None:
                    std = None
                else:
                    std[rows] = q.std.cpu().numpy()
        if not np.isfinite(mean).all():
            raise SeqVAEError("E234", "a latent code holds NaN or infinity", hint="the model diverged: train it again")
        return Codes(mean, std)

    def score(
        self, texts: Texts, *, by: By | None = None, samples: int = SAMPLES, seed: int = 0, first_row: int = 0
    ) -> Scores:
        """How unlikely each text is, in nats: -ELBO unless ``by`` says otherwise, from ``samples`` samples of z.

        The noise of a text depends on (seed, its place in the list), and is that of `evaluate`. ``first_row``: the
        place of the first text, where a longer list comes piece by piece. A language model gives its exact
        likelihood, a plain autoencoder ``rec``.
        """
        return score_sentences(
            self.model,
            self._store(texts),
            by=by,
            samples=samples,
            seed=seed,
            first_row=first_row,
            noiseless=self.noiseless,
            batch_tokens=BATCH_TOKENS,
        )

    def decode(self, z: ArrayLike | Codes, *, config: DecodeConfig = GREEDY, seed: Seed = 0) -> list[str]:
        """One text for each code ``[N Z]``; greedy unless ``config`` says otherwise."""
        self.need_latent("decode")
        codes = self._codes(z)
        return self._write(torch.from_numpy(codes.copy()), config, _generator(seed))

    def sample(
        self,
        n: int = 1,
        *,
        source: Aggregate | None = None,
        seed: Seed = 0,
        config: DecodeConfig | None = None,
    ) -> list[str]:
        """``n`` texts from codes drawn from the prior; tokens are drawn too unless ``config`` says otherwise.

        ``source``: draw the codes from the mixture that `fit_aggregate` gives instead. The same seed gives the same
        texts; None draws afresh.
        """
        if self.noiseless and source is None:
            hint = "draw from the codes of a text: `--from aggregate`; in Python `source=vae.fit_aggregate(texts)`"
            raise SeqVAEError("E241", "a plain autoencoder has no prior to sample from", hint=hint)
        if n < 0:
            raise SeqVAEError("E242", f"cannot draw {n} samples", hint="give a whole number from 0")
        generator = _generator(seed)
        prior = self.model.prior if source is None else source
        z = torch.zeros(n, 0) if prior is None else prior.sample(n, generator=generator).cpu()
        return self._write(z, config or DecodeConfig(), generator)

    def fit_aggregate(self, texts: Texts, *, components: int | None = None, seed: int = 0) -> Aggregate:
        """A Gaussian mixture fitted to the codes of some texts, to draw from: ``vae.sample(5, source=mixture)``.

        ``components``: 10 by default, fewer for few texts.
        """
        self.need_latent("draw from the codes of a text")
        return fit_aggregate(
            self.model,
            self._store(texts),
            components=components,
            seed=seed,
            noiseless=self.noiseless,
            spherical=self.model.spherical,
        )

    def interpolate(
        self,
        a: str,
        b: str,
        steps: int = 8,
        *,
        path: Literal["slerp", "lerp"] = "slerp",
        config: DecodeConfig = GREEDY,
    ) -> list[tuple[float, str]]:
        """The way from ``a`` to ``b`` through their posterior means: (t, text), both ends included.

        The ends are reconstructions of the two texts. Raises E280 for ``lerp`` in a model whose codes lie on a sphere.
        """
        if path == "lerp" and self.model.spherical:
            what = "a straight path leaves the unit sphere, on which every code of this model lies"
            raise SeqVAEError("E280", what, hint="leave the path at slerp: `--path slerp`")
        means = torch.from_numpy(self.encode([a, b]).mean)
        points = interpolate(means[0], means[1], steps, path)
        return list(zip(fractions(steps), self._write(points, config, _generator(0)), strict=True))

    def reconstruct(self, texts: Texts, *, config: DecodeConfig = GREEDY, seed: Seed = 0) -> list[str]:
        """Each text after a passage through its posterior mean."""
        return self.decode(self.encode(texts), config=config, seed=seed)

    def _write(self, z: Float[Tensor, "N Z"], config: DecodeConfig, generator: torch.Generator) -> list[str]:
        texts = []
        for rows in _chunks(len(z), self.batch_size):
            decoded = decode(self.model, z[rows].to(self.model.device), config, generator)
            texts += [self.tokenizer.decode(tokens) for tokens in decoded.tokens]
        return texts

    def _store(self, texts: Texts) -> TokenStore:
        return texts if isinstance(texts, TokenStore) else TokenStore.from_texts(_listed(texts), self.tokenizer)

    def _codes(self, z: ArrayLike | Codes) -> Float[np.ndarray, "N Z"]:
        hint = f"give an array of shape (n, {self.latent_dim}); one code is `z[None]`"
        try:
            codes = np.asarray(z.detach().cpu() if isinstance(z, Tensor) else z, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise SeqVAEError("E240", f"the codes are not an array of numbers: {error}", hint=hint) from None
        if codes.shape == (0,):  # an empty list has no second axis
            codes = codes.reshape(0, self.latent_dim)
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            what = f"codes of shape {codes.shape} do not fit a model with {self.latent_dim} latent dimensions"
            raise SeqVAEError("E240", what, hint=hint)
        return codes

    def need_latent(self, verb: str) -> None:
        """Raises E243 for a language model, which has no code."""
        if self.latent_dim == 0:
            raise SeqVAEError(
                "E243",
                f"cannot {verb}: this model is a language model, it has no latent code",
                hint="train with `--set model.latent_dim=32`; a language model can `eval`, `score` and `sample`",
            )


def evaluate(
    vae: TextVAE,
    texts: Texts,
    *,
    split: str = "texts",
    config: EvalConfig | None = None,
    on_progress: OnProgress | None = None,
) -> EvalReport:
    """Everything that is measured about ``vae`` on some texts (or on a prepared split, named ``split``)."""
    return evaluate_model(
        vae.model,
        vae.tokenizer,
        vae._store(texts),
        split=split,
        config=config,
        noiseless=vae.noiseless,
        on_progress=on_progress,
    )


def _listed(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise SeqVAEError("E244", "expected a list of texts, got one text", hint="write `[text]`")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            what = f"expected a list of texts, got {type(text).__name__} at place {place}"
            raise SeqVAEError("E244", what, hint="give strings; codes are for `decode`")
    return texts


def _chunks(n: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


def _generator(seed: Seed) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator

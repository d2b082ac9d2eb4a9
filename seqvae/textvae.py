"""TextVAE: a trained model with its tokenizer; strings in, strings out."""

import logging
import operator
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from seqvae.data.lines import one_line
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError, require_choice
from seqvae.evaluation.likelihood import OnProgress, log_probs_at
from seqvae.evaluation.report import EvalConfig, EvalReport, evaluate_model
from seqvae.evaluation.score import SAMPLES, By, Scores, score_sentences
from seqvae.generation.aggregate import Aggregate, fit_aggregate
from seqvae.generation.attributes import (
    Dims,
    Direction,
    Spread,
    Walk,
    analogy_code,
    label_direction,
    label_numbers,
    measure_spread,
    refuse_conditional,
    walk,
    weighted_sum,
)
from seqvae.generation.codes import Codes, as_codes, encode_store
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.generation.imputation import Imputation, ImputeConfig, impute
from seqvae.generation.neighbors import Measure, Neighbor, nearest
from seqvae.generation.paths import fractions, interpolate
from seqvae.models.conditional import label_number
from seqvae.models.vae import SeqVAE
from seqvae.notebook import Shown

_log = logging.getLogger("seqvae")

GREEDY = DecodeConfig(strategy="greedy")

BATCH_TOKENS = 16_384
"""Tokens read at once, padding counted; samples of z count too."""

Texts = Sequence[str] | TokenStore
"""Sentences, or what the model's tokenizer made of them."""

Labels = str | Sequence[str] | None
"""For a conditional model: the label of all sentences, or of each; None where a store tells them."""

Seed = SupportsIndex | torch.Generator | None
"""Of whatever is drawn: the same number gives the same result, a generator goes on where it stands, None is fresh."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text that the decoder wrote from a code z."""

    text: str
    log_prob: float
    """log p(text|z) in nats under the model as it is, whatever the decoding; the end of the sentence counted."""
    tokens: tuple[int, ...]
    """The text as ids, BOS and EOS not among them."""
    truncated: bool = False
    """Whether it was cut at the longest length without having ended."""


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
        self.origin: str | None = None
        """``user/name@commit`` of a model that was loaded from the Hub."""

    @property
    def latent_dim(self) -> int:
        return self.model.latent_dim

    def to(self, device: str | torch.device) -> "TextVAE":
        """Move the model: "auto" to the best device there is. Raises E207 for one that is not there."""
        from seqvae.training.runtime import choose_device

        self.model.to(choose_device(device) if isinstance(device, str) else device)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder, which `seqvae.load` loads. It replaces another model, and nothing else (E443)."""
        from seqvae.io import pretrained, storage

        storage.check_replaceable(folder, pretrained.CONFIG)
        pretrained.save(Path(folder), self, facts={})

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        commit_message: str | None = None,
        revision: str | None = None,
    ) -> str:
        """Push the model to the Hub as ``user/name`` and return ``user/name@commit``; see `seqvae.io.hub.push`."""
        from seqvae.io import hub

        with tempfile.TemporaryDirectory() as above:
            self.save_pretrained(Path(above) / "model")
            return hub.push(
                Path(above) / "model", name, private=private, commit_message=commit_message, revision=revision
            )

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels that a conditional model knows; None for another model."""
        return self.model.labels

    def encode(self, texts: Texts, *, label: Labels = None) -> Codes:
        """Mean and standard deviation of q(z|x) for each text. Raises E234 where a model that diverged gives NaN."""
        self.need_latent("encode")
        return encode_store(self.model, self._store(texts, label), batch_tokens=BATCH_TOKENS)

    def score(
        self,
        texts: Texts,
        *,
        by: By | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
        first_row: int = 0,
        label: Labels = None,
    ) -> Scores:
        """How unlikely each text is, in nats: -ELBO unless ``by`` says otherwise, from ``samples`` samples of z.

        The noise of a text depends on (seed, its place in the list), and is that of `evaluate`. ``first_row``: the
        place of the first text, where a longer list comes piece by piece. A language model gives its exact
        likelihood, a plain autoencoder ``rec``.
        """
        return score_sentences(
            self.model,
            self._store(texts, label),
            by=by,
            samples=samples,
            seed=seed,
            first_row=first_row,
            noiseless=self.noiseless,
            batch_tokens=BATCH_TOKENS,
        )

    def log_probs_at(self, texts: Texts, z: ArrayLike | Codes, *, label: Labels = None) -> Float[np.ndarray, "N M"]:
        """log p(text|z) in nats of each of N texts given each of M codes, whosever they are."""
        self.need_latent("say what a code makes likely")
        return log_probs_at(
            self.model, self._store(texts, label), torch.from_numpy(as_codes(z, self.latent_dim).copy())
        )

    def decode(
        self, z: ArrayLike | Codes, *, config: DecodeConfig = GREEDY, seed: Seed = 0, label: Labels = None
    ) -> list[str]:
        """One text for each code ``[N Z]``; greedy unless ``config`` says otherwise."""
        return _texts(self.write(z, config=config, seed=seed, label=label), config)

    def write(
        self, z: ArrayLike | Codes, *, config: DecodeConfig = GREEDY, seed: Seed = 0, label: Labels = None
    ) -> list[Written]:
        """`decode` with the probability of each text."""
        self.need_latent("decode")
        codes = as_codes(z, self.latent_dim)
        labels = self._numbers(label, len(codes))
        return self._write(torch.from_numpy(codes.copy()), config, _generator(seed), labels)

    def sample(
        self,
        n: int = 1,
        *,
        source: Aggregate | None = None,
        seed: Seed = 0,
        config: DecodeConfig | None = None,
        label: Labels = None,
    ) -> list[str]:
        """``n`` texts from codes drawn from the prior; tokens are drawn too unless ``config`` says otherwise.

        A conditional model writes texts of the ``label``; without one, labels are drawn, each as often as the others.

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
        labels = self._numbers(label, n)
        if labels is None and self.labels is not None:
            labels = torch.randint(len(self.labels), (n,), generator=generator)
        config = config or DecodeConfig()
        return _texts(self._write(z, config, generator, labels), config)

    def fit_aggregate(
        self, texts: Texts, *, components: int | None = None, seed: int = 0, label: Labels = None
    ) -> Aggregate:
        """A Gaussian mixture fitted to the codes of some texts, to draw from: ``vae.sample(5, source=mixture)``.

        ``components``: 10 by default, fewer for few texts.
        """
        self.need_latent("draw from the codes of a text")
        return fit_aggregate(
            self.model,
            self._store(texts, label),
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
        label: str | None = None,
    ) -> list[tuple[float, str]]:
        """The way from ``a`` to ``b`` through their posterior means: (t, text), both ends included.

        The ends are reconstructions of the two texts. Raises E280 for ``lerp`` in a model whose codes lie on a sphere.
        """
        texts = self.decode(self.path(a, b, steps, path=path, label=label), config=config, label=label)
        return Shown(zip(fractions(steps), texts, strict=True), "t", "text")

    def path(
        self, a: str, b: str, steps: int = 8, *, path: Literal["slerp", "lerp"] = "slerp", label: str | None = None
    ) -> Float[np.ndarray, "steps Z"]:
        """The codes of `interpolate`."""
        self.need_latent("encode")
        require_choice("path", path, ("slerp", "lerp"))
        if path == "lerp" and self.model.spherical:
            what = "a straight path leaves the unit sphere, on which every code of this model lies"
            raise SeqVAEError("E280", what, hint="leave the path at slerp: `--path slerp`")
        means = torch.from_numpy(self.encode([a, b], label=label).mean)
        return interpolate(means[0], means[1], steps, path).numpy()

    def neighbors(
        self,
        texts: Texts,
        corpus: Texts,
        n: int = 10,
        *,
        by: Measure = "cosine",
        label: Labels = None,
        corpus_label: Labels = None,
    ) -> list[list[Neighbor]]:
        """The ``n`` different sentences of a corpus that lie nearest to each text, by their posterior means."""
        self.need_latent("look for neighbours")
        codes, store = self.encode(texts, label=label), self._store(corpus, corpus_label)
        found = nearest(self.model, self.tokenizer, store, codes.mean, n, by=by, batch_tokens=BATCH_TOKENS)
        return [Shown(near, "score", "line", "text") for near in found]

    def analogy(self, a: str, b: str, c: str, *, config: DecodeConfig = GREEDY, label: str | None = None) -> str:
        """What is to ``c`` as ``b`` is to ``a``: the text at b - a + c; on a sphere scaled back to length 1."""
        self.need_latent("make an analogy")
        z = analogy_code(self.encode([a, b, c], label=label).mean, spherical=self.model.spherical)
        return self.decode(z, config=config, label=label)[0]

    def combine(
        self, texts: Sequence[str], weights: Sequence[float], *, label: str | None = None
    ) -> Float[np.ndarray, "1 Z"]:
        """The code that the codes of some texts add up to, each times its weight; on a sphere scaled to length 1."""
        self.need_latent("add up sentences")
        if len(texts) != len(weights):
            what = f"{len(weights)} weights are given for {len(texts)} texts"
            raise SeqVAEError("E430", what, hint="give one weight for each text")
        return weighted_sum(self.encode(texts, label=label).mean, weights, spherical=self.model.spherical)

    def spread(self, corpus: Texts, *, seed: int = 0, label: Labels = None) -> Spread:
        """Where the codes of a corpus lie in each dimension, for `traverse`."""
        self.need_latent("measure where codes lie")
        return measure_spread(
            self.model, self._store(corpus, label), seed=seed, noiseless=self.noiseless, batch_tokens=BATCH_TOKENS
        )

    def traverse(
        self,
        text: str,
        spread: Spread,
        dims: Dims = "active",
        *,
        reach: float = 3.0,
        steps: int = 7,
        config: DecodeConfig = GREEDY,
        label: str | None = None,
    ) -> list[tuple[Walk, list[str]]]:
        """The text's code with one dimension at ``steps`` values from -reach to +reach deviations of the corpus.

        For each dimension the walk, and the text at each ``walk.t``; see `attributes.walk`.
        """
        code = self.encode([text], label=label).mean[0]
        settings = {"reach": reach, "steps": steps, "spherical": self.model.spherical}
        walks = [walk(code, dim, spread, **settings) for dim in spread.chosen(dims)]
        return [(each, self.decode(each.z, config=config, label=label)) for each in walks]

    def direction(self, label: str, corpus: Texts, labels: Sequence[str] | None = None, *, seed: int = 0) -> Direction:
        """What the codes of the sentences with a label have that the others have not, for `shift`.

        ``labels``: that of each sentence, where the corpus is a list.
        """
        self.need_latent("shift sentences")
        store = self._store(corpus)
        if labels is not None:
            numbers, classes = label_numbers(labels, len(store))
            store = store.with_labels(numbers, classes)
        return label_direction(self.model, store, label, seed=seed, batch_tokens=BATCH_TOKENS)

    def shift(self, texts: Texts, direction: Direction, by: float = 1.0, *, config: DecodeConfig = GREEDY) -> list[str]:
        """Each text with its code moved ``by`` times a direction: 0 leaves it, 1 is from the others to the label."""
        self.need_latent("shift sentences")
        refuse_conditional(self.model)
        codes = self.encode(texts).mean
        return self.decode(direction.shifted(codes, by, spherical=self.model.spherical), config=config)

    def impute(
        self,
        texts: Sequence[str],
        n: int = 5,
        *,
        config: ImputeConfig | None = None,
        seed: int = 0,
        label: Labels = None,
    ) -> list[list[Imputation]]:
        """The ``n`` best sentences found for each text with gaps: ``___`` is a missing word, ``___*`` any number.

        How they are found and scored, and what that does not promise, stands with `imputation.impute`.
        """
        texts = listed(texts)
        numbers = self._numbers(label, len(texts))
        labels = [None] * len(texts) if numbers is None else numbers.tolist()
        settings = {"n": n, "config": config, "seed": seed, "noiseless": self.noiseless}
        return [
            Shown(impute(self.model, self.tokenizer, text, label=number, **settings), "share", "nats", "text")
            for text, number in zip(texts, labels, strict=True)
        ]

    def reconstruct(
        self, texts: Texts, *, config: DecodeConfig = GREEDY, seed: Seed = 0, label: Labels = None
    ) -> list[str]:
        """Each text after a passage through its posterior mean."""
        store = self._store(texts, label)
        means = torch.from_numpy(self.encode(store).mean)
        labels = None if store.labels is None else torch.from_numpy(store.labels.astype(np.int64))
        return _texts(self._write(means, config, _generator(seed), labels), config)

    def _write(
        self,
        z: Float[Tensor, "N Z"],
        config: DecodeConfig,
        generator: torch.Generator,
        labels: Int[Tensor, " N"] | None = None,
    ) -> list[Written]:
        written = []
        for rows in _chunks(len(z), self.batch_size):
            some = None if labels is None else labels[rows]
            decoded = decode(self.model, z[rows].to(self.model.device), config, generator, labels=some)
            for tokens, log_prob, cut in zip(decoded.tokens, decoded.log_probs, decoded.truncated, strict=True):
                text = self.tokenizer.decode(tokens)
                written.append(Written(text=text, log_prob=log_prob, tokens=tuple(tokens), truncated=cut))
        return written

    def _store(self, texts: Texts, label: Labels = None) -> TokenStore:
        store = texts if isinstance(texts, TokenStore) else TokenStore.from_texts(listed(texts), self.tokenizer)
        numbers = self._numbers(label, len(store))
        return store if numbers is None else store.with_labels(numbers.numpy(), self.labels)

    def _numbers(self, label: Labels, count: int) -> Int[Tensor, " N"] | None:
        """Numbers of the labels of ``count`` sentences; None where none is given."""
        if label is None:
            return None
        if isinstance(label, str):
            return torch.full((count,), label_number(label, self.labels))
        if len(label) != count:
            what = f"{len(label):,} labels are given for {count:,} sentences"
            raise SeqVAEError("E286", what, hint="give one label for all, or one for each")
        return torch.tensor([label_number(each, self.labels) for each in label], dtype=torch.long)

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
    label: Labels = None,
    on_progress: OnProgress | None = None,
) -> EvalReport:
    """Everything that is measured about ``vae`` on some texts (or on a prepared split, named ``split``).

    A conditional model needs the ``label`` of each text, or one for all; a prepared split has its own.
    """
    return evaluate_model(
        vae.model,
        vae.tokenizer,
        vae._store(texts, label),
        split=split,
        config=config,
        noiseless=vae.noiseless,
        on_progress=on_progress,
    )


def listed(texts: Sequence[str]) -> Sequence[str]:
    """The texts as a list, each as `one_line`; raises E244 for a single text, and for what is no text."""
    if isinstance(texts, str):
        raise SeqVAEError("E244", "expected a list of texts, got one text", hint="write `[text]`")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            what = f"expected a list of texts, got {type(text).__name__} at place {place}"
            raise SeqVAEError("E244", what, hint="give strings; codes are for `decode`")
    return [one_line(text) for text in texts]


def _texts(written: Sequence[Written], config: DecodeConfig) -> list[str]:
    """What was written, as texts; logs how many of them did not come to an end."""
    if cut := sum(each.truncated for each in written):
        _log.info("note     %d of %d sentences had not ended at %d tokens: cut", cut, len(written), config.max_length)
    return Shown((each.text for each in written), "text")


def _chunks(n: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, n)) for start in range(0, n, size)]


def _generator(seed: Seed) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(operator.index(seed))  # NumPy's whole numbers too
    return generator

"""What the page is told: every answer, as plain lists and dicts, made by the model and the atlas of a corpus."""

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from seqvae.config import Config
from seqvae.evaluation.diagnosis import QUICK, diagnose
from seqvae.evaluation.latent import subset
from seqvae.evaluation.report import EvalConfig
from seqvae.evaluation.text import SPARE_TOKENS
from seqvae.generation.aggregate import Aggregate
from seqvae.generation.codes import as_codes, on_sphere
from seqvae.generation.decoding import DecodeConfig
from seqvae.generation.neighbors import nearest_codes
from seqvae.generation.paths import fractions
from seqvae.generation.words import expected_words
from seqvae.models.conditional import label_number
from seqvae.textvae import TextVAE, Written, evaluate
from seqvae.types import SPECIALS, UNK
from seqvae.web import requests
from seqvae.web.atlas import MAPS, TITLES, Atlas
from seqvae.web.background import Background
from seqvae.web.corpus import pick
from seqvae.web.record import measured, training_curves

OTHERS = 32
"""Sentences of the corpus whose codes a code is compared with, for the words that it makes likelier."""

WORDS = 8
"""Likelier words, and less likely ones, that are told."""

DIAGNOSED = 2_000
"""Sentences that a diagnosis is made on, at most."""

MOST_TOKENS = 200

Answer = dict[str, Any]


class Explorer:
    """A model beside a corpus. Every answer is ready for JSON; a user's mistake raises SeqVAEError.

    ``folder``: the model folder; ``config``: of the run that it lies in, if it does.
    """

    def __init__(self, vae: TextVAE, atlas: Atlas, *, folder: Path, config: Config | None = None):
        self.vae, self.atlas, self.corpus = vae, atlas, atlas.corpus
        self.folder, self.config = folder.resolve(), config
        self.name = self.folder.parent.name if config is not None else self.folder.name
        longest = int(self.corpus.store.lengths.max(initial=0))
        self.decoding = DecodeConfig(strategy="greedy", max_length=min(MOST_TOKENS, longest + SPARE_TOKENS))
        self._diagnoses: Background[Answer] = Background()
        self._aggregate: Aggregate | None = None
        self._fitting = threading.Lock()
        self._others = subset(len(self.corpus), OTHERS, 0)

    # What the page begins with

    def about(self) -> Answer:
        """The model, the corpus, its units, and which maps and colours there are."""
        vae, spread = self.vae, self.atlas.spread
        order = np.argsort(-self.atlas.variance, kind="stable").tolist()
        active = None if spread.active is None else set(spread.active)
        units = [
            {
                "dim": dim,
                "mean": float(spread.mean[dim]),
                "deviation": float(spread.deviation[dim]),
                "variance": float(self.atlas.variance[dim]),
                "active": None if active is None else dim in active,
            }
            for dim in order
        ]
        return {
            "name": self.name,
            "latent_dim": vae.latent_dim,
            "cells": vae.model.config.cells,
            "parameters": sum(each.numel() for each in vae.model.parameters()),
            "vocabulary": vae.tokenizer.vocab_size,
            "unit": vae.tokenizer.unit,
            "spherical": vae.model.spherical,
            "noiseless": vae.noiseless,
            "labels": vae.labels,
            "corpus": {"name": self.corpus.name, "sentences": len(self.corpus), "total": self.corpus.total},
            "units": units,
            "maps": [{"name": name, "title": TITLES[name], "ready": name in self.atlas.maps} for name in MAPS],
            "columns": self._columns(),
            "run": self._run(),
        }

    def texts(self) -> Answer:
        return {"texts": self.corpus.texts, "lines": self.corpus.store.lines.tolist()}

    def _columns(self) -> list[Answer]:
        nll = {"name": "nll", "title": "rec (nats)" if self.vae.noiseless else "NLL, by −ELBO (nats)"}
        labels = [
            {"name": f"label-{i}", "title": each.title, "classes": each.classes}
            for i, each in enumerate(self.corpus.labellings)
        ]
        return [*labels, {"name": "length", "title": f"length ({self.vae.tokenizer.unit}s)"}, nll]

    def column(self, name: str, *, wait: bool = False) -> Float[np.ndarray, " N"] | None:
        """One number for each sentence; None while it is measured. Raises KeyError for a name that is none."""
        kind, _, number = name.partition("-")
        if name == "length":
            return self.corpus.store.lengths - 2
        if name == "nll":
            return self.atlas.nll(wait=wait)
        if kind == "label" and number.isdecimal() and int(number) < len(self.corpus.labellings):
            return self.corpus.labellings[int(number)].numbers
        if kind == "dim" and number.isdecimal() and int(number) < self.vae.latent_dim:
            return self.atlas.codes.mean[:, int(number)]
        raise KeyError(name)

    def _run(self) -> Answer:
        if self.config is None:
            return {
                "curves": {"why_none": "this model folder lies in no run"},
                "measured": measured(self.folder),
                "methods": [],
            }
        phases = self.config.train.phases
        methods = [each for phase in phases for each in phase.strategies or ()] or self.config.objective.strategies
        return {
            "curves": training_curves(self.folder.parent),
            "measured": measured(self.folder),
            "methods": [each.model_dump(mode="json", exclude_unset=True) for each in methods],
        }

    # What is asked of the model

    def sentence(self, asked: requests.SentenceRequest) -> Answer:
        """A sentence and its code: what comes back, what lies near, which words the code makes likelier."""
        vae, codes = self.vae, self.vae.encode([asked.text], label=asked.label)
        tokenizer = vae.tokenizer
        pairs = zip(tokenizer.tokens(asked.text), tokenizer.encode(asked.text), strict=True)
        score = vae.score([asked.text], label=asked.label)
        (back,) = self._written(codes.mean, asked.label)
        return {
            "text": asked.text,
            "unknown": [token for token, number in pairs if number == UNK and token != SPECIALS[UNK]],
            "score": {"by": score.by, "nats": float(score.nats[0]), "tokens": int(score.tokens[0])},
            "mean": codes.mean[0].tolist(),
            "std": None if codes.std is None else codes.std[0].tolist(),
            "reconstruction": _shown(back),
            "neighbors": self._neighbors(codes.mean, asked.neighbors),
            "words": self._words(codes.mean, back, asked.label),
            "places": self.atlas.places(codes.mean),
        }

    def path(self, asked: requests.PathRequest) -> Answer:
        """What stands on the way between two sentences, and how likely each step finds its own text."""
        z = self.vae.path(asked.a, asked.b, asked.steps, path=asked.path, label=asked.label)
        steps = [
            {"t": t, **_shown(each)}
            for t, each in zip(fractions(asked.steps), self._written(z, asked.label), strict=True)
        ]
        return {"steps": steps, "places": self.atlas.places(z)}

    def decode(self, asked: requests.DecodeRequest) -> Answer:
        """The text of a code; on a sphere, of the code at length 1 in its direction."""
        z = as_codes([asked.z], self.vae.latent_dim)
        z = on_sphere(z) if self.vae.model.spherical else z
        (written,) = self._written(z, asked.label)
        return {**_shown(written), "places": self.atlas.places(z)}

    def walk(self, asked: requests.WalkRequest) -> Answer:
        """The texts along one unit of a sentence."""
        settings = {"config": self.decoding, "label": asked.label}
        ((walk, texts),) = self.vae.traverse(asked.text, self.atlas.spread, [asked.dim], **settings)
        return {"own": walk.own, "t": walk.t, "texts": texts, "places": self.atlas.places(walk.z)}

    def sum(self, asked: requests.SumRequest) -> Answer:
        """Sentences added and subtracted."""
        texts, weights = [each.text for each in asked.terms], [each.weight for each in asked.terms]
        z = self.vae.combine(texts, weights, label=asked.label)
        (written,) = self._written(z, asked.label)
        near = self._neighbors(z, 5)
        return {**_shown(written), "neighbors": near, "places": self.atlas.places(z)}

    def sample(self, asked: requests.SampleRequest) -> Answer:
        """New sentences; each is drawn on the map where its own code lies."""
        settings = {"temperature": asked.temperature, "top_p": asked.top_p, "max_length": self.decoding.max_length}
        source = self._mixture() if asked.source == "aggregate" else None
        config = DecodeConfig(strategy="sample", **settings)
        label = asked.label or (self.vae.labels[0] if self.vae.labels else None)
        texts = self.vae.sample(asked.n, source=source, seed=asked.seed, config=config, label=label)
        return {"texts": texts, "places": self.atlas.places(self.vae.encode(texts, label=label).mean)}

    def fill(self, asked: requests.FillRequest) -> Answer:
        """Sentences in place of one with gaps."""
        (found,) = self.vae.impute([asked.text], asked.n, label=asked.label)
        return {"found": [asdict(each) for each in found]}

    def diagnose(self, *, wait: bool = False) -> Answer | None:
        """The verdict on the sentences of the map, with its evidence; None while it is measured."""
        return self._diagnose() if wait else self._diagnoses.ask("diagnosis", self._diagnose)

    def _diagnose(self) -> Answer:
        settings = EvalConfig() if self.config is None else self.config.eval
        store = pick(self.corpus.store, subset(len(self.corpus), DIAGNOSED, 0))
        report = evaluate(self.vae, store, split=self.corpus.name, config=settings.model_copy(update=QUICK))
        return {"sentences": len(store), **diagnose(report, self.config).to_dict()}

    def _written(self, z: Float[np.ndarray, "N Z"], label: str | None) -> list[Written]:
        return self.vae.write(z, config=self.decoding, label=label)

    def _neighbors(self, z: Float[np.ndarray, "1 Z"], n: int) -> list[Answer]:
        store = self.corpus.store
        (found,) = nearest_codes(self.atlas.codes.mean, self.vae.tokenizer, store, z, n)
        rows = np.searchsorted(store.lines, [each.line for each in found]).tolist()
        return [
            {"row": row, "text": self.corpus.texts[row], "score": each.score}
            for row, each in zip(rows, found, strict=True)
        ]

    def _words(self, z: Float[np.ndarray, "1 Z"], written: Written, label: str | None) -> Answer:
        codes = torch.from_numpy(np.concatenate([z, self.atlas.codes.mean[self._others]]))
        labels = None if label is None else torch.full((len(codes),), label_number(label, self.vae.labels))
        counts = expected_words(self.vae.model, written.tokens, codes, labels=labels)
        here, elsewhere = counts[0].astype(np.float64), counts[1:].mean(0, dtype=np.float64)
        rise = here - elsewhere
        rise[: len(SPECIALS)] = 0.0
        order = np.argsort(-rise, kind="stable")
        names = self.vae.tokenizer.vocabulary

        def listed(places: np.ndarray) -> list[Answer]:
            return [{"word": names[i], "here": here[i], "elsewhere": elsewhere[i]} for i in places.tolist()]

        more, less = order[:WORDS], order[::-1][:WORDS]
        return {"more": listed(more[rise[more] > 0]), "less": listed(less[rise[less] < 0])}

    def _mixture(self) -> Aggregate:
        with self._fitting:
            if self._aggregate is None:
                self._aggregate = self.vae.fit_aggregate(self.corpus.store)
            return self._aggregate


def _shown(written: Written) -> Answer:
    return {"text": written.text, "log_prob": written.log_prob, "tokens": len(written.tokens) + 1}

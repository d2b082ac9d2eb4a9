"""What is measured of one trained row: report and diagnosis, bounds against the truth, probes, obedience to labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

import seqvae
from seqvae.config import Config
from seqvae.data.grammar import Grammar
from seqvae.data.store import TokenStore, prepare
from seqvae.evaluation.diagnosis import diagnose
from seqvae.evaluation.passes import standard_error
from seqvae.evaluation.probes import bag_of_words, probe
from seqvae.evaluation.surroundings import corpus_grammar, labels_of, texts_of
from seqvae.generation.codes import encode_store

Split = Literal["valid", "test"]

OBEDIENCE_SAMPLES = 500
"""Samples of a conditional model for each label."""


def measure(config: Config, run: Path, sentences: int | None, split: Split = "test") -> dict[str, Any]:
    """Everything about the model of ``run`` on the first ``sentences`` of a split (None: on all); for JSON."""
    facts = facts_of(run)
    vae = seqvae.load(run, device=facts["device"])
    found = prepare(config.data, vae.tokenizer, splits=["train", split], classes=vae.labels).splits
    stores = {"train": found["train"], "test": found[split]}
    texts = {
        "train": texts_of(config.data, "train", found["train"]),
        "test": texts_of(config.data, split, found[split]),
    }
    test = _head(vae, stores["test"], texts["test"], sentences)
    report = seqvae.evaluate(vae, test, split=split, config=config.eval)
    found: dict[str, Any] = {"facts": facts, "report": report.to_dict()}
    found["diagnosis"] = diagnose(report, config).to_dict()
    grammar = corpus_grammar(config.data)
    if grammar is None:
        return found
    if report.elbo_nats is not None:
        given = _given(config, vae, test)
        found["truth"] = against_truth(grammar, texts["test"][: len(test)], given, report.by_sentence)
    if vae.latent_dim > 0:
        found["probes"] = _probes(config, vae, stores, texts, len(test))
    if vae.labels is not None:
        drawn = {label: vae.sample(OBEDIENCE_SAMPLES, seed=0, label=label) for label in vae.labels}
        found["obedience"] = obedience(grammar, config.data.labels, drawn, texts["test"][: len(test)])
    return found


def facts_of(run: Path) -> dict[str, Any]:
    """What a run says of itself."""
    begun = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    return {name: begun[name] for name in ("git", "versions", "device", "device_name", "threads", "precision")}


def _head(vae: seqvae.TextVAE, store: TokenStore, texts: Sequence[str], count: int | None) -> TokenStore:
    some = TokenStore.from_texts(texts[:count], vae.tokenizer)
    return some if store.labels is None else some.with_labels(store.labels[:count], store.classes)


def _given(config: Config, vae: seqvae.TextVAE, test: TokenStore) -> list[dict[str, str]] | None:
    """What the model is told of each sentence, as factors of the grammar; None for an unconditional model."""
    if vae.labels is None:
        return None
    return [{str(config.data.labels): test.classes[label]} for label in test.labels.tolist()]


def against_truth(
    grammar: Grammar,
    texts: Sequence[str],
    given: Sequence[Mapping[str, str]] | None,
    by_sentence: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """The grammar's own NLL (given the label, where the model is), and how far each bound lies above it; nats.

    On average no bound can lie below it: the mean paired difference is at least zero, up to its standard error.
    """
    told = [{}] * len(texts) if given is None else given
    truth = -np.array([grammar.log_prob(text, **known) for text, known in zip(texts, told, strict=True)])
    found: dict[str, Any] = {"nats": float(truth.mean()), "given": given is not None, "above": {}}
    for name in ("elbo", "iw"):
        gap = by_sentence[name] - truth
        found["above"][name] = {"nats": float(gap.mean()), "se": standard_error(gap)}
    return found


def _probes(
    config: Config,
    vae: seqvae.TextVAE,
    stores: Mapping[str, TokenStore],
    texts: Mapping[str, Sequence[str]],
    sentences: int,
) -> dict[str, Any]:
    """Linear probes of every factor on posterior means."""
    counts = {"train": config.eval.probe_sentences, "test": sentences}
    some = {split: _head(vae, store, texts[split], counts[split]) for split, store in stores.items()}
    labels = {split: labels_of(config.data, split, store) for split, store in stores.items()}
    features = {
        split: (encode_store(vae.model, store).mean, bag_of_words(store, vae.tokenizer.vocab_size))
        for split, store in some.items()
    }
    known = {
        factor: probe(
            features["train"],
            labels["train"][factor][: len(some["train"])],
            features["test"],
            labels["test"][factor][: len(some["test"])],
        )
        for factor in sorted(labels["train"])
    }
    return {factor: asdict(found) for factor, found in known.items() if found is not None}


def obedience(
    grammar: Grammar, factor: str, drawn: Mapping[str, Sequence[str]], real: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By label: the share of its samples that the grammar can produce at all, and with the label that was asked for;
    and of the ``real`` sentences, which asked for none, how many it can produce with that label: obeyed by chance."""

    def share(texts: Sequence[str], **given: str) -> float:
        return float(np.mean([np.isfinite(grammar.log_prob(text, **given)) for text in texts]))

    return {
        label: {
            "samples": len(texts),
            "parsed": share(texts),
            "obeyed": share(texts, **{factor: label}),
            "by_chance": share(real, **{factor: label}),
        }
        for label, texts in drawn.items()
    }

"""The full suite for every family of posterior and prior, and for a conditional model."""

import json

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, small_model, store_of

from seqvae.config import Config
from seqvae.evaluation import fluency
from seqvae.evaluation.diagnosis import diagnose
from seqvae.evaluation.report import EvalConfig
from seqvae.evaluation.sections import sections
from seqvae.evaluation.suite import evaluate_fully
from seqvae.evaluation.surroundings import Pairs, Surroundings
from seqvae.models.vae import SeqVAE

SETTINGS = EvalConfig(iw_samples=2, samples=11, paths=4, probe_sentences=30, batch_tokens=400)
PAIRS = Pairs(first=["a b", "c", "d e"], second=["a", "f g", "d"], scores=[3.0, 0.0, 2.5])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(fluency, "PASSES", 1)


def model_of(*settings, labels=None):
    small = ["model.latent_dim=3", "model.encoder.embedding=5", "model.encoder.hidden=6"]
    small += ["model.decoder.embedding=7", "model.decoder.hidden=8"]
    torch.manual_seed(0)
    return SeqVAE(Config.from_dict({}, [*small, *settings]).model, WORDS.vocab_size, labels)


def around(count):
    return Surroundings(
        train=store_of(60, seed=5),
        labels={"long": ([str(row % 2) for row in range(60)], [str(row % 2) for row in range(count)])},
        groups=np.arange(count) // 3,
        parses=lambda text: text.startswith("a"),
        obeys=lambda text, label: label == "x",
        pairs=PAIRS,
        language_model=fluency.LanguageModel(small_model(latent_dim=0), WORDS),
    )


def measured(model, store, **settings):
    return evaluate_fully(model, WORDS, store, split="test", around=around(len(store)), config=SETTINGS, **settings)


@pytest.mark.parametrize(
    ("posterior", "prior", "splits"),
    [
        ("gaussian", "standard", True),
        ("batchnorm", "standard", True),
        ("delta", "standard", True),
        ("iaf", "standard", False),
        ("vmf", "sphere", False),
        ("gaussian", "mixture", False),
        ("gaussian", "vamp", False),
    ],
)
def test_the_suite_measures_every_family_and_says_none_of_what_it_does_not_have(posterior, prior, splits):
    model = model_of(f"model.posterior={{family: {posterior}}}", f"model.prior={{family: {prior}}}")
    found = measured(model, store_of(40))
    written = found.to_dict()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    aggregate = found.aggregate_posterior
    assert np.isfinite([aggregate.hole_nats, aggregate.batch_mi_nats]).all()
    assert (aggregate.continuous_units is not None) == splits
    assert (found.interpolation.lerp is None) == (posterior == "vmf")
    assert found.samples_from == "prior"
    assert found.similarity.pairs == 3
    assert found.probes["long"].train_sentences == 30
    assert found.retrieval.sentences <= 30
    assert (diagnose(found.basic).units is None) == (found.basic.active_units is None)
    shown, parts = found._repr_html_(), list(sections(found))
    assert shown.count("<table") == 1 + len(parts) == 7
    assert all(f">{part.title}<" in shown for part in parts)


def test_the_suite_repeats_and_leaves_modes_and_random_state_alone():
    surroundings, model, store = around(40), small_model(), store_of(40)
    before = torch.get_rng_state()
    settings = {"split": "test", "around": surroundings, "config": SETTINGS}
    one, same = (evaluate_fully(model, WORDS, store, **settings).to_dict() for _ in range(2))
    assert one == same
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_the_suite_does_not_depend_on_batch_size():
    model, store = small_model(), store_of(40)
    one, other = (
        evaluate_fully(
            model, WORDS, store, split="t", around=around(40), config=SETTINGS.model_copy(update={"batch_tokens": size})
        )
        for size in (13, 10_000)
    )
    assert one.samples == other.samples
    assert one.interpolation == other.interpolation
    assert one.probes == other.probes
    assert one.aggregate_posterior.hole_nats == pytest.approx(other.aggregate_posterior.hole_nats, abs=1e-4)


def test_a_conditional_model_is_asked_for_labels_and_its_obedience_is_measured():
    labels = np.arange(40, dtype=np.int32) % 2
    model = model_of("model.conditional={}", labels=("x", "y"))
    store = store_of(40).with_labels(labels, ("x", "y"))
    train = store_of(60, seed=5).with_labels(np.arange(60, dtype=np.int32) % 2, ("x", "y"))
    settings = vars(around(40)) | {"train": train}
    found = evaluate_fully(model, WORDS, store, split="test", around=Surroundings(**settings), config=SETTINGS)
    assert 0 < found.samples.obeyed < 1
    assert found.similarity is None
    assert found.interpolation.pairs == 4
    assert measured(small_model(), store_of(40)).samples.obeyed is None


def test_without_surroundings_the_model_alone_is_measured():
    found = evaluate_fully(small_model(), WORDS, store_of(40), split="test", config=SETTINGS)
    assert (found.probes, found.retrieval, found.similarity) == ({}, None, None)
    assert found.samples.novelty is None

"""Every config that comes with seqvae is valid and trains, as it stands but for its length."""

import json
import re

import pytest

import seqvae
from seqvae.config import Config, find_config, shipped_configs
from seqvae.objectives.registry import strategy_types

STEPS = 2
SHORT = [f"train.steps={STEPS}", "train.log_every=1", "train.device=cpu", "train.threads=1", "data.batch_size=4"]


def test_there_are_configs():
    assert {"tiny.yaml", "tiny-lm.yaml", "sketch.yaml", "ptb.yaml"} <= set(shipped_configs())
    assert len(shipped_configs()) > 6


@pytest.mark.parametrize("name", shipped_configs())
def test_a_shipped_config_trains_two_steps_in_every_phase(name, away):
    config = Config.from_yaml(name, SHORT)
    run = seqvae.train(config, out="run")
    assert run.finished
    events = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    phases = max(1, len(config.train.phases))
    assert [event["event"] for event in events].count("phase") == phases
    assert [event["phase_step"] for event in events if event["event"] == "train"] == [1, 2] * phases
    assert events[-1]["step"] == STEPS * phases
    vae = run.load()
    assert vae.latent_dim == config.model.latent_dim
    if not vae.noiseless:
        assert len(vae.sample(2)) == 2


@pytest.mark.parametrize("name", shipped_configs())
def test_a_shipped_config_says_what_it_is_and_how_it_is_run(name):
    first, *_ = text = find_config(name).read_text(encoding="utf-8").splitlines()
    assert re.match(r"# [A-Z].{20,}", first)
    assert f"#   seqvae train --config {name}" in text


def test_every_method_has_a_recipe_that_uses_it():
    for name in strategy_types():
        config = Config.from_yaml(f"recipes/{name}.yaml")
        used = [
            *config.objective.strategies,
            *(each for phase in config.train.phases for each in phase.strategies or ()),
        ]
        assert name in {strategy.name for strategy in used}


def test_the_sketch_is_the_network_that_it_says():
    model = Config.from_yaml("sketch.yaml").model
    assert (model.encoder.embedding, model.encoder.hidden, model.decoder.hidden) == (100, 200, 100)


def test_ptb_is_the_network_of_the_published_comparisons():
    config = Config.from_yaml("ptb.yaml")
    encoder, decoder = config.model.encoder, config.model.decoder
    assert (encoder.embedding, encoder.hidden, decoder.embedding, decoder.hidden) == (256, 256, 256, 256)
    assert (config.model.latent_dim, config.data.batch_size, config.data.equal_length) == (32, 32, True)


def test_the_language_model_beside_tiny_has_its_decoder_and_its_data():
    tiny, other = Config.from_yaml("tiny.yaml"), Config.from_yaml("tiny-lm.yaml")
    assert other.model.latent_dim == 0
    assert other.model.decoder == tiny.model.decoder
    assert other.data == tiny.data

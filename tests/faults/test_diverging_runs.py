"""Training that goes wrong, by the command: no update is made of numbers that are none, and none is ever the best."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from seqvae.io import manifests
from seqvae.io.tensors import load_tensors
from seqvae.models.vae import SeqVAE
from seqvae.training.state import newest_intact

TRAIN = ("train", "--config", "small.yaml", "--set", "train.save_every=4", "--set", "train.log_every=1")
NAN, INF = math.nan, math.inf
PLACES: dict[str, Callable[[SeqVAE], nn.Module | nn.Parameter]] = {
    "what the logits are made of": lambda model: model.decoder,
    "logvar": lambda model: model.posterior.linear,
    "one gradient": lambda model: model.posterior.linear.weight,
}


def spoil(monkeypatch, place: str, value: float, when: Callable[[int], bool], *, training: bool = True) -> None:
    """Add ``value`` to the last number of a tensor in each update, or each validation after it, that ``when`` names."""
    amortised, updates, now, hooked = SeqVAE.amortised, [-1], [False], []  # the largest batch is tried before the first

    def plus(tensor):
        more = torch.zeros_like(tensor)
        more[(-1,) * tensor.ndim] = value if now[0] else 0.0
        return tensor + more

    def counted(model, batch):
        if model not in hooked:
            hooked.append(model)
            target = PLACES[place](model)
            if isinstance(target, nn.Parameter):
                target.register_hook(plus)
            else:
                target.register_forward_hook(lambda module, inputs, found: plus(found))
        updates[0] += model.training
        now[0] = model.training == training and when(updates[0])
        return amortised(model, batch)

    monkeypatch.setattr(SeqVAE, "amortised", counted)


def events(name: str) -> list[dict]:
    lines = Path("run/metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if f'"event": "{name}"' in line]


@pytest.mark.parametrize(
    ("place", "value"),
    [(place, value) for place in PLACES for value in (NAN, INF) if (place, value) != ("logvar", INF)],
)
def test_a_run_ends_with_5_before_an_update_that_is_not_finite(desk, monkeypatch, place, value):
    """What is left can be gone on with, and comes to where it would have come. An infinite logvar is clamped."""
    assert desk(*TRAIN, "--out", "whole").exit_code == 0
    with monkeypatch.context() as patch:
        spoil(patch, place, value, lambda update: update == 7)
        result = desk(*TRAIN, "--out", "run")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "error[E501]: " in result.stderr
    assert "step 7; the update was not applied" in result.stderr
    assert [event["step"] for event in events("train")] == list(range(1, 7))
    (kept,) = Path("run/diverged").iterdir()
    manifests.verify(kept)
    assert all(torch.isfinite(tensor).all() for tensor in load_tensors(kept / "model.safetensors").values())
    assert newest_intact(Path("run/checkpoints"))[0].progress.step == 4
    assert desk("train", "--resume", "run").exit_code == 0
    whole, resumed = (Path(name, "model/model.safetensors").read_bytes() for name in ("whole", "run"))
    assert resumed == whole


def test_a_run_may_go_back_by_itself_and_come_to_an_end(desk, monkeypatch):
    spoil(monkeypatch, "logvar", NAN, lambda forwards: forwards == 7)
    result = desk(*TRAIN, "--out", "run", "--set", "train.on_divergence=rollback")
    assert result.exit_code == 0, result.stderr
    assert "note     diverged at update 7: back to 4, with 0.5 of the learning rate\n" in result.stderr
    assert events("valid")[-1]["step"] == 30


def test_a_run_that_diverges_again_and_again_ends_with_5(desk, monkeypatch):
    spoil(monkeypatch, "logvar", NAN, lambda forwards: forwards >= 7)
    result = desk(*TRAIN, "--out", "run", "--set", "train.on_divergence=rollback")
    assert result.exit_code == 5
    assert result.stderr.count("back to 4") == 3
    assert "error[E501]" in result.stderr


def test_an_infinite_log_variance_is_clamped(desk, monkeypatch):
    spoil(monkeypatch, "logvar", INF, lambda update: update == 7)
    result = desk(*TRAIN, "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert [event["step"] for event in events("train") if event.get("logvar_clamped")] == [7]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_first_validation_that_is_no_number_is_not_the_best(desk, monkeypatch, value):
    spoil(monkeypatch, "what the logits are made of", value, lambda update: 0 < update <= 10, training=False)
    result = desk(*TRAIN, "--out", "run")
    assert result.exit_code == 0, result.stderr
    first, *others = events("valid")
    assert (first["step"], first["best"], others[0]["best"]) == (10, False, True)
    (end,) = events("end")
    assert end["best"] == min(event["elbo_nats"] for event in others)
    assert f"best     {end['best']:.2f} nats at update {end['best_step']}\n" in result.stderr


def test_a_run_whose_validations_are_no_numbers_ends_with_5(desk, monkeypatch):
    spoil(monkeypatch, "what the logits are made of", NAN, lambda update: update > 0, training=False)
    result = desk(*TRAIN, "--out", "run")
    assert result.exit_code == 5
    assert "error[E502]" in result.stderr
    assert not Path("run/model").exists()


def test_collapse_is_told_and_an_error_only_where_that_is_asked_for(desk):
    few = ("train", "--config", "small.yaml", "--set", "train.epochs=1")
    assert desk(*few, "--out", "run").exit_code == 0
    told = desk("eval", "--model", "run")
    assert told.exit_code == 0
    assert "\nCollapsed: q(z|x) is the prior" in told.stdout
    assert "\n  next: " in told.stdout
    error = desk(*few, "--out", "other", "--fail-on-collapse")
    assert (error.exit_code, error.stdout) == (5, "")
    assert "error[E506]: Collapsed" in error.stderr
    assert Path("other/model").is_dir(), "what was trained is kept"
    language_model = desk(*few, "--out", "lm", "--fail-on-collapse", "--set", "model.latent_dim=0")
    assert language_model.exit_code == 0
    assert "latent   A language model" in language_model.stderr

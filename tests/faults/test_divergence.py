"""A run that diverges: what is kept of it, and the way back that the settings may allow."""

import json

import pytest
import torch
from training_toys import Events, bytes_of, last_checkpoint, phase_of, stopped_at, store_of, toy_trainer

from seqvae import gaussian
from seqvae.errors import SeqVAEError
from seqvae.io import manifests
from seqvae.io.tensors import load_tensors
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.training import divergence
from seqvae.training import phases as phases_module
from seqvae.training.loggers import Rows


class BadConfig(StrategyConfig):
    name: str = "bad"
    above: float = 0.006
    """Learning rates at which update 6 diverges, half and a quarter of them not."""


class Bad(Strategy):
    def before_update(self, loop):
        self.lr = loop.stage.learning_rate(loop.progress)
        if loop.step == 5:
            self.before = bytes_of(loop.model)

    def penalty(self, terms, batch, step, generator):
        wrong = step == 5 and getattr(self, "lr", 0.0) > self.config.above
        return terms.z.mean() * float("nan") if wrong else 0.0


@pytest.fixture(autouse=True, params=[1, 7], ids=["told at once", "told at the next update"])
def log_every(request, monkeypatch):
    """On a CPU it is known at once that an update was not finite, on a GPU later; a line of the log waits for it."""
    build = phases_module.build_strategy
    monkeypatch.setattr(phases_module, "build_strategy", lambda c: Bad(c) if isinstance(c, BadConfig) else build(c))
    monkeypatch.setitem(TRAIN, "log_every", request.param)
    if request.param > 1:
        monkeypatch.setattr(divergence, "_LATER", {"cpu"})
    return request.param


TRAIN = {"steps": 11, "save_every": 2, "validate_every": 4}


def bad_trainer(folder, above=0.006, observe=None, **train):
    changes = {"train": {**TRAIN, **train}}
    phases = [phase_of(folder, BadConfig(above=above), **changes)]
    return toy_trainer(folder, phases=phases, observe=observe, **changes)


ROLLBACK = {"on_divergence": "rollback"}


def test_what_diverged_is_kept_whole_for_study(tmp_path):
    trainer = bad_trainer(tmp_path)
    with pytest.raises(SeqVAEError, match="step 6; the update was not applied") as caught:
        trainer.fit()
    assert (caught.value.code, caught.value.exit_code) == ("E501", 5)
    (folder,) = (tmp_path / "diverged").iterdir()
    manifests.verify(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    (rows,) = state["rows"]
    assert state["step"] == 6
    assert state["loss"] is None
    assert state["last"]["rows"] == rows
    assert len(state["last"]["rec_nats"]) == len(state["last"]["kl_nats"]) == len(rows)
    norms = state["gradient_norms"]
    assert norms["encoder.embedding.weight"] is None
    assert norms["decoder.embedding.weight"] > 0  # which of them was at fault can be told
    assert bytes_of(load_tensors(folder / "model.safetensors")) == bytes_of(trainer.model)
    (bad,) = trainer.objective.strategies
    assert bytes_of(trainer.model) == bad.before
    batch = load_tensors(folder / "batches.safetensors")
    store = store_of(37)
    for row, tokens, length in zip(rows, batch["0.tokens"], batch["0.lengths"], strict=True):
        assert tokens[:length].tolist() == store[row].tolist()


def test_a_run_that_may_go_back_does_so_with_a_lower_learning_rate(tmp_path, log_every):
    trainer = bad_trainer(tmp_path, above=0.003, **ROLLBACK)
    assert trainer.fit()
    notes = [note["text"] for note in trainer.task.observe.of("note")]
    assert notes == [
        "diverged at update 6: back to 4, with 0.5 of the learning rate",
        "diverged at update 6: back to 4, with 0.25 of the learning rate",
    ]
    rates = [event["lr"] for event in trainer.task.observe.of("train")]
    assert rates == pytest.approx([0.01] * 5 + [0.005] + [0.0025] * 7 if log_every == 1 else [0.0025])
    assert trainer.progress.step == 11
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


def test_it_goes_back_so_often_and_no_more(tmp_path):
    trainer = bad_trainer(tmp_path, above=0.0, max_rollbacks=2, **ROLLBACK)
    with pytest.raises(SeqVAEError) as caught:
        trainer.fit()
    assert caught.value.code == "E501"
    assert len(trainer.task.observe.of("note")) == 2
    assert last_checkpoint(trainer).progress.rollbacks == 2


def test_a_run_that_diverges_before_its_first_checkpoint_goes_back_to_its_beginning(tmp_path):
    trainer = bad_trainer(tmp_path, save_every=None, validate_every=8, **ROLLBACK)
    assert trainer.fit()
    assert [note["text"] for note in trainer.task.observe.of("note")] == [
        "diverged at update 6: back to 0, with 0.5 of the learning rate"
    ]


def test_a_run_that_went_back_resumes_bit_by_bit(tmp_path):
    whole = bad_trainer(tmp_path / "whole", **ROLLBACK)
    assert whole.fit()
    first = stopped_at(7, lambda observe: bad_trainer(tmp_path / "run", observe=observe, **ROLLBACK))
    second = bad_trainer(tmp_path / "run", **ROLLBACK)
    assert second.fit(last_checkpoint(first))
    assert bytes_of(second.model) == bytes_of(whole.model)
    assert first.task.observe.timeless() + second.task.observe.timeless() == whole.task.observe.timeless()


def test_another_error_is_no_reason_to_go_back(tmp_path):
    class Breaks(Events):
        def __call__(self, event):
            super().__call__(event)
            if event["event"] == "train":
                raise SeqVAEError("E701", "the disk is full", hint="free some room")

    trainer = bad_trainer(tmp_path, observe=Breaks(), log_every=5, **ROLLBACK)
    with pytest.raises(SeqVAEError, match="the disk is full"):
        trainer.fit()
    assert not (tmp_path / "diverged").exists()


def test_an_encoder_that_explodes_is_told_of_once(tmp_path):
    trainer = toy_trainer(tmp_path, train={"steps": 3, "optimizer": {"name": "sgd", "lr": 1e-9}})
    with torch.no_grad():
        trainer.model.posterior.linear.weight.mul_(1e6)
    assert trainer.fit()
    events = trainer.task.observe.of("train")
    assert all(event["logvar_clamped"] > 0.3 for event in events)
    rows = Rows()
    rows.render(trainer.task.observe.of("phase")[0], train_rows=False)
    lines = [line for event in events for line in rows.render(event, train_rows=False)]
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "of the log-variances are at an end of their range; the KL has come to" in warning
    assert gaussian.LOGVAR_RANGE == (-30.0, 20.0)


def test_a_run_that_is_well_has_no_warning(tmp_path):
    trainer = toy_trainer(tmp_path, train={"steps": 3})
    assert trainer.fit()
    assert all("logvar_clamped" not in event for event in trainer.task.observe.of("train"))

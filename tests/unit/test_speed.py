"""What `seqvae bench` measures: the settings' own updates, every part of them, and nothing left behind."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_toys import WORDS, bytes_of, settings, store_of, toy_trainer
from typer.testing import CliRunner

from seqvae import machine
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.machine import Ceiling
from seqvae.speed import Part, Rate, Rehearsal, SpeedReport, measure_speed
from seqvae.speed_advice import advise
from seqvae.training.runtime import Runtime

MODELS = {
    "vae": {},
    "language model": {"model": {"latent_dim": 0}},
    "three samples": {"objective": {"samples": 3, "strategies": [{"name": "importance_weighted"}]}},
    "two phases": {"train": {"phases": [{"name": "one"}, {"name": "two", "reset": ["decoder"]}]}},
    "batches summed": {"train": {"accumulate": 3}},
    "momentum": {"train": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}},
    "an adversary": {"objective": {"strategies": [{"name": "adversarial"}]}},
    "deterministic": {"train": {"deterministic": True}},
}


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch):
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 256})
    monkeypatch.setattr(machine, "_COPIED_BYTES", {"cpu": 1 << 16})


@pytest.mark.parametrize("sections", MODELS.values(), ids=MODELS)
def test_every_kind_of_run_is_measured_and_leaves_nothing_behind(sections, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.from_dict(settings(**sections))
    threads = torch.get_num_threads()
    report = measure_speed(config, store_of(64), WORDS.vocab_size, seconds=0.05)
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads
    names = [part.name for part in report.parts]
    encoder = ["encoder"] if config.model.latent_dim else []
    assert names == ["data", *encoder, "decoder", "output", "optimizer", "rest"]
    assert sum(part.share for part in report.parts) == pytest.approx(1.0)
    assert report.epoch_seconds * report.training.tokens_per_s == pytest.approx(store_of(64).stats.tokens)
    assert report.training.tokens_per_s == pytest.approx(report.tokens_per_update / report.update_seconds)
    most = 5 * config.train.accumulate
    assert most - 5 < report.sentences_per_update <= most
    assert all(rate.tokens_per_s > 0 for rate in (report.training, report.scoring, report.writing))
    assert set(report.trials) == {"data.batch_size=10", "data.batch_size=20"}


def test_a_rehearsal_makes_the_updates_of_a_run(tmp_path):
    """The same weights as a trainer's after the same batches, but for what a run writes."""
    train = {"steps": 3, "validate_every": 3, "clip_norm": 0.5}
    trainer = toy_trainer(tmp_path, train=train)
    model = copy.deepcopy(trainer.model)
    config = Config.from_dict(settings(train=train))
    torch.manual_seed(5)
    rehearsal = Rehearsal(config, model, store_of(37), Runtime.choose(config.train))
    for rows in rehearsal.task.plan(0)[:3]:
        rehearsal.train_on([rows])
    assert rehearsal.step == 3
    torch.manual_seed(5)
    assert trainer.fit()
    assert trainer.progress.best_step == 3
    assert bytes_of(model) == bytes_of(trainer.model)


def report_of(**changes) -> SpeedReport:
    parts = [
        Part(name="output", seconds=0.06, share=0.6, ceiling_share=0.9),
        Part(name="rest", seconds=0.04, share=0.4, ceiling_share=None),
    ]
    report = SpeedReport(
        device="cpu",
        precision="fp32",
        threads=2,
        load=0.5,
        parameters=7,
        vocab_size=9,
        sentences_per_update=32.0,
        tokens_per_update=700.0,
        padding_share=0.0,
        update_seconds=0.1,
        training=Rate(tokens_per_s=7_000.0, ceiling_share=0.5),
        epoch_seconds=60.0,
        parts=parts,
        scoring=Rate(tokens_per_s=1.0, ceiling_share=0.5),
        scoring_samples=32,
        writing=Rate(tokens_per_s=1.0, ceiling_share=0.5),
        peak_bytes=None,
        ceiling=Ceiling(fp32_flops_per_s=1e11, bf16_flops_per_s=1e10, bytes_per_s=1e10),
        trials={"train.threads=1": 7_100.0, "data.batch_size=64": 7_500.0},
    )
    return replace(report, **changes)


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, ["nothing that was tried is faster by a tenth"]),
        ({"trials": {"train.threads=1": 14_000.0}}, ["--set train.threads=1: 2.0 times as many tokens a second"]),
        ({"trials": {"data.batch_size=64": 8_400.0}}, ["--set data.batch_size=64: 1.2 times"]),
        ({"padding_share": 0.3}, ["--set data.equal_length=true: 30% of every batch is padding"]),
        ({"load": 3.0}, ["other programs are at work (load 3.0)"]),
        (
            {"ceiling": Ceiling(fp32_flops_per_s=1e11, bf16_flops_per_s=5e11, bytes_per_s=1e10)},
            ["--set train.precision=bf16: products are 5.0 times as fast, an update up to 1.9 times"],
        ),
        ({"precision": "bf16"}, ["--set train.precision=fp32: products in bf16 run at 10% of the speed of fp32 here"]),
    ],
)
def test_advice_follows_from_what_was_measured(changes, advice):
    found = advise(report_of(**changes))
    assert len(found) == len(advice)
    for line, beginning in zip(found, advice, strict=True):
        assert line.startswith(beginning)


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> Path:
    from training_toys import write_corpus

    monkeypatch.chdir(tmp_path)
    config = Config.from_dict(settings(data=write_corpus(tmp_path)))
    (tmp_path / "toy.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return tmp_path


def bench(*words: str):
    return CliRunner().invoke(app, ["bench", "--config", "toy.yaml", *words], prog_name="seqvae")


def test_the_table_has_a_unit_for_every_number(corpus):
    result = bench("--seconds", "0.1")
    assert result.exit_code == 0, result.stderr
    for shown in ("tokens/s", " ms", " MB at most", "billion operations/s", "GB/s", "of the machine's best", "advice"):
        assert shown in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120
    assert sorted(path.name for path in corpus.iterdir()) == ["toy.yaml", "train.txt", "valid.txt"]


def test_the_json_has_what_the_table_has_and_the_advice(corpus):
    result = bench("--seconds", "0.1", "--json", "--set", "model.latent_dim=0")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["training"]["tokens_per_s"] > 0
    assert found["advice"]
    assert [part["name"] for part in found["parts"]] == ["data", "decoder", "output", "optimizer", "rest"]


def test_what_training_refuses_bench_refuses(corpus):
    result = bench("--set", "train.device=cuda:7")
    assert result.exit_code == 2
    assert "error[E207]" in result.stderr

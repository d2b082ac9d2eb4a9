"""The tables beside published numbers: what they ask for, what the page says, and that nothing is done twice."""

import argparse
import json

import pytest
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from benchmarks import trainings
from benchmarks.published import __main__ as published
from benchmarks.published.page import page, read_done
from benchmarks.published.tables import read_table, tables

REPORT = {
    "ppl_iw": 101.25, "iw_nats": 101.5, "iw_se": 0.75, "elbo_nats": 102.5, "elbo_se": 0.5, "kl_nats": 6.5,
    "kl_se": 0.25, "rec_nats": 96.0, "rec_se": 0.5, "mi_nats": 5.25, "mi_se": 0.125, "active_units": 31,
    "swap_gap_nats": 7.5, "swap_gap_se": 0.25, "iw_samples": 500,
}  # fmt: skip
FACTS = {"git": "0123456789abcdef", "versions": {"torch": "2.13"}, "device": "cpu", "device_name": "some processor",
         "threads": 2, "precision": "fp32"}  # fmt: skip


def done(row, seed=0, failed=None, steps=None, **numbers):
    found = {"row": row, "seed": seed, "steps": steps, "failed": failed, "facts": FACTS, "seconds": {"wall": 5_400.0}}
    return found if failed else {**found, "report": {**REPORT, **numbers}}


def every(spec, **rows):
    return {name: rows.get(name, []) for name in spec.rows}


@pytest.mark.parametrize("name", tables())
def test_every_row_of_a_table_can_be_trained(name):
    spec = read_table(name)
    for row in spec.rows:
        config = spec.config_of(row, 3)
        assert config.train.seed == 3
        assert config.eval.iw_samples == spec.base["eval"]["iw_samples"]
        short = spec.config_of(row, 3, updates=7, iw_samples=11, iw_precision="bf16")
        assert (short.train.steps, short.eval.iw_samples, short.eval.precision) == (7, 11, "bf16")


def test_rows_of_the_schedule_of_the_papers_differ_in_their_method_alone():
    spec = read_table("ptb")
    plain, model = (spec.config_of(row, 0) for row in ("monotonic", "language_model"))
    assert model.model.latent_dim == 0
    assert plain.train == model.train == spec.config_of("aggressive", 0).train
    assert plain.model == spec.config_of("cyclical", 0).model == spec.config_of("ae_pretraining", 0).model
    assert spec.config_of("ae_pretraining", 0).train.phases[0].strategies[0].beta == 0


def test_several_seeds_give_mean_deviation_and_the_distance_to_the_published_figure():
    spec = read_table("ptb")
    text = page("ptb", spec, every(spec, ae_pretraining=[
        done("ae_pretraining", seed, ppl_iw=value) for seed, value in enumerate((96.5, 97.5, 98.5))
    ]))  # fmt: skip
    assert "| `ae_pretraining` (3 seeds, k = 500) | 97.50 ± 1.00 | 101.50 ± 0.00 |" in text
    assert "| *published* | 96.86 |  | 102.41 | 6.54 | 95.87 | 5.31 | 32 |" in text
    assert "PPL (IW) +0.64 against the published figure, within the bar of +1." in text
    assert "| 1.50 |" in text  # hours


def test_bounds_in_bf16_are_said_to_be_so():
    spec = read_table("ptb")
    text = page("ptb", spec, every(spec, monotonic=[done("monotonic", precision="bf16")]))
    assert "| `monotonic` (1 seed, k = 500, bounds in bf16) |" in text


def test_a_number_beyond_its_bar_says_so_and_one_seed_has_the_error_of_its_sentences():
    spec = read_table("ptb")
    text = page("ptb", spec, every(spec, language_model=[done("language_model", kl_nats=None, ppl_iw=102.0)]))
    assert "| `language_model` (1 seed, k = 500) | 102.00 | 101.50 ± 0.75 | 102.50 ± 0.50 | - |" in text
    assert "PPL (IW) +1.53 against the published figure, **outside** the bar of +1." in text
    assert "**Not done yet**: `language_model` (seed 1, 2), `autoencoder` (seed 0)" in text


def test_a_trial_and_a_row_that_diverged_are_called_so():
    spec = read_table("yelp_short")
    text = page("yelp_short", spec, every(
        spec, monotonic=[done("monotonic", steps=6)], batchnorm=[done("batchnorm", failed="E501: not finite")]
    ))  # fmt: skip
    assert "**A trial of the script, with 6 updates a phase: the numbers mean nothing.**" in text
    assert "- `batchnorm` diverged: E501: not finite" in text


def test_what_is_kept_is_not_done_again_and_leaves_config_and_curve(tmp_path, monkeypatch):
    calls = []

    def train(config, *, resume, allow_change, observers):
        calls.append(config.model.latent_dim)
        resume.mkdir(parents=True)
        event = {"event": "valid", "step": 7, "elbo_nats": 12.5, "rec_nats": 11.5, "kl_nats": 1.0}
        (resume / "metrics.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
        return argparse.Namespace(finished=True)

    monkeypatch.setattr(trainings, "train", train)
    monkeypatch.setattr(trainings, "measure", lambda *_: {"report": REPORT, "facts": FACTS})
    asked = ["yelp_short", "--rows", "language_model", "--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")]
    published.main(asked)
    published.main(asked)
    assert calls == [0]
    folder = tmp_path / "r" / "yelp_short" / "language_model" / "seed-0"
    assert (folder / "curve.csv").read_text() == "step,elbo_nats,rec_nats,kl_nats\n7,12.5,11.5,1\n"
    assert "latent_dim: 0" in (folder / "config.yaml").read_text()
    assert [len(some) for some in read_done(folder.parents[1], read_table("yelp_short")).values()] == [1, 0, 0, 0]
    with pytest.raises(SystemExit, match="was made with other config"):
        published.main([*asked, "--iw-samples", "3"])


def test_a_trained_row_can_be_measured_otherwise(tmp_path):
    asked = ["tiny_rate", "--rows", "target_2", "--steps", "3", "--sentences", "5", "--work", str(tmp_path / "w")]
    for results, measuring in (("a", ["--iw-samples", "2"]), ("b", ["--iw-samples", "3", "--iw-precision", "bf16"])):
        published.main([*asked, "--results", str(tmp_path / results), *measuring])
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(tmp_path.glob("*/*/*/*/eval.json"))]
    assert [(each["report"]["iw_samples"], each["report"]["precision"]) for each in found] == [(2, "fp32"), (3, "bf16")]
    assert len(list(tmp_path.glob("w/*/*/*/run"))) == 1


@pytest.mark.parametrize(("precision", "hardware", "rounded"), [
    ("bf16", False, True), ("bf16", True, False), ("fp32", False, False)
])  # fmt: skip
def test_bf16_without_hardware_is_made_of_fp32_and_told(tmp_path, monkeypatch, precision, hardware, rounded):
    seen = []
    monkeypatch.setattr(published, "gains_from_bf16", lambda device: hardware)
    monkeypatch.setattr(trainings, "_finish", lambda *_: seen.append(is_in_torch_dispatch_mode()))
    monkeypatch.setattr(trainings, "measure", lambda *_: {"report": REPORT, "facts": FACTS})
    monkeypatch.setattr(published, "_curve", lambda run: "")
    folders = ["--work", str(tmp_path / "w"), "--results", str(tmp_path / "r")]
    published.main(["ptb_precision", "--rows", precision, *folders])
    assert seen == [rounded]
    assert (" made of fp32;" in (tmp_path / "r/ptb_precision.md").read_text(encoding="utf-8")) is rounded


def test_a_row_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(SystemExit, match="there is no row vmf in this table, but language_model, monotonic"):
        published.main(["yelp_short", "--rows", "vmf", "--page-only"])


def test_a_trial_never_writes_beside_the_real_numbers():
    arguments = published._parse(["ptb", "--steps", "6"])
    assert arguments.results.is_relative_to(arguments.work)
    assert published._parse(["ptb"]).results == published.RESULTS

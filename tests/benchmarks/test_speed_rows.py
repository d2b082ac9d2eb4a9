"""The measurements of speed: rows of the right sizes, ratios of what took turns, a page that says what was not run."""

import json

import pytest
import torch

from benchmarks.speed import __main__ as runner
from benchmarks.speed import material, measured, memory, page, row, scoring, training, writing
from benchmarks.speed.rows import ROWS
from seqvae import machine
from seqvae.data.batching import epoch_plan
from seqvae.types import BOS, EOS

SMALL = {
    "model.encoder.embedding": 7,
    "model.encoder.hidden": 9,
    "model.decoder.embedding": 11,
    "model.decoder.hidden": 11,
    "model.latent_dim": 5,
    "train.threads": 1,
}


@pytest.fixture
def small(monkeypatch):
    """The same measurements on a network and texts that take no time."""
    whole = material.ptb_config
    for module in (material, training, scoring, writing):
        monkeypatch.setattr(module, "ptb_config", lambda device, **changes: whole(device, **(SMALL | changes)), False)
        monkeypatch.setattr(module, "PTB_VOCABULARY", 50, False)
    for name in ("PTB_TRAIN", "PTB_TEST"):
        monkeypatch.setattr(material, name, 300)
    monkeypatch.setattr(training, "LARGE", {"embedding": 6, "hidden": 13})
    monkeypatch.setattr(training, "LARGE_VOCABULARY", 70)
    monkeypatch.setattr(measured, "CEILING_S", {True: 0.0})
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 256})
    monkeypatch.setattr(machine, "_COPIED_BYTES", {"cpu": 1 << 16})


def test_every_bar_has_a_row_on_the_device_that_it_is_for():
    bars = {name: row.bar for name, row in ROWS.items()}
    assert (bars["train-32-cpu"], bars["train-128-cpu"], bars["train-large-cpu"], bars["train-32-cuda"]) == (3, 4, 2, 3)
    assert (bars["iw-cpu"], bars["iw-cuda"]) == (3, 5)
    assert all(bars[f"{name}-{device}"] == 10 for name in ("greedy", "sample", "beam") for device in ("cpu", "cuda"))
    assert bars["memory-cpu"] == bars["memory-cuda"] == 4
    assert all(name.endswith(f"-{each.device}") for name, each in ROWS.items())


def test_text_that_is_made_has_the_sizes_of_penn_treebank():
    store = material.synthetic(4_000, 10_000, seed=1)
    assert len(store) == 4_000
    assert abs(store.stats.tokens / 4_000 - 21.9) < 0.7
    assert 8 < store.lengths.std() < 12
    assert 0 < store.lengths.min() <= 3
    assert set(store.tokens[store.tokens < 4].tolist()) == {BOS, EOS}
    assert store.tokens.max() == pytest.approx(9_999, abs=200)


def test_the_config_that_is_measured_is_that_of_penn_treebank_in_one_plain_phase():
    config = material.ptb_config("cpu", **{"data.batch_size": 128})
    model = config.model
    assert (model.encoder.embedding, model.encoder.hidden, model.decoder.hidden, model.latent_dim) == (256,) * 3 + (32,)
    assert (config.train.phases, config.objective.strategies, config.data.equal_length) == ((), (), True)


@pytest.mark.parametrize("name", [name for name, each in ROWS.items() if each.device == "cpu" and "memory" not in name])
def test_a_row_is_measured_and_its_sides_agree(name, small):
    found = ROWS[name].measure("cpu", True)
    assert found.ratio == pytest.approx(found.seqvae / found.textbook)
    assert 0 < found.low <= found.high
    assert [len(times) for times in found.seconds.values()] == [2, 2]
    assert all(flops > 0 or moved > 0 for flops, moved in found.work.values())
    if name.startswith(("train", "iw")):
        assert float(found.agreement.partition("differ by ")[2].split()[0]) < 1e-3
    elif not name.startswith("sample"):
        assert found.agreement == "4 of 4 sentences are the same"


def test_sentences_are_scored_in_whole_batches_of_one_length():
    store = material.synthetic(3_000, 40)
    part = scoring._part(store, 500, 3)
    padded = sum(
        len(rows) * part.lengths[rows].max() for rows in epoch_plan(part.lengths, seed=0, epoch=0, batch_size=9)
    )
    assert 100 < len(part) < 400
    assert padded < 1.1 * part.tokens.size
    assert scoring._part(store, 500, None) is store


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(monkeypatch):
    sizes = {"vocabulary": 3_000, "sentences": 64, "length": 32}
    monkeypatch.setattr(memory, "QUICK", sizes)
    found = memory.peak("cpu", True)
    assert found.ratio == found.textbook / found.seqvae
    assert 50e6 < found.seqvae < 2e9


def test_a_textbook_that_does_not_fit_is_not_tried(monkeypatch):
    monkeypatch.setattr(memory, "FULL", {"vocabulary": 10**9, "sentences": 256, "length": 64})
    with pytest.raises(memory.NotEnoughMemory, match="the textbook needs about 262144 GB"):
        memory.peak("cpu", False)


def found_row(**changes):
    best = {"fp32_flops_per_s": 2e9, "bf16_flops_per_s": 8e9, "bytes_per_s": 1e9}
    found = {
        "quick": False,
        "load": 0.1,
        "took_s": 3.0,
        "machine": {
            "processor": "A Processor",
            "cores": 2,
            "instructions": "avx2",
            "gpu": None,
            "versions": {"torch": "2.13.0"},
        },
        "ratio": 3.5,
        "low": 3.25,
        "high": 3.75,
        "unit": "tokens/s",
        "seqvae": 100.0,
        "textbook": 30.0,
        "precision": "bf16",
        "threads": 2,
        "ceiling": best,
        "work": {"encoder": (2e6, 3e6), "output": (16e6, 1e3)},
        "agreement": "losses differ by 1e-7",
        "facts": {"parts of an update, ms": {"encoder": 3.5}},
    }
    return found | changes


def test_the_page_shows_ratios_bars_and_what_was_not_run():
    text = page.page(
        {"train-32-cpu": found_row(), "iw-cpu": found_row(ratio=2.5), "iw-cuda": found_row() | {"not_run": "no GPU"}},
        "python -m benchmarks.speed",
    )
    assert "| `train-32-cpu` | training, PTB config, batch 32, CPU | 3 | 3.50 (3.25 to 3.75) | yes | bf16" in text
    assert "| `iw-cpu` | IW-NLL, k = 500, CPU | 3 (aim: 5 times) | 2.50 (3.25 to 3.75) | **no** |" in text
    assert (
        "| `memory-cpu` | peak memory of training, vocabulary 50,000, batch 256 x 64, CPU | 4 | not run: not yet"
        in text
    )
    assert "A Processor, 2 cores, avx2; torch 2.13.0" in text
    assert "parts of an update, ms: encoder 3.5" in text
    assert "quick" not in text


def test_what_could_not_run_is_said_with_its_reason():
    refused = {key: value for key, value in found_row().items() if key in ("quick", "load", "took_s", "machine")}
    text = page.page({"iw-cuda": refused | {"not_run": "no GPU was at hand"}}, "command")
    assert "| `iw-cuda` | IW-NLL, k = 500, GPU | 5 | not run: no GPU was at hand |" in text


def test_the_share_of_the_best_is_the_least_time_over_the_time_that_passed():
    # 3 ms of memory for the encoder, then 2 ms of bf16 products, for each of 100 a second.
    assert page.share_of_best(found_row(), "cuda") == pytest.approx(0.5)
    assert page.share_of_best(found_row(precision="fp32"), "cuda") == pytest.approx(1.1)
    assert page.share_of_best(found_row(ceiling=None), "cuda") is None


def test_a_page_made_quickly_says_so():
    assert "to try the scripts out" in page.page({"iw-cpu": found_row(quick=True)}, "command")


def test_rows_that_are_kept_are_not_measured_again_and_others_are(tmp_path, monkeypatch, capsys):
    work, done = tmp_path / "work", []

    def measure(command, **rest):
        name, kept = command[3], command[5]
        done.append(name)
        found = found_row(quick="--quick" in command)
        if name.endswith("cuda"):
            del found["ratio"]
            found["not_run"] = "no GPU was at hand"
        (work / kept).parent.mkdir(exist_ok=True)
        (work / kept).write_text(json.dumps(found), encoding="utf-8")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(runner.subprocess, "run", measure)
    options = ["--work", str(work), "--out", str(tmp_path / "results/speed.md"), "--rows"]
    runner.main([*options, "iw-cpu", "iw-cuda"])
    runner.main([*options, "iw-cpu", "iw-cuda", "beam-cpu"])
    assert done == ["iw-cpu", "iw-cuda", "iw-cuda", "beam-cpu"]  # what could not run is tried again
    assert "2 of 14 rows" in capsys.readouterr().out
    text = (tmp_path / "results/speed.md").read_text(encoding="utf-8")
    assert "3.50" in text
    assert str(tmp_path) not in text
    with pytest.raises(SystemExit, match="was made without --quick"):
        runner.main([*options, "iw-cpu", "--quick"])


def test_a_row_of_a_gpu_is_refused_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    row.main(["iw-cuda", "--out", str(tmp_path / "speed/iw-cuda.json")])
    found = json.loads((tmp_path / "speed/iw-cuda.json").read_text(encoding="utf-8"))
    assert found["not_run"] == "no GPU was at hand"
    assert "ratio" not in found
    assert found["machine"]["versions"]["torch"] == torch.__version__

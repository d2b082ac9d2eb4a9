"""What surrounds a program and fails: a reader that leaves, a clock that jumps, a network that is not there."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpus_stand_in import change, serving_ptb
from hub_stand_in import Repository, standing_in

import seqvae
from seqvae.data.cache import user_cache

ROOT = Path(seqvae.__file__).parent.parent
SEQVAE = f"{shlex.quote(sys.executable)} -m seqvae"


def test_a_pipe_gets_lines_and_a_reader_may_leave_early(verb, workplace):
    done = subprocess.run(
        ["bash", "-c", f"{SEQVAE} sample -n 3000 --max-length 99 --seed 1 | head -n 1; echo ${{PIPESTATUS[0]}}"],
        cwd=workplace,
        env=os.environ | {"PYTHONPATH": str(ROOT), "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    sentence, code = done.stdout.splitlines()
    assert (code, done.stderr) == ("0", "model    runs/vae\n")
    assert set(sentence) <= set("abcdefghijklmnopqrstuvwxyz ")


@pytest.mark.parametrize(
    ("redirection", "options"),
    [
        ("--json | head -n 1", ""),
        pytest.param("2>&1 | head -n 1", "", marks=pytest.mark.slow),
        ("2>&1 | head -n 1", "--json"),
    ],
)
def test_a_run_whose_reader_leaves_goes_on_to_its_end(desk, tmp_path, redirection, options):
    command = f"{SEQVAE} train --config small.yaml --out mine {options} {redirection}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert len(done.stdout.splitlines()) == 2
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in (tmp_path / "mine/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [event["step"] for event in events if event["event"] == "valid"] == [10, 20, 30]
    assert (tmp_path / "mine/model/model.safetensors").is_file()
    if redirection.startswith("--json"):
        assert "note     nothing more is shown on stdout (Broken pipe); the run goes on\n" in done.stderr
        assert "done     mine\n" in done.stderr


@pytest.mark.parametrize("jump", [-1e7, 1e7], ids=["back", "ahead"])
def test_a_clock_that_jumps_changes_neither_the_run_nor_its_times(desk, monkeypatch, jump):
    train = ("train", "--config", "small.yaml", "--set", "train.log_every=1")
    assert desk(*train, "--out", "whole").exit_code == 0
    clock, asked = time.time, [0]

    def jumping():
        asked[0] += 1
        return clock() + (jump if asked[0] % 2 else 0)

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        result = desk(*train, "--out", "run")
    assert result.exit_code == 0, result.stderr
    whole, same = (Path(name, "model/model.safetensors").read_bytes() for name in ("whole", "run"))
    assert same == whole
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert all(0 < event["tokens_per_s"] < 1e7 for event in lines if event["event"] == "train")


def test_a_corpus_whose_download_breaks_off_is_had_by_trying_again_and_then_without_a_network(desk, monkeypatch):
    cache = user_cache()
    with serving_ptb(monkeypatch, lines=30) as server:
        server.cut_at = 200
        broken = desk("data", "fetch", "ptb")
        assert (broken.exit_code, broken.stdout) == (3, "")
        assert "error[E308]: " in broken.stderr
        assert server.url in broken.stderr
        assert "help: put train.txt, valid.txt, test.txt into " in broken.stderr
        assert not [path for path in cache.rglob("*") if path.is_file()]
        server.cut_at = None
        assert desk("data", "fetch", "ptb").exit_code == 0
    few = ("--set", "data.batch_size=9", "--set", "train.steps=2", "--set", "train.device=cpu")
    result = desk("train", "--config", "ptb.yaml", *few, "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert "train 30 " in result.stderr


def test_what_was_never_fetched_is_refused_without_a_network(desk, monkeypatch):
    change(monkeypatch, "ptb", url="http://127.0.0.1:9/")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    start = time.monotonic()
    corpus = desk("train", "--config", "ptb.yaml", "--out", "run")
    assert (corpus.exit_code, Path("run").exists()) == (3, False)
    assert "error[E308]: the corpus ptb is not to be had" in corpus.stderr
    dataset = desk("train", "--config", "small.yaml", "--set", "data.train=hub:nobody/nothing", "--out", "run")
    assert (dataset.exit_code, Path("run").exists()) == (3, False)
    assert "error[E323]: " in dataset.stderr
    model = desk("sample", "--model", "nobody/nothing")
    assert (model.exit_code, model.stdout) == (4, "")
    assert "error[E437]: " in model.stderr
    assert all("\nhelp: " in result.stderr for result in (corpus, dataset, model))
    assert time.monotonic() - start < 60


def test_a_model_of_the_hub_that_was_fetched_before_is_there_without_a_network(workplace, desk, tmp_path, monkeypatch):
    from huggingface_hub import constants

    with standing_in(monkeypatch, tmp_path) as server:
        folder = workplace / "trained/vae/model"
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        server.repositories["ann/toy"] = Repository()
        server.repositories["ann/toy"].commit(files)
        sample = ("sample", "-n", 3, "--seed", 1, "--model", "ann/toy")
        online = desk(*sample)
        assert online.exit_code == 0, online.stderr
        server.broken = 429
        limited = desk(*sample)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        offline = desk(*sample)
    assert (limited.exit_code, offline.exit_code) == (0, 0)
    assert limited.stdout == offline.stdout == online.stdout
    for result in (limited, offline):
        assert "note     the Hub cannot be reached: this is what was fetched before\n" in result.stderr

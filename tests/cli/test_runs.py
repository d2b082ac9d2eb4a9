"""runs list tells how each run stands from its files, and needs no PyTorch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.training.listing import list_runs, summarise
from seqvae.training.lock import LOCK, is_held, locked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def runs(workplace, tmp_path) -> Path:
    return Path(shutil.copytree(workplace / "runs", tmp_path / "runs"))


def test_the_newest_run_stands_first_with_what_it_has(verb):
    rows = json.loads(verb("runs", "list", "--json").stdout)
    assert [row["folder"] for row in rows] == ["runs/vae", "runs/ae", "runs/lm"]
    assert [row["state"] for row in rows] == ["finished"] * 3
    assert [row["steps"] for row in rows] == [30, 3, 3]
    assert [row["monitor"] for row in rows] == ["elbo", "rec", "elbo"]
    for row in rows:
        assert row["has_model"]
        files = [path for path in Path(row["folder"]).rglob("*") if path.is_file()]
        assert row["bytes"] == sum(path.stat().st_size for path in files)
        assert row["best"] > 0
    lines = verb("runs", "list").stdout.splitlines()
    assert lines[0].split() == ["run", "began", "config", "state", "steps", "best", "size"]
    assert lines[1].startswith("runs/vae ")


def test_a_run_that_was_stopped_or_has_no_model_yet_says_so(runs, verb):
    shutil.rmtree(runs / "vae/model")
    for checkpoint in (runs / "vae/checkpoints").iterdir():
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        state["progress"]["finished"] = False
        (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")
    found = summarise(runs / "vae")
    assert (found.state, found.has_model) == ("stopped", False)
    assert "stopped, no model yet" in verb("runs", "list", runs).stdout


def test_a_run_is_running_while_its_lock_is_held_and_not_after_a_kill(runs):
    for checkpoint in (runs / "vae/checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    code = f"""
import sys
from pathlib import Path
from seqvae.training.lock import locked
with locked(Path({str(runs / "vae")!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdin=pipe, stdout=pipe) as process:
        assert process.stdout.readline() == b"held\n"
        assert is_held(runs / "vae")
        assert summarise(runs / "vae").state == "running"
        process.kill()
    assert (runs / "vae" / LOCK).exists()
    assert not is_held(runs / "vae")
    assert summarise(runs / "vae").state == "stopped"
    with locked(runs / "vae"):  # looking has not kept anybody from it
        assert is_held(runs / "vae")


def test_damaged_files_leave_unknown_what_they_would_have_said(runs):
    (runs / "vae/provenance.json").write_text("{", encoding="utf-8")
    (runs / "vae/metrics.jsonl").write_bytes(b"\xff\x00 nothing\n")
    for path in (runs / "vae/checkpoints").rglob("state.json"):
        path.write_text("[]", encoding="utf-8")
    found = summarise(runs / "vae")
    assert (found.began, found.config, found.steps, found.best) == (None, None, 0, None)
    assert len(list_runs(runs)) == 3


def test_listing_imports_nothing_heavy(runs):
    code = f"""
import sys
from typer.testing import CliRunner
from seqvae.cli.app import app
result = CliRunner().invoke(app, ["runs", "list", {str(runs)!r}])
assert result.exit_code == 0 and "vae" in result.stdout, result.output
print([name for name in ("torch", "numpy", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")

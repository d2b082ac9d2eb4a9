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
from seqvae.training.run import newest_run

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


def test_a_run_begun_long_ago_stays_old_when_it_is_gone_on_with(runs):
    """--allow-change writes to provenance.json; a damaged one says nothing but when it was written."""

    def order() -> list[str]:
        assert newest_run(runs) == Path(list_runs(runs)[0].folder)
        return [Path(each.folder).name for each in list_runs(runs)]

    times = {"lm": "2025-03-30T01:00:00+0100", "ae": "2025-03-30T03:30:00+0300", "vae": "2025-03-30T00:00:00-0100"}
    for written, (name, began) in enumerate(times.items(), 1):
        path = runs / name / "provenance.json"
        provenance = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(provenance | {"began": began}), encoding="utf-8")
        os.utime(path, (written, written))
    os.utime(runs / "lm/provenance.json", (2**31, 2**31))
    assert order() == ["vae", "ae", "lm"]
    (runs / "lm/provenance.json").write_text("{", encoding="utf-8")
    assert order() == ["lm", "vae", "ae"]


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


# Removing.


@pytest.fixture
def desk_of_runs(runs, verb, monkeypatch) -> Path:
    """The working directory, with copies of the runs under ./runs."""
    monkeypatch.chdir(runs.parent)
    return runs.parent


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rm_removes_the_runs_that_are_named_by_path_or_by_name_and_nothing_else(desk_of_runs, verb):
    gone = verb("runs", "rm", "runs/lm", "ae", "runs/vae/../lm", "--yes")
    assert (gone.exit_code, gone.stderr) == (0, "")
    assert sorted(gone.stdout.splitlines()) == ["runs/ae", "runs/vae/../lm"]
    assert left(desk_of_runs / "runs") == ["vae"]
    told = json.loads(verb("runs", "rm", "vae", "-y", "--json").stdout)
    assert told["removed"] == ["runs/vae"]
    assert told["bytes"] > 1000
    assert left(desk_of_runs / "runs") == []


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_rm_shows_the_runs_and_asks(desk_of_runs, verb, monkeypatch, answer, gone):
    monkeypatch.setattr("seqvae.cli.runs._is_terminal", lambda: True)
    result = verb("runs", "rm", "ae", "lm", stdin=answer)
    assert result.exit_code == 0
    assert "remove these 2 runs, " in result.stderr
    assert "runs/ae " in result.stderr
    assert ("nothing was removed" in result.stderr) != gone
    assert left(desk_of_runs / "runs") == (["vae"] if gone else ["ae", "lm", "vae"])


def test_rm_without_anybody_to_ask_removes_nothing(desk_of_runs, verb):
    refused = verb("runs", "rm", "ae", stdin="y\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "error[E255]" in refused.stderr
    assert left(desk_of_runs / "runs") == ["ae", "lm", "vae"]


def test_a_run_that_is_being_trained_is_not_removed_nor_another_beside_it(desk_of_runs, verb):
    with locked(desk_of_runs / "runs/vae"):
        refused = verb("runs", "rm", "ae", "vae", "--yes")
    assert refused.exit_code == 7
    assert "error[E705]: the run is being trained" in refused.stderr
    assert left(desk_of_runs / "runs") == ["ae", "lm", "vae"]


def test_what_is_no_run_is_never_removed(desk_of_runs, verb, monkeypatch):
    linked, outside = desk_of_runs / "runs/linked", desk_of_runs / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine", encoding="utf-8")
    linked.symlink_to(desk_of_runs / "runs/lm")
    (desk_of_runs / "runs/vae/plots").symlink_to(outside)
    shutil.copytree(desk_of_runs / "runs/lm", desk_of_runs / "runs/ae/inside")
    told = {
        "outside": "this is not the folder of a run",
        "runs": "this is not the folder of a run",
        "runs/vae/model": "this is not the folder of a run",
        "runs/vae/config.yaml": "this is not the folder of a run",
        "/": "this is not the folder of a run",
        "runs/linked": "this is a link",
        "runs/ae": "another run lies in it (inside)",
    }
    for name, reason in told.items():
        refused = verb("runs", "rm", name, "--yes")
        assert (refused.exit_code, refused.stdout) == (2, ""), name
        assert f"error[E254]: {reason}" in refused.stderr, name
    assert verb("runs", "rm", "", "-y").exit_code == verb("runs", "rm", ".", "-y").exit_code == 2
    assert verb("runs", "rm", "nothing", "-y").exit_code == 4
    monkeypatch.chdir(desk_of_runs / "runs/vae/model")
    for name in ("..", "../../vae"):
        assert "this is the working directory, or holds it" in verb("runs", "rm", name, "-y").stderr
    monkeypatch.chdir(desk_of_runs)
    assert left(desk_of_runs / "runs") == ["ae", "linked", "lm", "vae"]
    assert verb("runs", "rm", "vae", "-y").exit_code == 0  # the link in it goes, what it points to stays
    assert left(outside) == ["mine.txt"]


def test_runs_compare_is_compare(verb):
    arguments = ("runs/vae", "runs/lm", "--format", "json")
    assert verb("runs", "compare", *arguments).output.replace("runs compare", "compare") == verb(
        "compare", *arguments
    ).output.replace("runs compare", "compare")
    assert verb("runs", "compare", "-h").stdout.splitlines()[2:] == verb("compare", "-h").stdout.splitlines()[2:]

"""plot as a user sees it: files that are named, and figures of what there is."""

import json
import shutil
from pathlib import Path

import pytest

from seqvae.io.manifests import verify

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def drawn(workplace, tmp_path_factory):
    """Copies of runs/vae and runs/lm for figures to be put into."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("vae", "lm"):
        shutil.copytree(workplace / "runs" / name, folder / name)
    return folder


def test_curves_are_drawn_of_a_run_as_training_left_it(verb, drawn):
    result = verb("plot", drawn / "vae")
    assert result.exit_code == 0, result.stderr
    expected = [drawn / "vae/plots" / f"training.{form}" for form in ("svg", "png")]
    named = result.stdout.splitlines()
    assert named[:2] == list(map(str, expected))
    assert ("no figure of the KL" in result.stderr) == (named[2:] == [])  # another test may have evaluated the run
    svg, png = (path.read_bytes() for path in expected)
    assert b"active units" in svg  # text stays text
    assert png.startswith(b"\x89PNG")


def test_evaluated_runs_have_their_rate_beside_one_another(verb, drawn, tmp_path):
    for name in ("vae", "lm"):
        assert verb("eval", "--model", drawn / name).exit_code == 0
    result = verb("plot", drawn / "vae", drawn / "lm", "--out", tmp_path / "out", "--format", "svg", "--json")
    assert result.exit_code == 0, result.stderr
    assert [Path(name).name for name in json.loads(result.stdout)] == ["training.svg", "kl.svg", "rate.svg"]
    assert "vae" in (tmp_path / "out/rate.svg").read_text(encoding="utf-8")


def test_a_map_and_a_path_are_drawn_together(verb, drawn, tmp_path):
    ends = ("the cat saw a cake", "she ate some tea at night")
    result = verb("plot", drawn / "vae", "--kind", "map", "--path", *ends, "--steps", 4, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    names = ["map.svg", "map.png", "path.svg", "path.png"]
    assert [Path(line).name for line in result.stdout.splitlines()] == names
    assert "25 sentences" in (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert "log p(text | z), nats" in (tmp_path / "path.svg").read_text(encoding="utf-8")


def test_figures_of_a_model_folder_leave_it_as_it_is(verb, drawn, tmp_path, monkeypatch):
    model = Path(shutil.copytree(drawn / "vae/model", tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    result = verb("plot", model, "--path", "the cat saw a cake", "she ate some tea", "--format", "svg")
    assert (result.exit_code, result.stdout) == (0, "plots/path.svg\n"), result.stderr
    verify(model)


def test_runs_whose_folders_have_one_name_are_told_apart(verb, drawn, tmp_path):
    found = [Path(shutil.copytree(drawn / "vae", tmp_path / group / "seed-0")) for group in ("a", "b")]
    for run in found:
        assert verb("eval", "--model", run).exit_code == 0
    result = verb("plot", *found, "--out", tmp_path / "out", "--format", "svg")
    assert result.exit_code == 0, result.stderr
    assert [Path(line).name for line in result.stdout.splitlines()] == ["training.svg", "kl.svg", "rate.svg"]
    for figure in ("training", "kl", "rate"):
        drawn_names = (tmp_path / f"out/{figure}.svg").read_text(encoding="utf-8")
        assert all(f"{group}/seed-0" in drawn_names for group in ("a", "b"))
        assert str(tmp_path) not in drawn_names


def test_curves_are_drawn_of_a_run_that_has_no_model_yet(verb, drawn, tmp_path):
    run = shutil.copytree(drawn / "lm", tmp_path / "young", ignore=shutil.ignore_patterns("model", "plots"))
    result = verb("plot", run)
    assert result.exit_code == 0, result.stderr
    assert "no figure of the KL: this run has no model yet" in result.stderr
    assert [Path(line).name for line in result.stdout.splitlines()] == ["training.svg", "training.png"]


def test_figures_are_not_put_into_a_file(verb, drawn, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    result = verb("plot", drawn / "vae", "--kind", "training", "--out", taken)
    assert (result.exit_code, result.stdout) == (7, "")
    assert "error[E703]" in result.stderr
    assert taken.read_text(encoding="utf-8") == "mine"

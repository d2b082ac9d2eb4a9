"""`seqvae validate`: every step says how it stands, a damaged folder is found and left as it is."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from seqvae.io import storage
from seqvae.io.tensors import load_tensors, save_tensors

STEPS = ["files", "description", "tokenizer", "tensors", "round trip", "evaluation", "settings", "checkpoints"]


@pytest.fixture
def run(desk, workplace) -> Path:
    """A copy of a run, for a test to spoil; ``desk`` is where it lies."""
    return Path(shutil.copytree(workplace / "runs" / "vae", "run"))


def steps(desk, *words: str) -> dict[str, dict]:
    result = desk("validate", *words, "--json")
    report = json.loads(result.stdout)
    assert report["ok"] == (result.exit_code == 0)
    assert result.exit_code in (0, 4)
    assert all(step["next"] for step in report["steps"] if step["status"] != "ok")
    return {step["name"]: step for step in report["steps"]}


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", ["vae", "ae", "lm"])
def test_a_whole_run_passes_in_numbered_steps_and_stays_as_it_is(verb, workplace, name):
    before = content(workplace / "runs" / name)
    result = verb("validate", f"runs/{name}")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    expected = [f"{number:>2}  ok       {step:<11} " for number, step in enumerate(STEPS, 1)]
    assert [line[:25] for line in lines] == expected
    assert content(workplace / "runs" / name) == before


def test_a_model_that_was_copied_out_of_its_run_has_the_steps_of_a_model(desk, run):
    shutil.copytree(run / "model", "copied")
    assert list(steps(desk, "copied")) == STEPS[:6]
    assert list(steps(desk, str(run / "model"))) == STEPS


def test_an_edited_card_is_no_damage(desk, run):
    (run / "model/README.md").write_text("# Mine\n", encoding="utf-8")
    assert {step["status"] for step in steps(desk, "run").values()} == {"ok"}


def test_every_damaged_file_is_named(desk, run):
    for name in ("config.json", "tokenizer/tokenizer.json"):
        (run / "model" / name).write_bytes((run / "model" / name).read_bytes()[:-1])
    (run / "model" / "notes.txt").write_text("mine")
    found = steps(desk, "run")
    assert list(found) == ["files", "settings", "checkpoints"]
    assert found["files"]["status"] == "failed"
    for name in ("config.json", "tokenizer/tokenizer.json", "notes.txt"):
        assert f"`{name}`" in found["files"]["found"]


@pytest.mark.parametrize(
    ("file", "content", "failed"),
    [
        ("config.json", b"{}", "description"),
        ("tokenizer/tokenizer.json", b'{"schema_version": 1, "name": "word"}', "tokenizer"),
        ("model.safetensors", b"", "tensors"),
        ("eval.json", b"[]", "evaluation"),
    ],
)
def test_files_that_agree_with_the_manifest_and_make_no_sense_fail_by_their_step(desk, run, file, content, failed):
    with storage.atomic_folder(run / "model", amend=True) as temporary:
        (temporary / file).write_bytes(content)
    found = steps(desk, "run")
    assert [name for name, step in found.items() if step["status"] == "failed"] == [failed]
    assert {"files", "settings", "checkpoints"} <= found.keys()


def test_weights_that_are_not_finite_fail(desk, run):
    weights = load_tensors(run / "model" / "model.safetensors")
    weights["decoder.embedding.weight"][3, 1] = torch.nan
    with storage.atomic_folder(run / "model", amend=True) as temporary:
        save_tensors(temporary / "model.safetensors", weights)
    found = steps(desk, "run")
    assert found["tensors"]["status"] == "failed"
    assert "NaN or infinity in decoder.embedding.weight" in found["tensors"]["found"]
    assert "round trip" not in found


def test_a_damaged_checkpoint_is_a_warning_that_says_where_the_run_goes_on(desk, run):
    older, newest = sorted((run / "checkpoints").iterdir())
    (newest / "best.safetensors").write_bytes(b"")
    found = steps(desk, "run")["checkpoints"]
    assert found["status"] == "warning"
    assert f"{newest.name}: `best.safetensors` is damaged" in found["found"]
    assert f"goes on from {older.name}" in found["next"]
    (older / "state.json").unlink()
    found = steps(desk, "run")["checkpoints"]
    assert found["status"] == "failed"
    assert found["found"].startswith("none is whole")


def test_a_run_without_a_model_yet_is_a_warning(desk, run):
    shutil.rmtree(run / "model")
    found = steps(desk, "run")
    assert found["model"]["status"] == "warning"
    assert "settings" in found


def test_a_config_of_another_version_fails(desk, run):
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("of_next_year: {}\n")
    assert steps(desk, "run")["settings"]["status"] == "failed"

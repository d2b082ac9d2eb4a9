"""A model folder that was copied in part, or that a newer seqvae saved: refused, with what is missing named."""

import json
import shutil
from pathlib import Path

import pytest
from user_toys import invoke

from seqvae.io import disk, storage

FILES = ["MANIFEST.json", "README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json"]
VERBS = ["sample -n 1", "eval --input a.txt", "interpolate a b"]


@pytest.fixture
def model(workplace, tmp_path, monkeypatch) -> Path:
    shutil.copytree(workplace / "trained/vae/model", tmp_path / "model")
    Path(tmp_path, "a.txt").write_text("the cat saw a cake\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "model"


def refused(verb: str, *said: str) -> None:
    result = invoke(*verb.split(), "--model", "model")
    assert (result.exit_code, result.stdout) == (4, "")
    assert not [text for text in said if text not in result.stderr], result.stderr


def test_the_files_that_are_missing_here_are_all_there_are(model):
    assert sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()) == FILES
    assert [invoke(*verb.split(), "--model", "model").exit_code for verb in VERBS] == [0] * len(VERBS)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [name for name in FILES if name != "README.md"])  # that one is the owner's
def test_a_file_that_is_missing_is_named(model, name, verb):
    (model / name).unlink()
    refused(verb, "error[E402]", f"{Path(name).name}", "is missing")


def test_the_tokenizer_may_be_missing_as_a_whole(model):
    shutil.rmtree(model / "tokenizer")
    refused("sample -n 1", "error[E402]", "tokenizer/tokenizer.json", "copy it again")


def test_there_may_be_no_folder_at_all(model):
    shutil.rmtree(model)
    refused("sample -n 1", "model")


def test_a_folder_of_a_newer_version_says_whose_it_is_and_to_upgrade(model):
    with storage.atomic_folder(model, amend=True) as folder:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        disk.write_json(folder / "config.json", described | {"schema_version": 1000, "seqvae_version": "1000.0"})
    for verb in VERBS:
        refused(verb, "error[E403]", "1000.0", "pip install -U seqvae")

"""Stand-ins for what a test must not need: the Penn Treebank, which nobody may commit, and hours of training."""

import random
from pathlib import Path

import pytest

from seqvae.data import catalogue

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 80, "valid": 14, "test": 12}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory) -> Path:
    """A folder for ``$SEQVAE_DATA`` with a ``ptb/`` in it: text of the same form, and nothing else in common."""
    folder = tmp_path_factory.mktemp("stand-ins")
    draw = random.Random(0)
    words = ["<unk>", "N", "the", "of", "it", "'s", *(f"word{n}" for n in range(30))]
    (folder / "ptb").mkdir()
    for split, count in SIZES.items():
        lines = (" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(count))
        (folder / "ptb" / f"{split}.txt").write_text("".join(f" {line} \n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """One cache for all of these tests: the built-in corpus is prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_tiny(tmp_path_factory) -> Path:
    """The beginning of the built-in corpus, with its labels: whoever reads all of it waits."""
    folder = tmp_path_factory.mktemp("tiny")
    for path in (ROOT / "data/tiny").iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()[: 400 if path.name.startswith("train.") else 60]
        (folder / path.name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def away(tmp_path, monkeypatch, stand_ins, small_tiny, cache) -> Path:
    """An empty working directory, with the stand-ins to be found and the built-in corpus short."""
    places = catalogue.places
    monkeypatch.setattr(catalogue, "places", lambda name: [small_tiny] if name == "tiny" else places(name))
    monkeypatch.setenv("SEQVAE_DATA", str(stand_ins))
    monkeypatch.setenv("SEQVAE_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path

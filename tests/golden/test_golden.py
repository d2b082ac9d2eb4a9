"""Models saved by every release keep decoding the same texts and giving the same numbers."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from golden.make import behaviour

import seqvae

GOLDEN = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))
NUMBERS = ("mean", "std", "rec_nats", "kl_nats", "elbo_nats", "iw_nats")
every_model = pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)


def held(folder: Path) -> dict:
    return json.loads((folder / "expected.json").read_text(encoding="utf-8"))


def test_there_are_golden_models_of_at_most_half_a_megabyte():
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in GOLDEN]
    assert len(sizes) >= 2
    assert sum(sizes) <= 500_000


@functools.cache
def found_in(folder: Path) -> dict:
    return behaviour(seqvae.load(folder / "model"))


@every_model
def test_a_saved_model_keeps_decoding_the_same_texts(folder):
    expected, found = held(folder), found_in(folder)
    assert found["tokens"] == expected["tokens"]
    assert found["decoded"] == expected["decoded"]
    assert found["beam"] == expected["beam"]
    assert [text for _, text in found["path"]] == [text for _, text in expected["path"]]


@every_model
def test_a_saved_model_keeps_its_codes_and_its_likelihood(folder):
    expected, found = held(folder), found_in(folder)
    for name in NUMBERS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@every_model
def test_what_a_golden_model_writes_tells_texts_apart(folder):
    """Else the tests above would hold for a decoder that ignores the code."""
    assert len(set(held(folder)["decoded"])) >= 3

"""A user's folder, made once: text, a config, and three tiny trained models; and a way to run verbs in it.

Its fixtures are those of the folders of tests that run the command, by their conftest.py.
"""

import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import seqvae
from seqvae.cli.app import app

CONFIG = """\
data: {train: train.txt, valid: valid.txt, test: test.txt, batch_size: 20}
model:
  latent_dim: 3
  encoder: {embedding: 7, hidden: 11}
  decoder: {embedding: 7, hidden: 13}
train: {epochs: 3, log_every: 5, device: cpu, threads: 1, optimizer: {name: adamw, lr: 0.02}}
eval: {iw_samples: 7}
"""


def write_text(folder: Path) -> None:
    """200, 30 and 25 sentences of a toy language, and the config that names them."""
    draw = random.Random(0)
    parts = ("the cat", "a dog", "my friend", "she"), ("saw", "liked", "ate"), ("a cake", "some tea"), ("", "at night")
    for name, count in (("train", 200), ("valid", 30), ("test", 25)):
        sentences = [" ".join(filter(None, map(draw.choice, parts))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    (folder / "small.yaml").write_text(CONFIG, encoding="utf-8")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    """Text, ``small.yaml``, and runs/lm, runs/ae and, begun last, runs/vae. Tests leave it as it is, but for what
    ``eval`` keeps; `trained` has the runs without."""
    folder = tmp_path_factory.mktemp("workplace")
    write_text(folder)
    changes = {
        "lm": ["model.latent_dim=0", "train.steps=3"],
        "ae": ["objective.strategies=[{name: autoencoder}]", "train.steps=3"],
        "vae": ["objective.strategies=[{name: free_bits, nats_per_dim: 0.5}]"],
    }
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("SEQVAE_CACHE", str(folder / "cache"))
        for name, settings in changes.items():
            seqvae.train(seqvae.Config.from_yaml("small.yaml", settings), out=f"runs/{name}")
    shutil.copytree(folder / "runs", folder / "trained")
    return folder


@pytest.fixture
def trained(workplace) -> Path:
    """The runs of the workplace as training left them. Only to be copied."""
    return workplace / "trained"


@pytest.fixture
def verb(workplace, monkeypatch) -> Callable[..., Result]:
    """Runs ``seqvae ...`` in the workplace, in this process; has ``stdout``, ``stderr`` and ``exit_code``."""
    monkeypatch.chdir(workplace)
    return invoke


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Callable[..., Result]:
    """The same in a folder of the test's own, with text and config but no run."""
    write_text(tmp_path)
    monkeypatch.chdir(tmp_path)
    return invoke


def invoke(*arguments: object, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, prog_name="seqvae")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "internal error" not in result.stderr, result.stderr
    return result

"""The page about sharing: its commands and its Python, run as they stand against a stand-in for the Hub."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_stand_in import standing_in
from model_toys import spread
from training_toys import WORDS, sentences, settings
from typer.testing import CliRunner

from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.io.onnx_export import export_onnx
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE

PAGE = (Path(__file__).resolve().parents[2] / "docs/sharing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(shell|py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SMALL = [f"model.{part}.{size}=8" for part in ("encoder", "decoder") for size in ("embedding", "hidden")]
SMALL += ["train.steps=3", "train.device=cpu", "train.threads=1", "data.batch_size=4"]
SMALL += ["eval.iw_samples=2", "eval.reconstructions=5", "eval.mi_sentences=20"]


@pytest.fixture
def desk(away, stand_ins, monkeypatch) -> Path:
    """An empty folder but for a ``tiny.yaml``, small, of a text of few sentences."""
    text = {f"data.{split}": stand_ins / "ptb" / f"{split}.txt" for split in ("train", "valid", "test")}
    settings = [*SMALL, "data.corpus=null", *(f"{name}={path}" for name, path in text.items())]
    (away / "tiny.yaml").write_text(Config.from_yaml("tiny.yaml", settings).to_yaml(), encoding="utf-8")
    return away


@pytest.mark.slow
def test_the_page_works_from_its_first_line_to_its_last(desk, monkeypatch):
    known: dict[str, Any] = {}
    with standing_in(monkeypatch, desk) as hub:
        for language, body in BLOCKS:
            if language == "py":
                exec(compile(body, "docs/sharing.md", "exec"), known)
                continue
            for command in filter(lambda line: line.startswith("seqvae "), body.splitlines()):
                result = CliRunner().invoke(app, shlex.split(command)[1:], prog_name="seqvae")
                assert result.exit_code == 0, f"{command}\n{result.stderr}"
        assert len(hub.repositories["ann/sentences"].commits) == 4
        assert hub.repositories["ann/sentences"].private
        files = hub.repositories["ann/sentences"].files()
        assert b"A variational autoencoder over text" in files["README.md"]
        assert b"![" in files["README.md"]
        assert "figures/1.svg" in files


def test_the_example_without_torch_writes_what_the_model_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    vae = TextVAE(SeqVAE(ModelConfig(**settings(model={"latent_dim": 3})["model"]), 13), WORDS)
    spread(vae.model, seed=4)
    export_onnx(vae, Path("sentences-onnx"))
    *_, (_, example) = BLOCKS
    imported = re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE)
    assert set(imported) == {"json", "pathlib", "numpy", "onnxruntime"}
    known: dict[str, Any] = {}
    exec(compile(example, "docs/sharing.md", "exec"), known)
    assert len(capsys.readouterr().out) > 20
    texts = [*sentences(6, seed=7), "", "nothing known here"]
    assert np.allclose(known["encode"](texts), vae.encode(texts).mean, atol=1e-5)
    written = known["decode"](known["encode"](texts))
    assert written == vae.reconstruct(texts)
    assert len(set(written)) > 2

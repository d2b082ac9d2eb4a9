"""ONNX: every graph gives what the model gives, whatever the batch; nothing is written that does not, or over what."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from model_toys import LENGTHS, VOCAB, batch_of, spread, tiny_vae
from training_toys import WORDS, settings

from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.io import manifests, onnx_export
from seqvae.io.onnx_export import export_onnx, graphs_of, session_of
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.registry import build_strategy, strategy_types
from seqvae.textvae import TextVAE
from seqvae.types import BOS, EOS, PAD, UNK

KINDS = {
    "lstm": {},
    "gru": {"encoder": {"cell": "gru", "pooling": "mean"}, "decoder": {"cell": "gru", "z_to_output": True}},
    "bidirectional": {"encoder": {"bidirectional": True, "layers": 2, "pooling": "max"}},
    "last of two": {"encoder": {"bidirectional": True}, "decoder": {"z_to_state": False, "embedding": 8, "hidden": 8}},
    "batchnorm": {"posterior": {"family": "batchnorm"}},
    "delta": {"posterior": {"family": "delta", "delta_nats": 1.0}},
    "vmf": {"posterior": {"family": "vmf"}, "prior": {"family": "sphere"}},
    "iaf": {"posterior": {"family": "iaf", "hidden": 9, "context": 10}},
    "language model": {"latent_dim": 0},
}


def toy(kind: str) -> TextVAE:
    """A model with large weights, and running averages that are not those of an untrained one."""
    model = tiny_vae(**KINDS[kind])
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.2, 3.0, generator=torch.Generator().manual_seed(3))
    return TextVAE(model, WORDS)


def run(folder: Path, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))["graphs"][name]
    assert set(graph["inputs"]) == set(inputs)
    found = session_of(folder / graph["file"]).run(list(graph["outputs"]), inputs)
    return dict(zip(graph["outputs"], found, strict=True))


def close(found: np.ndarray, wanted: torch.Tensor) -> bool:
    return found.shape == wanted.shape and np.allclose(found, wanted.detach().numpy(), rtol=1e-5, atol=1e-5)


def greedy(folder: Path, z: np.ndarray | None, most: int, n: int, **labels: np.ndarray) -> list[list[int]]:
    """The likeliest tokens, by the graphs alone."""
    about = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))
    code = {} if z is None else {"z": z}
    if z is None:
        zeros = np.zeros((about["sizes"]["layers"], n, about["sizes"]["hidden"]), np.float32)
        state = {name: zeros for name in about["graphs"]["decoder_step"]["inputs"] if name in ("h", "c")}
    else:
        state = run(folder, "decoder_start", code | labels)
    token, rows = np.full(n, BOS), []
    for _ in range(most):
        found = run(folder, "decoder_step", {"token": token} | code | labels | state)
        logits = found.pop("logits")
        logits[:, [PAD, BOS, UNK]] = -np.inf
        token, state = logits.argmax(1), {name.removesuffix("_next"): value for name, value in found.items()}
        rows.append(token)
    sentences = np.stack(rows, 1).tolist()
    return [row[: row.index(EOS)] if EOS in row else row for row in sentences]


@pytest.mark.parametrize("kind", KINDS)
def test_the_graphs_give_what_the_model_gives_for_every_batch(kind, tmp_path):
    vae = toy(kind)
    about = export_onnx(vae, tmp_path / "out")
    manifests.verify(tmp_path / "out")
    assert about["largest_difference"] <= 1e-5
    if vae.latent_dim > 0:
        for lengths in (LENGTHS, (2,), (2, 2, 2), (3, 17), (6,) * 13):
            batch = batch_of(lengths, seed=len(lengths))
            sent = {"tokens": batch.tokens.numpy(), "lengths": batch.lengths.numpy()}
            found, q = run(tmp_path / "out", "encoder", sent), vae.model.encode(batch)
            assert close(found["mean"], q.mean)
            assert ("logvar" in found) == (kind not in ("vmf", "iaf"))
            if "logvar" in found:
                assert close(np.exp(found["logvar"] / 2), q.std)
    z = torch.randn(4, vae.latent_dim, generator=torch.Generator().manual_seed(5))
    wanted = decode(vae.model, z, DecodeConfig(strategy="greedy", max_length=9)).tokens
    assert greedy(tmp_path / "out", z.numpy() if vae.latent_dim else None, 9, 4) == wanted


def test_a_conditional_model_reads_the_labels_everywhere(tmp_path):
    config = tiny_vae().config.model_dump() | {"conditional": {"embedding": 4}}
    model = spread(SeqVAE(ModelConfig(**config), VOCAB, ("bad", "good", "so"))).eval()
    about = export_onnx(TextVAE(model, WORDS), tmp_path / "out")
    assert about["labels"] == ("bad", "good", "so")
    assert all("labels" in graph["inputs"] for graph in about["graphs"].values())
    z, written = torch.ones(3, model.latent_dim), []
    for label in range(3):
        labels = torch.full((3,), label)
        written.append(decode(model, z, DecodeConfig(strategy="greedy", max_length=9), labels=labels).tokens)
        assert greedy(tmp_path / "out", z.numpy(), 9, 3, labels=labels.numpy()) == written[-1]
    assert written[0] != written[1]


def test_the_folder_says_what_is_in_it(tmp_path):
    about = export_onnx(toy("lstm"), tmp_path / "out")
    assert json.loads((tmp_path / "out/onnx.json").read_text(encoding="utf-8")) == json.loads(json.dumps(about))
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {
        *("encoder.onnx", "decoder_start.onnx", "decoder_step.onnx", "onnx.json", "MANIFEST.json"),
        "tokenizer/tokenizer.json",
    }
    assert about["specials"] == {"pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK}
    assert about["sizes"] == {"latent": 3, "vocabulary": VOCAB, "layers": 2, "hidden": 8}
    assert about["graphs"]["decoder_step"]["outputs"]["logits"] == ("batch", "vocabulary")


@pytest.mark.parametrize("kind", ["lstm", "language model"])
def test_a_graph_is_valid_small_free_in_its_batch_and_tells_nothing_of_this_machine(kind, tmp_path):
    vae = toy(kind)
    about = export_onnx(vae, tmp_path / "out")
    for graph in about["graphs"].values():
        path = tmp_path / "out" / graph["file"]
        loaded = onnx.load(path)
        onnx.checker.check_model(loaded, full_check=True)
        assert loaded.opset_import[0].version == about["opset"]
        for value in loaded.graph.input:
            axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            wanted = graph["inputs"][value.name]
            assert [a for a, name in zip(axes, wanted, strict=True) if name in ("batch", "length")] == [
                name for name in wanted if name in ("batch", "length")
            ]
        assert len([node for node in loaded.graph.node if node.op_type == "LSTM"]) <= 2, "a layer is one node"
        content = path.read_bytes()
        assert b"/seqvae/" not in content
        assert b".py" not in content


def test_the_model_is_left_as_it_was(tmp_path):
    vae = toy("batchnorm")
    before = {name: tensor.clone() for name, tensor in vae.model.state_dict().items()}
    norm = vae.model.posterior.norm
    export_onnx(vae, tmp_path / "out")
    assert vae.model.posterior.norm is norm
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.model.state_dict().items())


@pytest.mark.skipif(sys.platform != "linux", reason="only some systems have file names that are not UTF-8")
def test_a_folder_whose_name_is_not_utf8_is_written(tmp_path):
    export_onnx(toy("lstm"), tmp_path / "caf\udce9")
    assert {path.suffix for path in (tmp_path / "caf\udce9").iterdir()} >= {".onnx", ".json"}


class TestRefused:
    def refused(self, code: str, *arguments) -> SeqVAEError:
        with pytest.raises(SeqVAEError) as caught:
            export_onnx(*arguments)
        assert (caught.value.code, caught.value.exit_code) == (code, 4)
        assert caught.value.hint
        return caught.value

    def test_a_method_of_gradient_steps_is_refused_with_the_reason(self, tmp_path):
        vae = toy("lstm")
        vae.model.refiners = (build_strategy(strategy_types()["semi_amortised"].Config()),)
        assert "gradient steps" in self.refused("E441", vae, tmp_path / "out").what
        assert not (tmp_path / "out").exists()

    def test_without_the_extra_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        assert "seqvae[onnx]" in self.refused("E442", toy("lstm"), tmp_path / "out").hint

    @pytest.mark.parametrize("what", ["files", "a file", "a model"])
    def test_what_is_there_is_not_lost(self, what, tmp_path):
        if what == "files":
            (tmp_path / "out").mkdir()
            (tmp_path / "out/mine.txt").write_text("dear to me", encoding="utf-8")
        elif what == "a file":
            (tmp_path / "out").write_text("dear to me", encoding="utf-8")
        else:
            toy("lstm").save_pretrained(tmp_path / "out")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        self.refused("E443", toy("lstm"), tmp_path / "out")
        if what != "a model":
            with pytest.raises(SeqVAEError, match="would be lost"):
                toy("lstm").save_pretrained(tmp_path / "out")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_an_earlier_export_is_replaced_and_an_empty_folder_filled(self, tmp_path):
        (tmp_path / "out").mkdir()
        export_onnx(toy("lstm"), tmp_path / "out")
        assert set(export_onnx(toy("language model"), tmp_path / "out")["graphs"]) == {"decoder_step"}
        assert not (tmp_path / "out/encoder.onnx").exists()

    def test_a_graph_that_gives_other_numbers_is_not_written(self, tmp_path, monkeypatch):
        made = onnx_export._traceable

        def spoiled(model):
            copied = made(model)
            copied.decoder.output_bias.data[4] += 3e-5
            return copied

        monkeypatch.setattr(onnx_export, "_traceable", spoiled)
        assert "`logits` of decoder_step.onnx" in self.refused("E444", toy("lstm"), tmp_path / "out").what
        assert not (tmp_path / "out").exists()

    def test_weights_that_are_not_finite_are_no_export(self, tmp_path):
        vae = toy("lstm")
        vae.model.posterior.linear.weight.data[0, 0] = torch.nan
        self.refused("E444", vae, tmp_path / "out")


def test_every_family_is_exported_or_named_here():
    from typing import get_args

    from seqvae.models.posterior import PosteriorConfig

    families = {kind().family for kind in get_args(get_args(PosteriorConfig)[0])}
    assert families == {"gaussian", "batchnorm", "delta", "vmf", "iaf"}
    made = {toy(kind).model.config.posterior.family for kind in KINDS}
    assert families == made


def test_the_order_of_the_inputs_is_that_of_the_description():
    model = SeqVAE(ModelConfig(**settings()["model"]), 13)
    assert [list(graph.inputs) for graph in graphs_of(model)] == [
        ["tokens", "lengths"],
        ["z"],
        ["token", "z", "h", "c"],
    ]

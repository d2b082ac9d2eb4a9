"""The model folder: it comes back as it was, says nothing of where it was made, and is refused when it is not whole."""

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_toys import WORDS, sentences, settings, write_corpus

import seqvae
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, pretrained, storage
from seqvae.io.tensors import load_tensors, save_tensors
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.base import Strategy
from seqvae.objectives.beta import BetaConfig
from seqvae.textvae import TextVAE

TEXTS = [*sentences(9, seed=7), "", "nothing known here"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same settings, in folders of different names."""
    folder = tmp_path_factory.mktemp("made-here")
    config = settings(data=write_corpus(folder), train={"epochs": 2, "log_every": 5})
    with pytest.MonkeyPatch.context() as patch:  # made before what keeps a test away from the user's cache
        patch.setenv("SEQVAE_CACHE", str(folder / "cache"))
        return [seqvae.train(config, out=folder / name) for name in ("first", "second-with-another-name")]


@pytest.fixture
def model(runs, tmp_path) -> Path:
    """A copy of a model folder, for a test to spoil."""
    return Path(shutil.copytree(runs[0].folder / "model", tmp_path / "copied"))


def toy_vae(latent_dim=3, noiseless=False, **parts) -> TextVAE:
    torch.manual_seed(0)
    changes = {f"{part}.{name}": value for part, given in parts.items() for name, value in given.items()}
    model = settings(model={"latent_dim": latent_dim} | changes)["model"]
    return TextVAE(SeqVAE(ModelConfig(**model), 13), WORDS, noiseless=noiseless)


def refused(path, code) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        seqvae.load(path)
    assert caught.value.code == code, caught.value
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value


class TestRoundTrip:
    def test_a_loaded_model_answers_as_the_saved_one(self, tmp_path):
        vae = toy_vae()
        pretrained.save(tmp_path / "model", vae, facts={})
        loaded = seqvae.load(tmp_path / "model")
        assert np.array_equal(loaded.encode(TEXTS).mean, vae.encode(TEXTS).mean)
        assert np.array_equal(loaded.encode(TEXTS).std, vae.encode(TEXTS).std)
        assert loaded.sample(7, seed=3) == vae.sample(7, seed=3)
        assert loaded.reconstruct(TEXTS) == vae.reconstruct(TEXTS)
        assert loaded.model.config == vae.model.config
        assert loaded.tokenizer.words == vae.tokenizer.words
        assert not loaded.model.training

    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    def test_a_model_with_other_networks_comes_back(self, cell, tmp_path):
        parts = {"encoder": {"cell": cell, "bidirectional": True}, "decoder": {"cell": cell, "z_to_output": True}}
        vae = toy_vae(**parts)
        pretrained.save(tmp_path / "model", vae, facts={})
        loaded = seqvae.load(tmp_path / "model")
        assert loaded.model.config == vae.model.config
        assert loaded.sample(7, seed=3) == vae.sample(7, seed=3)
        assert loaded.reconstruct(TEXTS) == vae.reconstruct(TEXTS)

    def test_a_model_saved_before_there_was_a_choice_of_networks_loads(self, tmp_path):
        vae = toy_vae()
        pretrained.save(tmp_path / "model", vae, facts={})
        content = json.loads((tmp_path / "model" / "config.json").read_text())
        for part, name in (("encoder", "cell"), ("decoder", "cell"), ("decoder", "z_to_output")):
            del content["model"][part][name]
        reseal(tmp_path / "model", "config.json", json.dumps(content).encode())
        loaded = seqvae.load(tmp_path / "model")
        assert loaded.model.config == vae.model.config
        assert np.array_equal(loaded.encode(TEXTS).mean, vae.encode(TEXTS).mean)
        weights = load_tensors(tmp_path / "model" / "model.safetensors")
        assert {"encoder.lstm.forwards.0.weight_ih_l0", "decoder.lstm.weight_ih_l0"} <= weights.keys()

    @pytest.mark.parametrize("kind", [{"noiseless": True}, {"latent_dim": 0}])
    def test_what_kind_of_model_it_is_comes_back(self, kind, tmp_path):
        pretrained.save(tmp_path / "model", toy_vae(**kind), facts={})
        loaded = seqvae.load(tmp_path / "model")
        assert loaded.noiseless == kind.get("noiseless", False)
        assert loaded.latent_dim == kind.get("latent_dim", 3)

    def test_a_run_and_the_model_folder_in_it_are_the_same_model(self, runs):
        run = runs[0].folder
        codes = [seqvae.load(path).encode(TEXTS).mean for path in (run, str(run), run / "model", str(run / "model"))]
        assert all(np.array_equal(code, codes[0]) for code in codes)
        assert np.array_equal(runs[0].load().encode(TEXTS).mean, codes[0])

    def test_a_model_folder_loads_wherever_it_is_moved(self, runs, model):
        assert seqvae.load(model).sample(5) == seqvae.load(runs[0].folder).sample(5)

    def test_loading_leaves_the_random_numbers_of_the_program_alone(self, model):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        seqvae.load(model)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_model_is_that_of_the_best_validation(self, runs):
        folder = runs[0].folder
        events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        best = min(event["elbo_nats"] for event in events if event["event"] == "valid")
        assert f"| best validation elbo | {best:.3f} |" in (folder / "model" / "README.md").read_text()


class TestBytes:
    def test_equal_runs_give_equal_bytes(self, runs):
        first, second = ({p.relative_to(r.folder / "model"): p.read_bytes() for p in files(r)} for r in runs)
        assert first == second
        assert {str(path) for path in first} == {
            "MANIFEST.json", "README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json",
        }  # fmt: skip

    def test_no_name_time_or_path_is_in_the_folder(self, runs):
        folder = runs[1].folder
        began = json.loads((folder / "provenance.json").read_text())["began"]
        private = [b"made-here", b"another-name", began[:10].encode(), str(Path.home()).encode() + b"/"]
        for path in files(runs[1]):
            assert not any(word in path.read_bytes() for word in private), path

    def test_the_weights_file_has_no_metadata(self, model):
        content = (model / "model.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert "__metadata__" not in header
        assert header.keys() == SeqVAE(ModelConfig(**settings()["model"]), 13).state_dict().keys()


def files(run):
    return sorted(path for path in (run.folder / "model").rglob("*") if path.is_file())


class TestNoModel:
    def test_a_folder_that_does_not_exist(self, tmp_path):
        error = refused(tmp_path / "nowhere", "E404")
        assert error.what == "there is no such folder"
        assert error.where == str(tmp_path / "nowhere")

    def test_a_folder_of_something_else(self, tmp_path):
        assert refused(tmp_path, "E404").what == "there is no model here"

    def test_a_run_that_has_not_been_validated_yet(self, runs, tmp_path):
        shutil.copy(runs[0].folder / "config.yaml", tmp_path)
        error = refused(tmp_path, "E404")
        assert error.what == "this run has no model yet"
        assert f"seqvae train --resume {tmp_path}" in error.hint


FILES = ["config.json", "model.safetensors", "tokenizer/tokenizer.json"]


class TestDamage:
    @pytest.mark.parametrize("name", FILES)
    def test_a_single_flipped_bit_is_found_and_the_file_named(self, model, name):
        content = bytearray((model / name).read_bytes())
        content[len(content) // 2] ^= 1
        (model / name).write_bytes(content)
        error = refused(model, "E401")
        assert f"`{name}` is damaged" in error.what

    @pytest.mark.parametrize("name", FILES)
    def test_a_truncated_file_is_found(self, model, name):
        (model / name).write_bytes((model / name).read_bytes()[:-1])
        assert name in refused(model, "E401").what

    @pytest.mark.parametrize("name", ["MANIFEST.json", *FILES])
    def test_a_missing_file_is_named(self, model, name):
        (model / name).unlink()
        assert name in refused(model, "E402").what

    @pytest.mark.parametrize("edit", [lambda card: card.write_text("---\nlicense: mit\n---\n"), Path.unlink])
    def test_the_card_is_its_owners_to_edit(self, model, edit):
        edit(model / "README.md")
        weights = seqvae.load(model).weights_sha256
        pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.5}, weights_sha256=weights)
        manifests.verify(model)

    def test_a_file_that_does_not_belong_there_is_refused(self, model):
        (model / "extra.py").write_text("print('never run')")
        assert "extra.py" in refused(model, "E401").what


def reseal(folder: Path, name: str, content: bytes) -> None:
    """Another content under a manifest that agrees with it: what somebody means to do, not what a disk does."""
    with storage.atomic_folder(folder, amend=True) as temporary:
        (temporary / name).write_bytes(content)


def edited(folder: Path, file: str, **changes) -> None:
    content = json.loads((folder / file).read_text())
    reseal(folder, file, json.dumps(content | changes).encode())


class TestForeign:
    def test_a_folder_of_a_newer_version_says_so(self, model):
        edited(model, "config.json", schema_version=99, seqvae_version="9.9.0", no_such_field=1)
        error = refused(model, "E403")
        assert "9.9.0" in error.what
        assert seqvae.__version__ in error.what
        assert "pip install -U seqvae" in error.hint

    @pytest.mark.parametrize(
        ("content", "place"),
        [
            (b"[]", ""),
            (b"null", ""),
            (b'{"schema_version": 1}', "seqvae_version"),
            (b"\xff\xfe", "JSON"),
        ],
    )
    def test_a_description_that_is_none_is_refused(self, model, content, place):
        reseal(model, "config.json", content)
        assert place in refused(model, "E401").what

    def test_an_unknown_setting_of_the_model_is_named(self, model):
        content = json.loads((model / "config.json").read_text())
        content["model"]["decoder"]["exec"] = "print('never run')"
        reseal(model, "config.json", json.dumps(content).encode())
        assert "model.decoder.exec" in refused(model, "E401").what

    @pytest.mark.parametrize("change", ["shape", "extra", "missing"])
    def test_weights_of_another_model_are_refused_and_named(self, model, change):
        weights = load_tensors(model / "model.safetensors")
        name = "decoder.lstm.weight_hh_l0"
        if change == "shape":
            weights[name] = weights[name].T.contiguous()
        elif change == "extra":
            weights[name := "decoder.other"] = torch.zeros(2)
        else:
            del weights[name]
        save_tensors(model.parent / "spoilt.safetensors", weights)
        reseal(model, "model.safetensors", (model.parent / "spoilt.safetensors").read_bytes())
        assert name in refused(model, "E405").what

    @pytest.mark.parametrize(
        ("part", "field", "size"),
        [("encoder", "hidden", 10**6), ("decoder", "hidden", 10**10), ("decoder", "embedding", 10**30)],
    )
    def test_sizes_that_are_not_those_of_the_weights_take_no_memory(self, model, part, field, size):
        content = json.loads((model / "config.json").read_text())
        content["model"][part][field] = size
        reseal(model, "config.json", json.dumps(content).encode())
        refused(model, "E405")

    @pytest.mark.parametrize("part", ["encoder", "decoder"])
    def test_layers_without_end_are_refused_before_any_is_built(self, model, part):
        content = json.loads((model / "config.json").read_text())
        content["model"][part]["layers"] = 10**8
        reseal(model, "config.json", json.dumps(content).encode())
        assert f"model.{part}.layers" in refused(model, "E401").what

    def test_a_vocabulary_of_another_size_is_refused(self, model):
        edited(model, "config.json", vocab_size=10**15)
        assert "vocabulary size" in refused(model, "E405").what
        words = json.loads((model / "tokenizer/tokenizer.json").read_text())["words"]
        edited(model, "config.json", vocab_size=len(words) + 5)
        edited(model, "tokenizer/tokenizer.json", words=[*words, "new"])
        assert "embedding" in refused(model, "E405").what

    def test_nothing_in_the_folder_is_ever_executed(self, model, tmp_path):
        canary = tmp_path / "canary"

        class Payload:
            def __reduce__(self):
                return Path.touch, (canary,)

        for name in ("model.safetensors", "tokenizer/tokenizer.json", "config.json"):
            spoilt = Path(shutil.copytree(model, tmp_path / f"with-{Path(name).name}"))
            reseal(spoilt, name, pickle.dumps(Payload()))
            refused(spoilt, "E401")
        assert not canary.exists()

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": "../../evil"},
            {"name": ["word"]},
            {"words": "abc"},
            {"words": ["w0", 7]},
            {"words": ["w0", "w0"]},
            {"words": ["two words"]},
            {"lowercase": "yes please"},
            {"code": "import os"},
            {"schema_version": "1"},
        ],
        ids=str,
    )
    def test_a_hostile_tokenizer_is_refused(self, model, changes):
        edited(model, "tokenizer/tokenizer.json", **changes)
        refused(model, "E401")

    def test_a_tokenizer_of_a_newer_version_says_so(self, model):
        edited(model, "tokenizer/tokenizer.json", schema_version=2)
        refused(model, "E403")

    def test_a_link_out_of_the_folder_is_refused(self, model, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes((model / "README.md").read_bytes())
        (model / "README.md").unlink()
        (model / "README.md").symlink_to(secret)
        assert "link" in refused(model, "E401").what


class TestEvaluation:
    def test_it_is_kept_beside_the_model_which_stays_whole(self, model):
        weights = disk.sha256_file(model / "model.safetensors")
        before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
        pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.5, "mi_nats": float("nan")}, weights_sha256=weights)
        pretrained.keep_evaluation(model, "valid", {"elbo_nats": 3.5}, weights_sha256=weights)
        pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.25}, weights_sha256=weights)
        manifests.verify(model)
        assert json.loads((model / "eval.json").read_text()) == {
            "test": {"elbo_nats": 4.25},
            "valid": {"elbo_nats": 3.5},
        }
        after = {path: path.read_bytes() for path in before}
        assert [path.name for path in before if before[path] != after[path]] == ["MANIFEST.json"]
        assert seqvae.load(model).latent_dim == 3
        assert seqvae.load(model).weights_sha256 == weights

    def test_numbers_of_other_weights_are_refused_and_change_nothing(self, model):
        before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
        with pytest.raises(SeqVAEError, match="saved anew") as caught:
            pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.5}, weights_sha256="0" * 64)
        assert caught.value.code == "E406"
        assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before

    @pytest.fixture
    def meanwhile(self, monkeypatch):
        """Has another process do something while numbers are being added, once."""
        flush, waiting = storage._flush_tree, []

        def flushing(path):
            flush(path)
            if waiting:
                with monkeypatch.context() as patch:
                    patch.setattr(os, "getpid", lambda: 2**22 + 1)
                    waiting.pop()()

        monkeypatch.setattr(storage, "_flush_tree", flushing)
        return waiting.append

    def test_numbers_that_another_process_adds_at_the_same_time_are_kept_too(self, model, meanwhile):
        weights = disk.sha256_file(model / "model.safetensors")
        meanwhile(lambda: pretrained.keep_evaluation(model, "valid", {"elbo_nats": 3.5}, weights_sha256=weights))
        pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.5}, weights_sha256=weights)
        assert pretrained.evaluated_splits(model) == ["test", "valid"]
        manifests.verify(model)

    def test_a_model_that_training_saves_at_the_same_time_stays(self, model, meanwhile):
        weights = disk.sha256_file(model / "model.safetensors")
        better = seqvae.load(model)
        with torch.no_grad():
            next(better.model.parameters()).add_(1)
        meanwhile(lambda: pretrained.save(model, better, facts={}))
        with pytest.raises(SeqVAEError, match="saved anew") as caught:
            pretrained.keep_evaluation(model, "test", {"elbo_nats": 4.5}, weights_sha256=weights)
        assert caught.value.code == "E406"
        assert disk.sha256_file(model / "model.safetensors") != weights
        assert pretrained.evaluated_splits(model) == []
        manifests.verify(model)

    def test_of_a_link_the_folder_behind_it_is_added_to(self, model, tmp_path):
        weights = disk.sha256_file(model / "model.safetensors")
        (tmp_path / "link").symlink_to(model)
        pretrained.keep_evaluation(tmp_path / "link", "test", {"elbo_nats": 4.5}, weights_sha256=weights)
        assert (tmp_path / "link").is_symlink()
        assert pretrained.evaluated_splits(model) == ["test"]


class TestCard:
    def card(self, tmp_path, **kind):
        pretrained.save(
            tmp_path / "model", toy_vae(**kind), facts={"updates": 12, "best validation elbo": 3.14159, "x": None}
        )
        return (tmp_path / "model" / "README.md").read_text(encoding="utf-8")

    def test_it_says_what_the_model_is_and_how_it_came_to_be(self, tmp_path):
        card = self.card(tmp_path)
        assert "A variational autoencoder over sentences (LSTM) with 3 latent dimensions" in card
        parameters = sum(parameter.numel() for parameter in toy_vae().model.parameters())
        assert f"Vocabulary 13, {parameters:,} parameters" in card
        for row in ("| updates | 12 |", "| best validation elbo | 3.142 |", "| x | - |"):
            assert row in card
        assert "vae.sample(5)" in card

    def test_it_shows_no_use_that_the_model_refuses(self, tmp_path):
        autoencoder = self.card(tmp_path / "a", noiseless=True)
        assert "An autoencoder" in autoencoder
        assert "vae.sample" not in autoencoder
        language_model = self.card(tmp_path / "b", latent_dim=0)
        assert "An LSTM language model" in language_model
        assert "vae.interpolate" not in language_model
        assert "vae.encode" not in language_model

    def test_it_names_the_cells(self, tmp_path):
        both = {"encoder": {"cell": "gru"}, "decoder": {"cell": "gru"}}
        assert "over sentences (GRU) with" in self.card(tmp_path / "a", **both)
        assert "over sentences (GRU-LSTM) with" in self.card(tmp_path / "b", encoder={"cell": "gru"})
        assert "A GRU language model" in self.card(tmp_path / "c", **both, latent_dim=0)

    def test_its_python_runs(self, model, monkeypatch):
        card = (model / "README.md").read_text(encoding="utf-8")
        code = card.split("```python")[1].split("```")[0].replace("path/to/this/folder", str(model))
        exec(compile(code, "README.md", "exec"), {})


class Halves(Strategy):
    """Halves the posterior mean: a stand-in for a method that refines q(z|x)."""

    Config = BetaConfig

    def refine(self, q, batch, model):
        assert torch.is_grad_enabled()
        return GaussianPosterior(q.mean / 2, q.logvar)


def test_a_method_that_refines_q_does_so_in_use_and_after_loading(tmp_path, monkeypatch):
    vae = toy_vae()
    plain = vae.encode(TEXTS).mean
    vae.model.refiners = (Halves(BetaConfig(beta=1)),)
    np.testing.assert_allclose(vae.encode(TEXTS).mean, plain / 2, rtol=1e-6)
    pretrained.save(tmp_path / "model", vae, facts={})
    monkeypatch.setattr(pretrained, "build_strategy", Halves)
    np.testing.assert_array_equal(seqvae.load(tmp_path / "model").encode(TEXTS).mean, vae.encode(TEXTS).mean)

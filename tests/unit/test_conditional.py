"""A model of text given its label: what it computes, how it is trained, saved, measured and used."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS
from model_toys import VOCAB, batch_of, rows_of, spread
from torch.nn import functional
from training_toys import settings, write_corpus

import seqvae
from seqvae.config import Config
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.report import EvalConfig, evaluate_model
from seqvae.generation.attributes import Direction
from seqvae.io import disk, pretrained, storage
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE
from seqvae.types import Batch

LABELS = ("east", "north", "south", "west")
SIZES = {"encoder": {"embedding": 5, "hidden": 6}, "decoder": {"embedding": 7, "hidden": 8, "layers": 2}}
EXTRA = 9


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(latent_dim=3, seed=0, vocab=VOCAB, **families) -> SeqVAE:
    config = {"latent_dim": latent_dim, "conditional": {"embedding": EXTRA}, **SIZES, **families}
    return spread(SeqVAE(ModelConfig.model_validate(config), vocab, LABELS), seed=seed).eval()


def labelled(batch: Batch, labels) -> Batch:
    return Batch(tokens=batch.tokens, lengths=batch.lengths, rows=batch.rows, labels=torch.tensor(labels))


def rendered(report) -> str:
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as capture:
        console.print(report)
    return capture.get()


def message(call, *arguments, **named) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        call(*arguments, **named)
    return caught.value


@torch.no_grad()
@pytest.mark.parametrize("latent_dim", [3, 0])
def test_it_is_the_plain_model_with_the_labels_embedding_beside_features_and_code(latent_dim):
    """The same weights, used by hand."""
    model, batch = model_of(latent_dim), labelled(batch_of(), [2, 0, 3, 0, 1])
    z = torch.randn(4, 5, latent_dim, generator=noise())
    terms = model.terms(batch, z=z)
    for row, label in enumerate(batch.labels.tolist()):
        one = rows_of(batch, [row])
        if latent_dim:
            features = model.encoder(one.tokens, one.lengths)
            q = model.posterior(torch.cat([features, model.encoder_labels.weight[label][None]], -1))
            torch.testing.assert_close(terms.q.mean[row], q.mean[0])
        for sample in range(4):
            code = torch.cat([z[sample, row], model.decoder_labels.weight[label]])[None]
            logits = model.decoder(one.tokens[:, :-1], code) @ model.decoder.output_weight.T
            nll = functional.cross_entropy(logits[0], one.tokens[0, 1:], reduction="sum")
            torch.testing.assert_close(terms.rec[sample, row], nll, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_label_matters_to_both_halves_and_to_its_own_sentence_alone():
    model, batch = model_of(), batch_of()
    z = torch.randn(2, 5, 3, generator=noise())
    before = model.terms(labelled(batch, [0, 0, 0, 0, 0]), z=z)
    after = model.terms(labelled(batch, [0, 0, 3, 0, 0]), z=z)
    moved = torch.arange(5) == 2
    assert torch.equal((before.rec != after.rec).any(0), moved)
    assert torch.equal((before.q.mean != after.q.mean).any(-1), moved)


@pytest.mark.parametrize("latent_dim", [3, 0])
def test_gradients_reach_the_labels_that_occur(latent_dim):
    model, batch = model_of(latent_dim), labelled(batch_of(), [2, 0, 2, 0, 0])
    terms = model.terms(batch)
    (terms.rec.mean(0) + terms.kl).sum().backward()
    tables = [model.decoder_labels] if latent_dim == 0 else [model.decoder_labels, model.encoder_labels]
    for table in tables:
        assert (table.weight.grad.abs().sum(1) > 0).tolist() == [True, False, True, False]


def test_the_labels_belong_to_the_halves_that_read_them():
    model = model_of()
    parts = model.parts()
    assert model.encoder_labels in parts["encoder"]
    assert model.decoder_labels in parts["decoder"]
    before = model.decoder_labels.weight.detach().clone()
    model.reset("encoder")
    assert torch.equal(model.decoder_labels.weight, before)
    assert model.encoder_labels.weight.abs().max() <= model.config.init.embeddings
    assert {id(p) for modules in parts.values() for m in modules for p in m.parameters()} == set(
        map(id, model.parameters())
    )


def test_without_labels_it_says_what_it_needs():
    model = model_of()
    error = message(model.terms, batch_of())
    assert error.code == "E282"
    assert "--label" in error.hint
    assert "'north'" in error.hint
    vae = TextVAE(model_of(vocab=WORDS.vocab_size), WORDS)
    for call in (
        lambda: vae.encode(["a"]),
        lambda: vae.decode(np.zeros((1, 3))),
        lambda: vae.reconstruct(["a"]),
        lambda: vae.interpolate("a", "b"),
        lambda: vae.score(["a"]),
        lambda: seqvae.evaluate(vae, ["a"] * 3),
    ):
        assert message(call).code == "E282"


def test_labels_are_given_by_name():
    vae = TextVAE(model_of(vocab=WORDS.vocab_size), WORDS)
    texts = ["a b", "c", ""]
    both = vae.encode(texts, label=["west", "east", "west"]).mean
    np.testing.assert_allclose(both[[0, 2]], vae.encode(texts, label="west").mean[[0, 2]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[1], vae.encode(texts, label="east").mean[1], rtol=1e-5, atol=1e-6)
    store = TokenStore.from_texts(texts, WORDS).with_labels(np.array([3, 0, 3]), LABELS)
    np.testing.assert_array_equal(vae.encode(store).mean, both)
    assert vae.reconstruct(store) == vae.reconstruct(texts, label=["west", "east", "west"])
    assert vae.reconstruct(texts, label="west") == vae.decode(vae.encode(texts, label="west"), label="west")
    assert len(vae.interpolate("a", "b c", 5, label="north")) == 5
    assert vae.score(store).nats.shape == (3,)
    assert vae.encode([], label="west").mean.shape == (0, 3)


def test_a_label_that_the_model_does_not_know_is_named_with_those_that_it_does():
    vae = TextVAE(model_of(vocab=WORDS.vocab_size), WORDS)
    error = message(vae.sample, 2, label="nort")
    assert (error.code, error.what) == ("E283", "there is no label 'nort' in this model")
    assert error.hint == "did you mean 'north'? the labels are 'east', 'north', 'south', 'west'"
    plain = TextVAE(SeqVAE(ModelConfig(latent_dim=2, **SIZES), WORDS.vocab_size), WORDS)
    assert message(plain.sample, 2, label="north").code == "E284"
    assert message(vae.encode, ["a", "b"], label=["north"]).code == "E286"
    foreign = TokenStore.from_texts(["a"], WORDS).with_labels(np.array([0]), ("east", "west"))
    assert message(vae.encode, foreign).code == "E285"
    assert message(vae.fit_aggregate, foreign).code in ("E245", "E285")


@torch.no_grad()
def test_samples_are_those_of_the_label():
    """With a decoder that writes the word of its label whatever z is."""
    model = model_of(vocab=WORDS.vocab_size)
    for parameter in model.decoder.parameters():
        parameter.zero_()
    # One word for each label: the output weights read it from the label's own hidden unit.
    model.decoder_labels.weight.zero_()
    model.decoder_labels.weight[:, :4] = 20 * torch.eye(4)
    model.decoder.state.weight[:, 3:] = torch.eye(9)[:8].repeat(2, 1)
    vae = TextVAE(model, WORDS)
    seen = []
    write = vae._write
    vae._write = lambda z, config, generator, labels: seen.append(labels) or write(z, config, generator, labels)
    vae.sample(6, label="south")
    assert seen.pop().tolist() == [2] * 6
    vae.sample(400, seed=1)
    assert torch.bincount(seen.pop(), minlength=4).min() > 60
    vae.sample(3, label=["east", "west", "east"])
    assert seen.pop().tolist() == [0, 3, 0]
    starts = model.decoder.start(model.decoder_input(torch.zeros(4, 3), torch.arange(4))).h[0, :, :4]
    assert torch.equal(starts > 0.5, torch.eye(4).bool())


def test_probabilities_given_a_label_sum_to_one():
    """Over the sentences of up to one word and the beginnings of longer ones, as of a conditional language model."""
    model = model_of(0, vocab=7).double()
    words = [0, 1, 3, 4, 5, 6]
    rows = [[1, 2]] + [[1, word, 2] for word in words]
    for label in range(4):
        total = 0.0
        for row in rows:
            batch = Batch(
                tokens=torch.tensor([row]),
                lengths=torch.tensor([len(row)]),
                rows=torch.tensor([0]),
                labels=torch.tensor([label]),
            )
            code = model.decoder_input(torch.zeros(1, 0).double(), batch.labels)
            logits = model.decoder(batch.tokens[:, :-1], code)[0] @ model.decoder.output_weight.T
            nll = functional.cross_entropy(logits, batch.tokens[0, 1:], reduction="none")
            total += math.exp(-float(nll.sum().detach()))
        more = sum(_begun(model, first, label) for first in words)
        assert total + more == pytest.approx(1.0, abs=1e-9)


@torch.no_grad()
def _begun(model, first, label) -> float:
    """Probability of a sentence that begins with ``first`` and then another word."""
    code = model.decoder_input(torch.zeros(1, 0).double(), torch.tensor([label]))
    logits = model.decoder(torch.tensor([[1, first]]), code)[0] @ model.decoder.output_weight.T
    probability = torch.softmax(logits, -1)
    return float(probability[0, first] * (1 - probability[1, 2]))


def test_it_is_measured_given_the_labels_of_the_text():
    model = model_of(vocab=WORDS.vocab_size)
    plain = TokenStore.from_texts(["a b", "c", "d e f", "", "g a", "b"] * 5, WORDS)
    one, other = (plain.with_labels(np.full(30, label), LABELS) for label in (0, 3))
    first, second = elbo_and_iw(model, one, samples=5), elbo_and_iw(model, other, samples=5)
    assert (np.abs(first.elbo - second.elbo) > 1e-4).all()
    report = evaluate_model(model, WORDS, one, split="toy", config=EvalConfig(iw_samples=5, reconstructions=7))
    assert report.elbo_nats == pytest.approx(float(first.elbo.mean()))
    assert report.bleu is not None
    assert report.to_dict()["conditional"] is True
    assert "given its label" in rendered(report)


def test_it_goes_with_every_family_but_pseudo_inputs():
    for families in (
        {"posterior": {"family": "vmf"}},
        {"posterior": {"family": "iaf"}},
        {"prior": {"family": "mixture"}},
    ):
        model, batch = model_of(**families), labelled(batch_of(), [2, 0, 3, 0, 1])
        assert torch.isfinite(model.terms(batch, 2).rec).all()
    error = message(Config.from_dict, {}, ["model.conditional={}", "model.prior.family=vamp"])
    assert "conditional and prior.family vamp cannot go together" in error.what


CONDITIONAL = {"model": {"conditional": {"embedding": 4}}, "train": {"steps": 4}}


class TestRun:
    def corpus(self, folder, labelled=True):
        paths = write_corpus(folder)
        for split, path in paths.items():
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            text = "".join(f"{'long' if len(line.split()) > 3 else 'short'}\n" for line in lines)
            (folder / f"{split}.labels").write_text(text, encoding="utf-8")
        return {**paths, "labels": True} if labelled else paths

    def test_a_run_learns_the_names_of_the_labels_and_saves_them(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run = seqvae.train(settings(data=self.corpus(tmp_path), **CONDITIONAL), out="run")
        assert run.finished
        vae = run.load()
        assert vae.labels == ("long", "short")
        assert vae.sample(2, label="short", seed=3) == run.load().sample(2, label="short", seed=3)
        assert len(vae.sample(3)) == 3

    def test_a_text_without_labels_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        config = settings(data=self.corpus(tmp_path, labelled=False), **CONDITIONAL)
        error = message(seqvae.train, config, out="run")
        assert error.code == "E281"
        assert "data.labels" in error.hint
        assert not (tmp_path / "run").exists()

    def test_labels_without_a_conditional_model_change_nothing(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run = seqvae.train(settings(data=self.corpus(tmp_path), train={"steps": 2}), out="run")
        assert run.load().labels is None


def test_a_model_saved_before_there_were_labels_loads(tmp_path):
    vae = TextVAE(SeqVAE(ModelConfig(latent_dim=2, **SIZES), WORDS.vocab_size), WORDS)
    pretrained.save(tmp_path / "model", vae, facts={})
    description = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    del description["labels"], description["model"]["conditional"]
    description["model"]["posterior"], description["model"]["prior"] = {"family": "gaussian"}, {"family": "standard"}
    with storage.atomic_folder(tmp_path / "model", amend=True) as folder:
        disk.write_json(folder / "config.json", description)
    assert pretrained.load(tmp_path / "model").labels is None


def test_a_conditional_model_is_saved_and_loaded_as_it_was(tmp_path):
    vae = TextVAE(model_of(vocab=WORDS.vocab_size), WORDS)
    pretrained.save(tmp_path / "model", vae, facts={})
    back = pretrained.load(tmp_path / "model")
    assert back.labels == LABELS
    np.testing.assert_array_equal(back.encode(["a b"], label="west").mean, vae.encode(["a b"], label="west").mean)
    assert back.sample(3, label="east", seed=2) == vae.sample(3, label="east", seed=2)


def test_the_full_suite_measures_samples_and_paths_under_labels_of_the_text():
    from seqvae.evaluation.suite import evaluate_fully

    model = model_of(vocab=WORDS.vocab_size)
    texts = ["a b", "c", "d e f", "", "g a", "b"] * 5
    store = TokenStore.from_texts(texts, WORDS).with_labels(np.arange(30) % 4, LABELS)
    config = EvalConfig(iw_samples=3, reconstructions=5, samples=8, paths=2)
    report = evaluate_fully(model, WORDS, store, split="toy", config=config)
    json.dumps(report.to_dict(), allow_nan=False)
    assert report.interpolation.pairs == 2
    assert report.similarity is None


def test_python_names_the_labels_of_texts_that_are_measured():
    vae = TextVAE(model_of(vocab=WORDS.vocab_size), WORDS)
    texts = ["a b", "c", "d e f", "", "g a", "b"] * 5
    config = EvalConfig(iw_samples=3, reconstructions=2)
    one = seqvae.evaluate(vae, texts, config=config, label=LABELS[3])
    store = TokenStore.from_texts(texts, WORDS).with_labels(np.full(30, 3), LABELS)
    assert one.elbo_nats == seqvae.evaluate(vae, store, config=config).elbo_nats
    with pytest.raises(SeqVAEError, match="E282"):
        seqvae.evaluate(vae, texts, config=config)
    with pytest.raises(SeqVAEError, match="E296"):
        vae.shift(texts, Direction(label="x", having=1, others=1, vector=np.zeros(vae.latent_dim, np.float32)))

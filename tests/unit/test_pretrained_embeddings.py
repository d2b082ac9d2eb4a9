"""Embeddings that begin as word vectors: what is written, what stays, and that runs with them go on as all others."""

import json

import numpy as np
import pytest
import torch
from training_toys import Events, StopsAt, bytes_of, settings, write_corpus

import seqvae
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import SeqVAEError
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.registry import ObjectiveConfig
from seqvae.training.embeddings import PretrainedEmbeddings
from seqvae.training.phases import resolve_phases
from seqvae.training.settings import PhaseConfig, PretrainedEmbeddingsConfig, TrainConfig
from seqvae.types import SPECIALS

SIZE = 7
WORDS = WordTokenizer([f"w{i}" for i in range(9)])
KNOWN = ("w1", "w4", "w6", "w8")


def vector_of(word: str) -> np.ndarray:
    return np.random.default_rng(int(word[1:])).normal(size=SIZE).astype(np.float32)


@pytest.fixture
def vectors(tmp_path):
    """Has four of the nine words, one that is not asked for, and all the special tokens."""
    lines = {name: np.full(SIZE, 9.0) for name in (*SPECIALS, "w77")} | {word: vector_of(word) for word in KNOWN}
    path = tmp_path / "vectors.txt"
    rows = (" ".join([word, *(f"{number:.9g}" for number in vector)]) for word, vector in lines.items())
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def model_of(latent_dim=3, *, encoder=None, decoder=None) -> SeqVAE:
    torch.manual_seed(0)
    both = {"encoder": {"embedding": SIZE, "hidden": 6}, "decoder": {"embedding": SIZE, "hidden": 8}}
    parts = {part: both[part] | (given or {}) for part, given in (("encoder", encoder), ("decoder", decoder))}
    return SeqVAE(ModelConfig(latent_dim=latent_dim, **parts), WORDS.vocab_size)


def pretrained(model, path, phases=(), **changes) -> PretrainedEmbeddings:
    config = PretrainedEmbeddingsConfig(path=path, **changes)
    return PretrainedEmbeddings(config, model, resolve_phases(ObjectiveConfig(), TrainConfig(phases=phases)))


def refused(code, make) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        make()
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    return caught.value


class TestWhatIsWritten:
    def test_the_vectors_of_known_words_and_of_no_special_token(self, vectors):
        model = model_of()
        (note,) = pretrained(model, vectors).write(WORDS)
        assert note.startswith("4 of 9 words (44%) have a pretrained vector; the embeddings of encoder and decoder")
        for weight in (model.encoder.embedding.weight, model.decoder.embedding.weight):
            for word in KNOWN:
                assert np.array_equal(weight[WORDS.encode(word)[0]].detach(), vector_of(word))
            assert not (weight == 9.0).any()

    def test_the_others_keep_their_random_directions_at_the_scale_of_the_pretrained(self, vectors):
        model = model_of()
        before = model.decoder.embedding.weight.detach().clone()
        pretrained(model, vectors).write(WORDS)
        others = [row for row in range(WORDS.vocab_size) if row not in {WORDS.encode(word)[0] for word in KNOWN}]
        after = model.decoder.embedding.weight.detach()
        factor = np.std([vector_of(word) for word in KNOWN]) / float(before[others].std(correction=0))
        torch.testing.assert_close(after[others], before[others] * factor)

    def test_only_the_parts_that_are_named(self, vectors):
        model = model_of(decoder={"embedding": 5})
        before = bytes_of(model)
        (note,) = pretrained(model, vectors, parts=["encoder"]).write(WORDS)
        assert "the embeddings of encoder begin" in note
        changed = {name for name, content in bytes_of(model).items() if content != before[name]}
        assert changed == {"encoder.embedding.weight"}

    def test_a_language_model_has_the_decoders_alone(self, vectors):
        model = model_of(0)
        (note,) = pretrained(model, vectors).write(WORDS)
        assert "the embeddings of decoder begin" in note

    def test_no_random_number_is_drawn(self, vectors):
        model, state = model_of(), torch.get_rng_state()
        pretrained(model, vectors).write(WORDS)
        assert torch.equal(torch.get_rng_state(), state)

    def test_repeated_words_are_told(self, vectors):
        with vectors.open("a", encoding="utf-8") as stream:
            stream.write("\nw1 " + " 5" * SIZE)
        notes = pretrained(model_of(), vectors).write(WORDS)
        assert notes[1] == "vectors.txt has 1 more vector for tokens that it had before: the first one counts"


def pieces() -> SentencePieceTokenizer:
    config = SentencePieceTokenizerConfig(vocab_size=16, byte_fallback=False)
    return SentencePieceTokenizer.train(["a cat sat on the mat"] * 9, config)


@pytest.mark.parametrize(
    ("make", "token", "unit"),
    [(lambda: CharTokenizer(["a", "中", " "]), "中", "characters"), (pieces, "▁", "pieces")],
)
def test_characters_and_pieces_are_found_as_they_are_shown(make, token, unit, tmp_path):
    tokenizer = make()
    (tmp_path / "v.txt").write_text(f"{token} 1 2 3 4 5 6 7\n", encoding="utf-8")
    torch.manual_seed(0)
    model = SeqVAE(model_of().config, tokenizer.vocab_size)
    (note,) = pretrained(model, tmp_path / "v.txt").write(tokenizer)
    assert f"1 of {tokenizer.vocab_size - 4} {unit}" in note
    row = tokenizer.vocabulary.index(token)
    assert model.encoder.embedding.weight[row].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_every_tokenizer_shows_its_vocabulary_as_its_tokens():
    text = "a cat sat"
    for tokenizer in (
        WordTokenizer(["cat", "a", "sat"]),
        CharTokenizer(list("act s")),
        pieces(),
    ):
        assert tokenizer.vocabulary[:4] == list(SPECIALS)
        assert len(tokenizer.vocabulary) == tokenizer.vocab_size
        assert [tokenizer.vocabulary[index] for index in tokenizer.encode(text)] == tokenizer.tokens(text)


class TestWhatCannotBe:
    def test_sizes_that_differ_are_named_with_the_settings(self, vectors):
        error = refused("E227", lambda: pretrained(model_of(decoder={"embedding": 5}), vectors).write(WORDS))
        assert error.what == "the vectors of the file have 7 numbers; `model.decoder.embedding` is 5"
        assert error.hint == "set `model.decoder.embedding: 7`"
        tied = {"embedding": 8, "tie_weights": True}
        error = refused(
            "E227", lambda: pretrained(model_of(decoder=tied, encoder={"embedding": 6}), vectors).write(WORDS)
        )
        assert "`model.encoder.embedding` is 6 and `model.decoder.embedding` is 8" in error.what
        assert "with `tie_weights` `model.decoder.hidden: 7` too" in error.hint

    def test_a_model_that_was_refused_is_as_it_was(self, vectors):
        model = model_of(decoder={"embedding": 5})
        before = bytes_of(model)
        refused("E227", lambda: pretrained(model, vectors).write(WORDS))
        assert bytes_of(model) == before

    def test_a_language_model_has_no_encoder_to_begin_so(self, vectors):
        refused("E228", lambda: pretrained(model_of(0), vectors, parts=["encoder"]))

    def test_a_reset_would_lose_them_unless_they_are_frozen(self, vectors):
        phases = (PhaseConfig(name="first"), PhaseConfig(name="second", reset=["decoder"]))
        error = refused("E229", lambda: pretrained(model_of(), vectors, phases))
        assert error.where == "phase `second`"
        pretrained(model_of(), vectors, phases, freeze=True)
        pretrained(model_of(), vectors, phases, parts=["encoder"])


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_reset_leaves_frozen_embeddings_and_draws_the_rest_anew(part, tied, vectors):
    model = model_of(decoder={"hidden": SIZE, "tie_weights": tied})
    pretrained(model, vectors, freeze=True).write(WORDS)
    before = bytes_of(model)
    model.reset(part)
    for name, content in bytes_of(model).items():
        own = name.startswith(("encoder.", "posterior.") if part == "encoder" else "decoder.")
        assert (content != before[name]) == (own and name != f"{part}.embedding.weight"), name


# Whole runs.


def run_settings(tmp_path, vectors, *, tied=False, steps=11, **given):
    model = {"encoder.embedding": SIZE} | ({"decoder.hidden": SIZE, "decoder.tie_weights": True} if tied else {})
    train = {"steps": steps, "validate_every": 4, "pretrained_embeddings": {"path": str(vectors)} | given}
    return settings(data=write_corpus(tmp_path), model=model, train=train)


def weights(run, name):
    return dict(run.load().model.named_parameters())[name].detach()


@pytest.mark.parametrize("optimizer", [{"name": "adamw", "weight_decay": 0.1}, {"name": "sgd", "lr": 0.1}])
@pytest.mark.parametrize("tied", [False, True])
def test_frozen_embeddings_stay_and_all_else_is_trained(tied, optimizer, tmp_path, vectors):
    config = run_settings(tmp_path, vectors, tied=tied, freeze=True)
    config["train"]["optimizer"] = optimizer
    run = seqvae.train(config, out=tmp_path / "run")
    loaded = run.load()
    rows = [loaded.tokenizer.encode(word)[0] for word in KNOWN]
    for name in ("encoder.embedding.weight", "decoder.embedding.weight"):
        assert np.array_equal(weights(run, name)[rows], [vector_of(word) for word in KNOWN])
    torch.manual_seed(0)
    fresh = SeqVAE(loaded.model.config, loaded.model.vocab_size).state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert not torch.equal(tensor, fresh[name]), name
    assert (loaded.model.decoder.output is None) == tied


def test_embeddings_that_are_not_frozen_are_trained_from_there(tmp_path, vectors):
    run = seqvae.train(run_settings(tmp_path, vectors), out=tmp_path / "run")
    row = run.load().tokenizer.encode("w4")[0]
    moved = (weights(run, "decoder.embedding.weight")[row] - torch.from_numpy(vector_of("w4"))).abs().max()
    assert 0 < moved < 0.2


@pytest.mark.parametrize("freeze", [False, True])
def test_a_resumed_run_needs_no_file_and_goes_on_bit_by_bit(freeze, tmp_path, vectors):
    config = run_settings(tmp_path, vectors, freeze=freeze)
    whole = seqvae.train(config, out=tmp_path / "whole")
    cut = seqvae.train(config, out=tmp_path / "cut", observers=[StopsAt(6)])
    assert not cut.finished
    vectors.unlink()
    resumed = seqvae.train(resume=tmp_path / "cut")
    assert resumed.finished
    assert bytes_of(resumed.load().model) == bytes_of(whole.load().model)


def test_the_run_says_what_was_found_and_keeps_the_full_path(tmp_path, vectors, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = Events()
    run = seqvae.train(run_settings(tmp_path, "vectors.txt", steps=1), out=tmp_path / "run", observers=[events])
    assert any("4 of 9 words (44%) have a pretrained vector" in event["text"] for event in events.of("note"))
    assert f"path: {vectors}" in (run.folder / "config.yaml").read_text(encoding="utf-8")
    assert "vectors.txt" not in (run.folder / "model" / "config.json").read_text(encoding="utf-8")
    assert json.loads((run.folder / "model" / "config.json").read_text())["model"]["decoder"]["embedding"] == SIZE


def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path, vectors):
    config = run_settings(tmp_path, vectors)
    config["model"]["encoder"]["embedding"] = 5
    refused("E227", lambda: seqvae.train(config, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()

"""Reconstruction BLEU, exact match and token accuracy, against hand-made models and sacrebleu itself."""

import numpy as np
import pytest
import sacrebleu
import torch
from evaluation_toys import WORDS, small_model, store_of, texts
from torch import nn

from seqvae.data.char_tokenizer import CharTokenizer, CharTokenizerConfig
from seqvae.data.store import TokenStore
from seqvae.evaluation.passes import evaluating
from seqvae.evaluation.text import SPARE_TOKENS, bleu_tokenisation, reconstruction, token_accuracy
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.types import EOS


class Parrot(nn.Module):
    """Its code is the row number, its decoder writes ``lines[row]`` and nothing else."""

    latent_dim, device, labels = 1, torch.device("cpu"), None

    def __init__(self, lines: list[str]):
        super().__init__()
        self.decoder, self.batch_sizes = Speech([[*WORDS.encode(line), EOS] for line in lines]), []

    def encode(self, batch):
        self.batch_sizes.append(len(batch))
        mean = batch.rows[:, None].float()
        return GaussianPosterior(mean, torch.zeros_like(mean))

    def decoder_input(self, z, labels=None):
        return z


class Speech(torch.nn.Module):
    """What its output layer reads is the word itself."""

    def __init__(self, ids):
        super().__init__()
        self.ids = ids
        self.output_weight, self.output_bias = 9.0 * torch.eye(WORDS.vocab_size), None

    def start(self, z):
        return Place(torch.zeros(len(z), dtype=torch.long))

    def advance(self, token, z, state):
        places = zip(z[:, 0].int().tolist(), state.place.tolist(), strict=True)
        words = torch.tensor([self.ids[row][place] for row, place in places])
        return torch.nn.functional.one_hot(words, WORDS.vocab_size).float(), Place(state.place + 1)


class Place:
    def __init__(self, place):
        self.place = place

    def select(self, index):
        return Place(self.place[index])


def test_perfect_reconstruction_is_bleu_100_and_exact_match_1():
    lines = texts(60, seed=1)
    found = reconstruction(Parrot(lines), WORDS, TokenStore.from_texts(lines, WORDS))
    assert found.bleu == pytest.approx(100)
    assert found.exact_match == 1
    assert found.sentences == 60


def test_unknown_words_count_as_the_tokenizer_sees_them():
    lines = ["a xyzzy b c d", "e plugh", "plugh"]
    found = reconstruction(Parrot(lines), WORDS, TokenStore.from_texts(lines, WORDS))
    assert found.exact_match == 1
    assert found.bleu == pytest.approx(100)


def test_bleu_is_sacrebleus_and_its_signature_is_kept():
    sources, outputs = ["a b c d e", "f g a b", "", "c"], ["a b c d f", "f g a", "a", "c"]
    found = reconstruction(Parrot(outputs), WORDS, TokenStore.from_texts(sources, WORDS))
    assert found.bleu == pytest.approx(sacrebleu.corpus_bleu(outputs, [sources], tokenize="none", force=True).score)
    assert 0 < found.bleu < 100
    assert "tok:none" in found.bleu_signature
    assert f"version:{sacrebleu.__version__}" in found.bleu_signature
    assert found.exact_match == 0.25


def test_chrf_edit_distance_and_errors_are_those_of_their_definitions():
    sources, outputs = ["a b c d e", "f g a b", "", "c"], ["a b c d f", "f g a", "a", "c"]
    found = reconstruction(Parrot(outputs), WORDS, TokenStore.from_texts(sources, WORDS))
    assert found.chrf == pytest.approx(sacrebleu.corpus_chrf(outputs, [sources]).score)
    assert "nc:6" in found.chrf_signature
    distances = [1 / 5, 1 / 4, 1.0, 0.0]
    assert found.edit_distance == pytest.approx(np.mean(distances))
    assert found.edit_distance_se == pytest.approx(np.std(distances, ddof=1) / 2)
    assert found.exact_match_se == pytest.approx(np.std([0, 0, 0, 1], ddof=1) / 2)


@pytest.mark.parametrize(
    ("unit", "texts", "expected"),
    [
        ("word", ["我 爱 你"], "none"),
        ("character", ["It's 5 o'clock, she said.", ""], "13a"),
        ("piece", ["我们去 KTV 吧。", "你好!"], "zh"),
        ("character", ["CC(=O)Oc1ccccc1", "C1CCCCC1"], "char"),
        ("piece", ["ฉันรักคุณ", "สวัสดี"], "char"),
        ("character", ["", ""], "13a"),
    ],
)
def test_bleu_counts_words_as_the_script_separates_them(unit, texts, expected):
    assert bleu_tokenisation(unit, texts) == expected


def test_the_tokenisation_of_bleu_is_in_its_signature():
    lines = ["我爱你", "你好吗"]
    tokenizer = CharTokenizer.train(lines, CharTokenizerConfig())
    found = reconstruction(small_model(vocab=tokenizer.vocab_size), tokenizer, TokenStore.from_texts(lines, tokenizer))
    assert "tok:zh" in found.bleu_signature


def test_reconstructions_are_capped_by_a_fixed_subset():
    model, store = small_model(), store_of(90)
    one, same = (reconstruction(model, WORDS, store, at_most=17, seed=2) for _ in range(2))
    assert one == same
    assert one.sentences == 17


def test_results_do_not_depend_on_how_many_are_decoded_together(monkeypatch):
    lines = texts(40, seed=3)
    model, store = Parrot(lines[::-1]), TokenStore.from_texts(lines, WORDS)
    whole = reconstruction(model, WORDS, store)
    monkeypatch.setattr("seqvae.evaluation.text._CODES_TOGETHER", 7)
    assert reconstruction(model, WORDS, store) == whole
    assert max(model.batch_sizes[1:]) == 7


@pytest.mark.parametrize("lines", [[""], ["a"], ["", "a b"]])
def test_degenerate_splits_are_defined(lines):
    found = reconstruction(small_model(), WORDS, TokenStore.from_texts(lines, WORDS))
    assert 0 <= found.bleu <= 100
    assert 0 <= found.exact_match <= 1


def test_a_model_that_never_ends_is_cut_a_little_above_the_longest_sentence():
    lines = ["a b", "c"]
    model = Parrot([" ".join(["a"] * 400)] * 2)
    decode_config = DecodeConfig(strategy="greedy", max_length=4 + SPARE_TOKENS)
    assert len(decode(model, torch.tensor([[0.0]]), decode_config).tokens[0]) == 4 + SPARE_TOKENS
    assert reconstruction(model, WORDS, TokenStore.from_texts(lines, WORDS)).exact_match == 0


@pytest.mark.parametrize("latent_dim", [0, 3])
def test_token_accuracy_is_the_share_of_first_choices_eos_counted(latent_dim):
    model, store = small_model(latent_dim=latent_dim, seed=1, scale=1.2), store_of(35)
    hits = total = 0
    with evaluating(model):
        for row in range(35):
            ids = torch.from_numpy(store[row].astype(np.int64))
            z = torch.zeros(1, 0)
            if latent_dim:
                z = model.posterior(model.encoder(ids[None], torch.tensor([len(ids)]))).mean
            state = model.decoder.start(z)
            for i in range(len(ids) - 1):
                logits, state = model.decoder.step(ids[i : i + 1], z, state)
                hits, total = hits + int(logits.argmax() == ids[i + 1]), total + 1
    assert total == store.stats.tokens
    assert 0 < hits < total
    for batch_tokens in (20, 10_000):
        assert token_accuracy(model, store, batch_tokens=batch_tokens) == pytest.approx(hits / total)

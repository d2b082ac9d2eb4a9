"""Missing words: what is found and how it is scored, against enumeration of all fillers and quadrature over z."""

import itertools
import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS
from model_toys import spread, tiny_vae

from seqvae.data.char_tokenizer import CharTokenizer, CharTokenizerConfig
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import SeqVAEError
from seqvae.generation.gaps import FIRST, NEXT, GappedText, starters
from seqvae.generation.imputation import ImputeConfig, fill
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE
from seqvae.types import BOS, EOS

FEW = ImputeConfig(most=2, chains=3, rounds=2, beam_size=7, iw_samples=13)
"""A beam as wide as the vocabulary: a single gap is searched exhaustively."""
WIDE = ImputeConfig(most=2, chains=2, rounds=1, beam_size=60, iw_samples=11, scored=100)


def vae_of(latent_dim=3, noiseless=False, **families) -> TextVAE:
    return TextVAE(tiny_vae(latent_dim, **families), WORDS, noiseless=noiseless)


def conditional() -> TextVAE:
    config = {"latent_dim": 3, "conditional": {"embedding": 4}, "encoder": {"hidden": 6}, "decoder": {"hidden": 8}}
    model = SeqVAE(ModelConfig.model_validate(config), WORDS.vocab_size, ("east", "west"))
    return TextVAE(spread(model).eval(), WORDS)


def softmax(nats) -> np.ndarray:
    weights = np.exp(min(nats) - np.asarray(nats))
    return weights / weights.sum()


def refused(code, call, *arguments, **named) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    return caught.value


class TestOneGap:
    @pytest.mark.parametrize("family", ["gaussian", "vmf"])
    def test_every_filler_is_scored_as_the_whole_sentence_is_and_the_best_come_first(self, family):
        vae = vae_of(posterior={"family": family})
        (found,) = vae.impute(["a ___ c d"], 7, config=FEW, seed=5)
        nats = {
            word: vae.score([f"a {word} c d"], by="iw", samples=FEW.iw_samples, seed=5).nats[0] for word in WORDS.words
        }
        assert [each.fills for each in found] == [(word,) for word in sorted(nats, key=nats.get)]
        for each, share in zip(found, softmax(sorted(nats.values())), strict=True):
            assert each.text == f"a {each.fills[0]} c d"
            assert each.nats == pytest.approx(nats[each.fills[0]], abs=1e-4)
            assert each.share == pytest.approx(share, abs=1e-4)

    @torch.no_grad()
    def test_shares_are_the_posterior_of_the_filler_as_quadrature_over_z_gives_it(self):
        vae = vae_of(latent_dim=1)
        grid = torch.linspace(-8, 8, 2001, dtype=torch.float32)[:, None, None]
        log_prior = -0.5 * grid[:, 0, 0].double() ** 2 - 0.5 * math.log(2 * math.pi)
        exact = []
        for word in WORDS.words:
            batch = _batch(["b", word, "e"])
            rec = vae.model.terms(batch, q=vae.model.encode(batch), z=grid).rec[:, 0].double()
            exact.append(-float(torch.logsumexp(log_prior - rec, 0)) - math.log(16 / 2000))
        config = FEW.model_copy(update={"iw_samples": 4000})
        (found,) = vae.impute(["b ___ e"], 7, config=config)
        by_word = {each.fills[0]: each for each in found}
        np.testing.assert_allclose([by_word[word].nats for word in WORDS.words], exact, atol=0.05)
        np.testing.assert_allclose([by_word[word].share for word in WORDS.words], softmax(exact), atol=0.02)

    @pytest.mark.parametrize("text", ["___ b", "a b ___", "___", "___ ___"])
    def test_a_gap_may_stand_anywhere(self, text):
        (found,) = vae_of().impute([text], 3, config=FEW)
        assert [len(each.text.split()) for each in found] == [len(text.split())] * 3

    def test_fillers_are_words_that_the_model_knows(self):
        (found,) = vae_of().impute(["a ___"], 99, config=FEW)
        assert {each.fills[0] for each in found} == set(WORDS.words)


class TestExhaustive:
    def enumerated(self, vae, patterns) -> list[tuple[float, str]]:
        texts = [" ".join(words) for pattern in patterns for words in itertools.product(*pattern)]
        return sorted(zip(vae.score(texts).nats.tolist(), texts, strict=True))

    def test_a_language_model_lists_the_likeliest_fillers_of_two_gaps_with_exact_scores(self):
        vae, free = vae_of(latent_dim=0), WORDS.words
        expected = self.enumerated(vae, [[free, ["c"], free, ["a"]]])
        (found,) = vae.impute(["___ c ___ a"], 6, config=WIDE)
        assert [each.text for each in found] == [text for _, text in expected[:6]]
        np.testing.assert_allclose([each.nats for each in found], [nats for nats, _ in expected[:6]], atol=1e-4)
        shares = softmax([nats for nats, _ in expected])
        np.testing.assert_allclose([each.share for each in found], shares[:6], atol=1e-5)

    def test_a_starred_gap_is_of_every_length_up_to_the_given_one(self):
        vae, free = vae_of(latent_dim=0), WORDS.words
        expected = self.enumerated(vae, [[["b"], *[free] * count, ["d"]] for count in range(3)])
        (found,) = vae.impute(["b ___* d"], 9, config=WIDE)
        assert [each.text for each in found] == [text for _, text in expected[:9]]
        assert len(expected) == 1 + 7 + 49
        np.testing.assert_allclose([each.share for each in found], softmax([n for n, _ in expected])[:9], atol=1e-5)

    @torch.no_grad()
    def test_given_a_code_the_beam_finds_the_likeliest_sentences_with_their_log_probabilities(self):
        model, z = tiny_vae(), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        words = torch.ones(WORDS.vocab_size, dtype=torch.bool)
        words[:4] = False
        shape = [BOS, 5, FIRST, NEXT, 7, EOS]
        written, log_probs = fill(model.decoder, z, shape, lambda slot: words, 49)
        assert written.shape == (2, 49, 6)
        for row in range(2):
            found = {
                tuple(sentence): float(p) for sentence, p in zip(written[row].tolist(), log_probs[row], strict=True)
            }
            assert set(found) == {(BOS, 5, i, j, 7, EOS) for i in range(4, 11) for j in range(4, 11)}
            for sentence, log_prob in found.items():
                batch = _batch([WORDS.vocabulary[token] for token in sentence[1:-1]])
                rec = model.terms(batch, q=model.encode(batch), z=z[row][None, None]).rec[0, 0]
                assert log_prob == pytest.approx(-float(rec), abs=1e-4)


class TestTexts:
    def test_what_the_user_wrote_around_the_gaps_stays(self):
        (found,) = vae_of().impute(["zebra ____ 'b'"], 2, config=FEW)
        assert all(each.text == f"zebra {each.fills[0]} 'b'" for each in found)

    def test_an_empty_filler_leaves_no_double_space(self):
        vae = vae_of(latent_dim=0)
        (found,) = vae.impute(["a ___* b"], 99, config=WIDE)
        assert "a b" in [each.text for each in found if each.fills == ("",)]

    def test_a_model_of_characters_fills_gaps_inside_words(self):
        tokenizer = CharTokenizer.train(["abc de"], CharTokenizerConfig())
        model = SeqVAE(ModelConfig(latent_dim=3, encoder={"hidden": 6}, decoder={"hidden": 8}), tokenizer.vocab_size)
        vae = TextVAE(spread(model).eval(), tokenizer)
        (found,) = vae.impute(["a___c d"], 9, config=FEW)
        assert sorted(each.text for each in found) == sorted(f"a{char}c d" for char in "abcde ")
        assert sum(each.share for each in found) == pytest.approx(1.0)

    def test_lists_come_back_as_lists(self):
        vae = vae_of()
        assert vae.impute([]) == []
        assert [len(each) for each in vae.impute(["a ___", "___ b c"], 2, config=FEW)] == [2, 2]
        assert vae.impute(["a ___"], 0, config=FEW) == [[]]

    def test_a_piece_in_a_gap_begins_a_word(self):
        class Pieces(WordTokenizer):
            unit = "piece"

        pieces = Pieces(["\u2581the", "ing", "\u2581", "\u2581a"])
        assert starters(pieces) == [False] * 4 + [True, False, False, True]
        assert starters(WORDS) is None


class TestKinds:
    def test_the_same_call_gives_the_same_answer_and_leaves_the_random_numbers_alone(self):
        vae, config = vae_of(), ImputeConfig(chains=2, rounds=2, beam_size=3, iw_samples=7, scored=5)
        before = torch.get_rng_state()
        first = vae.impute(["a ___ b ___"], config=config)
        assert torch.equal(torch.get_rng_state(), before)
        assert vae.impute(["e ___", "a ___ b ___"], config=config)[1] == first[0]
        assert vae.impute(["a ___ b ___"], config=config, seed=1) != first

    def test_a_plain_autoencoder_is_scored_by_what_the_sentence_costs_at_its_own_code(self):
        vae = vae_of(noiseless=True)
        (found,) = vae.impute(["a ___ c"], 7, config=FEW)
        nats = {word: vae.score([f"a {word} c"]).nats[0] for word in WORDS.words}
        assert [each.fills[0] for each in found] == sorted(nats, key=nats.get)
        assert [each.nats for each in found] == pytest.approx(sorted(nats.values()), abs=1e-4)

    def test_a_conditional_model_needs_the_label_and_uses_it(self):
        vae = conditional()
        east, west = (vae.impute(["a ___ b"], 7, config=FEW, label=label)[0] for label in ("east", "west"))
        assert {each.fills for each in east} == {each.fills for each in west}
        assert [each.nats for each in east] != [each.nats for each in west]
        assert vae.impute(["a ___ b", "c ___"], 7, config=FEW, label=["west", "east"])[0] == west
        refused("E282", vae.impute, ["a ___"])

    def test_a_flow_can_be_asked(self):
        vae = vae_of(posterior={"family": "iaf", "steps": 2, "hidden": 5, "context": 4})
        assert len(vae.impute(["a ___ c"], 3, config=FEW)[0]) == 3


class TestMistakes:
    def test_a_text_without_a_gap(self):
        error = refused("E298", vae_of().impute, ["a b __ c"])
        assert "no gap" in error.what
        assert "___" in error.hint

    @pytest.mark.parametrize("text", ["a___", "___b c", "a ___*b", "a ___."])
    def test_a_gap_that_touches_a_word(self, text):
        assert "touches" in refused("E298", vae_of().impute, [text]).what

    def test_too_many_lengths_to_try(self):
        assert "256 sentences" in refused("E298", vae_of().impute, ["___* a ___* b ___* c ___*"]).what

    def test_a_negative_number_and_one_text_in_place_of_a_list(self):
        refused("E242", vae_of().impute, ["a ___"], -1)
        refused("E244", vae_of().impute, "a ___")

    def test_a_model_that_diverged(self):
        vae = vae_of(latent_dim=0)
        with torch.no_grad():
            vae.model.decoder.output_bias.fill_(math.nan)
        refused("E530", vae.impute, ["a ___"])


def test_shapes_hold_every_choice_of_lengths():
    gapped = GappedText.read("a ___* b ___", WORDS)
    a, b = (WORDS.encode(word)[0] for word in "ab")
    assert [shape.lengths for shape in gapped.shapes(2)] == [(0, 1), (1, 1), (2, 1)]
    assert gapped.shapes(2)[2].tokens == [BOS, a, FIRST, NEXT, b, FIRST, EOS]
    assert gapped.fills([BOS, a, b, b, b, a, EOS], (2, 1), WORDS) == ("b b", "a")


def _batch(words):
    from seqvae.data.batching import collate
    from seqvae.data.store import TokenStore

    return collate(TokenStore.from_texts([" ".join(words)], WORDS), np.arange(1))

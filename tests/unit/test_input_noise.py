"""Input noise: what the encoder reads in training, each kind of noise against what it promises."""

import math

import pytest
import torch
from model_toys import LATENT, VOCAB, batch_of, tiny_vae

from seqvae.objectives.autoencoder import Autoencoder, AutoencoderConfig
from seqvae.objectives.base import Dims, Objective
from seqvae.objectives.input_noise import InputNoise, InputNoiseConfig
from seqvae.types import BOS, EOS, PAD, UNK

BATCH = batch_of((30,) * 41 + (2, 3, 7), seed=1)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(batch=BATCH, seed=0, vocab=VOCAB, **settings):
    strategy = InputNoise(InputNoiseConfig(**({"drop": 0.0} | settings)))
    strategy.build(Dims(vocab=vocab, latent=LATENT, hidden=8, epoch_steps=20))
    return strategy.corrupt_encoder(batch, 0, noise(seed))


def words_of(batch):
    return [row[1 : length - 1].tolist() for row, length in zip(batch.tokens, batch.lengths.tolist(), strict=True)]


def near(share, rate, count):
    return abs(share - rate) < 4 * math.sqrt(rate * (1 - rate) / count)


@pytest.mark.parametrize(
    "settings",
    [{"drop": 0.4}, {"drop": 1.0}, {"blank": 1.0}, {"substitute": 1.0}, {"shuffle": 50},
     {"drop": 0.5, "blank": 0.3, "substitute": 0.3, "shuffle": 3}],
)  # fmt: skip
def test_every_result_is_a_legal_batch(settings):
    found = noisy(**settings)
    assert found.tokens.shape == BATCH.tokens.shape
    assert torch.equal(found.rows, BATCH.rows)
    assert (found.lengths >= 2).all()
    assert (found.lengths <= BATCH.lengths).all()
    for row, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True):
        assert (row[0], row[length - 1]) == (BOS, EOS)
        assert all(UNK <= token < VOCAB for token in row[1 : length - 1])
        assert set(row[length:]) <= {PAD}
    model = tiny_vae()
    assert torch.isfinite(model.amortised(found).mean).all()


class TestDrop:
    def test_the_rate_is_the_share_of_words_left_out(self):
        count, kept = int((BATCH.lengths - 2).sum()), int((noisy(drop=0.3).lengths - 2).sum())
        assert near(1 - kept / count, 0.3, count)

    def test_what_is_left_stands_in_its_order(self):
        for before, after in zip(words_of(BATCH), words_of(noisy(drop=0.5)), strict=True):
            rest = iter(before)
            assert all(word in rest for word in after)

    def test_at_rate_one_nothing_is_left_but_the_ends(self):
        found = noisy(drop=1.0)
        assert found.lengths.tolist() == [2] * len(BATCH)
        assert (found.tokens[:, :2] == torch.tensor([BOS, EOS])).all()
        assert not found.tokens[:, 2:].any()


class TestBlankAndSubstitute:
    def test_the_rate_is_the_share_of_blanks(self):
        found, count = noisy(blank=0.3), int((BATCH.lengths - 2).sum())
        assert near(float((found.tokens == UNK).sum()) / count, 0.3, count)
        kept = found.tokens != UNK
        assert torch.equal(found.tokens[kept], BATCH.tokens[kept])

    def test_substitutes_are_words_of_the_vocabulary_all_alike(self):
        found = noisy(substitute=1.0)
        words = [word for sentence in words_of(found) for word in sentence]
        kinds = VOCAB - 4
        assert set(words) == set(range(4, VOCAB))
        for kind in range(4, VOCAB):
            assert near(words.count(kind) / len(words), 1 / kinds, len(words))

    def test_the_rate_is_the_share_of_substitutes(self):
        found, count, kinds = noisy(substitute=0.4), int((BATCH.lengths - 2).sum()), VOCAB - 4
        changed = float((found.tokens != BATCH.tokens).sum()) / count
        assert near(changed, 0.4 * (1 - 1 / kinds), count)

    def test_a_vocabulary_without_words_has_no_substitutes(self):
        assert torch.equal(noisy(substitute=1.0, vocab=4).tokens, BATCH.tokens)


class TestShuffle:
    numbered = BATCH.with_tokens(
        torch.where(BATCH.tokens > UNK, torch.arange(BATCH.tokens.shape[1]) + 100, BATCH.tokens), BATCH.lengths
    )

    @pytest.mark.parametrize("reach", [1, 3])
    def test_no_word_moves_further_than_its_reach_and_none_is_lost(self, reach):
        found = noisy(self.numbered, shuffle=reach)
        furthest = 0
        for before, after in zip(words_of(self.numbered), words_of(found), strict=True):
            assert sorted(after) == before
            furthest = max([furthest, *(abs(word - 101 - place) for place, word in enumerate(after))])
        assert furthest == reach

    def test_everything_but_words_stays_where_it_is(self):
        found, special = noisy(self.numbered, shuffle=5), BATCH.tokens <= UNK
        assert torch.equal(found.tokens[special], BATCH.tokens[special])


def test_nothing_happens_without_noise():
    found = noisy()
    assert torch.equal(found.tokens, BATCH.tokens)
    assert torch.equal(found.lengths, BATCH.lengths)


def test_the_generator_alone_decides():
    everything = {"drop": 0.3, "blank": 0.3, "substitute": 0.3, "shuffle": 2}
    before = torch.get_rng_state()
    first, again, other = (noisy(seed=seed, **everything) for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, other.tokens)
    assert torch.equal(torch.get_rng_state(), before)


def denoising():
    strategies = [Autoencoder(AutoencoderConfig()), InputNoise(InputNoiseConfig(drop=0.9))]
    strategies[1].build(Dims(vocab=VOCAB, latent=LATENT, hidden=8, epoch_steps=20))
    return strategies


def test_the_denoising_autoencoder_writes_the_clean_sentence_from_the_spoilt_one():
    model, batch = tiny_vae(), batch_of()
    loss, terms = Objective(model, denoising())(batch, 0, noise())
    read = denoising()[1].corrupt_encoder(batch, 0, noise())
    z = model.amortised(read).mean[None]
    torch.testing.assert_close(terms.z, z)
    torch.testing.assert_close(loss, model.terms(batch, z=z).rec.sum())
    assert not torch.allclose(z[0], model.amortised(batch).mean)

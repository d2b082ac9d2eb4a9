"""Samples, paths and the language models that judge them: hand-made models, and exact properties."""

import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, small_model, store_of, texts
from scipy.stats import wasserstein_distance

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation import fluency, samples
from seqvae.evaluation.fluency import LanguageModel, fit_language_model, perplexity_of
from seqvae.evaluation.interpolation import STEPS, measure_interpolation
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.samples import measure_samples, write
from seqvae.models.vae import ModelConfig, SeqVAE


def codes_of(count, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(fluency, "PASSES", 1)


def test_perplexity_is_that_of_the_exact_likelihood_with_a_ratio_error():
    model, store = small_model(latent_dim=0), store_of(60)
    found, each = perplexity_of(model, store), elbo_and_iw(small_model(latent_dim=0), store)
    assert found.ppl == pytest.approx(math.exp(each.iw.sum() / each.tokens.sum()))
    draws = np.random.default_rng(0).integers(60, size=(2000, 60))
    spread = (each.iw[draws].sum(1) / each.tokens[draws].sum(1)).std()
    assert found.nats_per_token_se == pytest.approx(spread, rel=0.15)


def test_a_language_model_must_have_no_code():
    with pytest.raises(SeqVAEError, match="latent code") as caught:
        LanguageModel(small_model(), WORDS)
    assert caught.value.code == "E290"
    assert LanguageModel(small_model(latent_dim=0), WORDS).measure(["a b", "zzz"]).unknown_rate == 1 / 3


def test_a_language_model_must_have_no_labels():
    settings = {"latent_dim": 0, "conditional": {"embedding": 3}}
    with pytest.raises(SeqVAEError, match="conditional") as caught:
        LanguageModel(SeqVAE(ModelConfig.model_validate(settings), WORDS.vocab_size, ("calm", "loud")), WORDS)
    assert caught.value.code == "E290"


def test_the_small_language_model_repeats_by_its_seed_and_leaves_random_state_alone(quick):
    store, sentences = store_of(20, seed=4), [WORDS.encode(text) for text in texts(70)]
    before = torch.get_rng_state()
    first, again, other = (fit_language_model(sentences, WORDS.vocab_size, seed=seed) for seed in (3, 3, 5))
    assert torch.equal(torch.get_rng_state(), before)
    assert perplexity_of(first, store) == perplexity_of(again, store) != perplexity_of(other, store)


def test_the_small_language_model_learns_what_it_is_given():
    sentences, other = [WORDS.encode("a b c")] * 90, [WORDS.encode("g f e d")] * 90
    store = TokenStore.from_texts(["a b c"] * 5, WORDS)
    good, bad = (perplexity_of(fit_language_model(some, WORDS.vocab_size), store).ppl for some in (sentences, other))
    assert good < 1.6 < 4 < bad


def test_samples_do_not_depend_on_how_many_are_written_together(monkeypatch):
    model = small_model()
    whole = write(model, codes_of(30), longest=7, seed=2)
    assert whole != write(model, codes_of(30), longest=7, seed=3)
    monkeypatch.setattr(samples, "_TOGETHER", 7)
    assert write(model, codes_of(30), longest=7, seed=2) == whole


def test_everything_about_samples_is_there_and_repeats(quick):
    model, store, train = small_model(), store_of(25), store_of(80, seed=9)
    lm = LanguageModel(small_model(latent_dim=0, seed=3), WORDS)
    settings = {"codes": codes_of(40), "train": train, "language_model": lm, "parses": lambda text: "a" in text}
    one, same = (measure_samples(model, WORDS, store, **settings) for _ in range(2))
    assert one == same
    assert one.samples.sentences == one.real.sentences == 40
    written, _ = write(model, codes_of(40), longest=int(store.lengths.max()))
    lines = [WORDS.decode(tokens) for tokens in written]
    assert one.forward == lm.measure(lines)
    assert one.forward_real.nats_per_token == pytest.approx(perplexity_of(lm.model, store).nats_per_token)
    assert one.parsed == np.mean(["a" in line for line in lines])
    assert one.reverse != one.reverse_real
    known = {tuple(train[row][1:-1].tolist()) for row in range(80)}
    assert one.novelty == np.mean([tuple(tokens) not in known for tokens in written])


def test_what_there_is_nothing_to_measure_with_is_none(quick):
    found = measure_samples(small_model(), WORDS, store_of(25), codes=codes_of(30))
    assert {found.novelty, found.novelty_real, found.forward, found.forward_real, found.parsed} == {None}
    assert found.real.sentences == 25
    found = measure_samples(small_model(latent_dim=0), WORDS, store_of(25), codes=torch.zeros(30, 0))
    assert found.samples.sentences == 30


def test_the_distance_of_lengths_is_the_earth_movers():
    random = np.random.default_rng(1)
    a, b = random.integers(1, 20, 50).tolist(), random.integers(4, 30, 31).tolist()
    assert samples._earth_mover(a, b) == pytest.approx(wasserstein_distance(a, b))
    assert samples._earth_mover([3, 3], [3]) == 0


def test_paths_of_a_decoder_that_ignores_its_code_stand_still():
    model, store = small_model(), store_of(40)
    with torch.no_grad():
        model.decoder.state.weight.zero_()
        model.decoder.lstm.weight_ih_l0[:, model.decoder.config.embedding :] = 0.0
    found = measure_interpolation(model, WORDS, store, pairs=9)
    assert found.pairs == 9
    for path in (found.lerp, found.slerp):
        assert path.distinct_outputs == pytest.approx(1 / STEPS)
        assert len(set(path.to_start)) == 1


def test_paths_begin_and_end_at_the_two_sentences_whatever_their_kind():
    model, store = small_model(scale=1.5), store_of(40)
    found = measure_interpolation(model, WORDS, store, pairs=50, parses=lambda text: True)
    assert found.pairs == 20
    assert found.t == pytest.approx(np.linspace(0, 1, STEPS))
    for side in ("to_start", "to_end"):
        lerp, slerp = getattr(found.lerp, side), getattr(found.slerp, side)
        assert (lerp[0], lerp[-1]) == pytest.approx((slerp[0], slerp[-1]))
        assert len(lerp) == len(slerp) == STEPS
    assert found.lerp.parsed == found.slerp.parsed == 1
    assert found.lerp.fluency is None
    assert found.lerp.distinct_outputs > 1 / STEPS


def test_paths_need_two_sentences_and_do_not_depend_on_how_many_go_together(monkeypatch):
    model, store = small_model(scale=1.5), store_of(30)
    assert measure_interpolation(model, WORDS, store_of(1)) is None
    whole = measure_interpolation(model, WORDS, store, pairs=3, seed=4)
    monkeypatch.setattr("seqvae.evaluation.interpolation._TOGETHER", 7)
    assert measure_interpolation(model, WORDS, store, pairs=3, seed=4) == whole

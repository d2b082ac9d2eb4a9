"""Decoding: likeliest sentences by exhaustive search, sampling frequencies, extreme settings, batches."""

import itertools
import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, small_model
from hypothesis import given, settings
from hypothesis import strategies as st

from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import evaluating
from seqvae.generation import decoding, next_token
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.generation.next_token import NextToken, draw_from, reshaped
from seqvae.models import cross_entropy
from seqvae.types import BOS, EOS, PAD, UNK

GREEDY = DecodeConfig(strategy="greedy", max_length=12)
VOCAB = 6  # the four special tokens and two words


def codes(count, latent=3, seed=0):
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))


def undecided_model(cell="lstm"):
    """A tiny vocabulary whose likeliest sentences have several words and are not found word by word."""
    model = small_model(vocab=VOCAB, seed=2, scale=2.0, cell=cell)
    with torch.no_grad():
        model.decoder.output_bias[[PAD, BOS, EOS, UNK]] = torch.tensor([-5.0, -5.0, -2.0, -5.0])
    return model


def sequence_log_prob(model, z, ids):
    """log p(ids|z) by stepping, without decode."""
    total, token = 0.0, BOS
    with evaluating(model):
        state = model.decoder.start(z[None])
        for target in ids:
            logits, state = model.decoder.step(torch.tensor([token]), z[None], state)
            total, token = total + float(torch.log_softmax(logits, -1)[0, target]), target
    return total


def every_output(max_length, allowed):
    """All that may be written: shorter sentences with their EOS, and cut ones without."""
    for length in range(max_length):
        yield from ((*words, EOS) for words in itertools.product(allowed, repeat=length))
    yield from itertools.product(allowed, repeat=max_length)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("allow_unk", [False, True])
def test_a_wide_beam_equals_exhaustive_search(allow_unk, cell):
    model, z = undecided_model(cell), codes(5)
    allowed = [UNK, 4, 5] if allow_unk else [4, 5]
    found = decode(model, z, DecodeConfig(strategy="beam", beam_size=90, max_length=4, allow_unk=allow_unk))
    for i in range(5):
        scored = {ids: sequence_log_prob(model, z[i], ids) for ids in every_output(4, allowed)}
        best = max(scored, key=scored.get)
        assert found.tokens[i] == [token for token in best if token != EOS]
        assert found.log_probs[i] == pytest.approx(scored[best], abs=1e-4)
        assert found.truncated[i] == (best[-1] != EOS)


def test_exhaustive_search_is_not_trivial():
    """The test above would show nothing if greedy decoding found the likeliest sentence as well."""
    model, z = undecided_model(), codes(5)
    wide = decode(model, z, DecodeConfig(strategy="beam", beam_size=90, max_length=4))
    greedy = decode(model, z, DecodeConfig(strategy="greedy", max_length=4))
    assert wide.tokens != greedy.tokens
    assert len({tuple(words) for words in wide.tokens}) > 1


def test_beam_of_one_is_greedy():
    model, z = small_model(scale=1.0), codes(23)
    beam = decode(model, z, DecodeConfig(strategy="beam", beam_size=1, max_length=12))
    greedy = decode(model, z, GREEDY)
    assert beam.tokens == greedy.tokens
    assert beam.truncated == greedy.truncated
    np.testing.assert_allclose(beam.log_probs, greedy.log_probs, atol=1e-4)
    assert len(set(map(len, greedy.tokens))) > 1


def test_a_wider_beam_never_finds_less():
    model, z = undecided_model(), codes(19)
    found = [decode(model, z, DecodeConfig(strategy="beam", beam_size=k, max_length=5)).log_probs for k in (1, 4, 200)]
    assert sum(found[0]) <= sum(found[1]) + 1e-4
    assert all(narrow <= wide + 1e-4 for narrow, wide in zip(found[1], found[2], strict=True))


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_log_probs_are_minus_rec_of_the_model(strategy):
    model, z = small_model(scale=1.0), codes(17)
    config = DecodeConfig(
        strategy=strategy, max_length=40, temperature=0.7, top_k=5, top_p=0.9, beam_size=3, allow_unk=False
    )
    found = decode(model, z, config, torch.Generator().manual_seed(1))
    done = [i for i in range(17) if not found.truncated[i]]
    assert len(done) > 5
    store = TokenStore.from_texts([WORDS.decode(found.tokens[i]) for i in done], WORDS)
    with evaluating(model):
        terms = model.terms(collate(store, np.arange(len(done))), z=z[done][None])
    np.testing.assert_allclose([found.log_probs[i] for i in done], -terms.rec[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_a_sentence_does_not_depend_on_its_company(strategy):
    model, z = small_model(scale=1.2), codes(9)
    config = DecodeConfig(strategy=strategy, max_length=15, beam_size=3)
    whole = decode(model, z, config, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    alone = [decode(model, z[i : i + 1], config, generator) for i in range(9)]
    assert whole.tokens == [one.tokens[0] for one in alone]
    np.testing.assert_allclose(whole.log_probs, [one.log_probs[0] for one in alone], atol=1e-4)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_when_ended_sentences_leave_changes_nothing(strategy, monkeypatch):
    """On a GPU they are looked for every few tokens, so that the host need not wait at each."""
    model, z = small_model(scale=1.2), codes(31)
    config = DecodeConfig(strategy=strategy, max_length=17, beam_size=3)
    found, steps = [], []
    step = model.decoder.advance
    monkeypatch.setattr(model.decoder, "advance", lambda token, *rest: steps.append(len(token)) or step(token, *rest))
    for every in (1, 5, 99):
        monkeypatch.setattr(decoding, "_TIDY_EVERY", {"cpu": every})
        steps.append(0)
        found.append(decode(model, z, config, torch.Generator().manual_seed(2)))
    assert found[0].tokens == found[1].tokens == found[2].tokens
    assert found[0].truncated == found[1].truncated == found[2].truncated
    for other in found[1:]:
        np.testing.assert_allclose(found[0].log_probs, other.log_probs, atol=1e-4)
    assert len({tuple(words) for words in found[0].tokens}) > 5
    assert len(set(steps)) > 4  # sentences ended at several places


def test_sampling_repeats_with_its_seed_and_leaves_the_global_random_state_alone():
    model, z = small_model(), codes(6)
    before = torch.get_rng_state()
    one, same, other = (
        decode(model, z, DecodeConfig(), torch.Generator().manual_seed(seed)).tokens for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_sampled_first_tokens_have_the_frequencies_of_the_model():
    model = small_model(scale=1.0)
    z = codes(1).expand(20_000, -1)
    with evaluating(model):
        logits, _ = model.decoder.step(torch.tensor([BOS]), z[:1], model.decoder.start(z[:1]))
    logits[:, [PAD, BOS, UNK]] = -math.inf
    expected = torch.softmax(logits[0], -1).numpy()
    found = decode(model, z, DecodeConfig(max_length=1), torch.Generator().manual_seed(0))
    first = np.array([words[0] if words else EOS for words in found.tokens])
    counts = np.bincount(first, minlength=len(expected))
    error = np.sqrt(expected * (1 - expected) * 20_000) + 1e-9
    assert (np.abs(counts - 20_000 * expected) < 4.5 * error).all()


LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, -math.inf]])


def drawn(temperature=1.0, top_k=None, top_p=1.0):
    uniform = torch.linspace(0, 1 - 1e-9, 5000, dtype=torch.float64)
    shifted = (LOGITS - LOGITS.max()).double().expand(5000, -1) / temperature
    return set(draw_from(reshaped(shifted, top_k=top_k, top_p=top_p), uniform)[:, 0].tolist())


def test_top_k_and_top_p_keep_the_likeliest_tokens():
    # Probabilities 0.644, 0.237, 0.087, 0.032.
    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_k=99) == {0, 1, 2, 3}
    assert drawn(top_p=0.6) == {0}
    assert drawn(top_p=0.65) == {0, 1}
    assert drawn(top_p=0.9) == {0, 1, 2}
    assert drawn(top_p=1e-9) == {0}
    assert drawn(temperature=1e-9) == {0}
    assert drawn(temperature=0.3, top_p=0.96) == {0}  # top-p counts after temperature
    assert drawn(top_k=3, top_p=0.65) == {0}  # and after top-k: 0.665 of what three tokens hold


@settings(deadline=None, max_examples=60)
@given(
    temperature=st.sampled_from([1e-9, 1e-3, 1.0, 1e9]),
    top_k=st.sampled_from([None, 1, 3, 10**6]),
    top_p=st.sampled_from([1e-12, 0.5, 1.0]),
    scale=st.sampled_from([0.0, 1.0, 1e4, 1e30]),
    strategy=st.sampled_from(["greedy", "sample", "beam"]),
    beam_size=st.sampled_from([1, 40]),
    allow_unk=st.booleans(),
)
def test_extreme_settings_write_something_finite(temperature, top_k, top_p, scale, strategy, beam_size, allow_unk):
    config = DecodeConfig(
        strategy=strategy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        beam_size=beam_size,
        allow_unk=allow_unk,
        max_length=6,
    )
    found = decode(small_model(), codes(3) * scale, config, torch.Generator().manual_seed(0))
    banned = {PAD, BOS, EOS} if allow_unk else {PAD, BOS, EOS, UNK}
    assert all(math.isfinite(value) and value <= 0 for value in found.log_probs)
    assert all(len(words) <= 6 and not banned & set(words) for words in found.tokens)
    assert found.truncated == [len(words) == 6 for words in found.tokens]


def with_output_bias(token, value):
    model = small_model()
    with torch.no_grad():
        model.decoder.output_bias[token] = value
    return model


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
@pytest.mark.parametrize("token", [PAD, BOS, UNK])
def test_special_tokens_are_not_written_however_likely(strategy, token):
    found = decode(with_output_bias(token, 100.0), codes(8), DecodeConfig(strategy=strategy, max_length=7))
    assert not any(token in words for words in found.tokens)
    assert max(found.log_probs) < -50  # the probability is the model's own, which this token holds


def test_unk_is_written_where_it_is_allowed():
    config = DecodeConfig(strategy="greedy", max_length=4, allow_unk=True)
    assert decode(with_output_bias(UNK, 100.0), codes(2), config).tokens == [[UNK] * 4] * 2


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_a_sentence_that_never_ends_is_cut_and_marked(strategy):
    found = decode(with_output_bias(EOS, -200.0), codes(5), DecodeConfig(strategy=strategy, max_length=9, beam_size=2))
    assert found.truncated == [True] * 5
    assert {len(words) for words in found.tokens} == {9}


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_sentences_that_have_ended_leave_the_computation(strategy, monkeypatch):
    model, rows = with_output_bias(EOS, 100.0), []
    step = model.decoder.advance
    monkeypatch.setattr(model.decoder, "advance", lambda token, *rest: rows.append(len(token)) or step(token, *rest))
    found = decode(model, codes(5), DecodeConfig(strategy=strategy, max_length=9, beam_size=2))
    assert found.tokens == [[]] * 5
    assert found.truncated == [False] * 5
    assert len(rows) == 1


def test_hypotheses_that_cannot_win_any_more_take_no_step(monkeypatch):
    model, z, config = small_model(scale=1.0), codes(30), DecodeConfig(strategy="beam", beam_size=6, max_length=9)
    step, rows = model.decoder.advance, []
    monkeypatch.setattr(model.decoder, "advance", lambda token, *rest: rows.append(len(token)) or step(token, *rest))
    found = decode(model, z, config)
    assert rows[0] == 30  # the start is one hypothesis
    few = sum(rows)
    rows.clear()
    monkeypatch.setattr(decoding, "_TIDY_EVERY", {"cpu": 99})  # never told before the end
    every = decode(model, z, config)
    assert found.tokens == every.tokens
    np.testing.assert_allclose(found.log_probs, every.log_probs, atol=1e-5)
    assert few < 0.6 * sum(rows)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_how_many_rows_are_looked_at_together_changes_nothing(strategy, monkeypatch):
    model, z, config = small_model(scale=1.0), codes(23), DecodeConfig(strategy=strategy, max_length=8)
    together = decode(model, z, config, torch.Generator().manual_seed(1))
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", {"cpu": 7 * model.vocab_size * 4})
    apart = decode(model, z, config, torch.Generator().manual_seed(1))
    assert apart.tokens == together.tokens
    np.testing.assert_allclose(apart.log_probs, together.log_probs, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vocab", [11, 512, 640, 1301])
def test_what_comes_next_is_what_the_softmax_over_all_words_says(vocab, bias, monkeypatch):
    """Vocabularies of one tile of words, of several, and of some that are not full."""
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", {"cpu": 10 * vocab * 8})
    monkeypatch.setattr(next_token, "TILE_WORDS", {"cpu": 512})
    random = torch.Generator().manual_seed(vocab)
    weight, outputs, offset = (torch.randn(*n, generator=random).double() for n in ((vocab, 6), (37, 6), (vocab,)))
    uniform = torch.rand(37, generator=random, dtype=torch.float64)
    output = NextToken(weight, offset if bias else None, 37, allow_unk=False)
    logits = outputs @ weight.T + (offset if bias else 0.0)
    log_probs, allowed = logits.log_softmax(-1), logits.index_fill(1, torch.tensor([PAD, BOS, UNK]), -torch.inf)
    found, tokens = output.likeliest(outputs, 5)
    assert torch.equal(tokens, allowed.topk(5).indices)
    torch.testing.assert_close(found, log_probs.gather(1, tokens), rtol=1e-12, atol=1e-12)
    found, tokens = output.drawn(outputs, uniform, temperature=1.0, top_k=None, top_p=1.0)
    assert torch.equal(tokens, draw_from(allowed.softmax(-1), uniform))
    torch.testing.assert_close(found, log_probs.gather(1, tokens), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 127, 128, 129, 1000])
def test_draws_are_those_of_the_running_sum_of_all_tokens(size):
    random = torch.Generator().manual_seed(size)
    probs = torch.rand(40, size, generator=random).masked_fill(torch.rand(40, size, generator=random) < 0.4, 0.0)
    probs[:, size // 2] = 0.25  # none is empty
    uniform = torch.rand(40, generator=random, dtype=torch.float64)
    cdf = probs.double().cumsum(-1)
    expected = torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True)
    assert torch.equal(draw_from(probs, uniform), expected)


def test_the_ends_of_the_interval_draw_tokens_that_have_a_probability():
    probs = torch.zeros(2, 300)
    probs[:, 130], probs[:, 140] = 1e-30, 0.7
    uniform = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert draw_from(probs, uniform)[:, 0].tolist() == [130, 140]


@pytest.mark.parametrize(
    ("setting", "code", "help_"),
    [
        ({"temperature": 0}, "E231", "--greedy"),
        ({"temperature": -1.0}, "E231", "1.0"),
        ({"temperature": math.nan}, "E231", "1.0"),
        ({"temperature": math.inf}, "E231", "1.0"),
        ({"top_p": 0.0}, "E232", "0.9"),
        ({"top_p": 1.1}, "E232", "0.9"),
        ({"top_k": 0}, "E233", "from 1"),
        ({"beam_size": 0}, "E233", "from 1"),
        ({"max_length": 0}, "E233", "from 1"),
        ({"beam_size": 1001}, "E233", "at most 1,000"),
        ({"max_length": 2**31}, "E233", "at most 100,000"),
    ],
)
def test_settings_that_mean_nothing_are_refused_with_the_next_step(setting, code, help_):
    with pytest.raises(SeqVAEError) as caught:
        DecodeConfig(**setting)
    assert caught.value.code == code
    assert help_ in caught.value.hint


def test_codes_that_are_not_finite_and_decoders_that_are_not_are_told_apart():
    with pytest.raises(SeqVAEError, match="E234"):
        decode(small_model(), torch.tensor([[0.0, math.nan, 0.0]]), GREEDY)
    for strategy in ("greedy", "sample", "beam"):
        with pytest.raises(SeqVAEError, match="E530"):
            decode(with_output_bias(5, math.nan), codes(2), DecodeConfig(strategy=strategy, max_length=3))


def test_no_codes_give_no_sentences_and_a_language_model_needs_none():
    assert decode(small_model(), codes(0), GREEDY).tokens == []
    for strategy in ("greedy", "sample", "beam"):
        config = DecodeConfig(strategy=strategy)
        found = decode(small_model(latent_dim=0), torch.zeros(4, 0), config, torch.Generator().manual_seed(0))
        assert len(found.tokens) == 4

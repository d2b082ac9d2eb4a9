"""Scores of sentences are the numbers of the evaluation, whatever pieces the sentences come in."""

import numpy as np
import pytest
from evaluation_toys import WORDS, LinearGaussian, small_model, store_of, texts

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import autoencoder_rec, elbo_and_iw
from seqvae.evaluation.score import SAMPLES, score_sentences

ROWS = 23


@pytest.mark.parametrize("by", ["elbo", "iw", "rec"])
def test_a_score_is_the_number_of_the_evaluation_bit_by_bit(by):
    model, store = small_model().eval(), store_of(ROWS)
    each = elbo_and_iw(model, store, samples=7, seed=5)
    found = score_sentences(model, store, by=by, samples=7, seed=5)
    assert np.array_equal(found.nats, getattr(each, by))
    for name in ("rec", "kl", "elbo", "iw", "tokens"):
        assert np.array_equal(getattr(found, name), getattr(each, name)), name
    assert (found.by, found.samples, len(found)) == (by, 7, ROWS)
    assert np.array_equal(found.nats_per_token, found.nats / (store.lengths - 1))


def test_elbo_of_ten_samples_is_what_is_asked_for_by_default():
    model, store = small_model().eval(), store_of(ROWS)
    found, each = score_sentences(model, store), elbo_and_iw(model, store, samples=SAMPLES)
    assert (found.by, found.samples) == ("elbo", 10)
    assert np.array_equal(found.nats, each.elbo)


@pytest.mark.parametrize("by", ["elbo", "iw", "rec"])
@pytest.mark.parametrize("edges", [(4,), (1, 2, 20), (22,)])
def test_pieces_give_the_scores_of_the_whole(by, edges):
    """Up to the rounding of products of other shapes: the noise of a sentence is that of its row."""
    model, lines = small_model().eval(), texts(ROWS)
    whole = score_sentences(model, store_of(ROWS), by=by, samples=3).nats
    starts = [0, *edges]
    pieces = [lines[start:end] for start, end in zip(starts, [*edges, ROWS], strict=True)]
    stores = [TokenStore.from_texts(piece, WORDS) for piece in pieces]
    found = [
        score_sentences(model, store, by=by, samples=3, first_row=start).nats
        for store, start in zip(stores, starts, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(found), whole, rtol=1e-5)
    moved = score_sentences(model, store_of(ROWS), by=by, samples=3, first_row=1).nats
    assert abs(moved - whole).max() > 1e-3


def test_scores_bound_the_evidence():
    """Against the evidence of a linear Gaussian model, which is known."""
    model = LinearGaussian(ROWS)
    model.shift, model.widen = 0.3, 1.4
    found = score_sentences(model, store_of(ROWS), by="iw", samples=2000)
    assert (found.iw <= found.elbo).all()
    np.testing.assert_allclose(found.nats, model.evidence(), atol=0.08)
    assert (found.elbo > model.evidence()).all()


def test_no_sentences_have_no_scores():
    for latent_dim in (0, 3):
        found = score_sentences(small_model(latent_dim).eval(), store_of(0))
        assert len(found) == 0
        assert found.nats_per_token.shape == (0,)


@pytest.mark.parametrize("by", [None, "elbo", "iw", "rec"])
def test_a_language_model_gives_its_likelihood_by_whatever_name(by):
    model, store = small_model(latent_dim=0).eval(), store_of(ROWS)
    found = score_sentences(model, store, by=by)
    assert found.kl is None
    assert found.samples is None
    for values in (found.rec, found.elbo, found.iw):
        assert np.array_equal(found.nats, values)


def test_an_autoencoder_is_scored_by_rec_alone_and_without_noise():
    model, store = small_model().eval(), store_of(ROWS)
    for by in (None, "rec"):
        found = score_sentences(model, store, by=by, noiseless=True, seed=9)
        assert np.array_equal(found.nats, autoencoder_rec(model, store)[0])
        assert (found.by, found.kl, found.elbo, found.iw, found.samples) == ("rec", None, None, None, None)
    for by in ("elbo", "iw"):
        with pytest.raises(SeqVAEError) as caught:
            score_sentences(model, store, by=by, noiseless=True)
        assert caught.value.code == "E248"


def test_a_model_that_diverged_gives_no_scores_and_names_the_row():
    model = small_model().eval()
    model.decoder.embedding.weight.data[4] = float("nan")
    lines = ["b c", "b a", "a"]
    for latent in (True, False):
        with pytest.raises(SeqVAEError) as caught:
            score_sentences(model, TokenStore.from_texts(lines, WORDS), first_row=40, noiseless=not latent)
        assert caught.value.code == "E531"
        assert "row 41" in caught.value.what

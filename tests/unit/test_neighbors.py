"""Nearest sentences against brute force; each once, the earlier first, whatever the batches."""

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, FixedCodes, store_of, texts
from model_toys import tiny_vae

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.generation.neighbors import nearest
from seqvae.textvae import TextVAE

ROWS, LATENT = 61, 4
DISTINCT = TokenStore.from_texts(
    [" ".join(WORDS.words[int(digit)] for digit in np.base_repr(row + 7**3, 7)) for row in range(ROWS)], WORDS
)
"""Sentences that are all different; which code each has is up to the toy."""


def codes_of(rows=ROWS, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, LATENT)).astype(np.float32)


def found(store, codes, queries, n=5, by="cosine", batch_tokens=16_384):
    model = FixedCodes(torch.from_numpy(codes), std=0.5)
    return nearest(model, WORDS, store, queries, n, by=by, batch_tokens=batch_tokens)


def brute_force(codes, query, by) -> tuple[np.ndarray, np.ndarray]:
    """Lines from 1, nearest first, and their scores."""
    codes, query = codes.astype(np.float64), query.astype(np.float64)
    if by == "cosine":
        scores = np.array([c @ query / np.sqrt((c @ c) * (query @ query)) for c in codes])
        order = np.argsort(-scores)
    else:
        scores = np.array([np.sqrt(np.square(c - query).sum()) for c in codes])
        order = np.argsort(scores)
    return order + 1, scores[order]


@pytest.mark.parametrize("by", ["cosine", "euclidean"])
@pytest.mark.parametrize("n", [1, 5, ROWS, ROWS + 9])
def test_they_are_those_of_brute_force(by, n):
    codes, queries = codes_of(), codes_of(3, seed=1)
    for query, near in zip(queries, found(DISTINCT, codes, queries, n, by), strict=True):
        lines, scores = brute_force(codes, query, by)
        assert [each.line for each in near] == lines[:n].tolist()
        np.testing.assert_allclose([each.score for each in near], scores[:n], atol=1e-6)
        assert [each.text for each in near] == [WORDS.decode(DISTINCT[line - 1]) for line in lines[:n].tolist()]


def test_batches_of_any_size_find_the_same():
    codes, queries = codes_of(), codes_of(2, seed=3)
    whole = found(DISTINCT, codes, queries)
    for batch_tokens in (1, 20, 57):
        assert found(DISTINCT, codes, queries, batch_tokens=batch_tokens) == whole


def test_a_sentence_that_stands_there_often_is_found_once_on_its_first_line():
    lines = ["a b", "c", "a b", "d e f", "c", "a b"]
    codes = np.eye(LATENT, dtype=np.float32)[[0, 1, 0, 2, 1, 0]]
    (near,) = found(TokenStore.from_texts(lines, WORDS), codes, codes[:1], n=9)
    assert [(each.text, each.line, round(each.score, 6)) for each in near] == [
        ("a b", 1, 1.0),
        ("c", 2, 0.0),
        ("d e f", 4, 0.0),
    ]


def test_a_code_of_length_zero_has_cosine_zero_to_all():
    codes = codes_of()
    codes[7] = 0.0
    (near,) = found(DISTINCT, codes, np.zeros((1, LATENT), np.float32), n=ROWS)
    assert {each.score for each in near} == {0.0}
    assert [each.line for each in near] == list(range(1, ROWS + 1))


def test_a_sentence_of_the_corpus_is_its_own_nearest():
    vae, corpus = TextVAE(tiny_vae(), WORDS), [text for text in texts(40, seed=2) if text]
    near = vae.neighbors(corpus[:6], corpus, 3)
    assert [each[0].text for each in near] == corpus[:6]
    assert [each[0].score for each in near] == pytest.approx([1.0] * 6, abs=1e-5)
    assert [len(each) for each in near] == [3] * 6
    assert vae.neighbors([], corpus) == []
    assert vae.neighbors(["a"], []) == [[]]
    assert vae.neighbors(["a"], corpus, 0) == [[]]


def test_a_negative_number_is_refused_and_so_is_a_model_that_diverged():
    with pytest.raises(SeqVAEError, match="-2 neighbours") as caught:
        found(DISTINCT, codes_of(), codes_of(1), n=-2)
    assert caught.value.code == "E242"
    broken = codes_of()
    broken[5, 1] = np.nan
    with pytest.raises(SeqVAEError, match="NaN") as caught:
        found(DISTINCT, broken, codes_of(1))
    assert caught.value.code == "E234"


def test_a_language_model_has_no_neighbours():
    with pytest.raises(SeqVAEError, match="language model") as caught:
        TextVAE(tiny_vae(latent_dim=0), WORDS).neighbors(["a"], store_of(5))
    assert caught.value.code == "E243"

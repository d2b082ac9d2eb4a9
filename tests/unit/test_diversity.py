"""Diversity of texts: by hand, and against sacrebleu."""

import numpy as np
import pytest
from evaluation_toys import WORDS, store_of, texts
from sacrebleu.metrics import BLEU

from seqvae.data.store import TokenStore
from seqvae.evaluation.diversity import distinct, diversity, self_bleu, share_unseen
from seqvae.types import UNK


def ids(*lines):
    return [WORDS.encode(line) for line in lines]


def test_distinct_n_counted_by_hand():
    found = ids("a b a", "a b", "c")
    assert distinct(found, 1) == 3 / 6
    assert distinct(found, 2) == 2 / 3  # a b, b a, a b
    assert distinct(found, 3) == 1
    assert distinct(found, 4) is None


def test_self_bleu_is_that_of_sacrebleu_with_all_the_others_as_references():
    lines = [line for line in texts(40, seed=5) if line] + ["a b c d e", "a b c d e", "a a a b"]
    metric = BLEU(tokenize="none", effective_order=True, smooth_method="exp")
    expected = [metric.sentence_score(line, lines[:i] + lines[i + 1 :]).score for i, line in enumerate(lines)]
    assert self_bleu(ids(*lines)) == pytest.approx(expected, abs=1e-6)
    assert len({round(score) for score in expected}) > 5


def test_self_bleu_of_three_sentences_by_hand():
    """The first two are each other's reference; the third shares one word with them."""
    found = self_bleu(ids("a b c d", "a b c d", "e f a"))
    assert found[:2] == pytest.approx([100, 100])
    # Precisions 1/3 and, smoothed, 1/(2*2) and 1/(4*1); the nearest reference is one word longer.
    assert found[2] == pytest.approx(100 * (1 / 3 / 4 / 4) ** (1 / 3) * np.exp(1 - 4 / 3))


def test_novelty_is_the_share_that_is_no_training_sentence():
    train = TokenStore.from_texts(["a b", "c", "a b c"], WORDS)
    assert share_unseen(ids("a b", "b a", "c", "d", "a"), train).tolist() == [0, 1, 0, 1, 1]
    assert share_unseen(ids(*texts(30, seed=2)), store_of(30, seed=2)).sum() == 0


def test_lengths_unknown_words_and_repeats_are_those_of_the_texts():
    found = diversity([*ids("a b c", "a", "a"), [UNK, 4, 5, 6, 7]])
    assert found.sentences == 4
    assert found.mean_tokens == 10 / 4
    assert found.std_tokens == pytest.approx(np.std([3, 1, 1, 5]))
    assert found.quantiles_tokens["50%"] == 2
    assert found.unknown_rate == 1 / 10
    assert found.distinct_sentences == 3 / 4


def test_a_single_text_and_empty_texts_are_defined():
    assert diversity(ids("a b")).self_bleu is None
    empty = diversity([[], []])
    assert (empty.distinct_1, empty.unknown_rate, empty.mean_tokens) == (None, 0, 0)
    assert 0 <= empty.self_bleu <= 100

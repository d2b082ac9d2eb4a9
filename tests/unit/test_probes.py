"""Probes, retrieval and similarity on codes made for it, where the answer is known."""

import numpy as np
import pytest
from evaluation_toys import WORDS, texts
from scipy.sparse import csr_matrix

from seqvae.data.store import TokenStore
from seqvae.evaluation.probes import bag_of_words, probe, retrieval, similarity


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def words(count, seed=1):
    return csr_matrix(np.random.default_rng(seed).integers(3, size=(count, 6)).astype(float))


def test_separable_codes_are_probed_perfectly_and_noise_is_no_better_than_chance():
    labels = np.array(["x", "y", "z"] * 60)
    codes = random(180, 5)
    codes[:, 1] += 40 * (labels == "y")
    codes[:, 2] += 40 * (labels == "z")
    found = probe((codes, words(180)), labels, (codes[::2], words(90, seed=2)), labels[::2])
    assert (found.accuracy, found.classes, found.train_sentences, found.test_sentences) == (1, 3, 180, 90)
    assert found.majority == pytest.approx(1 / 3)
    assert found.bag_of_words < 0.55
    drawn = np.random.default_rng(4).choice(["x", "y", "z"], 900)
    noise = probe((random(400, 5), words(400)), drawn[:400], (random(500, 5, seed=3), words(500)), drawn[400:])
    assert noise.accuracy == pytest.approx(1 / 3, abs=4 * (2 / 9 / 500) ** 0.5)


def test_what_is_measured_are_the_test_sentences():
    codes, others = random(150, 4), random(70, 4, seed=5)
    features = (codes, words(150)), (others, words(70, seed=6))
    found = probe(features[0], codes[:, 2] > 0, features[1], others[:, 2] <= 0)  # the other way round
    assert found.accuracy < 0.1
    assert probe(features[0], codes[:, 2] > 0, features[1], others[:, 2] > 0).accuracy > 0.9


def test_what_the_words_say_the_bag_of_words_finds():
    lines = texts(200, seed=3)
    labels = ["a" in line for line in lines]
    store = TokenStore.from_texts(lines, WORDS)
    features = (random(200, 4), bag_of_words(store, WORDS.vocab_size))
    assert probe(features, labels, features, labels).bag_of_words > 0.95


def test_labels_that_are_all_one_are_no_probe():
    features = (random(10, 2), words(10))
    assert probe(features, ["x"] * 10, features, ["x"] * 10) is None


def test_a_bag_of_words_counts_the_tokens_between_bos_and_eos():
    store = TokenStore.from_texts(["a b a", "", "zzz"], WORDS)
    counts = bag_of_words(store, WORDS.vocab_size).toarray()
    a, b = WORDS.encode("a b")
    assert counts.sum(1).tolist() == [3, 0, 1]
    assert (counts[0, a], counts[0, b], counts[2, 3]) == (2, 1, 1)


def test_paraphrases_with_one_code_are_found_first_and_others_by_chance():
    groups = np.repeat(np.arange(30), 3)
    codes = random(30, 8)[groups]
    found = retrieval(codes, words(90), groups)
    assert set(found.recall.values()) == {1}
    assert (found.sentences, found.groups) == (90, 30)
    draws = [retrieval(random(90, 8, seed=seed), words(90), groups) for seed in range(30)]
    for k in ("1", "5", "10"):
        mean = np.mean([each.recall[k] for each in draws])
        error = np.std([each.recall[k] for each in draws], ddof=1)
        assert mean == pytest.approx(found.chance[k], abs=4 * error / np.sqrt(30))
        assert 0.4 * error < np.mean([each.recall_se[k] for each in draws]) < 2.5 * error
    assert found.chance["1"] == pytest.approx(2 / 89)


def test_codes_that_are_all_one_find_nothing():
    """Ties count against, or a collapsed model would look perfect."""
    found = retrieval(np.ones((90, 4)), words(90), np.repeat(np.arange(30), 3))
    assert set(found.recall.values()) == {0}


def test_a_stranger_with_the_code_of_the_paraphrase_counts_against():
    codes = np.array([[1.0, 0], [0.9, 0.1], [0.9, 0.1], [0, 1]])
    found = retrieval(codes, words(4), np.array([7, 7, 3, 1]))
    assert found.recall["1"] == 0  # of both: each has the stranger beside its paraphrase
    assert found.recall["5"] == 1


def test_sentences_without_a_paraphrase_are_no_queries():
    codes = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.95, 0.05]])
    found = retrieval(codes, words(4), np.array([7, 7, 3, 1]))
    assert (found.sentences, found.groups) == (2, 1)
    assert found.recall["1"] == 0
    assert found.recall["5"] == 1
    assert retrieval(codes, words(4), np.arange(4)) is None


def test_similarity_is_the_rank_correlation_of_cosines():
    angles = np.linspace(0, 3, 40)
    first, second = np.tile([1.0, 0], (40, 1)), np.stack([np.cos(angles), np.sin(angles)], 1)
    scores = np.exp(-angles)
    bags = words(40), words(40, seed=5)
    found = similarity((first, second), bags, scores, 0.1)
    assert found.spearman == pytest.approx(1)
    assert similarity((first, second), bags, -scores, 0.1).spearman == pytest.approx(-1)
    assert found.spearman_se == pytest.approx(np.sqrt(1.5 / 37))
    assert (found.pairs, found.unknown_rate) == (40, 0.1)
    assert similarity((first, first), bags, scores, 0.0).spearman is None

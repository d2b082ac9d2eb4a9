"""Edit distance and ROUGE-L: against the textbook recursion, and by hand."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqvae.evaluation.edits import edit_distance, normalised_edit_distance, rouge_l

SEQUENCES = st.lists(st.integers(0, 4), max_size=7)


def by_recursion(a, b, substitution):
    @functools.cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        replaced = distance(i - 1, j - 1) + (0 if a[i - 1] == b[j - 1] else substitution)
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(a), len(b))


@given(st.lists(st.tuples(SEQUENCES, SEQUENCES), min_size=1, max_size=6), st.sampled_from([1, 2]))
def test_distances_are_those_of_the_textbook_recursion(pairs, substitution):
    sources, outputs = zip(*pairs, strict=True)
    expected = [by_recursion(a, b, substitution) for a, b in pairs]
    assert edit_distance(sources, outputs, substitution=substitution).tolist() == expected


def test_distances_do_not_depend_on_how_many_pairs_go_together(monkeypatch):
    random = np.random.default_rng(0)
    sources, outputs = ([random.integers(5, size=n).tolist() for n in random.integers(0, 9, 40)] for _ in range(2))
    whole = edit_distance(sources, outputs)
    monkeypatch.setattr("seqvae.evaluation.edits._PAIRS_TOGETHER", 7)
    assert edit_distance(sources, outputs).tolist() == whole.tolist()


def test_the_distance_is_a_share_of_the_longer_sequence():
    found = normalised_edit_distance([[1, 2, 3], [], [1, 2], []], [[1, 9, 3, 4], [], [3, 4], [5]])
    assert found.tolist() == [2 / 4, 0, 1, 1]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1, 2, 3], [1, 2, 3], 1.0), ([1, 2, 3, 4], [2, 9, 4], 2 * 2 / 7), ([1], [2], 0.0), ([], [], 1.0), ([], [1], 0.0)],
)
def test_rouge_l_is_the_f_score_of_the_longest_common_subsequence(a, b, expected):
    assert rouge_l([a], [b])[0] == pytest.approx(expected)

"""What the code knows: labels by a linear probe, paraphrases by their neighbours, similarity as people see it.

Each beside a bag of words, since a code that knows less than the words of the sentence has kept little of it.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from seqvae.data.store import TokenStore
from seqvae.evaluation.passes import standard_error

RANKS = (1, 5, 10)
_QUERIES_TOGETHER = 512

Features = Any
"""A NumPy array ``[R F]`` or a SciPy sparse matrix of that shape."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A logistic regression on posterior means; accuracies on the evaluated split, 0 to 1."""

    accuracy: float
    accuracy_se: float | None
    majority: float
    """Of always saying the commonest label of the training sentences."""
    bag_of_words: float
    """Of the same regression on how often a sentence has each token."""
    classes: int
    train_sentences: int
    test_sentences: int


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Share of sentences with a paraphrase among the k nearest others; nearest by the cosine of posterior means."""

    recall: dict[str, float]
    """By k = 1, 5, 10."""
    recall_se: dict[str, float | None]
    """Over groups of paraphrases, whose members are not independent."""
    bag_of_words: dict[str, float]
    """The same by the cosine of tf-idf weighted token counts."""
    chance: dict[str, float]
    """The same for neighbours drawn at random."""
    sentences: int
    groups: int


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Rank correlation of the cosine between the two codes of a pair with what people say, -1 to 1."""

    spearman: float | None
    """None where one of the two does not vary."""
    spearman_se: float | None
    """sqrt((1 + rho^2 / 2) / (n - 3)): Bonett and Wright 2000, of its Fisher transform."""
    bag_of_words: float | None
    pairs: int
    unknown_rate: float


def bag_of_words(store: TokenStore, vocab_size: int) -> Features:
    """How often each sentence has each token: a sparse matrix ``[R V]``, BOS and EOS left out."""
    from scipy.sparse import csr_matrix

    inside = np.ones(int(store.offsets[-1]), dtype=bool)
    inside[store.offsets[:-1]] = inside[store.offsets[1:] - 1] = False
    columns = np.asarray(store.tokens[: len(inside)])[inside].astype(np.int64)
    edges = np.concatenate([[0], np.cumsum(store.lengths - 2)])
    counts = csr_matrix((np.ones(len(columns)), columns, edges), shape=(len(store), vocab_size))
    counts.sum_duplicates()
    return counts


def probe(
    train: tuple[Features, Features],
    train_labels: ArrayLike,
    test: tuple[Features, Features],
    test_labels: ArrayLike,
) -> Probe | None:
    """Fit on ``train`` = (codes, bag of words), measure on ``test``; None where the training labels are all one.

    Codes are brought to unit variance first (Conneau et al. 2018 probe sentence codes so); the regressions are
    scikit-learn's, with its default L2 penalty.
    """
    from sklearn.preprocessing import MaxAbsScaler, StandardScaler

    labels, counts = np.unique(train_labels, return_counts=True)
    if len(labels) < 2:
        return None
    right = _right(StandardScaler(), train[0], train_labels, test[0], test_labels)
    words = _right(MaxAbsScaler(), train[1], train_labels, test[1], test_labels)
    return Probe(
        accuracy=float(right.mean()),
        accuracy_se=standard_error(right),
        majority=float(np.mean(np.asarray(test_labels) == labels[counts.argmax()])),
        bag_of_words=float(words.mean()),
        classes=len(labels),
        train_sentences=len(train_labels),
        test_sentences=len(test_labels),
    )


def _right(
    scaler: Any, train: Features, train_labels: ArrayLike, test: Features, test_labels: ArrayLike
) -> Float[np.ndarray, " R"]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    classifier = make_pipeline(scaler, LogisticRegression(max_iter=500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digit of an accuracy does not hang on it
        classifier.fit(train, train_labels)
    return (classifier.predict(test) == np.asarray(test_labels)).astype(float)


def retrieval(codes: Features, words: Features, groups: Int[np.ndarray, " R"]) -> Retrieval | None:
    """Recall at 1, 5 and 10 (Karpathy and Fei-Fei 2015 use it so) among sentences that have a paraphrase.

    ``groups`` numbers the sets of paraphrases, in the order of the rows. Sentences without a paraphrase are no
    queries, but they may be found. None where there are none.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    _, group = np.unique(groups, return_inverse=True)
    members = np.bincount(group)
    sizes = members[group]
    queries = np.flatnonzero(sizes > 1)
    if len(queries) == 0:
        return None
    ranks = {
        name: _first_rank(kind, groups, queries)
        for name, kind in (("codes", codes), ("words", TfidfTransformer().fit_transform(words)))
    }
    hits = {k: (ranks["codes"] < k).astype(float) for k in RANKS}
    return Retrieval(
        recall={str(k): float(hits[k].mean()) for k in RANKS},
        recall_se={str(k): _se_by_group(hits[k], groups[queries]) for k in RANKS},
        bag_of_words={str(k): float((ranks["words"] < k).mean()) for k in RANKS},
        chance={
            str(k): float(np.mean([_chance(len(groups) - 1, n - 1, k) for n in sizes[queries].tolist()])) for k in RANKS
        },
        sentences=len(queries),
        groups=int((members > 1).sum()),
    )


def _first_rank(features: Features, groups: Int[np.ndarray, " R"], queries: Int[np.ndarray, " Q"]) -> np.ndarray:
    """How many sentences are nearer to each query than its nearest paraphrase; ties count against it."""
    from sklearn.preprocessing import normalize

    features, ranks = normalize(features), np.zeros(len(queries))
    for start in range(0, len(queries), _QUERIES_TOGETHER):
        some = queries[start : start + _QUERIES_TOGETHER]
        cosine = features[some] @ features.T
        # Rounded, or the last bit would decide between sentences that are the same.
        cosine = np.round(cosine.toarray() if hasattr(cosine, "toarray") else cosine, 6)
        own = np.arange(len(some))
        cosine[own, some] = -np.inf
        kin = groups[some][:, None] == groups
        best = np.where(kin, cosine, -np.inf).max(1, keepdims=True)
        ranks[start : start + len(some)] = ((cosine >= best) & ~kin).sum(1)
    return ranks


def _chance(others: int, kin: int, k: int) -> float:
    """That one of ``kin`` is among ``k`` drawn from ``others`` without replacement."""
    return 1 - math.prod((others - kin - i) / (others - i) for i in range(min(k, others)))


def _se_by_group(values: Float[np.ndarray, " Q"], groups: Int[np.ndarray, " Q"]) -> float | None:
    _, index = np.unique(groups, return_inverse=True)
    counts = np.bincount(index)
    if len(counts) < 2:
        return None
    residuals = np.bincount(index, values - values.mean())
    return float(np.sqrt(len(counts) / (len(counts) - 1) * np.square(residuals).sum()) / counts.sum())


def similarity(
    codes: tuple[Features, Features], words: tuple[Features, Features], scores: ArrayLike, unknown_rate: float
) -> Similarity:
    """Spearman's rho between the cosine of ``codes`` = (first, second) and the scores of the pairs."""
    n, rho = len(scores), _spearman(_cosine(*codes), scores)
    return Similarity(
        spearman=rho,
        spearman_se=None if rho is None or n < 4 else math.sqrt((1 + rho**2 / 2) / (n - 3)),
        bag_of_words=_spearman(_cosine(*words), scores),
        pairs=n,
        unknown_rate=unknown_rate,
    )


def _cosine(a: Features, b: Features) -> Float[np.ndarray, " P"]:
    from sklearn.preprocessing import normalize

    a, b = normalize(a), normalize(b)
    product = a.multiply(b) if hasattr(a, "multiply") else a * b
    return np.asarray(product.sum(1), dtype=float).ravel()


def _spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)

"""Promises of the batches: every row once, in an order that is a pure function of seed and epoch."""

import hashlib
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_toys import store_of

from seqvae.data import batching
from seqvae.data.batching import collate, epoch_plan, evaluation_plan
from seqvae.data.shuffling import Shuffled
from seqvae.data.store import RowLengths, TokenStore
from seqvae.data.tokenizers import WordTokenizer
from seqvae.types import BOS, EOS, PAD

sentence_lengths = st.lists(st.integers(2, 13), max_size=60).map(lambda values: np.array(values, dtype=np.int64))
bounds = st.one_of(
    st.integers(1, 9).map(lambda size: {"batch_size": size}),
    st.integers(1, 40).map(lambda tokens: {"batch_size": 5, "batch_tokens": tokens}),
)


def cost(lengths, rows):
    return len(rows) * lengths[rows].max()


@given(sentence_lengths, bounds, st.booleans(), st.integers(0, 2**40), st.integers(0, 5))
def test_every_row_comes_exactly_once_within_the_bounds(lengths, bound, equal_length, seed, epoch):
    plan = epoch_plan(lengths, seed=seed, epoch=epoch, equal_length=equal_length, **bound)
    assert sorted(np.concatenate([np.zeros(0, int), *plan]).tolist()) == list(range(len(lengths)))
    for rows in plan:
        assert len(rows) > 0
        if equal_length:
            assert len(set(lengths[rows])) == 1
        if "batch_tokens" in bound:
            assert len(rows) == 1 or cost(lengths, rows) <= bound["batch_tokens"]
        else:
            assert len(rows) <= bound["batch_size"]


@given(sentence_lengths, bounds, st.booleans(), st.integers(2, 5))
def test_the_ranks_share_out_each_batch(lengths, bound, equal_length, world):
    keywords = {"seed": 3, "epoch": 1, "equal_length": equal_length, **bound}
    whole = epoch_plan(lengths, **keywords)
    ranks = [epoch_plan(lengths, rank=rank, world=world, **keywords) for rank in range(world)]
    assert {len(plan) for plan in ranks} == {len(whole)}
    for index, rows in enumerate(whole):
        parts = [plan[index] for plan in ranks]
        assert sorted(np.concatenate(parts).tolist()) == sorted(rows.tolist())
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    bounds,
    st.booleans(),
    st.integers(0, 3),
)
def test_the_plan_of_a_large_corpus_is_made_in_parts_with_the_same_promises(draw, bound, equal_length, rank):
    lengths = np.random.default_rng(draw).integers(2, 14, 251)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "LARGE_ROWS", 100)
        patch.setattr(batching, "PART_ROWS", 40)
        patch.setattr(batching, "POOL_BATCHES", 3)
        keywords = {"seed": 3, "epoch": draw % 7, "equal_length": equal_length, **bound}
        plan = epoch_plan(lengths, **keywords)
        share = epoch_plan(RowLengths(np.cumsum([0, *lengths])), rank=rank, world=4, **keywords)
        assert sorted(np.concatenate(list(plan)).tolist()) == list(range(251))
        assert len(plan) == len(share) == len(list(plan))
        for number, rows in enumerate(plan):
            assert share[number].tolist() == rows[rank::4].tolist() == plan[number][rank::4].tolist()
            assert len(rows) > 0
            assert len(rows) <= bound["batch_size"] or "batch_tokens" in bound
            assert len(rows) == 1 or cost(lengths, rows) <= bound.get("batch_tokens", np.inf)
            assert not equal_length or len(set(lengths[rows])) == 1
        assert [rows.tolist() for rows in plan[2:5]] == [plan[number].tolist() for number in (2, 3, 4)]


def test_a_large_corpus_is_mixed_as_a_whole_and_grouped_by_length(monkeypatch):
    monkeypatch.setattr(batching, "LARGE_ROWS", 30_000)
    monkeypatch.setattr(batching, "PART_ROWS", 10_000)
    lengths = np.random.default_rng(0).poisson(20, 50_000) + 2
    plan = epoch_plan(lengths, seed=5, epoch=0, batch_size=25)
    assert lengths.sum() / sum(cost(lengths, rows) for rows in plan) > 0.95
    begin, other = np.concatenate(plan[:400]), np.concatenate(epoch_plan(lengths, seed=5, epoch=1, batch_size=25)[:400])
    # Of each tenth of the corpus the first fifth of the epoch has 1,000 rows, with a standard deviation of about 28.
    assert np.abs(np.bincount(begin // 5_000, minlength=10) - 1_000).max() < 140
    assert abs(len(np.intersect1d(begin, other)) - 2_000) < 200, "another epoch begins with other rows"


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000, 4097])
def test_a_shuffle_that_is_computed_has_every_number_once_in_no_order(n):
    orders = [Shuffled(n, [key]).at(np.arange(n)) for key in (1, 1, 2)]
    assert sorted(orders[0].tolist()) == list(range(n))
    assert orders[0].tolist() == orders[1].tolist()
    assert Shuffled(n, [1]).at(np.array([n - 1])).tolist() == orders[0][-1:].tolist()
    if n >= 1000:
        assert (orders[0] == orders[2]).sum() < 10
        assert (orders[0] == np.arange(n)).sum() < 10
        assert abs(np.corrcoef(orders[0][:-1], orders[0][1:])[0, 1]) < 0.1
        assert abs(np.corrcoef(orders[0], np.arange(n))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"batch_size": 32}, "e362010da700c110"),
        ({"batch_tokens": 700}, "5bb39f15ae796bf2"),
        ({"batch_size": 16, "equal_length": True}, "715d203ba2df4168"),
        ({"batch_size": 32, "rank": 1, "world": 3}, "702f24a55e32f885"),
    ],
)
def test_the_order_is_that_of_every_release_so_that_runs_can_be_resumed(keywords, expected):
    lengths = np.random.default_rng(5000).integers(2, 40, 5000)
    plan = epoch_plan(lengths, seed=7, epoch=3, **keywords)
    assert hashlib.sha256(np.concatenate(plan).astype("<i8").tobytes()).hexdigest()[:16] == expected


def test_ranks_get_nearly_equal_work():
    lengths = np.random.default_rng(8).integers(3, 60, 5000)
    plans = [epoch_plan(lengths, seed=1, epoch=0, batch_size=64, rank=rank, world=3) for rank in range(3)]
    work = [sum(lengths[rows].sum() for rows in plan) for plan in plans]
    assert max(work) / min(work) < 1.05


@pytest.mark.parametrize(
    "keywords", [{"batch_size": 16}, {"batch_tokens": 300}, {"batch_size": 16, "equal_length": True}]
)
def test_the_plan_is_a_pure_function_of_seed_and_epoch(keywords):
    lengths = np.random.default_rng(0).integers(2, 30, 2000)
    before = lengths.copy()

    def plan(seed, epoch):
        return [rows.tolist() for rows in epoch_plan(lengths, seed=seed, epoch=epoch, **keywords)]

    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = plan(7, 3)
    assert first == plan(7, 3)
    assert np.array_equal(np.random.get_state()[1], state)
    assert np.array_equal(lengths, before)
    assert first != plan(7, 4)
    assert first != plan(8, 3)
    company = [{frozenset(rows) for rows in other} for other in (first, plan(7, 4))]
    assert len(company[0] & company[1]) < len(first) / 10, "sentences meet others in every epoch"


def test_batches_are_not_in_the_order_of_their_lengths():
    lengths = np.random.default_rng(0).integers(2, 30, 3000)
    longest = [lengths[rows].max() for rows in epoch_plan(lengths, seed=0, epoch=0, batch_size=30)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_grouping_by_length_leaves_little_padding():
    lengths = np.random.default_rng(0).poisson(20, 40_000) + 2
    for keywords in ({"batch_size": 32}, {"batch_tokens": 1000}):
        plan = epoch_plan(lengths, seed=0, epoch=0, **keywords)
        assert lengths.sum() / sum(cost(lengths, rows) for rows in plan) > 0.95


def test_token_batches_are_filled():
    lengths = np.random.default_rng(0).integers(2, 12, 10_000)
    plan = epoch_plan(lengths, seed=0, epoch=0, batch_tokens=500)
    assert np.median([cost(lengths, rows) for rows in plan]) > 450


def test_a_sentence_longer_than_the_bound_is_a_batch_of_its_own():
    lengths = np.array([3, 50, 3, 3, 40])
    plan = epoch_plan(lengths, seed=0, epoch=0, batch_tokens=10)
    assert sorted(sorted(rows.tolist()) for rows in plan if lengths[rows].max() > 10) == [[1], [4]]
    assert sorted(len(rows) for rows in plan) == [1, 1, 3]
    assert [rows.tolist() for rows in evaluation_plan(lengths, batch_tokens=10)] == [[0, 2, 3], [4], [1]]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_corpora_have_plans(count):
    lengths = np.arange(2, 2 + count)
    for keywords in ({"batch_size": 2}, {"batch_tokens": 100}, {"batch_size": 2, "equal_length": True}):
        plan = epoch_plan(lengths, seed=0, epoch=0, **keywords)
        assert sorted(row for rows in plan for row in rows) == list(range(count))
    assert sum(map(len, evaluation_plan(lengths))) == count


@given(sentence_lengths, st.integers(1, 60))
def test_the_evaluation_plan_goes_from_short_to_long_within_its_bound(lengths, tokens):
    plan = evaluation_plan(lengths, batch_tokens=tokens)
    order = [row for rows in plan for row in rows.tolist()]
    assert order == sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    assert all(len(rows) == 1 or cost(lengths, rows) <= tokens for rows in plan)


TEXTS = ["a b c", "", "c", "b b b a b"]


@pytest.fixture(scope="module")
def store():
    return TokenStore.from_texts(TEXTS, WordTokenizer(["a", "b", "c"]))


def test_a_batch_is_padded_on_the_right_to_its_longest(store):
    batch = collate(store, np.array([2, 0, 1]))
    assert batch.tokens.tolist() == [[BOS, 6, EOS, PAD, PAD], [BOS, 4, 5, 6, EOS], [BOS, EOS, PAD, PAD, PAD]]
    assert batch.lengths.tolist() == [3, 5, 2]
    assert batch.rows.tolist() == [2, 0, 1]
    assert {tensor.dtype for tensor in (batch.tokens, batch.lengths, batch.rows)} == {torch.int64}
    assert len(batch) == 3
    assert batch.labels is None


@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=9))
def test_each_row_of_a_batch_is_the_row_of_the_store(store, rows):
    batch = collate(store, np.array(rows))
    for index, row in enumerate(rows):
        length = int(batch.lengths[index])
        assert batch.tokens[index, :length].tolist() == store[row].tolist()
        assert (batch.tokens[index, length:] == PAD).all()
    assert batch.tokens.shape[1] == int(batch.lengths.max())


def test_the_empty_share_of_a_rank_is_an_empty_batch(store):
    batch = collate(store, np.zeros(0, np.int64))
    assert len(batch) == 0
    assert batch.tokens.shape == (0, 2)


def test_a_batch_does_not_share_memory_with_store_or_plan(store):
    rows = np.array([0, 3])
    batch = collate(store, rows)
    before = store[0].tolist()
    batch.tokens.fill_(9)
    batch.rows.fill_(9)
    batch.lengths.fill_(9)
    assert store[0].tolist() == before
    assert rows.tolist() == [0, 3]
    assert store.lengths.tolist()[0] == 5


def test_an_epoch_of_20_000_sentences_costs_little():
    draw = np.random.default_rng(4)
    texts = [" ".join(["a", "b", "c"] * int(size)) for size in draw.integers(1, 7, 20_000)]
    store = TokenStore.from_texts(texts, WordTokenizer(["a", "b", "c"]))
    start = time.process_time()
    for rows in epoch_plan(store.lengths, seed=0, epoch=0, batch_size=128):
        collate(store, rows)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("device", "later"), [("cpu", False), ("mps", False), ("cuda", True), ("cuda:1", True)])
def test_only_a_copy_to_cuda_may_be_read_later_than_it_is_asked_for(monkeypatch, device, later):
    """What an Apple GPU is still to read may be gone by then: nothing holds on to it."""
    asked = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *place, **options: asked.append((place, options)) or tensor)
    collate(store_of(5), np.arange(3)).to(device)
    assert asked == [((device,), {"non_blocking": later})] * 3

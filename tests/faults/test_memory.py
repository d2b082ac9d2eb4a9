"""Memory that runs out: found at the start, never paid for by a smaller update, and told where nothing can be done."""

from functools import partial

import numpy as np
import pytest
import torch
from training_toys import (
    NO_DROPOUT,
    bytes_of,
    last_checkpoint,
    phase_of,
    settings,
    stopped_at,
    store_of,
    toy_trainer,
    write_corpus,
)

import seqvae
from seqvae.config import Config
from seqvae.data.batching import collate, epoch_plan, largest_batch
from seqvae.errors import SeqVAEError, is_out_of_memory
from seqvae.models.vae import SeqVAE
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.training import memory
from seqvae.training import phases as phases_module
from seqvae.training.memory import pieces

QUIET = {"model": NO_DROPOUT, "train": {"epochs": 2, "monitor": "rec", "optimizer": {"name": "sgd", "lr": 0.1}}}
LARGEST = 5 * 9
"""Tokens of the toy's largest batch: five sentences, BOS and EOS counted."""


class QuietConfig(StrategyConfig):
    name: str = "quiet"


class Quiet(Strategy):
    """No noise, while the KL keeps its weight: a sum over sentences."""

    def noise_scale(self, step):
        return 0.0


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    build = phases_module.build_strategy
    monkeypatch.setattr(phases_module, "build_strategy", lambda c: Quiet(c) if isinstance(c, QuietConfig) else build(c))


class Allocator:
    """Memory for so many tokens at once in training, or out of it; ``later``: as much as one likes until then."""

    def __init__(self, monkeypatch, most: int, later: int = 0, error=None, *, training=True):
        self.sizes, self.most, self.later, terms = [], most, later, SeqVAE.terms
        self.error = error or torch.OutOfMemoryError("tried to allocate 3 GiB")

        def limited(model, batch, *args, **kwargs):
            if model.training == training:
                self.sizes.append(batch.tokens.numel())
                if batch.tokens.numel() > self.most and len(self.sizes) > self.later:
                    raise self.error
            return terms(model, batch, *args, **kwargs)

        monkeypatch.setattr(SeqVAE, "terms", limited)


def quiet(folder, observe=None, **changes):
    sections = QUIET | changes
    return toy_trainer(folder, phases=[phase_of(folder, QuietConfig(), **sections)], observe=observe, **sections)


def weights_after(trainer) -> dict[str, torch.Tensor]:
    assert trainer.fit()
    return trainer.model.state_dict()


def assert_close(found, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-4, atol=1e-6)


def test_of_a_batch_that_is_cut_its_largest_piece_is_tried(tmp_path, monkeypatch):
    tried, passes = [], memory._passes
    monkeypatch.setattr(memory, "_passes", lambda stage, batch, task: tried.append(batch) or passes(stage, batch, task))
    trainer = toy_trainer(tmp_path, train={"steps": 1, "micro_tokens": 3 * LARGEST // 5})
    rows = trainer.task.largest_rows()
    cut = [part.tokens.numel() for part in memory.pieces([trainer.task.batch(rows)], 3 * LARGEST // 5)]
    assert cut[-1] < max(cut)
    assert trainer.fit()
    assert [batch.tokens.numel() for batch in tried] == [max(cut)]


def test_the_largest_batch_is_tried_before_the_first_update_and_leaves_no_trace(tmp_path, monkeypatch):
    noisy = {"train": {"epochs": 2, "phases": [{"name": "one", "steps": 3}, {"name": "two", "samples": 2, "steps": 4}]}}
    trainer = toy_trainer(tmp_path / "tried", **noisy)
    allocator = Allocator(monkeypatch, most=LARGEST)
    tried = weights_after(trainer)
    assert allocator.sizes[:2] == [LARGEST, LARGEST], "once for each phase"
    monkeypatch.setattr("seqvae.training.trainer.try_largest", lambda trainer: None)
    other = toy_trainer(tmp_path / "untried", **noisy)
    assert bytes_of(weights_after(other)) == bytes_of(tried)
    assert other.task.observe.timeless() == trainer.task.observe.timeless()


def test_no_trace_is_left_by_batch_normalisation_and_refining_either(tmp_path, monkeypatch):
    changes = {
        "model": {"posterior": {"family": "batchnorm"}},
        "objective": {"strategies": [{"name": "semi_amortised", "steps": 2}]},
        "train": {"steps": 3},
    }
    tried = weights_after(toy_trainer(tmp_path / "tried", **changes))
    monkeypatch.setattr("seqvae.training.trainer.try_largest", lambda trainer: None)
    assert bytes_of(weights_after(toy_trainer(tmp_path / "untried", **changes))) == bytes_of(tried)


@pytest.mark.parametrize("sizes", [{"batch_size": 7}, {"batch_size": 7, "batch_tokens": 50}])
@pytest.mark.parametrize("equal_length", [False, True])
def test_no_batch_of_any_epoch_is_larger_than_the_one_that_is_tried(sizes, equal_length, monkeypatch):
    monkeypatch.setattr("seqvae.data.batching.LARGE_ROWS", 61)
    lengths = store_of(211, seed=3).lengths
    lengths[17] = 23
    rows = largest_batch(lengths, equal_length=equal_length, **sizes)
    assert list(lengths[rows]) == sorted(lengths[rows])
    assert len(set(rows.tolist())) == len(rows)
    largest = len(rows) * lengths[rows].max()
    for epoch in range(5):
        plan = epoch_plan(lengths, seed=1, epoch=epoch, equal_length=equal_length, **sizes)
        assert max(len(batch) * lengths[batch].max() for batch in plan) <= largest
    if "batch_tokens" in sizes:
        assert largest <= 50
    elif not equal_length:
        assert 17 in rows


@pytest.mark.parametrize("most", [44, 22, 9])
def test_an_update_that_does_not_fit_is_cut_and_stays_the_same(tmp_path, monkeypatch, most):
    expected = weights_after(quiet(tmp_path / "whole"))
    trainer = quiet(tmp_path / "cut")
    allocator = Allocator(monkeypatch, most=most)
    assert_close(weights_after(trainer), expected)
    (note,) = trainer.task.observe.of("note")
    bound = note["micro_tokens"]
    assert bound <= most
    assert note["step"] == 0
    assert f"more than {bound:,} tokens" in note["text"]
    failed = sum(size > most for size in allocator.sizes)
    assert failed == len(allocator.sizes[: allocator.sizes.index(bound)]), "it is found by the trial alone"
    assert last_checkpoint(trainer).progress.micro_tokens == bound


def test_memory_that_runs_out_in_the_midst_of_training_costs_no_update(tmp_path, monkeypatch):
    expected = weights_after(quiet(tmp_path / "whole"))
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    trainer = quiet(tmp_path / "cut")
    Allocator(monkeypatch, most=20, later=6, error=error)
    assert_close(weights_after(trainer), expected)
    notes = trainer.task.observe.of("note")
    assert [note["micro_tokens"] for note in notes] == sorted({note["micro_tokens"] for note in notes}, reverse=True)
    assert notes[-1]["micro_tokens"] <= 20
    assert notes[0]["step"] > 0


def test_noise_is_that_of_an_update_that_was_cut_from_the_start(tmp_path, monkeypatch):
    """What an attempt drew before it failed is drawn again."""
    monkeypatch.setattr("seqvae.training.trainer.try_largest", lambda trainer: None)
    Allocator(monkeypatch, most=18)
    found = []
    for name, bound in {"found": None, "set": 18}.items():
        trainer = toy_trainer(tmp_path / name, train={"steps": 9, "micro_tokens": bound})
        plan = sorted(trainer.task.plan(0), key=lambda rows: -store_of(37).lengths[rows].max() * len(rows))
        object.__setattr__(trainer.task, "plan", lambda epoch, plan=plan: plan)
        found.append(bytes_of(weights_after(trainer)))
        notes = [note["micro_tokens"] for note in trainer.task.observe.of("note")]
        assert notes == ([18] if name == "found" else [])
    assert found[0] == found[1]


def test_a_resumed_run_begins_with_the_split(tmp_path, monkeypatch):
    allocator = Allocator(monkeypatch, most=22)
    whole = quiet(tmp_path / "whole")
    expected = weights_after(whole)
    first = stopped_at(7, partial(quiet, tmp_path / "run"))
    allocator.sizes.clear()
    second = quiet(tmp_path / "run")
    assert second.fit(last_checkpoint(first))
    assert max(allocator.sizes) <= 22, "nothing is tried that is known not to fit"
    assert second.task.observe.of("note") == []
    assert bytes_of(second.model.state_dict()) == bytes_of(expected)
    assert first.task.observe.timeless() + second.task.observe.timeless() == whole.task.observe.timeless()


def test_validation_is_tried_at_the_start_and_cut_where_it_does_not_fit(tmp_path, monkeypatch):
    whole = quiet(tmp_path / "whole")
    expected = weights_after(whole)
    trainer = quiet(tmp_path / "cut")
    allocator = Allocator(monkeypatch, most=50, training=False)
    assert_close(weights_after(trainer), expected)
    (note,) = trainer.task.observe.of("note")
    assert note["step"] == 0
    assert note["micro_tokens"] <= 50
    fits = [size <= 50 for size in allocator.sizes]
    assert not fits[0]
    assert all(fits[fits.index(True) :]), "it is found by the trial alone"
    for found, usual in zip(trainer.task.observe.of("valid"), whole.task.observe.of("valid"), strict=True):
        assert found["rec_nats"] == pytest.approx(usual["rec_nats"], rel=1e-5)


def test_validation_cuts_no_batch_of_training_that_fits(tmp_path, monkeypatch):
    monkeypatch.setattr("seqvae.training.memory.VALIDATION_TOKENS", LARGEST + 17)
    normalised = {"model": NO_DROPOUT | {"posterior": {"family": "batchnorm"}}, "train": {"steps": 9}}
    expected = weights_after(toy_trainer(tmp_path / "whole", **normalised))
    allocator = Allocator(monkeypatch, most=LARGEST, training=False)
    trainer = toy_trainer(tmp_path / "cut", **normalised)
    assert bytes_of(weights_after(trainer)) == bytes_of(expected)
    assert allocator.sizes[0] > LARGEST, "validation did not fit as it was"
    (note,) = trainer.task.observe.of("note")
    assert note["micro_tokens"] == LARGEST


def test_one_sentence_of_validation_too_large_names_its_row(tmp_path, monkeypatch):
    Allocator(monkeypatch, most=8, training=False)
    trainer = quiet(tmp_path)
    with pytest.raises(SeqVAEError) as caught:
        trainer.fit()
    assert (caught.value.code, caught.value.exit_code) == ("E602", 6)
    row = int(caught.value.where.rpartition("valid, row ")[2])
    assert trainer.task.stores["valid"].lengths[row] == 9


@pytest.mark.parametrize("later", [0, 9])
def test_one_sentence_too_large_names_its_row(tmp_path, monkeypatch, later):
    Allocator(monkeypatch, most=8, later=later)
    trainer = quiet(tmp_path)
    with pytest.raises(SeqVAEError) as caught:
        trainer.fit()
    lengths = trainer.task.stores["train"].lengths
    assert (caught.value.code, caught.value.exit_code) == ("E602", 6)
    assert f"of {lengths.max()} tokens" in caught.value.what
    row = int(caught.value.where.rpartition(" ")[2])
    assert lengths[row] == lengths.max() == 9


def test_one_sentence_too_large_names_file_and_line_and_costs_no_update(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    paths = write_corpus(tmp_path)
    with open(paths["train"], "a", encoding="utf-8") as file:
        file.write("\n" + "w1 " * 30 + "\n")
    config = Config.from_dict(settings(data=paths, train={"steps": 5}))
    Allocator(monkeypatch, most=20)
    with pytest.raises(SeqVAEError) as caught:
        seqvae.train(config, out=tmp_path / "run")
    assert (caught.value.code, caught.value.exit_code) == ("E602", 6)
    assert caught.value.where == f"{paths['train']}:39", "the blank line before it counts"
    assert "data.max_length" in caught.value.hint
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        ({"name": "mmd"}, "`mmd`"),
        ({"name": "free_bits", "variant": "dimension_mean"}, "`free_bits`"),
        ({"name": "capacity", "level": "mean"}, "`capacity`"),
    ],
)
def test_a_batch_whose_sentences_a_method_looks_at_together_is_not_cut_in_silence(
    tmp_path, monkeypatch, strategy, named
):
    Allocator(monkeypatch, most=30)
    objective = {"strategies": [strategy]}
    with pytest.raises(SeqVAEError) as caught:
        toy_trainer(tmp_path / "cut", objective=objective).fit()
    assert (caught.value.code, caught.value.exit_code) == ("E603", 6)
    assert named in caught.value.what
    assert "data.batch_size=2" in caught.value.hint
    assert "train.micro_tokens=18" in caught.value.hint
    assert toy_trainer(tmp_path / "asked", objective=objective, train={"steps": 3, "micro_tokens": 18}).fit()
    assert toy_trainer(tmp_path / "fewer", objective=objective, data={"batch_size": 2}, train={"steps": 3}).fit()


def test_batch_normalisation_is_not_cut_in_silence(tmp_path, monkeypatch):
    Allocator(monkeypatch, most=30)
    with pytest.raises(SeqVAEError, match="batch normalisation") as caught:
        toy_trainer(tmp_path, model={"posterior": {"family": "batchnorm"}}).fit()
    assert caught.value.code == "E603"


def test_methods_by_sentence_do_not_couple_them(tmp_path, monkeypatch):
    Allocator(monkeypatch, most=30)
    methods = [{"name": "free_bits", "variant": "sentence_total"}, {"name": "minimum_rate"}, {"name": "bag_of_words"}]
    for method in methods:
        folder = tmp_path / method["name"]
        assert toy_trainer(folder, objective={"strategies": [method]}, train={"steps": 2}).fit()


def test_a_micro_batch_is_as_large_as_the_settings_say(tmp_path, monkeypatch):
    expected = weights_after(quiet(tmp_path / "whole"))
    allocator = Allocator(monkeypatch, most=10**9)
    trainer = quiet(tmp_path / "cut", train=QUIET["train"] | {"micro_tokens": 20})
    assert_close(weights_after(trainer), expected)
    assert max(allocator.sizes) <= 20
    assert trainer.task.observe.of("note") == []


def test_pieces_are_the_batch_again():
    store = store_of(37)
    batches = [collate(store, np.array(rows)) for rows in ([0, 1, 2, 3, 4], [5], [6, 7, 8])]
    found = pieces(batches, 12)
    assert [int(row) for piece in found for row in piece.rows] == list(range(9))
    for piece in found:
        assert piece.tokens.numel() <= 12 or len(piece) == 1
        assert piece.tokens.shape[1] == int(piece.lengths.max())
        for row, tokens, length in zip(piece.rows, piece.tokens, piece.lengths, strict=True):
            assert tokens[:length].tolist() == store[int(row)].tolist()
    assert pieces(batches, None) == batches


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("can't allocate memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, full):
    assert is_out_of_memory(error) is full


def test_memory_that_runs_out_elsewhere_ends_with_6_and_the_settings_that_need_less(verb, workplace, monkeypatch):
    Allocator(monkeypatch, most=8, training=False)
    result = verb("eval", "--model", "runs/vae")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr.endswith(
        "error[E601]: out of memory: tried to allocate 3 GiB\n"
        "help: work on less at once: in training a lower `train.micro_tokens`, `data.batch_size` or "
        "`data.batch_tokens`, in `eval` a lower `eval.batch_tokens`; or take a smaller model\n"
    )


@pytest.mark.parametrize(("most", "cut_at"), [(150, 90), (60, 45), (8, None)])
def test_a_run_with_little_memory_cuts_its_batches_or_ends_with_6_and_names_the_line(desk, monkeypatch, most, cut_at):
    """Its largest batch has 20 sentences of 9 tokens; it is halved until it fits."""
    Allocator(monkeypatch, most=most)
    result = desk("train", "--config", "small.yaml", "--set", "train.epochs=1", "--out", "run")
    if cut_at is None:
        assert (result.exit_code, result.stdout) == (6, "")
        assert "error[E602]: " in result.stderr
        assert "/train.txt:" in result.stderr
    else:
        assert result.exit_code == 0, result.stderr
        assert (
            f"note     memory ran out: batches of more than {cut_at} tokens, padding included, are cut" in result.stderr
        )

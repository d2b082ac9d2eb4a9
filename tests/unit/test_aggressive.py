"""Aggressive training of the encoder: the inner loop, its end, and what is resumed."""

import itertools
from functools import partial

import pytest
import torch
from training_toys import NO_DROPOUT, bytes_of, last_checkpoint, phase_of, stopped_at, toy_trainer

from seqvae.objectives import registry
from seqvae.objectives.aggressive import Aggressive, AggressiveConfig
from seqvae.objectives.autoencoder import AutoencoderConfig
from seqvae.objectives.bag_of_words import BagOfWordsConfig
from seqvae.objectives.base import PARTS, Dims


def built(latent=3, **settings):
    strategy = Aggressive(AggressiveConfig(**settings))
    strategy.build(Dims(vocab=13, latent=latent, hidden=8, epoch_steps=20))
    return strategy


class FakeBatch:
    def __init__(self, number):
        self.number, self.tokens = number, torch.zeros(2, 4)


class FakeLoop:
    """Gives the losses of a list, five tokens to an update, and keeps what is asked of it."""

    def __init__(self, losses):
        self.losses, self.batch, self.updated, self.drawn = iter(losses), FakeBatch(0), [], 0
        self.model, self.step, self.loss, self.tokens = None, 0, None, torch.tensor(5.0)
        self.finite = torch.tensor(True)

    def reset(self, part):
        raise AssertionError("nothing is reset")

    def summed(self, values):
        raise AssertionError("nothing is summed")

    def generator(self, name):
        return torch.Generator().manual_seed(len(name))

    def draw_batch(self, generator):
        self.drawn += 1
        return FakeBatch(self.drawn)

    def update(self, batch, parts):
        self.loss = torch.tensor(float(next(self.losses)))
        self.updated.append((batch.number, parts))


class TestInnerLoop:
    def inner(self, losses, **settings):
        loop = FakeLoop(losses)
        built(**settings).before_update(loop)
        return loop.updated

    def test_it_trains_the_encoder_alone_on_the_updates_own_batch_and_then_on_random_ones(self):
        updated = self.inner([5.0] * 7, inner_steps=7, window=9)
        assert updated == [(number, frozenset({"encoder"})) for number in range(7)]

    def test_it_stops_at_the_first_window_whose_loss_is_above_that_of_the_one_before(self):
        assert len(self.inner([9.0, 9.0, 8.0, 8.0, 7.0, 9.5, 0.0, 0.0], inner_steps=100, window=2)) == 6

    def test_an_equal_loss_goes_on(self):
        assert len(self.inner([3.0] * 20, inner_steps=20, window=2)) == 20

    def test_it_ends_at_its_most_steps(self):
        assert len(self.inner(range(100, 0, -1), inner_steps=23, window=5)) == 23

    def test_it_leaves_the_decoder_as_it_is_and_the_update_then_leaves_the_encoder(self, tmp_path):
        config, changes = AggressiveConfig(inner_steps=4, window=2), {"train": {"steps": 3}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, config, **changes)], **changes)
        trainer._start_phase(0)
        trainer.batch = trainer.task.batch(trainer.task.plan(0)[0])
        before = [{name: [bytes_of(m) for m in modules] for name, modules in trainer.model.parts().items()}]
        (strategy,) = trainer.objective.strategies
        strategy.before_update(trainer)
        before.append({name: [bytes_of(m) for m in modules] for name, modules in trainer.model.parts().items()})
        trainer._update([trainer.batch], trainer.objective.trains(0))
        before.append({name: [bytes_of(m) for m in modules] for name, modules in trainer.model.parts().items()})
        changed = [{name for name in a if a[name] != b[name]} for a, b in itertools.pairwise(before)]
        assert changed == [{"encoder"}, {"decoder"}]

    def test_its_gradients_are_clipped_by_the_norm_of_both_halves(self, tmp_path):
        changes = {"train": {"optimizer": {"name": "sgd", "lr": 1.0}, "clip_norm": 0.01}, "model": NO_DROPOUT}
        moved = []
        for parts in ({"encoder"}, PARTS):
            trainer = toy_trainer(tmp_path, **changes)
            trainer._start_phase(0)
            before = [p.detach().clone() for p in trainer.model.encoder.parameters()]
            trainer._update([trainer.task.batch(trainer.task.plan(0)[0])], frozenset(parts))
            moved.append([new - old for new, old in zip(trainer.model.encoder.parameters(), before, strict=True)])
        for alone, together in zip(*moved, strict=True):
            torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-8)

    def test_momentum_takes_parts_that_begin_to_move_later(self, tmp_path):
        """The head of the bag of words moves from the first inner update on, the decoder from the first outer one."""
        methods, train = (AggressiveConfig(inner_steps=2, window=2), BagOfWordsConfig()), {"steps": 2}
        changes = {"train": train | {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *methods, **changes)], **changes)
        assert trainer.fit()


class TestEnd:
    def test_it_ends_for_good_when_mutual_information_falls(self):
        strategy = built()
        states = []
        for mi in (0.5, 0.9, 0.9, 1.2, 1.1, 3.0):
            strategy.after_validation(FakeLoop([]), {"mi_nats": mi})
            states.append(bool(strategy.active))
        assert states == [True, True, True, True, False, False]
        assert strategy.trains(7) == PARTS
        loop = FakeLoop([])
        strategy.before_update(loop)
        assert loop.updated == []

    def test_while_it_lasts_the_update_is_the_decoders(self):
        assert built().trains(0) == {"decoder"}

    def test_a_language_model_is_trained_plainly(self):
        strategy = built(latent=0)
        assert strategy.trains(0) == PARTS
        strategy.after_validation(FakeLoop([]), {"mi_nats": None})

    def test_an_autoencoder_is_refused_with_the_reason(self):
        with pytest.raises(ValueError, match="a noiseless code has none"):
            registry.check_strategies([AutoencoderConfig(), AggressiveConfig()])


def test_a_run_cut_before_and_after_the_end_of_the_inner_loop_goes_on_bit_by_bit(tmp_path, monkeypatch):
    """Mutual information is made to fall at the third validation, and is measured once in each."""
    monkeypatch.setattr(
        "seqvae.training.stage.Stage.further_metrics",
        lambda self, model, store, seed, batch_tokens: {"mi_nats": {3: 1.0, 6: 2.0}.get(self._step(), 1.5)},
    )
    config = AggressiveConfig(inner_steps=4, window=2)
    changes = {"train": {"steps": 13, "validate_every": 3}}

    def trainer(folder, observe=None):
        made = toy_trainer(folder, phases=[phase_of(folder, config, **changes)], observe=observe, **changes)
        monkeypatch.setattr("seqvae.training.stage.Stage._step", lambda self: current[0].step, raising=False)
        current[0] = made
        return made

    current = [None]
    whole = trainer(tmp_path / "whole")
    assert whole.fit()
    assert not whole.objective.strategies[0].active
    for cut in (5, 11):
        folder = tmp_path / str(cut)
        checkpoint = last_checkpoint(stopped_at(cut, partial(trainer, folder)))
        assert bool(checkpoint.training["strategy.0.active"]) == (cut < 9)
        torch.manual_seed(99)
        second = trainer(folder)
        assert second.fit(checkpoint)
        assert bytes_of(second.model) == bytes_of(whole.model)
        assert bytes_of(last_checkpoint(second).training) == bytes_of(last_checkpoint(whole).training)

"""The training loop: updates, what does not change them, hooks, and what is never applied."""

import copy
import itertools
import math
import time
from functools import partial
from signal import SIGTERM

import pytest
import torch
from training_toys import (
    NO_DROPOUT,
    Events,
    bytes_of,
    last_checkpoint,
    phase_of,
    sentences,
    settings,
    stopped_at,
    store_of,
    toy_trainer,
    write_corpus,
)

import seqvae
from seqvae.data.batching import collate
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw, quick_metrics
from seqvae.objectives.base import PARTS, Loop, Model, Strategy, StrategyConfig
from seqvae.objectives.input_noise import InputNoiseConfig
from seqvae.objectives.word_dropout import WordDropoutConfig
from seqvae.training import phases as phases_module
from seqvae.training.trainer import Trainer

SGD = {"optimizer": {"name": "sgd", "lr": 0.1}}


class ToyConfig(StrategyConfig):
    name: str = "toy"


@pytest.fixture
def strategies(monkeypatch):
    """Lets a phase hold strategies made by a test: ``strategies(A, B)`` gives their configs, in order."""
    made = {}
    build = phases_module.build_strategy
    monkeypatch.setattr(phases_module, "build_strategy", lambda c: made[c.name](c) if c.name in made else build(c))

    def configs(*types):
        named = [ToyConfig(name=f"toy{number}") for number, _ in enumerate(types)]
        made.update({config.name: cls for config, cls in zip(named, types, strict=True)})
        return named

    return configs


class Quiet(Strategy):
    """No noise, but the KL keeps its weight: an objective that is a sum over sentences."""

    def noise_scale(self, step):
        return 0.0


class Recorder(Strategy):
    """Keeps the weights after each update, and the rows that it was made from."""

    def __init__(self, config):
        super().__init__(config)
        self.weights, self.rows = [], []

    def before_update(self, loop):
        self.rows.append(loop.batch.rows.tolist())

    def after_update(self, loop, terms):
        self.weights.append(bytes_of(loop.model))


def started(tmp_path, *configs, **changes):
    """A trainer at the start of its only phase, for a test that makes single updates."""
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *configs, **changes)], **changes)
    trainer._start_phase(0)
    trainer.model.train()
    return trainer


def batch_of(rows):
    return collate(store_of(37), torch.tensor(rows).numpy())


class TestUpdate:
    micro = ([0, 1, 2, 3, 4], [5, 6], [7])

    def updated(self, tmp_path, strategies, groups, **changes):
        trainer = started(tmp_path, *strategies(Quiet), model=NO_DROPOUT, train=SGD, **changes)
        trainer._update([batch_of(rows) for rows in groups], PARTS)
        return trainer.model.state_dict()

    def test_unequal_micro_batches_make_the_update_of_one_large_batch(self, tmp_path, strategies):
        together = self.updated(tmp_path, strategies, [list(range(8))])
        apart = self.updated(tmp_path, strategies, self.micro)
        for name, tensor in together.items():
            torch.testing.assert_close(apart[name], tensor, rtol=1e-5, atol=1e-7)

    def test_a_mean_of_means_would_be_another_update(self, tmp_path, strategies):
        together = self.updated(tmp_path, strategies, [list(range(8))])
        parts = [self.updated(tmp_path, strategies, [rows]) for rows in self.micro]
        wrong = {name: sum(part[name] for part in parts) / 3 for name in together}
        assert max(float((wrong[name] - together[name]).abs().max()) for name in together) > 1e-4

    def test_a_batch_given_twice_makes_the_same_update_as_once(self, tmp_path, strategies):
        once = self.updated(tmp_path, strategies, [[0, 1, 2]])
        twice = self.updated(tmp_path, strategies, [[0, 1, 2], [0, 1, 2]])
        for name, tensor in once.items():
            torch.testing.assert_close(twice[name], tensor, rtol=1e-5, atol=1e-7)

    def test_a_step_is_made_of_as_many_batches_as_accumulate_says(self, tmp_path, strategies):
        changes = {"train": {"accumulate": 3, "epochs": 2}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, **changes)], **changes)
        assert trainer.fit()
        assert len(trainer.task.plan(0)) == 8
        assert trainer.progress.step == 2 * 3

    def test_gradients_are_clipped_to_their_joint_norm(self, tmp_path):
        changes = {"train": {"optimizer": {"name": "sgd", "lr": 1.0}, "clip_norm": 0.01}}
        trainer = started(tmp_path, **changes)
        before = copy.deepcopy(trainer.model.state_dict())
        trainer._update([batch_of([0, 1, 2])], PARTS)
        moved = [trainer.model.state_dict()[name] - tensor for name, tensor in before.items()]
        assert torch.nn.utils.get_total_norm(moved) == pytest.approx(0.01, rel=1e-3)

    @pytest.mark.parametrize("parts", [{"encoder"}, {"decoder"}, set()])
    def test_parts_that_are_not_trained_stay_bit_by_bit(self, tmp_path, strategies, parts):
        class Only(Strategy):
            def trains(self, step):
                return frozenset(parts)

        decay = {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Only), train={"steps": 3, **decay})])
        before = {name: [bytes_of(module) for module in modules] for name, modules in trainer.model.parts().items()}
        assert trainer.fit()
        for name, modules in trainer.model.parts().items():
            assert ([bytes_of(module) for module in modules] != before[name]) == (name in parts)

    def test_bf16_training_is_finite_and_close_to_fp32(self, tmp_path):
        ends = []
        for precision in ("fp32", "bf16"):
            trainer = toy_trainer(tmp_path / precision, train={"precision": precision, "steps": 20})
            assert trainer.task.runtime.precision == precision
            assert trainer.fit()
            ends.append(trainer.task.observe.of("valid")[-1]["elbo_nats"])
        assert ends[1] == pytest.approx(ends[0], rel=0.05)
        assert ends[0] != ends[1]


class TestTrajectory:
    """Equal seeds give equal weights after every update, whatever is measured, reported or saved in between."""

    def weights(self, tmp_path, strategies, observe=None, **train):
        changes = {"train": {"epochs": 2, **train}}
        (recorder,) = strategies(Recorder)
        phases = [phase_of(tmp_path, WordDropoutConfig(rate=0.3), recorder, **changes)]
        trainer = toy_trainer(tmp_path, phases=phases, observe=observe, **changes)
        trainer.task.observe.trainer = trainer
        assert trainer.fit()
        kept = trainer.objective.strategies[1].weights
        assert len(kept) == 16
        return kept

    @pytest.mark.parametrize(
        "cadence",
        [
            {"validate_every": 1},
            {"validate_every": 5, "save_every": 2, "keep_checkpoints": 5},
            {"log_every": 7, "save_every": 1},
        ],
    )
    def test_it_does_not_depend_on_how_often_is_validated_logged_or_saved(self, tmp_path, strategies, cadence):
        usual = self.weights(tmp_path / "usual", strategies)
        assert self.weights(tmp_path / "other", strategies, **cadence) == usual

    def test_it_does_not_depend_on_an_evaluation_in_between(self, tmp_path, strategies):
        class Evaluates(Events):
            def __call__(self, event):
                super().__call__(event)
                if event["event"] == "train":
                    elbo_and_iw(self.trainer.model, store_of(9, 5), samples=3, seed=event["step"])

        usual = self.weights(tmp_path / "usual", strategies)
        assert self.weights(tmp_path / "other", strategies, Evaluates()) == usual

    def test_it_follows_the_seed(self, tmp_path, strategies):
        first, again, other = (
            self.weights(tmp_path / str(number), strategies, seed=seed) for number, seed in enumerate((3, 3, 4))
        )
        assert first == again
        assert first[0] != other[0]

    def test_every_sentence_is_seen_once_an_epoch_in_an_order_of_its_own(self, tmp_path, strategies):
        changes = {"train": {"epochs": 3}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Recorder), **changes)], **changes)
        assert trainer.fit()
        rows = trainer.objective.strategies[0].rows
        epochs = [list(itertools.chain(*rows[start : start + 8])) for start in (0, 8, 16)]
        assert all(sorted(epoch) == list(range(37)) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2]

    @pytest.mark.parametrize("method", [WordDropoutConfig(rate=1.0), InputNoiseConfig(drop=0.9)])
    def test_validation_never_sees_what_training_spoils(self, tmp_path, method):
        changes = {"train": {"steps": 1, "optimizer": {"name": "sgd", "lr": 1e-30}}}
        phases = [phase_of(tmp_path, method, **changes)]
        trainer = toy_trainer(tmp_path, phases=phases, **changes)
        assert trainer.fit()
        expected = quick_metrics(trainer.model, trainer.task.stores["valid"], seed=0)
        (event,) = trainer.task.observe.of("valid")
        assert {key: event[key] for key in expected} == expected

    def test_modules_held_in_evaluation_mode_stay_in_it(self, tmp_path, strategies):
        class Holds(Strategy):
            def before_update(self, loop):
                loop.model.encoder.eval()
                modes.append((loop.model.encoder.training, loop.model.decoder.training))

            def after_validation(self, loop, metrics):
                modes.append((loop.model.encoder.training, loop.model.decoder.training))

        modes = []
        changes = {"train": {"steps": 2, "validate_every": 1}}
        assert toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Holds), **changes)], **changes).fit()
        assert modes == [(False, True)] * 4


class TestHooks:
    def test_they_are_called_in_order_with_the_loop(self, tmp_path, strategies):
        calls = []

        class Tells(Strategy):
            def before_update(self, loop):
                assert isinstance(loop, Loop)
                assert isinstance(loop.model, Model)
                calls.append(("before", self.name, loop.step, len(loop.batch)))

            def after_update(self, loop, terms):
                calls.append(("after", self.name, loop.step, terms.rec.shape[1]))

            def after_validation(self, loop, metrics):
                calls.append(("valid", self.name, loop.step, metrics["sentences"]))

        changes = {"train": {"steps": 2, "validate_every": 2}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Tells, Tells), **changes)], **changes)
        sizes = [len(rows) for rows in trainer.task.plan(0)]
        assert trainer.fit()
        expected = []
        for step in (0, 1):
            expected += [(kind, name, step, sizes[step]) for kind in ("before", "after") for name in ("toy0", "toy1")]
        assert calls == [*expected, ("valid", "toy0", 2, 13), ("valid", "toy1", 2, 13)]

    def test_drawing_a_batch_leaves_the_order_of_the_data_and_the_noise_alone(self, tmp_path, strategies):
        drawn = []

        class Draws(Recorder):
            def before_update(self, loop):
                super().before_update(loop)
                generator = torch.Generator().manual_seed(loop.step)
                drawn.append(loop.draw_batch(generator).rows.tolist())

        runs = []
        for cls in (Recorder, Draws):
            folder = tmp_path / cls.__name__
            trainer = toy_trainer(folder, phases=[phase_of(folder, *strategies(cls), train={"epochs": 1})])
            assert trainer.fit()
            runs.append(trainer.objective.strategies[0])
        assert runs[0].rows == runs[1].rows
        assert runs[0].weights == runs[1].weights
        assert all(rows in runs[0].rows for rows in drawn)
        assert len({tuple(rows) for rows in drawn}) > 2

    def test_an_inner_update_changes_the_parts_that_it_names(self, tmp_path, strategies):
        class Inner(Strategy):
            def before_update(self, loop):
                before = {name: [bytes_of(m) for m in modules] for name, modules in loop.model.parts().items()}
                terms = loop.update(loop.batch, frozenset({"encoder"}))
                assert terms.rec.shape[1] == len(loop.batch)
                for name, modules in loop.model.parts().items():
                    assert ([bytes_of(m) for m in modules] != before[name]) == (name == "encoder")
                steps.append(loop.step)

        steps = []
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Inner), train={"steps": 3})])
        assert trainer.fit()
        assert steps == [0, 1, 2]
        assert trainer.progress.step == 3

    def test_a_part_can_be_reset_from_a_hook(self, tmp_path, strategies):
        class Resets(Strategy):
            def after_update(self, loop, terms):
                before = bytes_of(loop.model.decoder), bytes_of(loop.model.encoder)
                loop.reset("decoder")
                assert bytes_of(loop.model.decoder) != before[0]
                assert bytes_of(loop.model.encoder) == before[1]

        assert toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies(Resets), train={"steps": 2})]).fit()


class Discriminator(Strategy):
    """With a network and an optimizer of its own, a parameter that joins the main one, and a buffer."""

    def build(self, dims):
        self.head = torch.nn.Linear(dims.latent, 2)
        self.scale = torch.nn.Parameter(torch.ones(dims.latent))
        self.register_buffer("updates", torch.zeros(3, dtype=torch.long))

    def optimizers(self):
        return {"head": torch.optim.SGD(self.head.parameters(), lr=0.05, momentum=0.9)}

    def penalty(self, terms, batch, step, generator):
        return (self.head(terms.z * self.scale) - 1).square().mean()

    def after_update(self, loop, terms):
        self.updates[1] += 1


class TestOwnParameters:
    def trainer(self, folder, strategies, observe=None, steps=7):
        changes = {"train": {"steps": steps, "validate_every": 4}}
        return toy_trainer(
            folder, phases=[phase_of(folder, *strategies(Discriminator), **changes)], observe=observe, **changes
        )

    def test_they_are_trained_each_by_its_optimizer(self, tmp_path, strategies):
        trainer = self.trainer(tmp_path, strategies)
        trainer._start_phase(0)
        (strategy,) = trainer.objective.strategies
        before = bytes_of(strategy)
        main = {id(p) for group in trainer.optimizers["main"].param_groups for p in group["params"]}
        assert trainer.optimizers.keys() == {"main", "toy0.head"}
        assert main == {id(p) for p in (*trainer.model.parameters(), strategy.scale)}
        trainer._train_on([batch_of([0, 1, 2])])
        after = bytes_of(strategy)
        assert all(after[name] != before[name] for name in before)
        assert strategy.updates.tolist() == [0, 1, 0]

    def test_they_are_part_of_a_checkpoint(self, tmp_path, strategies):
        whole = self.trainer(tmp_path / "whole", strategies)
        assert whole.fit()
        first = stopped_at(5, partial(self.trainer, tmp_path / "cut", strategies))
        names = last_checkpoint(first).training
        assert {"strategy.0.head.weight", "strategy.0.updates", "strategy.0.scale"} <= names.keys()
        assert any("momentum" in name and name.startswith("optimizer.toy") for name in names)
        second = self.trainer(tmp_path / "cut", strategies)
        torch.manual_seed(77)
        assert second.fit(last_checkpoint(first))
        assert bytes_of(last_checkpoint(second).training) == bytes_of(last_checkpoint(whole).training)
        assert bytes_of(second.model) == bytes_of(whole.model)
        assert second.objective.strategies[0].updates.tolist() == [0, 7, 0]


class NaNLoss(Strategy):
    def penalty(self, terms, batch, step, generator):
        return terms.z.mean() * (float("nan") if step == 2 else 1.0)


class NaNInTheFirstMicroBatch(Strategy):
    def penalty(self, terms, batch, step, generator):
        return float("inf") if step == 2 and len(batch) > 4 else 0.0


class NaNGradient(Strategy):
    """sqrt(0) is a finite loss with an infinite slope."""

    def penalty(self, terms, batch, step, generator):
        return (terms.z.sum() * 0).sqrt() if step == 2 else 0.0


class NaNGradientOfItsOwn(Strategy):
    def build(self, dims):
        self.own = torch.nn.Parameter(torch.zeros(1))

    def penalty(self, terms, batch, step, generator):
        return self.own.square().sqrt().sum() if step == 2 else self.own.square().sum()


class TestDivergence:
    @pytest.mark.parametrize("cls", [NaNLoss, NaNInTheFirstMicroBatch, NaNGradient, NaNGradientOfItsOwn])
    def test_an_update_that_is_not_finite_is_not_applied(self, cls, tmp_path, strategies):
        changes = {"train": {"steps": 9, "accumulate": 2, "save_every": 1}}
        recorder, bad = strategies(Recorder, cls)
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, recorder, bad, **changes)], **changes)
        # Batches of more than four sentences come first in each update.
        plan = sorted(trainer.task.plan(0), key=len, reverse=True)
        plan = [*plan[:4], plan[4], plan[-1], *plan[5:-1]]
        assert len(plan[4]) > 4 >= len(plan[5])
        object.__setattr__(trainer.task, "plan", lambda epoch: plan)
        with pytest.raises(SeqVAEError, match="not finite at step 3; the update was not applied") as caught:
            trainer.fit()
        assert caught.value.code == "E501"
        assert caught.value.exit_code == 5
        assert "rows [" in caught.value.where
        assert bytes_of(trainer.model) == trainer.objective.strategies[0].weights[-1]
        checkpoint = last_checkpoint(trainer)
        assert checkpoint.progress.step == 2
        assert bytes_of(checkpoint.model) == bytes_of(trainer.model)


def test_a_language_model_is_trained_by_the_same_loop(tmp_path):
    trainer = toy_trainer(tmp_path, model={"latent_dim": 0}, train={"epochs": 3})
    assert trainer.fit()
    first, *_, last = trainer.task.observe.of("valid")
    assert last["rec_nats"] == last["elbo_nats"] < first["rec_nats"]
    assert last["kl_nats"] is last["active_units"] is None


class Clock:
    """Updates last a second; ten for a validation and a hundred for a checkpoint."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        for name, seconds in {"_train_on": 1, "_validate": 10, "_save": 100}.items():
            monkeypatch.setattr(Trainer, name, self.slow(getattr(Trainer, name), seconds))

    def slow(self, method, seconds):
        def call(trainer, *arguments):
            self.now += seconds
            return method(trainer, *arguments)

        return call


class TestLog:
    @pytest.fixture
    def train(self):
        return {"epochs": 2, "validate_every": 2, "save_every": 3, "log_every": 5}

    def tokens(self, trainer, first, last):
        """Predicted tokens of the updates from ``first`` to ``last``, counted from 1 through epochs of eight."""
        lengths = trainer.task.stores["train"].lengths - 1
        plans = [*trainer.task.plan(0), *trainer.task.plan(1)]
        return sum(int(lengths[rows].sum()) for rows in plans[first - 1 : last])

    @pytest.mark.parametrize("phases", [1, 2])
    def test_the_pace_is_that_of_the_updates(self, tmp_path, monkeypatch, train, phases):
        Clock(monkeypatch)
        train |= {"phases": [{"name": "one", "epochs": 2 // phases}] * phases}
        trainer = toy_trainer(tmp_path, train=train)
        assert trainer.fit()
        paces = [event["tokens_per_s"] for event in trainer.task.observe.of("train")]
        rows = [(1, 5), (6, 10) if phases == 1 else (9, 10), (11, 15)]
        expected = [self.tokens(trainer, first, last) / (last - first + 1) for first, last in rows]
        assert paces == pytest.approx(expected)

    def test_after_a_resume_the_pace_is_that_of_this_process(self, tmp_path, monkeypatch, train):
        Clock(monkeypatch)
        whole = toy_trainer(tmp_path / "whole", train=train)
        assert whole.fit()
        trainer = toy_trainer(tmp_path / "cut", train=train)
        observe = trainer.task.observe

        def stops(event):
            observe(event)
            if event["event"] == "valid" and event["step"] == 8:
                trainer.stop.received = SIGTERM

        object.__setattr__(trainer.task, "observe", stops)
        assert not trainer.fit()
        resumed = toy_trainer(tmp_path / "cut", train=train)
        assert resumed.fit(last_checkpoint(trainer))
        row = resumed.task.observe.of("train")[0]
        assert row["step"] == 10
        assert row["tokens_per_s"] == pytest.approx(self.tokens(trainer, 9, 10) / 2)
        assert observe.timeless() + resumed.task.observe.timeless() == whole.task.observe.timeless()

    def test_a_row_holds_the_updates_of_one_phase(self, tmp_path, strategies):
        seen = []

        class Watch(Strategy):
            def after_update(self, loop, terms):
                seen.append((terms.rec.mean(0).sum().item(), len(loop.batch)))

        configs = strategies(Watch, Watch)
        phases = [phase_of(tmp_path, config, train={"steps": 6}) for config in configs]
        trainer = toy_trainer(tmp_path, phases=phases, train={"log_every": 4})
        assert trainer.fit()
        rows = trainer.task.observe.of("train")
        assert [(row["step"], row["phase"]) for row in rows] == [(4, 0), (8, 1), (12, 1)]
        for row, updates in zip(rows, (seen[:4], seen[6:8], seen[8:]), strict=True):
            rec, sentences = (sum(column) for column in zip(*updates, strict=True))
            assert row["rec_nats"] == pytest.approx(rec / sentences, rel=1e-6)


def test_a_language_model_is_no_autoencoder(tmp_path):
    """The method has no z to act on; what is trained and saved is a language model."""
    config = settings(
        data=write_corpus(tmp_path),
        model={"latent_dim": 0},
        objective={"strategies": [{"name": "autoencoder"}]},
        train={"epochs": 1},
    )
    run = seqvae.train(config, out=tmp_path / "run")
    vae = run.load()
    assert not vae.noiseless
    report = seqvae.evaluate(vae, sentences(13, 1))
    assert math.isfinite(report.rec_nats)
    assert report.kl_nats is None


def test_a_part_that_the_model_lacks_cannot_be_reset(tmp_path):
    phases = [{"name": "first"}, {"name": "second", "reset": ["encoder"]}]
    config = settings(data=write_corpus(tmp_path), model={"latent_dim": 0}, train={"phases": phases})
    with pytest.raises(SeqVAEError, match="there is no encoder to reset") as caught:
        seqvae.train(config, out=tmp_path / "run")
    assert (caught.value.code, caught.value.exit_code) == ("E218", 2)
    assert "second" in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "code", "family"),
    [("free_bits", "E270", "vmf"), ("semi_amortised", "E272", "vmf"), ("semi_amortised", "E272", "iaf")],
)
def test_a_method_that_the_model_does_not_suit_is_refused_before_the_run_begins(tmp_path, method, code, family):
    phases = [{"name": "first"}, {"name": "second", "strategies": [{"name": method}]}]
    model = {"posterior": {"family": family}}
    config = settings(data=write_corpus(tmp_path), model=model, train={"phases": phases})
    with pytest.raises(SeqVAEError) as caught:
        seqvae.train(config, out=tmp_path / "run")
    assert caught.value.code == code
    assert all(part in str(caught.value) for part in (f"`{method}`", "`second`", f"`model.posterior.family: {family}`"))
    assert not (tmp_path / "run").exists()


def test_training_lowers_the_bound(tmp_path):
    """On text where the first word decides most of the others."""
    trainer = toy_trainer(tmp_path, model=NO_DROPOUT, train={"epochs": 12, "optimizer.lr": 0.03})
    assert trainer.fit()
    values = [event["elbo_nats"] for event in trainer.task.observe.of("valid")]
    assert min(values) < 0.9 * values[0]
    assert trainer.progress.best == min(values)

"""Phases, the learning rate, and what validation decides: the best weights, decays and the end."""

import math

import pytest
import torch
from training_toys import NO_DROPOUT, bytes_of, last_checkpoint, phase_of, settings, stopped_at, toy_trainer

from seqvae.config import Config
from seqvae.data.batching import Plan
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import quick_metrics
from seqvae.objectives.autoencoder import AutoencoderConfig
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.objectives.beta import BetaConfig
from seqvae.objectives.cyclical_annealing import CyclicalAnnealingConfig
from seqvae.objectives.kl_annealing import KLAnnealingConfig
from seqvae.training import phases as phases_module
from seqvae.training import stage as stage_module
from seqvae.training import task as task_module
from seqvae.training.optim import build_optimizer, learning_rate
from seqvae.training.phases import resolve_phases
from seqvae.training.settings import AdamWConfig, ConstantConfig, CosineConfig, PlateauConfig, SGDConfig
from seqvae.training.state import Progress

NAN, INF = math.nan, math.inf


def script(monkeypatch, values):
    """Validation gives these values in order (as -ELBO and as rec), then goes on with the last one."""
    left = list(values)

    def metrics(model, store, *, seed, noiseless, **share):
        value = left.pop(0) if len(left) > 1 else left[0]
        facts = {"elbo_nats": value, "rec_nats": value, "kl_nats": 0.0, "active_units": 0, "ppl_elbo": None}
        return {**facts, "tokens": 5, "sentences": 13}

    monkeypatch.setattr(stage_module, "quick_metrics", metrics)


def run(tmp_path, **train):
    """A trainer that has run to its end, and the weights at each of its validations."""
    weights = []
    trainer = toy_trainer(tmp_path, train={"validate_every": 1, **train})
    events = trainer.task.observe

    def observe(event):
        events(event)
        if event["event"] == "valid":
            weights.append(bytes_of(trainer.model))

    object.__setattr__(trainer.task, "observe", observe)
    assert trainer.fit()
    return trainer, events, weights


class TestLearningRate:
    def test_warm_up_is_linear_and_never_zero(self):
        rates = [learning_rate(2.0, ConstantConfig(warmup_steps=4), step, 100) for step in range(7)]
        assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 2.0])

    def test_without_warm_up_a_constant_rate_is_constant(self):
        assert {learning_rate(2.0, ConstantConfig(), step, 100) for step in (0, 50, 99)} == {2.0}

    def test_cosine_falls_from_the_rate_to_its_floor(self):
        schedule = CosineConfig(warmup_steps=10, floor=0.1)
        rates = {step: learning_rate(2.0, schedule, step, 110) for step in (9, 10, 35, 60, 85, 110, 500)}
        expected = {9: 2.0 * 10 / 11, 10: 2.0, 60: 2.0 * 0.55, 110: 0.2, 500: 0.2}
        expected |= {35: 2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)}
        expected |= {85: 2.0 * (0.1 + 0.9 * (1 + math.cos(3 * math.pi / 4)) / 2)}
        assert rates == pytest.approx(expected)

    def test_a_warm_up_longer_than_the_phase_is_no_division_by_zero(self):
        schedule = CosineConfig(warmup_steps=10)
        assert all(math.isfinite(learning_rate(1.0, schedule, step, 10)) for step in range(12))

    def test_updates_are_made_with_it(self, tmp_path):
        schedule = {"name": "cosine", "warmup_steps": 2, "floor": 0.5}
        _, events, _ = run(tmp_path, steps=6, schedule=schedule, optimizer={"name": "sgd", "lr": 0.3})
        expected = [learning_rate(0.3, CosineConfig(warmup_steps=2, floor=0.5), step, 6) for step in range(6)]
        assert [event["lr"] for event in events.of("train")] == pytest.approx(expected)


class TestOptimizers:
    def test_settings_reach_the_optimizer(self):
        parameter = torch.nn.Parameter(torch.zeros(3))
        adamw = build_optimizer(AdamWConfig(lr=0.2, betas=(0.8, 0.95), weight_decay=0.3), [parameter])
        group = adamw.param_groups[0]
        assert type(adamw) is torch.optim.AdamW
        assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (0.2, (0.8, 0.95), 0.3)
        group = build_optimizer(SGDConfig(lr=0.2, momentum=0.7, weight_decay=0.3), [parameter]).param_groups[0]
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.7, 0.3)


class TestBest:
    def test_nan_and_infinity_are_never_the_best(self, tmp_path, monkeypatch):
        script(monkeypatch, [NAN, INF, 5.0, NAN, 4.0, -INF, 6.0])
        saved = []
        trainer = toy_trainer(tmp_path, train={"validate_every": 1, "steps": 7})
        object.__setattr__(trainer.task, "save_model", lambda t: saved.append(t.progress.step))
        assert trainer.fit()
        assert [event["best"] for event in trainer.task.observe.of("valid")] == [
            False, False, True, False, True, False, False,
        ]  # fmt: skip
        assert saved == [3, 5]
        assert (trainer.progress.best, trainer.progress.best_step) == (4.0, 5)

    def test_a_run_ends_with_its_best_weights(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0, 3.5])
        trainer, events, weights = run(tmp_path, steps=4)
        assert bytes_of(trainer.model) == bytes_of(trainer.best) == weights[1]
        assert weights[1] != weights[3]
        assert events.of("end")[0]["best"] == 3.0
        assert events.of("end")[0]["best_step"] == 2

    @pytest.mark.parametrize(("values", "phase"), [([NAN, INF], "first"), ([NAN, 3.0, INF, NAN], "second")])
    def test_a_phase_without_a_finite_validation_ends_the_run_with_an_error(self, tmp_path, monkeypatch, values, phase):
        script(monkeypatch, values)
        phases = [{"name": name, "steps": 2} for name in ("first", "second")]
        trainer = toy_trainer(tmp_path, train={"validate_every": 1, "phases": phases})
        with pytest.raises(SeqVAEError, match="no validation gave a finite elbo") as caught:
            trainer.fit()
        assert (caught.value.code, caught.value.exit_code) == ("E502", 5)
        assert f"phase `{phase}`" in str(caught.value)
        assert trainer.task.observe.of("end") == []
        assert not last_checkpoint(trainer).progress.finished

    def test_an_equal_value_is_no_improvement(self):
        progress = Progress()
        assert [progress.record_validation(value) for value in (2.0, 2.0, 1.0)] == [True, False, True]


class TestPatience:
    def test_training_ends_after_as_many_validations_without_improvement(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 4.0, 4.5, 3.0, 3.0, 3.1, NAN])
        trainer, _, weights = run(tmp_path, patience=3, steps=20)
        assert trainer.progress.step == 7
        assert bytes_of(trainer.model) == weights[3]

    def test_without_it_the_budget_is_used(self, tmp_path, monkeypatch):
        script(monkeypatch, [1.0, 2.0])
        assert run(tmp_path, steps=9)[0].progress.step == 9

    def test_epochs_and_updates_both_bound_a_run(self, tmp_path):
        assert run(tmp_path / "a", epochs=2)[0].progress.step == 16
        assert run(tmp_path / "b", epochs=1, steps=50)[0].progress.step == 8
        assert run(tmp_path / "c", epochs=9, steps=11)[0].progress.step == 11


class TestPlateau:
    def settings(self, **schedule):
        plateau = {"name": "plateau", "factor": 0.5, "patience": 2, "start_epoch": 0, "max_decays": 3, **schedule}
        return {"optimizer": {"name": "sgd", "lr": 0.8}, "schedule": plateau}

    def test_the_rate_falls_when_validation_stops_improving(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 6.0, 6.0, 4.0, 6.0, 6.0, 6.0, 6.0, 6.0])
        trainer, events, _ = run(tmp_path, steps=20, **self.settings())
        rates = [event["lr"] for event in events.of("train")]
        assert rates == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2])
        assert [event["step"] for event in events.of("note")] == [3, 6, 8]
        assert "0.4" in events.of("note")[0]["text"]
        assert trainer.progress.decays == 3

    def test_each_decay_goes_back_to_the_best_weights(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 6.0, 6.0, 7.0])
        _, _, weights = run(tmp_path / "reload", steps=4, **self.settings())
        _, _, kept = run(tmp_path / "keep", steps=4, **self.settings(reload_best=False))
        # After the third update of both, the fourth starts from the first or from the third.
        assert weights[:3] == kept[:3]
        assert weights[3] != kept[3]

    def test_going_back_is_what_the_next_update_starts_from(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 6.0, 6.0, 7.0])
        changes = {"train": {"validate_every": 1, "steps": 3, **self.settings(max_decays=9)}}
        trainer = toy_trainer(tmp_path, **changes)
        best = []
        object.__setattr__(trainer.task, "save_model", lambda t: best.append(bytes_of(t.model)))
        trainer._start_phase(0)
        for rows in trainer.task.plan(0)[:3]:
            trainer._train_on([trainer.task.batch(rows)])
            trainer._validate()
        assert bytes_of(trainer.model) == best[0]

    def test_there_is_no_decay_before_its_first_epoch(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 6.0])
        train = {"epochs": 6, "validate_every": None, **self.settings(start_epoch=4)}
        trainer, events, _ = run(tmp_path, **train)
        assert [event["step"] for event in events.of("note")] == [32, 48]
        assert trainer.progress.decays == 2

    def test_the_phase_ends_at_the_last_decay(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 6.0])
        assert run(tmp_path / "two", steps=50, **self.settings(max_decays=2))[0].progress.step == 5
        assert run(tmp_path / "never", steps=50, **self.settings(max_decays=None))[0].progress.step == 50

    def test_a_decay_starts_the_patience_anew_but_not_that_of_early_stopping(self):
        progress, schedule = Progress(), PlateauConfig(patience=2, start_epoch=0)
        progress.record_validation(5.0)
        decays = []
        for _ in range(5):
            progress.record_validation(6.0)
            decays.append(progress.decay_is_due(schedule))
        assert decays == [False, True, False, True, False]
        assert progress.stale_validations == 5


class TestMonitor:
    def monitored(self, tmp_path, *configs, **train):
        changes = {"train": {"steps": 2, "validate_every": 1, **train}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *configs, **changes)], **changes)
        assert trainer.fit()
        return trainer, trainer.task.observe.of("valid")

    def test_under_annealing_the_best_is_picked_at_full_weight_on_the_kl(self, tmp_path):
        """With the weight of the moment, the first epochs would look best."""
        trainer, events = self.monitored(tmp_path, KLAnnealingConfig(steps=10_000))
        assert trainer.objective.kl_weight(2) < 0.001
        for event in events:
            assert event["monitor"] == "elbo"
            assert event["elbo_nats"] == pytest.approx(event["rec_nats"] + event["kl_nats"])
        assert trainer.progress.best == min(event["elbo_nats"] for event in events)

    def test_the_value_is_that_of_an_evaluation_of_the_same_weights(self, tmp_path):
        trainer, _ = self.monitored(tmp_path, KLAnnealingConfig(steps=10_000))
        trainer.model.load_state_dict(trainer.best)
        measured = quick_metrics(trainer.model, trainer.task.stores["valid"], seed=0)
        assert measured["elbo_nats"] == trainer.progress.best

    @pytest.mark.parametrize("config", [AutoencoderConfig(), BetaConfig(beta=0.0)])
    def test_without_a_weight_on_the_kl_it_is_rec(self, tmp_path, config):
        trainer, events = self.monitored(tmp_path, config)
        assert {event["monitor"] for event in events} == {"rec"}
        assert trainer.progress.best == min(event["rec_nats"] for event in events)

    def test_a_phase_that_ends_with_a_cycle_is_still_judged_at_full_weight(self, tmp_path):
        """The update after the last one, which is never made, would begin the next cycle at weight 0."""
        config = CyclicalAnnealingConfig(cycles=2, steps=4, ramp=0.5)
        trainer, events = self.monitored(tmp_path, config)
        assert (trainer.objective.kl_weight(1), trainer.objective.kl_weight(2)) == (1.0, 0.0)
        assert {event["monitor"] for event in events} == {"elbo"}

    @pytest.mark.parametrize(
        ("family", "beta", "told"), [("mixture", 0.0, 1), ("mixture", 0.5, 0), ("standard", 0.0, 0)]
    )
    def test_a_learned_prior_that_nothing_trains_is_told(self, tmp_path, family, beta, told):
        sections = {"model": {"prior": {"family": family}}, "train": {"steps": 2}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, BetaConfig(beta=beta), **sections)], **sections)
        before = bytes_of(trainer.model.prior)
        assert trainer.fit()
        notes = [event["text"] for event in trainer.task.observe.of("note")]
        assert sum("leaves the learned prior as it is" in text for text in notes) == told
        assert (bytes_of(trainer.model.prior) == before) == (beta == 0.0)

    def test_what_is_told_of_a_phase_is_not_told_again_when_the_run_goes_on(self, tmp_path):
        sections = {"model": {"prior": {"family": "mixture"}}, "train": {"steps": 5}}
        phases = [phase_of(tmp_path, BetaConfig(beta=0.0), **sections)]
        stopped = stopped_at(3, lambda seen: toy_trainer(tmp_path, phases=phases, observe=seen, **sections))
        assert "leaves the learned prior as it is" in stopped.task.observe.of("note")[0]["text"]
        again = toy_trainer(tmp_path, phases=phases, **sections)
        assert again.fit(last_checkpoint(stopped))
        assert again.task.observe.of("note") == []

    @pytest.mark.parametrize(("family", "told"), [("vmf", 1), ("gaussian", 0)])
    def test_methods_that_cannot_move_a_constant_kl_are_told(self, tmp_path, family, told):
        sections = {"model": {"posterior": {"family": family}}, "train": {"steps": 2}}
        strategies = BetaConfig(beta=0.5), KLAnnealingConfig(steps=2)
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, *strategies, **sections)], **sections)
        assert trainer.fit()
        notes = [event["text"] for event in trainer.task.observe.of("note")]
        assert sum("`beta` and `kl_annealing` cannot move the KL of `vmf`" in text for text in notes) == told

    def test_an_autoencoder_is_validated_at_the_mean_and_has_no_kl(self, tmp_path):
        trainer, events = self.monitored(tmp_path, AutoencoderConfig())
        assert all(event["kl_nats"] is event["elbo_nats"] is event["ppl_elbo"] is None for event in events)
        assert trainer.stage.noiseless
        measured = quick_metrics(trainer.model, trainer.task.stores["valid"], seed=1, noiseless=True)
        assert measured["rec_nats"] == min(event["rec_nats"] for event in events)

    def test_it_can_be_chosen(self, tmp_path):
        assert {event["monitor"] for event in self.monitored(tmp_path, monitor="rec")[1]} == {"rec"}
        config = BetaConfig(beta=0.0)
        assert {event["monitor"] for event in self.monitored(tmp_path, config, monitor="elbo")[1]} == {"elbo"}

    def test_the_elbo_of_a_plain_autoencoder_is_refused_before_training(self, tmp_path):
        changes = {"train": {"monitor": "elbo"}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, AutoencoderConfig(), **changes)], **changes)
        with pytest.raises(SeqVAEError, match="has no KL") as caught:
            trainer.fit()
        assert caught.value.code == "E217"
        assert trainer.progress.step == 0


def test_epochs_of_fewer_batches_than_the_first_are_no_longer_a_phase(tmp_path, monkeypatch):
    """Batches by tokens: their number changes from epoch to epoch."""
    plan = task_module.epoch_plan

    def shorter_by_and_by(*args, epoch, **settings):
        batches = plan(*args, epoch=epoch, **settings)[min(epoch, 1) :]
        return Plan(lambda part: batches, [len(batches)])

    monkeypatch.setattr(task_module, "epoch_plan", shorter_by_and_by)
    trainer = toy_trainer(tmp_path, train={"epochs": 3})
    assert trainer.fit()
    assert trainer.progress.total_epochs == 3
    assert [event["epoch"] for event in trainer.task.observe.of("valid")] == [1.0, 2.0, 3.0]


class FirstWeights(Strategy):
    """Keeps the weights that its phase starts from, in STARTS."""

    def __init__(self, config):
        super().__init__(config)
        self.first = None

    def before_update(self, loop):
        if self.first is None:
            self.first = bytes_of(loop.model)
            STARTS.append(self.first)


STARTS: list[dict[str, bytes]] = []


class PlainConfig(StrategyConfig):
    name: str = "first_weights"


class TestPhases:
    @pytest.fixture(autouse=True)
    def _first_weights(self, monkeypatch):
        STARTS.clear()
        build = phases_module.build_strategy
        monkeypatch.setattr(
            phases_module, "build_strategy", lambda c: FirstWeights(c) if c.name == "first_weights" else build(c)
        )

    def two(self, tmp_path, reset=(), **second):
        train = {"validate_every": 1}
        first = phase_of(tmp_path, PlainConfig(), BetaConfig(beta=0.0), name="first", train={"steps": 4, **train})
        train |= {"steps": 3, **second}
        last = phase_of(tmp_path, PlainConfig(), name="second", train=train)
        object.__setattr__(last, "reset", reset)
        trainer = toy_trainer(tmp_path, phases=[first, last], train={"validate_every": 1}, model=NO_DROPOUT)
        best = []
        object.__setattr__(trainer.task, "save_model", lambda t: best.append((t.progress.phase, bytes_of(t.model))))
        return trainer, best

    def test_the_next_phase_starts_from_the_best_weights_of_the_one_before(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0, 4.0, 9.0, 8.0, 8.5])
        trainer, best = self.two(tmp_path)
        assert trainer.fit()
        assert STARTS[1] == best[1][1]
        assert [phase for phase, _ in best] == [0, 0, 1, 1]
        assert bytes_of(trainer.model) == best[3][1]

    def test_a_part_that_is_reset_is_drawn_anew_and_the_other_one_stays(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0])
        trainer, best = self.two(tmp_path, reset=("decoder",))
        assert trainer.fit()
        for name, content in STARTS[1].items():
            assert (content == best[1][1][name]) == name.startswith(("encoder.", "posterior.")), name

    def test_everything_is_counted_from_the_start_of_a_phase(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0, 4.0, 9.0, 8.0, 8.5])
        schedule = {"name": "cosine", "warmup_steps": 0, "floor": 0.0}
        trainer, _ = self.two(tmp_path, schedule=schedule, optimizer={"name": "sgd", "lr": 0.5})
        assert trainer.fit()
        events = trainer.task.observe
        places = [(event["step"], event["phase"], event["phase_step"]) for event in events.of("valid")]
        assert places == [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 0, 4), (5, 1, 1), (6, 1, 2), (7, 1, 3)]
        rates = [event["lr"] for event in events.of("train")][4:]
        assert rates == pytest.approx([learning_rate(0.5, CosineConfig(), step, 3) for step in range(3)])
        assert [event["kl_weight"] for event in events.of("train")] == [0.0] * 4 + [1.0] * 3
        assert {event["monitor"] for event in events.of("valid")[:4]} == {"rec"}
        assert [event["best"] for event in events.of("valid")[4:]] == [True, True, False]
        starts = [(event["name"], event["steps"], event["total_steps"]) for event in events.of("phase")]
        assert starts == [("first", 4, 4 + 3), ("second", 3, 4 + 3)]

    def test_a_phase_does_not_begin_with_the_batches_that_the_last_one_ended_in(self, tmp_path):
        """Whether the last one ended within an epoch, or at the end of one."""
        phases = [{"name": str(steps), "steps": steps} for steps in (3, 8, 2)]
        trainer = toy_trainer(tmp_path, train={"phases": phases})
        rows, update = [], trainer._train_on
        trainer._train_on = lambda batches: (rows.append(batches[0].rows.tolist()), update(batches))
        assert trainer.fit()
        plans = [[batch.tolist() for batch in trainer.task.plan(epoch)] for epoch in range(3)]
        assert rows == [*plans[0][:3], *plans[1], *plans[2][:2]]

    def test_a_phase_starts_with_a_fresh_optimizer(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0])
        trainer, _ = self.two(tmp_path)
        assert trainer.fit()
        steps = {float(state["step"]) for state in trainer.optimizers["main"].state.values()}
        assert steps == {3.0}

    def test_the_end_of_a_phase_is_saved_so_that_no_phase_is_made_twice(self, tmp_path, monkeypatch):
        script(monkeypatch, [5.0, 3.0, 4.0, 4.0, 9.0])
        trainer, _ = self.two(tmp_path)
        progress = []
        save = trainer._save
        monkeypatch.setattr(trainer, "_save", lambda: (save(), progress.append(last_checkpoint(trainer).progress)))
        assert trainer.fit()
        assert (progress[3].phase, progress[3].phase_step, progress[3].best) == (1, 0, None)
        assert progress[-1].finished


class TestResolve:
    def phases(self, **sections):
        config = Config.from_dict(settings(**sections))
        return resolve_phases(config.objective, config.train)

    def test_without_phases_there_is_one_of_the_general_settings(self):
        strategies = [{"name": "beta", "beta": 0.5}]
        (phase,) = self.phases(objective={"strategies": strategies, "samples": 3}, train={"epochs": 7, "patience": 2})
        assert (phase.strategies, phase.samples, phase.epochs, phase.patience) == ((BetaConfig(beta=0.5),), 3, 7, 2)
        assert phase.reset == ()

    def test_what_a_phase_leaves_open_comes_from_the_general_settings(self):
        own = {"name": "own", "strategies": [], "samples": 2, "epochs": 4, "monitor": "rec", "reset": ["decoder"]}
        own |= {"optimizer": {"name": "sgd"}, "schedule": {"name": "cosine"}, "steps": 9, "patience": 6}
        strategies = [{"name": "beta", "beta": 0.5}]
        general, special = self.phases(
            objective={"strategies": strategies, "samples": 3},
            train={"epochs": 7, "phases": [{"name": "general"}, own]},
        )
        assert (general.strategies, general.samples, general.epochs) == ((BetaConfig(beta=0.5),), 3, 7)
        assert general.optimizer.name == "adamw"
        assert (special.strategies, special.samples, special.epochs, special.steps) == ((), 2, 4, 9)
        assert (special.optimizer, special.schedule) == (SGDConfig(), CosineConfig())
        assert (special.monitor, special.patience, special.reset) == ("rec", 6, ("decoder",))

    def test_updates_are_bounded_by_epochs_and_steps(self):
        (phase,) = self.phases(train={"epochs": 7})
        assert phase.total_steps(epoch_steps=11) == 77
        (phase,) = self.phases(train={"epochs": 7, "steps": 20})
        assert (phase.total_steps(epoch_steps=11), phase.total_steps(epoch_steps=2)) == (20, 14)

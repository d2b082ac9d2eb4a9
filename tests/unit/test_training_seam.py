"""What the training loop gives to methods beside the hooks: noise, batches, validation metrics, clipping."""

import math

import pytest
import torch
from training_toys import NO_DROPOUT, bytes_of, phase_of, toy_trainer

from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import encode_split, mutual_information
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.objectives.autoencoder import AutoencoderConfig
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.objectives.beta import BetaConfig
from seqvae.training import phases as phases_module
from seqvae.training import task as task_module


class ProbeConfig(StrategyConfig):
    name: str = "probe"


@pytest.fixture
def trainer_with(monkeypatch, tmp_path):
    """``trainer_with(Probe, config, ..., train=...)``: a trainer of one phase with a strategy made by a test."""
    build = phases_module.build_strategy

    def make(cls, *configs, **changes):
        monkeypatch.setattr(phases_module, "build_strategy", lambda c: cls(c) if c.name == "probe" else build(c))
        phase = phase_of(tmp_path, ProbeConfig(), *configs, **changes)
        return toy_trainer(tmp_path, phases=[phase], **changes)

    return make


class Draws(Strategy):
    """Keeps what the loop's generator gives at each update."""

    def __init__(self, config):
        super().__init__(config)
        self.drawn = []

    def before_update(self, loop):
        names = ("a", "a", "b")
        self.drawn.append([int(torch.randint(1 << 30, (), generator=loop.generator(name))) for name in names])


def test_the_generator_of_an_update_depends_on_the_seed_the_update_and_its_name_alone(trainer_with):
    runs = []
    for seed in (3, 3, 4):
        trainer = trainer_with(Draws, train={"steps": 4, "seed": seed})
        before = torch.get_rng_state()
        trainer.generator("a")
        assert torch.equal(torch.get_rng_state(), before)
        assert trainer.fit()
        runs.append(trainer.objective.strategies[0].drawn)
    assert runs[0] == runs[1]
    assert all(a == again != b for a, again, b in runs[0])
    values = [value for run in (runs[0], runs[2]) for a, _, b in run for value in (a, b)]
    assert len(set(values)) == len(values)


def test_drawing_batches_sorts_an_epoch_once(trainer_with, monkeypatch):
    class Asks(Strategy):
        def before_update(self, loop):
            for _ in range(5):
                loop.draw_batch(loop.generator("batch"))

    made = []
    plan = task_module.epoch_plan
    monkeypatch.setattr(task_module, "epoch_plan", lambda *a, **k: made.append(k["epoch"]) or plan(*a, **k))
    assert trainer_with(Asks, train={"epochs": 3}).fit()
    assert made == [0, 1, 2]


def test_the_loss_of_an_update_is_told_with_what_methods_add(trainer_with):
    class Adds(Strategy):
        def penalty(self, terms, batch, step, generator):
            return 10_000.0

        def after_update(self, loop, terms):
            plain = (terms.rec.mean(0) + terms.kl).sum()
            torch.testing.assert_close(loop.loss, (plain + 10_000 * len(loop.batch)).detach())
            told.append(loop.step)

    told = []
    assert trainer_with(Adds, train={"steps": 3}).fit()
    assert told == [0, 1, 2]


@pytest.mark.parametrize("own", [False, True])
def test_parameters_in_the_main_optimizer_are_clipped_with_the_models(trainer_with, own):
    class Steep(Strategy):
        def build(self, dims):
            self.height = torch.nn.Parameter(torch.zeros(2))

        def optimizers(self):
            return {"height": torch.optim.SGD([self.height], lr=1.0)} if own else {}

        def penalty(self, terms, batch, step, generator):
            return 1e6 * self.height[0]

    sgd = {"optimizer": {"name": "sgd", "lr": 1.0}, "clip_norm": 0.25, "steps": 1}
    trainer = trainer_with(Steep, model=NO_DROPOUT, train=sgd)
    trainer._start_phase(0)
    before = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    trainer._train_on([trainer.task.batch(trainer.task.plan(0)[0])])
    moved = (torch.cat([p.detach().flatten() for p in trainer.model.parameters()]) - before).norm()
    height = trainer.objective.strategies[0].height[0].item()
    if own:
        assert height == pytest.approx(-1e6)
        assert float(moved) == pytest.approx(0.25, rel=1e-3)
    else:
        assert math.hypot(height, float(moved)) == pytest.approx(0.25, rel=1e-3)


class WantsMI(Strategy):
    measures = frozenset({"mi"})

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    def after_validation(self, loop, metrics):
        self.seen.append(metrics)


class TestFurtherMetrics:
    def validated(self, trainer_with, cls, *configs, **changes):
        changes = {"model": {"latent_dim": 3}, **changes, "train": {"steps": 1, **changes.get("train", {})}}
        trainer = trainer_with(cls, *configs, **changes)
        assert trainer.fit()
        return trainer, trainer.task.observe.of("valid")[-1]

    def test_mutual_information_is_measured_where_a_method_asks(self, trainer_with):
        trainer, event = self.validated(trainer_with, WantsMI)
        store = trainer.task.stores["valid"]
        assert event["mi_nats"] == mutual_information(encode_split(trainer.model, store)).nats
        assert trainer.objective.strategies[0].seen[0]["mi_nats"] == event["mi_nats"]

    def test_it_costs_nothing_where_nobody_asks(self, trainer_with):
        assert not {"mi_nats", "iw_nats"} & self.validated(trainer_with, Strategy)[1].keys()

    def test_without_a_noisy_code_there_is_none(self, trainer_with):
        assert self.validated(trainer_with, WantsMI, AutoencoderConfig())[1]["mi_nats"] is None
        assert self.validated(trainer_with, WantsMI, model={"latent_dim": 0})[1]["mi_nats"] is None

    def test_measuring_it_does_not_change_the_run(self, trainer_with):
        plain, measured = (self.validated(trainer_with, cls, train={"steps": 9})[0] for cls in (Strategy, WantsMI))
        assert bytes_of(plain.model) == bytes_of(measured.model)


class TestBoundAsMonitor:
    def run(self, trainer_with, cls=Strategy, *configs, **train):
        changes = {"train": {"steps": 6, "validate_every": 2, **train}, "objective": {"samples": 4}}
        trainer = trainer_with(cls, *configs, **changes)
        assert trainer.fit()
        return trainer, trainer.task.observe.of("valid")

    def test_it_is_the_bound_of_as_many_samples_as_in_training(self, trainer_with):
        trainer, events = self.run(trainer_with, monitor="iw")
        assert {event["monitor"] for event in events} == {"iw"}
        assert trainer.progress.best == min(event["iw_nats"] for event in events)
        bound = elbo_and_iw(trainer.model, trainer.task.stores["valid"], samples=4, seed=0)
        assert trainer.progress.best == float(bound.iw.mean())
        assert all(event["iw_nats"] != event["elbo_nats"] for event in events)

    def test_a_method_may_ask_for_it_and_a_setting_overrules_the_method(self, trainer_with):
        class Asks(Strategy):
            monitor = "iw"

        assert {event["monitor"] for event in self.run(trainer_with, Asks)[1]} == {"iw"}
        assert {event["monitor"] for event in self.run(trainer_with, Asks, BetaConfig(beta=0.0))[1]} == {"iw"}
        assert {event["monitor"] for event in self.run(trainer_with, Asks, monitor="elbo")[1]} == {"elbo"}

    def test_a_plain_autoencoder_has_none(self, trainer_with):
        with pytest.raises(SeqVAEError, match="`monitor: iw` cannot pick the best weights of a plain autoencoder"):
            self.run(trainer_with, Strategy, AutoencoderConfig(), monitor="iw")

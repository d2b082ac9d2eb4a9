"""The moving average of the weights: what it is, where it is used, and that nothing of it is lost."""

import pytest
import torch
from training_toys import bytes_of, last_checkpoint, stopped_at, toy_trainer

from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import quick_metrics
from seqvae.training.averaging import Average

DECAY = 0.6
ON = {"average_decay": DECAY}


def observed(trainer):
    """The weights after each update of a run to its end, by update."""
    seen, follow = {}, trainer.average.follow

    def following(model, update):
        follow(model, update)
        seen[update] = {name: p.detach().double().clone() for name, p in model.named_parameters()}

    trainer.average.follow = following
    begin = {name: p.detach().double().clone() for name, p in trainer.model.named_parameters()}
    assert trainer.fit()
    return begin, seen


def test_it_is_the_average_by_its_definition(tmp_path):
    trainer = toy_trainer(tmp_path, train={"steps": 23, **ON})
    average, seen = observed(trainer)
    for update, weights in seen.items():
        decay = min(DECAY, update / (update + 9))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in weights}
    assert min(DECAY, 23 / 32) == DECAY > 1 / 10, "both ends of the minimum are met"
    for name, tensor in trainer.average.tensors().items():
        torch.testing.assert_close(tensor.double(), average[name.removeprefix("average.")], rtol=1e-5, atol=1e-7)


def test_updates_are_those_of_a_run_without_it(tmp_path):
    _, plain = observed(toy_trainer(tmp_path / "plain", train={"steps": 7, "validate_every": 3}))
    _, averaged = observed(toy_trainer(tmp_path / "averaged", train={"steps": 7, "validate_every": 3, **ON}))
    assert all(bytes_of(plain[update]) == bytes_of(averaged[update]) for update in range(1, 8))


def test_it_is_what_is_validated_and_kept(tmp_path):
    trainer = toy_trainer(tmp_path, train={"steps": 6, "validate_every": 6, **ON})
    _, seen = observed(trainer)
    model, kept = trainer.model, {name: tensor.clone() for name, tensor in trainer.average.tensors().items()}
    assert {f"average.{name}": p for name, p in bytes_of(dict(model.named_parameters())).items()} == bytes_of(kept)
    assert bytes_of(dict(model.named_parameters())) != bytes_of({name: p.float() for name, p in seen[6].items()})
    (valid,) = trainer.task.observe.of("valid")
    found = quick_metrics(model, trainer.task.stores["valid"], seed=0)
    assert found["elbo_nats"] == valid["elbo_nats"]


def test_a_run_that_was_stopped_in_its_second_phase_goes_on_bit_by_bit(tmp_path):
    phases = [{"name": "one", "steps": 5}, {"name": "two", "steps": 6, "reset": ["decoder"]}]
    changes = {"train": {"validate_every": 2, "phases": phases, **ON}}
    whole = toy_trainer(tmp_path / "whole", **changes)
    assert whole.fit()
    first = stopped_at(8, lambda observe: toy_trainer(tmp_path / "cut", observe=observe, **changes))
    second = toy_trainer(tmp_path / "cut", **changes)
    assert second.fit(last_checkpoint(first))
    assert bytes_of(second.model) == bytes_of(whole.model)
    assert bytes_of(second.average.tensors()) == bytes_of(whole.average.tensors())
    assert first.task.observe.timeless() + second.task.observe.timeless() == whole.task.observe.timeless()


def test_a_decay_of_the_learning_rate_that_reloads_the_best_begins_it_anew(tmp_path):
    schedule = {"name": "plateau", "factor": 0.5, "patience": 1, "start_epoch": 0, "max_decays": 2}
    optimizer = {"name": "sgd", "lr": 1e-12}  # no validation improves on the first one
    trainer = toy_trainer(tmp_path, train={"epochs": 9, "schedule": schedule, "optimizer": optimizer, **ON})
    restarts, restart = [], trainer.average.restart
    trainer.average.restart = lambda model: restarts.append(bytes_of(dict(model.named_parameters()))) or restart(model)
    assert trainer.fit()
    assert len(restarts) == 1 + len(trainer.task.observe.of("note")) >= 2


def test_without_a_decay_nothing_is_kept():
    model = torch.nn.Linear(3, 2)
    average, before = Average(model, None), bytes_of(model)
    average.follow(model, 1)
    with average.in_place(model):
        assert bytes_of(model) == before
    assert average.tensors() == {}


def test_the_weights_come_back_where_the_block_raises():
    model = torch.nn.Linear(3, 2)
    average = Average(model, 0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    before = bytes_of(model)

    def fails():
        with average.in_place(model):
            assert bytes_of(model) != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert bytes_of(model) == before


def test_a_checkpoint_of_another_kind_does_not_fit():
    with pytest.raises(SeqVAEError, match="average of the weights") as caught:
        Average(torch.nn.Linear(3, 2), 0.5).restore({"sums": torch.zeros(4)})
    assert caught.value.code == "E401"

"""Passes that are captured and replayed train to the same bits, with every method and family that may be captured.

CUDA graphs need a GPU. Elsewhere a stand-in plays them: what it replays writes into the tensors of the capture, and may
ask for nothing that changes from update to update but what lies in the places that are written before.
"""

import itertools
import json
from collections import Counter

import pytest
import torch
from test_families import POSTERIORS, PRIORS, REFUSED
from test_strategies import TYPES, example
from torch.utils._python_dispatch import TorchDispatchMode
from training_toys import bytes_of, last_checkpoint, phase_of, settings, stopped_at, store_of, toy_trainer

from seqvae import speed
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.models import cross_entropy
from seqvae.objectives.base import Objective
from seqvae.training import captured, divergence, runtime
from seqvae.training.captured import CapturedGradients, obstacle
from seqvae.training.distributed import World
from seqvae.training.gradients import Gradients
from seqvae.training.runtime import Runtime
from seqvae.training.settings import TrainConfig

STEPS = {"steps": 11, "validate_every": 5}
GRAPHS = {"cuda_graphs": True}


def lying_in(added):
    """The tensors of what a pass gives."""
    terms = {**vars(added.terms), **({} if added.terms.q is None else vars(added.terms.q))}
    return [value for value in [added.loss, added.counts, *terms.values()] if isinstance(value, torch.Tensor)]


class StandIn:
    """Plays CUDA graphs on any device."""

    captures, replays = 0, 0

    def __init__(self, device, generators):
        pass

    def warm_up(self, compute):
        compute()

    def capture(self, compute):
        StandIn.captures += 1
        with compute.func.__self__._undone():  # a capture computes nothing, and leaves everything as it is
            added = compute()

        def replay():
            StandIn.replays += 1
            with pytest.MonkeyPatch.context() as baked, torch.autograd.set_grad_enabled(True):
                for name in ("kl_weight", "trains"):
                    baked.setattr(Objective, name, lambda *_: pytest.fail("a graph cannot ask for a number"))
                for place, value in zip(lying_in(added), lying_in(compute()), strict=True):
                    place.copy_(value)

        return added, replay


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(captured, "CudaRecorder", StandIn)
    monkeypatch.setattr(runtime, "_check_graphs", lambda device, world: None)
    StandIn.captures = StandIn.replays = 0


def trained(folder, *strategies, graphs, train=STEPS, **sections):
    train = {**train, "cuda_graphs": graphs}
    phases = [phase_of(folder, *strategies, train=train, **sections)] if strategies else None
    trainer = toy_trainer(folder, phases=phases, train=train, **sections)
    assert trainer.fit()
    return trainer


def same_run(one, other):
    differing = [name for name, own in bytes_of(one.model).items() if own != bytes_of(other.model)[name]]
    assert not differing
    assert one.task.observe.timeless() == other.task.observe.timeless()


METHODS = {name: kind(example(name)) for name, kind in TYPES.items()}
CAPTURABLE = [name for name, method in METHODS.items() if method.capturable]


def test_the_methods_of_the_published_recipes_are_captured():
    assert {"kl_annealing", "cyclical_annealing", "beta", "free_bits", "word_dropout"} <= set(CAPTURABLE)


@pytest.mark.parametrize("name", CAPTURABLE)
def test_a_method_trains_to_the_same_bits_captured(tmp_path, name):
    plain = trained(tmp_path / "plain", example(name), graphs=False)
    assert StandIn.replays == 0
    graphs = trained(tmp_path / "graphs", example(name), graphs=True)
    assert isinstance(graphs.gradients, CapturedGradients)
    assert StandIn.replays == 11
    same_run(graphs, plain)


FAMILIES = [pair for pair in itertools.product(POSTERIORS, PRIORS) if pair not in REFUSED and pair[0] != "vmf"]


@pytest.mark.parametrize(("posterior", "prior"), FAMILIES)
def test_a_family_trains_to_the_same_bits_captured(tmp_path, posterior, prior):
    model = {"posterior": {"family": posterior}, "prior": {"family": prior}}
    plain, graphs = (trained(tmp_path / str(which), graphs=which, model=model) for which in (False, True))
    assert StandIn.replays == 11
    same_run(graphs, plain)


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"latent_dim": 0}},
        {"model": {"decoder.weight_dropout": 0.3, "decoder.embedding_dropout": 0.1}},
        {"train": {**STEPS, "accumulate": 3}},
        {"train": {**STEPS, "micro_tokens": 14}},
        {"train": {**STEPS, "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9}, "average_decay": 0.9}},
        {"train": {**STEPS, "precision": "bf16"}},
        {"data": {"equal_length": True}},
        {"objective": {"samples": 3}},
    ],
    ids=[
        "language model",
        "weight dropout",
        "accumulated",
        "cut",
        "momentum and averages",
        "bf16",
        "equal length",
        "samples",
    ],
)
def test_a_setting_trains_to_the_same_bits_captured(tmp_path, sections):
    plain, graphs = (trained(tmp_path / str(which), graphs=which, **sections) for which in (False, True))
    assert StandIn.replays >= 11
    same_run(graphs, plain)


def test_several_phases_are_captured_each_for_itself(tmp_path):
    phases = [
        {"name": "first", "strategies": [{"name": "beta", "beta": 0.1}]},
        {"name": "second", "strategies": [{"name": "kl_annealing", "steps": 7}], "reset": ["decoder"]},
    ]
    train = {**STEPS, "phases": phases}
    plain, graphs = (trained(tmp_path / str(which), graphs=which, train=train) for which in (False, True))
    assert StandIn.replays == 22
    same_run(graphs, plain)


@pytest.mark.parametrize("step", [3, 7])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, step):
    model, train = {"posterior": {"family": "batchnorm"}}, {**STEPS, **GRAPHS}
    whole = trained(tmp_path / "whole", graphs=True, model=model)
    stopped = stopped_at(step, lambda seen: toy_trainer(tmp_path / "part", observe=seen, model=model, train=train))
    again = toy_trainer(tmp_path / "part", model=model, train=train)
    assert again.fit(last_checkpoint(stopped))
    assert bytes_of(again.model) == bytes_of(whole.model)


def test_each_shape_is_captured_once_and_the_oldest_makes_room(tmp_path, monkeypatch):
    plain = trained(tmp_path / "plain", graphs=False)
    graphs = trained(tmp_path / "graphs", graphs=True)
    plan = [graphs.task.batch(rows).tokens.shape for epoch in (0, 1) for rows in graphs.task.plan(epoch)][:11]
    times = Counter(map(tuple, plan))
    assert StandIn.captures == len(times) < 11
    monkeypatch.setattr(captured, "MOST_SHAPES", 1)
    StandIn.captures = 0
    few = trained(tmp_path / "few", graphs=True)
    assert StandIn.captures > len(times)
    assert len(few.gradients._kept) == 1
    same_run(few, plain)
    same_run(graphs, plain)


class Host(TorchDispatchMode):
    """Raises where the host waits for what a device has computed, as a GPU does while it captures."""

    WAITS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "multinomial")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.WAITS:
            raise AssertionError(f"the host waits for {function}")
        return function(*args, **(kwargs or {}))


def update_under_watch(trainer, monkeypatch):
    trainer._start_phase(0)
    trainer.model.train()
    # What is asked for on a CPU is left on the device on a GPU.
    monkeypatch.setattr(cross_entropy, "READ_BACK", frozenset())
    monkeypatch.setattr(divergence, "_LATER", {"cpu"})
    with Host():
        trainer._train_on([trainer.task.batch(trainer.task.plan(0)[0])])


QUIET = {"train": {"log_every": 100}}
READS = {
    "aggressive": "whether the encoder still improves",
    "adversarial": "whether the update is finite, before its own optimizer makes a step",
    "minimum_rate": "the same",
}


@pytest.mark.parametrize("name", sorted(TYPES.keys() - READS.keys()))
def test_an_update_of_a_method_makes_the_host_wait_for_nothing(tmp_path, monkeypatch, name):
    update_under_watch(toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), **QUIET)], **QUIET), monkeypatch)


@pytest.mark.parametrize(("posterior", "prior"), FAMILIES)
def test_an_update_of_a_family_makes_the_host_wait_for_nothing(tmp_path, monkeypatch, posterior, prior):
    model = {"posterior": {"family": posterior}, "prior": {"family": prior}}
    update_under_watch(toy_trainer(tmp_path, model=model, **QUIET), monkeypatch)


@pytest.mark.parametrize("name", READS)
def test_methods_that_read_what_was_computed_are_seen(tmp_path, monkeypatch, name):
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), **QUIET)], **QUIET)
    with pytest.raises(AssertionError, match="the host waits"):
        update_under_watch(trainer, monkeypatch)


def test_codes_that_are_drawn_by_rejection_make_it_wait(tmp_path, monkeypatch):
    with pytest.raises(AssertionError, match="the host waits"):
        update_under_watch(toy_trainer(tmp_path, model={"posterior": {"family": "vmf"}}, **QUIET), monkeypatch)


def test_what_cannot_be_captured_is_trained_as_ever_and_the_log_says_so(tmp_path):
    for strategies, model, word in (
        ([example("capacity")], {}, "capacity"),
        ([example("beta"), example("mmd")], {}, "mmd"),
        ([], {"posterior": {"family": "vmf"}}, "vmf"),
        ([], {"decoder.layers": 2}, "cuDNN"),
    ):
        plain, graphs = (
            trained(tmp_path / f"{word}-{which}", *strategies, graphs=which, model=model) for which in (False, True)
        )
        (note,) = graphs.task.observe.of("note")
        assert note["text"].startswith("phase `training` is trained without CUDA graphs: ")
        assert word in note["text"]
        assert obstacle(graphs.stage, graphs.task.runtime) in note["text"]
        assert bytes_of(graphs.model) == bytes_of(plain.model)
    assert StandIn.captures == 0


def test_deterministic_kernels_are_not_captured(tmp_path):
    graphs = trained(tmp_path, graphs=True, train={**STEPS, "deterministic": True})
    assert "`train.deterministic`" in graphs.task.observe.of("note")[0]["text"]
    assert StandIn.captures == 0


def test_memory_that_runs_out_is_taken_from_the_graphs_before_a_batch_is_cut(tmp_path, monkeypatch):
    plain, warm_up, recorders = trained(tmp_path / "plain", graphs=False), StandIn.warm_up, []

    def full(self, compute):
        warm_up(self, compute)
        if StandIn.captures == 2 and not recorders:
            recorders.append(self)
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StandIn, "warm_up", full)
    graphs = trained(tmp_path / "graphs", graphs=True)
    assert graphs.progress.micro_tokens is None
    assert graphs.gradients._recorder is not recorders[0]  # its pool of memory is given back
    same_run(graphs, plain)


def test_an_update_that_is_not_finite_is_told_of_before_the_next_one_overwrites_it(tmp_path, monkeypatch):
    monkeypatch.setattr(divergence, "_LATER", {"cpu"})
    trainer = toy_trainer(tmp_path, train={**STEPS, **GRAPHS, "log_every": 20})
    follow = trainer.average.follow

    def spoil(model, update):
        follow(model, update)
        if update == 6:
            model.decoder.embedding.weight.data[:, 0] = float("nan")

    monkeypatch.setattr(trainer.average, "follow", spoil)
    with pytest.raises(SeqVAEError, match="not finite at step 7"):
        trainer.fit()
    (folder,) = (tmp_path / "diverged").iterdir()
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state["rows"] == [trainer.task.plan(0)[6].tolist()]
    assert state["last"]["rec_nats"] == [None] * len(state["rows"][0])
    assert StandIn.replays == 7


def test_the_bench_tries_it_and_goes_on_without(tmp_path):
    config = Config.from_dict(settings())
    rehearsal = speed.Rehearsal(config, toy_trainer(tmp_path).model, store_of(64), Runtime.choose(config.train))
    groups = [[rows] for rows in rehearsal.task.plan(0)[:3]]
    assert speed._captured_pace(rehearsal, groups, 0.01) > 0
    assert StandIn.replays >= 3
    assert type(rehearsal.gradients) is Gradients


@pytest.mark.parametrize(("device", "size", "code"), [("cpu", 1, "E207"), ("mps", 1, "E207"), ("cuda", 2, "E238")])
def test_settings_that_cannot_be_captured_are_refused(monkeypatch, device, size, code):
    monkeypatch.undo()
    world = type("Several", (World,), {"size": size})()
    with pytest.raises(SeqVAEError) as caught:
        runtime._check_graphs(torch.device(device), world)
    assert caught.value.code == code
    assert "train.cuda_graphs" in f"{caught.value.what} {caught.value.hint}"


def test_a_run_on_a_cpu_is_refused_graphs(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(SeqVAEError, match="needs a GPU"):
        Runtime.choose(TrainConfig(device="cpu", cuda_graphs=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnAGPU:
    """The graphs themselves."""

    @pytest.fixture(autouse=True)
    def graphs(self, monkeypatch, stand_in):
        monkeypatch.undo()

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_captured_passes_train_to_the_same_weights(self, tmp_path, precision):
        train = {**STEPS, "device": "cuda", "precision": precision}
        plain, graphs = (trained(tmp_path / str(which), graphs=which, train=train) for which in (False, True))
        assert isinstance(graphs.gradients, CapturedGradients)
        for name, tensor in plain.model.state_dict().items():
            torch.testing.assert_close(graphs.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        "model",
        [
            {"encoder.hidden": 256, "decoder.hidden": 256, "encoder.embedding": 256, "decoder.embedding": 256},
            {"encoder.bidirectional": True, "encoder.layers": 2, "decoder.layers": 2, "decoder.dropout_out": 0.0},
            {"encoder.cell": "gru", "decoder.cell": "gru", "decoder.dropout_over": "sentence"},
            {"posterior": {"family": "batchnorm"}, "decoder.tie_weights": True, "decoder.embedding": 8},
        ],
        ids=["256 units", "two layers", "GRU", "running averages"],
    )
    def test_so_do_those_of_other_networks(self, tmp_path, model):
        train = {**STEPS, "steps": 40, "device": "cuda", "precision": "fp32", "optimizer": {"name": "sgd", "lr": 0.1}}
        plain, graphs = (trained(tmp_path / str(on), graphs=on, train=train, model=model) for on in (False, True))
        assert isinstance(graphs.gradients, CapturedGradients)
        for name, tensor in plain.model.state_dict().items():
            torch.testing.assert_close(graphs.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)

    def test_a_stopped_run_goes_on_to_the_same_weights(self, tmp_path):
        train = {**STEPS, **GRAPHS, "device": "cuda"}
        whole = trained(tmp_path / "whole", graphs=True, train=train)
        stopped = stopped_at(6, lambda seen: toy_trainer(tmp_path / "part", observe=seen, train=train))
        again = toy_trainer(tmp_path / "part", train=train)
        assert again.fit(last_checkpoint(stopped))
        for name, tensor in whole.model.state_dict().items():
            torch.testing.assert_close(again.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", CAPTURABLE)
    def test_a_method_is_captured(self, tmp_path, name):
        train = {**STEPS, "device": "cuda"}
        assert trained(tmp_path, example(name), graphs=True, train=train).progress.step == 11

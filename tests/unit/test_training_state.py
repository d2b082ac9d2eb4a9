"""Checkpoints and what they hold; the machine under a run."""

import contextlib
import copy
import os
import shutil
import threading
from dataclasses import replace
from signal import SIGTERM, getsignal
from types import SimpleNamespace

import pytest
import torch
from training_toys import bytes_of, last_checkpoint, settings, toy_trainer, write_corpus

import seqvae
from seqvae.errors import SeqVAEError
from seqvae.training import state as states
from seqvae.training.runtime import Runtime, StopSignals
from seqvae.training.settings import TrainConfig
from seqvae.training.state import (
    Checkpoint,
    Progress,
    newest_intact,
    optimizer_tensors,
    prune,
    random_tensors,
    restore_optimizers,
    restore_random,
    set_aside_newer,
)

CPU = torch.device("cpu")


def checkpoint_at(step: int) -> Checkpoint:
    progress = Progress(step=step, phase=1, position=3, best=1 / 3, best_step=2, decays=1)
    weights = {"a": torch.arange(6.0).view(2, 3), "shared": torch.ones(1)}
    training = {"rng.cpu": torch.get_rng_state(), "optimizer.main.0.step": torch.tensor(7.0)}
    return Checkpoint(progress=progress, model=weights, best={"a": weights["a"] + 1}, training=training, log_bytes=123)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    saved = checkpoint_at(5)
    saved.save(tmp_path / "step-00000005")
    loaded, notes = newest_intact(tmp_path)
    assert notes == []
    assert loaded.progress == saved.progress
    assert loaded.log_bytes == 123
    for name in ("model", "best", "training"):
        assert bytes_of(getattr(loaded, name)) == bytes_of(getattr(saved, name))


def test_the_newest_checkpoint_is_that_of_the_last_step(tmp_path):
    for step in (9, 10, 100, 99):
        checkpoint_at(step).save(tmp_path / f"step-{step:08d}")
    assert newest_intact(tmp_path)[0].progress.step == 100
    prune(tmp_path, 2, tmp_path / "step-00000100")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000099", "step-00000100"]


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [5, 30]), (9, [5, 20, 30])])
def test_the_checkpoint_just_written_is_never_removed(tmp_path, keep, left):
    for step in (20, 30, 5):
        checkpoint_at(step).save(tmp_path / f"step-{step:08d}")
    prune(tmp_path, keep, tmp_path / "step-00000005")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}" for step in left]


def test_what_is_newer_than_the_checkpoint_chosen_is_set_aside(tmp_path):
    for step in (5, 20, 30):
        checkpoint_at(step).save(tmp_path / f"step-{step:08d}")
    for step in (20, 30):
        (tmp_path / f"step-{step:08d}" / "state.json").write_text("{")
    chosen, _ = newest_intact(tmp_path)
    for _ in range(2):
        set_aside_newer(tmp_path, chosen)
        names = ["damaged-step-00000020", "damaged-step-00000030", "step-00000005"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        checkpoint_at(20).save(tmp_path / "step-00000020")


def test_without_checkpoints_there_is_none(tmp_path):
    assert newest_intact(tmp_path) == (None, [])
    assert newest_intact(tmp_path / "nowhere") == (None, [])


@pytest.mark.parametrize(("keep", "left"), [(1, [6]), (3, [2, 4, 6]), (9, [2, 4, 6])])
def test_a_run_keeps_as_many_checkpoints_as_asked_for(tmp_path, keep, left):
    trainer = toy_trainer(tmp_path, train={"steps": 6, "save_every": 2, "keep_checkpoints": keep})
    assert trainer.fit()
    assert [int(path.name.removeprefix("step-")) for path in sorted((tmp_path / "checkpoints").iterdir())] == left


def test_a_run_that_is_stopped_saves_where_it_stands(tmp_path):
    trainer = toy_trainer(tmp_path, train={"epochs": 3})
    observe = trainer.task.observe

    def stops(event):
        observe(event)
        if event["step"] == 5:
            trainer.stop.received = SIGTERM

    object.__setattr__(trainer.task, "observe", stops)
    assert not trainer.fit()
    progress = last_checkpoint(trainer).progress
    assert (progress.step, progress.position, progress.epoch, progress.finished) == (5, 5, 0, False)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1),
    ],
    ids=["adamw", "momentum", "sgd"],
)
def test_an_optimizer_goes_on_as_if_it_had_not_been_saved(make):
    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def step(module, optimizer):
        optimizer.zero_grad()
        module(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    module = model()
    optimizer = make(module.parameters())
    for _ in range(3):
        step(module, optimizer)
    tensors = copy.deepcopy(optimizer_tensors({"main": optimizer}))
    again = model()
    again.load_state_dict(module.state_dict())
    restored = make(again.parameters())
    restore_optimizers({"main": restored}, tensors)
    for each in ((module, optimizer), (again, restored)):
        step(*each)
    assert bytes_of(again) == bytes_of(module)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimizer.main.0.exp_avg": None}, "optimizer.main"),
        ({f"optimizer.main.1.{key}": None for key in ("step", "exp_avg", "exp_avg_sq")}, "optimizer.main"),
        ({"optimizer_size.main": None}, "optimizer.main"),
        ({"optimizer.main.0.more": torch.ones(2, 3)}, "optimizer.main"),
        ({"optimizer.main.2.step": torch.ones(())}, "optimizer.main.2.step"),
        ({"optimizer.main.1.exp_avg": torch.ones(3)}, "optimizer.main.1.exp_avg"),
        ({"optimizer.other.0.step": torch.ones(())}, "optimizer.other.0.step"),
        ({"optimizer_size.other": torch.tensor([2, 0])}, "optimizer_size.other"),
    ],
)
def test_entries_that_do_not_fit_the_optimizers_are_refused(change, named):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors({"main": optimizer})
    restore_optimizers({"main": torch.optim.AdamW(module.parameters())}, tensors)
    tensors = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    with pytest.raises(SeqVAEError, match=f"`{named}` does not fit") as caught:
        restore_optimizers({"main": torch.optim.AdamW(module.parameters())}, tensors)
    assert caught.value.code == "E401"


def _of_another_shape(weights):
    weights["decoder.embedding.weight"] = weights["decoder.embedding.weight"][:-1]


def _of_another_type(weights):
    weights["decoder.embedding.weight"] = weights["decoder.embedding.weight"].to(torch.float64)


def _without_one(weights):
    del weights["decoder.embedding.weight"]


def _with_one_more(weights):
    weights["decoder.hat"] = torch.zeros(2)


@pytest.mark.parametrize("part", ["model", "best"])
@pytest.mark.parametrize("change", [_of_another_shape, _of_another_type, _without_one, _with_one_more])
def test_weights_of_another_model_are_refused(tmp_path, part, change):
    trainer = toy_trainer(tmp_path, train={"steps": 1})
    assert trainer.fit()
    checkpoint = last_checkpoint(trainer)
    change(getattr(checkpoint, part))
    with pytest.raises(SeqVAEError, match=r"`decoder\.\S+` does not fit the model of this run") as caught:
        toy_trainer(tmp_path, train={"steps": 1}).fit(checkpoint)
    assert caught.value.code == "E401"


def test_what_a_method_keeps_is_refused_where_it_is_that_of_another(tmp_path):
    objective = {"strategies": [{"name": "minimum_rate"}]}
    trainer = toy_trainer(tmp_path, train={"steps": 1}, objective=objective)
    assert trainer.fit()
    checkpoint = last_checkpoint(trainer)
    checkpoint.training["strategy.0.multiplier"] = torch.zeros(2)
    with pytest.raises(SeqVAEError, match=r"`0\.multiplier` does not fit the methods of this run"):
        toy_trainer(tmp_path, train={"steps": 1}, objective=objective).fit(checkpoint)


def test_random_states_go_on_where_they_were():
    own = torch.Generator().manual_seed(4)
    torch.manual_seed(5)
    saved = {name: state.clone() for name, state in random_tensors({"noise": own}, CPU).items()}
    expected = torch.rand(3), torch.rand(3, generator=own)
    torch.manual_seed(6)
    other = torch.Generator().manual_seed(7)
    restore_random({"noise": other}, saved, CPU)
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(torch.rand(3, generator=other), expected[1])


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_the_random_state_is_that_of_the_device_of_the_run(name, monkeypatch):
    device = torch.device(name)
    held = {name: torch.tensor([1, 2, 3], dtype=torch.uint8)}
    kind = getattr(torch, device.type)
    monkeypatch.setattr(kind, "get_rng_state", lambda *where: held[str(*where) or name])
    monkeypatch.setattr(kind, "set_rng_state", lambda state, *where: held.update({str(*where) or name: state}))
    saved = random_tensors({}, device)
    held[name] = torch.zeros(3, dtype=torch.uint8)
    restore_random({}, saved, device)
    assert {key: state.tolist() for key, state in held.items()} == {name: [1, 2, 3]}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_random_states_of_cuda_go_on_where_they_were():
    device = torch.device("cuda", torch.cuda.device_count() - 1)
    own = torch.Generator(device).manual_seed(4)
    saved = {name: state.clone() for name, state in random_tensors({"noise": own}, device).items()}
    expected = torch.rand(3, device=device), torch.rand(3, generator=own, device=device)
    restore_random({"noise": own}, saved, device)
    assert torch.equal(torch.rand(3, device=device), expected[0])
    assert torch.equal(torch.rand(3, generator=own, device=device), expected[1])


def test_a_cpu_without_the_question_for_bf16_runs_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert Runtime.choose(TrainConfig(device="cpu", threads=1)).precision == "fp32"


def test_a_device_that_is_not_there_is_refused():
    missing = "cuda:99"
    with pytest.raises(SeqVAEError, match="there is no device `cuda:99` here") as caught:
        Runtime.choose(TrainConfig(device=missing))
    assert caught.value.code == "E207"
    assert "auto" in caught.value.hint


def test_precision_and_threads_are_those_asked_for():
    runtime = Runtime.choose(TrainConfig(device="cpu", precision="bf16", threads=1))
    assert (runtime.precision, runtime.threads, runtime.device.type) == ("bf16", 1, "cpu")
    with runtime.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    runtime = Runtime.choose(TrainConfig(device="cpu", precision="fp32", threads=1))
    with runtime.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("former", [0, 1])
def test_kernels_are_deterministic_where_that_is_asked_for_and_as_before_elsewhere(monkeypatch, former):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    mode = torch.get_deterministic_debug_mode
    usual, strict = (
        Runtime.choose(TrainConfig(device="cpu", threads=1, deterministic=asked)) for asked in (False, True)
    )
    torch.set_deterministic_debug_mode(former)
    try:
        with usual.kernels():
            assert mode() == former
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"), strict.kernels():
            torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
        assert mode() == former
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
        with replace(strict, device=torch.device("cuda")).kernels():
            assert mode() == 2
    finally:
        torch.set_deterministic_debug_mode(0)


def test_cublas_is_told_of_its_workspace_before_anything_is_computed(monkeypatch):
    """PyTorch looks for it at the first product, also where that need not be deterministic, and never again."""
    for name, answer in {"is_available": True, "device_count": 1, "get_device_capability": (9, 0)}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    Runtime.choose(TrainConfig(device="cuda", threads=1))
    Runtime.choose(TrainConfig(device="cpu", threads=1, deterministic=True))
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    Runtime.choose(TrainConfig(device="cuda", threads=1, deterministic=True))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    Runtime.choose(TrainConfig(device="cuda", threads=1, deterministic=True))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("averaged", [False, True])
def test_the_room_that_is_asked_for_is_that_of_the_checkpoints(tmp_path, monkeypatch, averaged):
    trainer = toy_trainer(tmp_path, train={"steps": 3, **({"average_decay": 0.9} if averaged else {})})
    assert trainer.fit()
    saved = last_checkpoint(trainer)
    training = sum(tensor.nbytes for name, tensor in saved.training.items() if not name.startswith("rng."))
    weights = sum(tensor.nbytes for tensor in saved.model.values())
    each = training + 2 * weights
    assert each == pytest.approx((5 if averaged else 4) * weights, rel=0.1)
    for free, enough in ((3.1 * each + 2 * weights, True), (2.9 * each + 2 * weights, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with contextlib.nullcontext() if enough else pytest.raises(SeqVAEError, match="E701"):
            states.require_room(tmp_path, trainer.model, 2, averaged=averaged)


def test_a_run_may_be_made_in_a_thread_of_a_program(tmp_path):
    """Signals belong to the main thread; elsewhere they are left alone."""
    found = []
    config = settings(data=write_corpus(tmp_path), train={"steps": 2})

    def work():
        with StopSignals().installed():
            handler = getsignal(SIGTERM)
        found.append((handler, seqvae.train(config, out=tmp_path / "run").finished))

    before = getsignal(SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(before, True)]


def test_a_training_leaves_the_program_its_threads_and_random_numbers(tmp_path):
    config = settings(data=write_corpus(tmp_path), train={"steps": 2, "threads": 1})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        assert seqvae.train(config, out=tmp_path / "run").finished
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""Several processes that train one model: the same updates, the same state everywhere, one writer, one end.

Two and then three processes go through the scenarios of ``tests/ranks.py``; the tests read what they came to.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import torch
from torch import distributed as dist
from training_toys import NO_DROPOUT, Events, bytes_of, settings, store_of, toy_trainer, write_corpus
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.data.batching import evaluation_plan
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw, quick_metrics
from seqvae.objectives.registry import strategy_types
from seqvae.specials import BOS, EOS
from seqvae.training import phases as phases_module
from seqvae.training.distributed import World, _Replica, joined
from seqvae.training.runtime import Runtime
from seqvae.training.state import newest_intact

TESTS = Path(ranks.__file__).parent
ROOT = TESTS.parent
TIMEOUT_S = 300
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
GLOO = dist.is_available() and dist.is_gloo_available()
needs_gloo = pytest.mark.skipif(not GLOO or not hasattr(os, "fork"), reason="no gloo or no fork on this system")


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Group:
    """What so many processes found."""

    folder: Path
    size: int

    def found(self, scenario: str) -> list[Any]:
        return [json.loads((self.folder / f"{scenario}.{rank}.json").read_text("utf-8")) for rank in range(self.size)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(folder: Path, size: int) -> Group:
    """Run the scenarios in ``size`` processes."""
    paths = write_corpus(folder)
    config = Config.from_dict(
        settings(
            data=paths,
            model=NO_DROPOUT,
            train={"optimizer": {"name": "sgd", "lr": 0.3}, "save_every": 3, "epochs": 2},
            objective={"strategies": [{"name": "autoencoder"}]},
        )
    )
    (folder / "quiet.yaml").write_text(config.to_yaml(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, ranks.__file__, folder, str(size), str(free_port())],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout == "", "processes that train say nothing by themselves"
    return Group(folder, size)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Group:
    return together(tmp_path_factory.mktemp("two"), 2)


@pytest.fixture(scope="module")
def three(two, tmp_path_factory) -> Group:
    """With the run that two processes were stopped in."""
    folder = tmp_path_factory.mktemp("three")
    shutil.copytree(two.folder / "written/stopped", folder / "other")
    return together(folder, 3)


@pytest.fixture(params=[2, pytest.param(3, marks=pytest.mark.slow)])
def group(request) -> Group:
    return request.getfixturevalue({2: "two", 3: "three"}[request.param])


@pytest.fixture
def hook(monkeypatch):
    """`ranks.use`, undone after the test."""
    monkeypatch.setattr(phases_module, "build_strategy", phases_module.build_strategy)
    return ranks.use


# The same updates.


@needs_gloo
@pytest.mark.parametrize("name", [*ranks.CHANGES, "reset"])
def test_the_trajectory_is_that_of_one_process(group, name, tmp_path, hook):
    hook(ranks.Quiet)
    trainer = ranks.quiet_trainer(tmp_path, (ranks.CHANGES | {"reset": ranks.RESET})[name])
    assert trainer.fit()
    first, *others = (found[name] for found in group.found("trajectory"))
    expected = trainer.task.observe.timeless()
    assert [event["event"] for event in first["events"]] == [event["event"] for event in expected]
    assert first["events"][0]["event"] == "phase"
    for event, other in zip(first["events"], expected, strict=True):
        assert event.keys() == other.keys()
        for name, value in other.items():
            assert event[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), (event, name)
    assert {found["digest"] for found in others} == {first["digest"]}


@needs_gloo
def test_ranks_share_the_batches_of_one_process(group, tmp_path, hook):
    hook(ranks.Quiet)
    whole = [rows.tolist() for rows in ranks.quiet_trainer(tmp_path, {}).task.plan(0)]
    plans = [found["once"]["plan"] for found in group.found("trajectory")]
    assert [sorted(itertools.chain(*shares)) for shares in zip(*plans, strict=True)] == [sorted(rows) for rows in whole]
    assert all(max(map(len, shares)) - min(map(len, shares)) <= 1 for shares in zip(*plans, strict=True))
    if group.size == 3:
        assert [] in plans[2], "a batch that has less sentences than there are ranks is among those tried"


@needs_gloo
def test_every_method_and_family_ends_alike_on_all_ranks(two):
    first, other = two.found("methods")
    assert first.keys() >= {f"{name}-3" for name in strategy_types()} | {"adversarial-0", "bag_of_words-0", "batchnorm"}
    assert other == first


@needs_gloo
def test_a_part_that_is_drawn_anew_is_the_same_on_all_ranks(two):
    for digests in zip(*two.found("resets"), strict=True):
        assert len(set(digests)) == 1


# Stopping and going on.


@needs_gloo
def test_a_signal_to_one_rank_stops_all_after_the_same_update(group):
    stops = [found["stopped"] for found in group.found("resumed")]
    assert stops == [[False, 6, str(signal.SIGTERM)]] * group.size


@needs_gloo
def test_a_run_that_was_stopped_goes_on_bit_by_bit(group):
    first, *others = group.found("resumed")
    assert len({value for found in (first, *others) for value in found["digests"]}) == 1
    assert first["events"][0] == first["events"][1]
    ends = [newest_intact(group.folder / "resumed" / name / "checkpoints")[0] for name in ("cut", "whole")]
    assert bytes_of(ends[0].training) == bytes_of(ends[1].training)
    assert bytes_of(ends[0].best) == bytes_of(ends[1].best)
    assert ends[0].progress == ends[1].progress


@needs_gloo
def test_every_rank_has_noise_of_its_own_and_all_of_it_is_saved(group):
    training = newest_intact(group.folder / "resumed/whole/checkpoints")[0].training
    for name in ("rng.cpu", "rng.own.noise"):
        states = [training[name], *(training[f"rank.{rank}.{name}"] for rank in range(1, group.size))]
        assert len({bytes_of({name: state})[name] for state in states}) == group.size


@needs_gloo
@pytest.mark.parametrize("size", [pytest.param(3, marks=pytest.mark.slow), 1])
def test_another_number_of_processes_goes_on_with_the_same_batches(request, size, two, tmp_path):
    config = two.folder / "quiet.yaml"
    assert seqvae.train(config, out=tmp_path / "alone").finished
    if size == 1:
        folder, events = Path(shutil.copytree(two.folder / "written/stopped", tmp_path / "stopped")), Events()
        assert seqvae.train(resume=folder, observers=[events]).finished
        notes = [event["text"] for event in events.of("note")]
    else:
        three = request.getfixturevalue("three")
        folder, found = three.folder / "other", three.found("other_world")
        assert [each["finished"] for each in found] == [True] * 3
        notes, told = found[0]["notes"], [each["notes"] for each in found[1:]]
        assert told == [[], []]
    of_now = f"{size} process{'es' if size > 1 else ''}"
    assert notes == [f"saved by 2 processes, resumed by {of_now}: same batches, other noise"]
    ends = [newest_intact(place / "checkpoints")[0] for place in (folder, tmp_path / "alone")]
    assert ends[0].progress.step == ends[1].progress.step == 16
    for name, tensor in ends[1].model.items():
        torch.testing.assert_close(ends[0].model[name], tensor, rtol=1e-4, atol=1e-6)


# One writer, one voice, one end.


@needs_gloo
def test_rank_0_alone_writes_and_tells(two):
    """The other ends at once where it writes; see `ranks.written`."""
    first, other = two.found("written")
    assert first["run"] == other["run"] == [False, str(signal.SIGTERM), True, True]
    assert other["events"] == []
    assert first["events"][0]["facts"]["model"].endswith(" · 2 processes")
    assert first["events"][-1]["text"] == "this run is finished already"
    folder = two.folder / "written/whole"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "tokenizer", "checkpoints", "model"),
        "tensorboard",
    }
    assert len(list(folder.glob("tensorboard/events.*"))) == 1
    assert json.loads((folder / "provenance.json").read_text("utf-8"))["processes"] == 2
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == list(range(1, 17))


@needs_gloo
def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_the_update(group):
    found = group.found("diverged")
    assert [[code, step] for code, step, _ in found[0]] == [["E501", 2]] * 3
    assert found == [found[0]] * group.size


@needs_gloo
def test_ranks_that_lose_another_end_with_the_reason(group):
    *others, _ = range(group.size)
    codes = [json.loads((group.folder / f"lost.{rank}.json").read_text("utf-8")) for rank in others]
    assert codes == ["E504"] * len(others)


@needs_gloo
def test_what_several_processes_cannot_do_is_refused_by_all_of_them(group):
    found = group.found("refused")
    assert [code for code, _ in found[0]["refused"]] == ["E237", "E237", "E238", "E505", "E505"]
    assert "the same settings" in found[0]["refused"][3][1]
    assert "the same hats" in found[0]["refused"][4][1]
    assert found == [found[0]] * group.size
    assert found[0]["left"] == []


# Text that no disk holds as a whole.


@needs_gloo
def test_a_dataset_is_dealt_out_and_every_process_makes_as_many_updates(group):
    found = group.found("dealt")
    text = [[BOS, *ids, EOS] for ids in found[0]["text"]]
    shares = [each["rows"] for each in found]
    assert sorted(itertools.chain(*shares)) == sorted(text)
    assert shares[0] == (text[:10] + text[19:26] if group.size == 2 else text[::3])
    least = min(map(len, shares))
    left = len(text) - least * group.size
    assert found[0]["notes"] == [f"train: {least} sentences for each of {group.size} processes, {left} left out"]
    assert left > 0
    progress = newest_intact(group.folder / "dealt/whole/checkpoints")[0].progress
    assert progress.step == 2 * -(-least // (6 // group.size))


@needs_gloo
def test_a_run_on_dealt_text_goes_on_bit_by_bit_with_as_many_processes_alone(group, tmp_path):
    assert all(each["stopped"] for each in group.found("dealt"))
    ends = [newest_intact(group.folder / f"dealt/{name}/checkpoints")[0] for name in ("cut", "whole")]
    for part in ("model", "best", "training"):
        assert bytes_of(getattr(ends[0], part)) == bytes_of(getattr(ends[1], part))
    stopped = group.folder / "dealt/cut"
    older, newest = sorted((stopped / "checkpoints").iterdir())
    shutil.rmtree(newest)
    with pytest.raises(
        SeqVAEError, match=f"dealt out to {group.size} processes, and cannot be read by 1 process"
    ) as caught:
        seqvae.train(resume=stopped)
    assert caught.value.code == "E238"
    assert older.is_dir()


@needs_gloo
def test_a_text_that_cannot_be_dealt_out_is_refused(group):
    (size, vocabulary), *others = (each["refused"] for each in group.found("dealt"))
    assert others == [[size, vocabulary]] * (group.size - 1)
    assert size == ["E238", f"{group.size} processes cannot have equal shares of `data.batch_size: {group.size + 1}`"]
    assert vocabulary[0] == "E238"
    assert "a vocabulary of its own" in vocabulary[1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": "mine.txt"}, "dataset of the Hub"),
        ({"valid": None}, "name a text for valid"),
        ({"labels": True}, "shards have no labels"),
        ({"batch_tokens": 100}, "batch_size alone"),
        ({"equal_length": True}, "batch_size alone"),
    ],
)
def test_settings_that_do_not_go_with_shards_are_refused(changes, told):
    data = {"train": "hub:a/b", "valid": "valid.txt", "shards": True}
    assert Config.from_dict({"data": data}).data.of_rank(2, 7).train == "hub:a/b,shard=2/7"
    assert Config.from_dict({"data": data | {"shards": False}}).data.of_rank(2, 7).train == "hub:a/b"
    with pytest.raises(SeqVAEError, match=told):
        Config.from_dict({"data": data | changes})


def test_the_first_process_of_a_machine_alone_tells_of_a_mistake(monkeypatch):
    results = []
    for rank in (0, 1):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        results.append(CliRunner().invoke(app, ["train", "--config", "tinny.yaml"], prog_name="seqvae"))
    assert [result.exit_code for result in results] == [2, 2]
    assert "error[E202]" in results[0].stderr
    assert results[1].stderr == ""


# Bad starts.


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "RANK, MASTER_ADDR, MASTER_PORT not set"),
        ({"RANK": "1", "MASTER_ADDR": "localhost"}, "MASTER_PORT not set"),
        ({"RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "http"}, "MASTER_PORT no such number"),
        ({"RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}, "RANK no such number"),
        ({"RANK": "-1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}, "RANK no such number"),
    ],
)
def test_an_environment_that_torchrun_did_not_make_is_refused(monkeypatch, given, told):
    for name, value in (given | {"WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SeqVAEError, match=told) as caught, joined():
        raise AssertionError("not joined")
    assert caught.value.code == "E236"
    assert "torchrun --nproc-per-node" in caught.value.hint


def test_where_there_are_gpus_each_process_is_told_which_is_its_own(monkeypatch, gpus):
    """Else all of a machine would take the first: `srun` alone, say, sets no LOCAL_RANK."""
    gpus(2)
    given = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SeqVAEError, match="LOCAL_RANK, LOCAL_WORLD_SIZE not set"), joined():
        raise AssertionError("not joined")


def test_what_the_processes_train_together_lies_on_one_device(tmp_path):
    """DistributedDataParallel takes no other; "meta" stands for a GPU."""
    replica = _Replica(toy_trainer(tmp_path).model.to("meta"), torch.nn.Identity())
    assert {parameter.device.type for parameter in replica.parameters()} == {"meta"}


@pytest.mark.parametrize("size", [None, "", "1"])
def test_one_process_needs_nothing_and_joins_nobody(monkeypatch, size):
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with joined() as world:
        assert type(world) is World
        assert not dist.is_initialized()


def test_processes_that_do_not_meet_are_told_so(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)

    def fails(*_, **__):
        raise dist.DistNetworkError("The client socket has timed out\nand more")

    monkeypatch.setattr(dist, "init_process_group", fails)
    with pytest.raises(SeqVAEError, match="find one another: The client socket has timed out\n") as caught, joined():
        raise AssertionError("not joined")
    assert caught.value.code == "E503"


class Pair(World):
    size, local_size = 2, 2

    def __init__(self, rank: int):
        self.rank = self.local_rank = rank


@pytest.fixture
def gpus(monkeypatch):
    """Makes PyTorch believe in so many GPUs."""

    def there(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))

    return there


@pytest.mark.parametrize(
    ("count", "device", "code"),
    [(0, "cuda", "E207"), (1, "auto", "E239"), (1, "cuda", "E239"), (2, "cuda:1", "E238")],
)
def test_gpus_that_are_not_there_for_each_process_are_refused(gpus, count, device, code):
    gpus(count)
    with pytest.raises(SeqVAEError) as caught:
        Runtime.choose(Config.from_dict(settings(train={"device": device})).train, Pair(1))
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_takes_a_gpu_of_its_own(gpus, device):
    gpus(3)
    config = Config.from_dict(settings(train={"device": device})).train
    assert [str(Runtime.choose(config, Pair(rank)).device) for rank in (0, 1)] == ["cuda:0", "cuda:1"]


def test_without_a_gpu_all_processes_take_the_cpu(gpus):
    gpus(0)
    assert str(Runtime.choose(Config.from_dict(settings(train={"device": "auto"})).train, Pair(1)).device) == "cpu"


# Validation in shares.


@pytest.mark.parametrize("world", [3, 40])
def test_a_validation_in_shares_gives_the_numbers_of_the_whole(world, tmp_path):
    model, store = toy_trainer(tmp_path).model, store_of(29, 4)
    whole = quick_metrics(model, store, seed=3, batch_tokens=20)
    packed = []

    def keep(values):
        packed.append(values)
        return [values]

    shares = {"seed": 3, "batch_tokens": 20, "world": world}
    for rank in range(world):
        with contextlib.suppress(ZeroDivisionError):  # a share of nothing
            quick_metrics(model, store, rank=rank, gather=keep, **shares)
    assert len(packed) == world
    together = quick_metrics(model, store, rank=0, gather=lambda _: packed, **shares)
    assert together == pytest.approx(whole, rel=1e-12)
    assert [type(value) for value in together.values()] == [type(value) for value in whole.values()]
    bound = elbo_and_iw(model, store, samples=3, batch_tokens=60)
    parts = [elbo_and_iw(model, store, samples=3, batch_tokens=60, rank=rank, world=world).iw for rank in range(world)]
    assert np.array_equal(sum(parts), bound.iw)
    assert len([part for part in parts if part.any()]) == min(
        world, len(evaluation_plan(store.lengths, batch_tokens=20))
    )

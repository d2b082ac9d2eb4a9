"""Training by torchrun, as a user starts it: it is stopped, or loses a process, and goes on with fewer."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from training_toys import NO_DROPOUT, settings, write_corpus

import seqvae
from seqvae.config import Config
from seqvae.io import manifests
from seqvae.training import distributed
from seqvae.training.state import newest_intact

TIMEOUT_S = 300
GLOO = dist.is_available() and dist.is_gloo_available()
pytestmark = pytest.mark.skipif(not GLOO or sys.platform != "linux", reason="processes are found as Linux shows them")


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with ``toy.yaml``. Updates have no noise: any number of processes makes the same ones, to rounding."""
    config = settings(
        data=write_corpus(tmp_path),
        model=NO_DROPOUT,
        objective={"strategies": [{"name": "autoencoder"}]},
        train={"epochs": 10_000, "save_every": 7, "keep_checkpoints": 3, "optimizer": {"name": "sgd", "lr": 0.01}},
    )
    (tmp_path / "toy.yaml").write_text(Config.from_dict(config).to_yaml(), encoding="utf-8")
    return tmp_path


@contextmanager
def torchrun(place: Path, run: str, processes: int, updates: int, *options: str) -> Iterator[subprocess.Popen]:
    """Training of so many processes, once so many updates have been told; ``run``: its folder in a place."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    training = subprocess.Popen(
        [*command, "-m", "seqvae", "train", "--config", "toy.yaml", *options],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(Path(seqvae.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + TIMEOUT_S
        while not any(path.read_bytes().count(b'"train"') > updates for path in place.glob(f"{run}/metrics.jsonl")):
            assert training.poll() is None, training.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield training
    finally:
        training.kill()


def ranks_of(training: subprocess.Popen) -> dict[int, int]:
    """The process id of each rank."""
    found = {}
    for child in Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split():
        lines = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        variables = dict(line.partition(b"=")[::2] for line in lines)
        found[int(variables[b"RANK"])] = int(child)
    return found


def test_sigterm_to_torchrun_stops_all_and_saves(place):
    """All processes have the name that the first of them chose."""
    with torchrun(place, "runs/*", 2, updates=2) as training:
        training.send_signal(signal.SIGTERM)
        _, told = training.communicate(timeout=TIMEOUT_S)
    (run,) = (place / "runs").iterdir()
    assert told.count("run      runs/toy-") == 1
    assert told.count("stopped  by SIGTERM; everything is saved") == 1
    assert f"resume   seqvae train --resume runs/{run.name}\n" in told
    checkpoint, notes = newest_intact(run / "checkpoints")
    assert checkpoint.progress.step > 2
    assert notes == []
    assert distributed.ranks_of(checkpoint.training) == 2


def test_where_a_process_is_killed_the_others_end_and_fewer_go_on(place):
    run = place / "run"
    with torchrun(place, "run", 3, 20, "--out", "run") as training:
        ranks = ranks_of(training)
        assert sorted(ranks) == [0, 1, 2]
        os.kill(ranks[1], signal.SIGKILL)
        _, told = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "rank      : 1 " in told, "torchrun names it"
    assert "Signal 9 (SIGKILL) received by PID" in told
    assert not [pid for pid in ranks.values() if Path(f"/proc/{pid}").exists()]
    checkpoint, notes = newest_intact(run / "checkpoints")
    assert (checkpoint.progress.step > 6, notes) == (True, [])
    last = checkpoint.progress.step
    # Alone, from the last checkpoint and from the beginning.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        config = Config.from_yaml("toy.yaml")

        def stop(event):
            if event["event"] == "train" and event["step"] == last + 9:
                os.kill(os.getpid(), signal.SIGTERM)

        for way in ({"resume": run}, {"out": "whole"}):
            assert not seqvae.train(config, observers=[stop], **way).finished
    resumed, whole = (newest_intact(run.with_name(name) / "checkpoints")[0] for name in ("run", "whole"))
    assert resumed.progress.step == whole.progress.step == last + 9
    for name, tensor in whole.model.items():
        torch.testing.assert_close(resumed.model[name], tensor, rtol=1e-4, atol=1e-6)
    manifests.verify(run / "checkpoints" / f"step-{last + 9:08d}")
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == list(range(1, last + 10))

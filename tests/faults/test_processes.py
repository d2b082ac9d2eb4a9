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
from seqvae.io import storage
from seqvae.training import distributed
from seqvae.training.state import newest_intact

TIMEOUT_S = 300
GLOO = dist.is_available() and dist.is_gloo_available()
pytestmark = pytest.mark.skipif(not GLOO or sys.platform != "linux", reason="processes are found as Linux shows them")


@pytest.fixture
def run(tmp_path) -> Path:
    """Where the run will be. Its updates have no noise: any number of processes makes the same ones, to rounding."""
    config = settings(
        data=write_corpus(tmp_path),
        model=NO_DROPOUT,
        objective={"strategies": [{"name": "autoencoder"}]},
        train={"epochs": 10_000, "save_every": 7, "keep_checkpoints": 3, "optimizer": {"name": "sgd", "lr": 0.01}},
    )
    (tmp_path / "toy.yaml").write_text(Config.from_dict(config).to_yaml(), encoding="utf-8")
    return tmp_path / "run"


@contextmanager
def torchrun(run: Path, processes: int, updates: int) -> Iterator[subprocess.Popen]:
    """Training of so many processes in the folder of the run, once so many updates have been told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    training = subprocess.Popen(
        [*command, "-m", "seqvae", "train", "--config", "toy.yaml", "--out", run.name],
        cwd=run.parent,
        env=os.environ | {"PYTHONPATH": str(Path(seqvae.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics, end = run / "metrics.jsonl", time.monotonic() + TIMEOUT_S
        while not (metrics.exists() and metrics.read_bytes().count(b'"train"') > updates):
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
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {
            int(variable.removeprefix(b"RANK=")): int(child) for variable in variables if variable[:5] == b"RANK="
        }
    return found


def test_sigterm_to_torchrun_stops_all_and_saves(run):
    with torchrun(run, 2, updates=2) as training:
        training.send_signal(signal.SIGTERM)
        _, told = training.communicate(timeout=TIMEOUT_S)
    assert told.count("run      run\n") == 1
    assert told.count("stopped  by SIGTERM; everything is saved") == 1
    assert "resume   seqvae train --resume run\n" in told
    checkpoint, notes = newest_intact(run / "checkpoints")
    assert checkpoint.progress.step > 2
    assert notes == []
    assert distributed.ranks_of(checkpoint.training) == 2


def test_where_a_process_is_killed_the_others_end_and_fewer_go_on(run):
    with torchrun(run, 3, updates=20) as training:
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
        patch.chdir(run.parent)
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
    storage.verify(run / "checkpoints" / f"step-{last + 9:08d}")
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines if '"train"' in line] == list(range(1, last + 10))

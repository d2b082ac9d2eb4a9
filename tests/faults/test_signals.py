"""SIGINT and SIGTERM at any moment of a run: what is under way is finished, all is saved, and the way on is told."""

import os
import signal
from pathlib import Path

import pytest

from seqvae.training.state import newest_intact
from seqvae.training.trainer import Trainer

TRAIN = ("train", "--config", "small.yaml", "--set", "train.save_every=4")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("moment", ["_train_on", "_validate", "_save"])
def test_a_signal_in_the_midst_of_anything_costs_nothing(desk, monkeypatch, moment, name, code):
    assert desk(*TRAIN, "--out", "whole").exit_code == 0
    method, calls = getattr(Trainer, moment), []

    def signalled(trainer, *arguments):
        calls.append(trainer.progress.step)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.Signals[name])
        return method(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, moment, signalled)
        result = desk(*TRAIN, "--out", "run")
    assert (result.exit_code, result.stdout) == (code, "")
    assert f"stopped  by {name}; everything is saved\n" in result.stderr
    assert result.stderr.endswith("resume   seqvae train --resume run\n")
    checkpoint, notes = newest_intact(Path("run/checkpoints"))
    assert notes == []
    assert checkpoint.progress.step - calls[1] in (0, 1), "the update that was under way is the last one"
    assert not list(Path("run").rglob(".tmp*"))
    assert desk("train", "--resume", "run").exit_code == 0
    whole, resumed = (Path(folder, "model/model.safetensors").read_bytes() for folder in ("whole", "run"))
    assert resumed == whole

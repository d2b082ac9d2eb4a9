"""Fifty SIGKILLs of real training, half of them inside a save: methods with state of their own, phases, two processes.

Ten of them in every run of the tests, the others with those that take long.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_kill_and_resume import assert_same_run
from training_toys import settings, write_corpus

import seqvae
from seqvae.config import Config

ROOT = Path(seqvae.__file__).parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

TRAIN = {"save_every": 3, "validate_every": 5, "steps": 31}
PHASES = [
    {"name": "first", "strategies": [{"name": "beta", "beta": 0.1}], "steps": 14},
    {"name": "second", "reset": ["decoder"], "strategies": [{"name": "kl_annealing", "epochs": 2}], "steps": 17},
]
KINDS = {
    "multiplier-1": {"objective": {"strategies": [{"name": "minimum_rate"}, {"name": "word_dropout", "rate": 0.3}]}},
    "aggressive-1": {"objective": {"strategies": [{"name": "aggressive", "inner_steps": 4, "window": 2}]}},
    "phases-1": {"train": {"phases": PHASES}},
    "multiplier-2": {"objective": {"strategies": [{"name": "minimum_rate"}]}},
}
"""By name and number of processes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    paths = write_corpus(folder)
    for kind, changes in KINDS.items():
        config = settings(data=paths, train=TRAIN | changes.get("train", {}), objective=changes.get("objective", {}))
        (folder / f"{kind}.yaml").write_text(Config.from_dict(config).to_yaml(), encoding="utf-8")
    return folder


def killed(folder: Path, kills: int, seed: int) -> None:
    """Each kind is killed so many times and goes on each time: what it comes to is what it comes to undisturbed."""
    command = [sys.executable, Path(__file__).with_name("kill.py"), folder, str(kills), str(seed)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SEQVAE_CACHE": str(folder / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert hits.keys() == KINDS.keys()
    assert sum(living for living, _ in hits.values()) >= 0.8 * kills * len(KINDS), hits
    assert sum(in_a_save for _, in_a_save in hits.values()) >= 0.2 * kills * len(KINDS), hits
    for kind in KINDS:
        assert_same_run(folder / f"{kind}-{seed}", folder / f"whole-{kind}")


@needs_fork
def test_every_kind_of_run_is_killed_and_ends_as_if_it_had_not_been(folder):
    killed(folder, kills=2, seed=0)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kills"), [(1, 4), (2, 7)])
def test_fifty_kills_in_all_change_nothing(folder, seed, kills):
    killed(folder, kills, seed)

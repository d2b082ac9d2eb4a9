"""Trainings that a table is made of: each may be stopped and goes on, and what is done is not done again."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.collapse_measure import Split, facts_of, measure
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.training.run import train


def do_once(
    config: Config,
    run: Path,
    kept: Path,
    *,
    sentences: int | None,
    about: Mapping[str, Any],
    split: Split = "test",
) -> None:
    """Train and measure, and keep what was found with what it is ``about``; nothing where it is ``kept`` already.

    ``sentences`` of the split are measured, None: all. A training that diverges is a result, and kept as such.
    """
    if kept.exists():
        _check_kept(kept, config, sentences)
        print(f"kept in {kept}", flush=True)
        return
    print(f"{run}", flush=True)
    run.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock(run.parent / "seconds.json")
    try:
        _finish(config, run, clock)
        seconds = clock.spent
        found = measure(config, run, sentences, split) | {"failed": None}
    except SeqVAEError as error:
        if not error.code.startswith("E5"):
            raise
        seconds = clock.spent
        found = {"failed": f"{error.code}: {error.what}", "facts": facts_of(run)}
    seconds["measuring_cpu"] = clock.spent["cpu"] - seconds["cpu"]
    found = {**about, "config": config.to_yaml(), "sentences": sentences, "seconds": seconds, **found}
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    part.replace(kept)


def _check_kept(kept: Path, config: Config, sentences: int | None) -> None:
    found = json.loads(kept.read_text(encoding="utf-8"))
    before = Config.from_dict(yaml.safe_load(found["config"]))
    before = before.replace(**{"eval.precision": config.eval.precision})  # the page says which; either is the bound
    changed = [] if before.model_dump() == config.model_dump() else ["config"]
    changed += [] if found["sentences"] == sentences else ["sentences"]
    if changed:
        raise SystemExit(f"{kept} was made with other {' and '.join(changed)}: move it away, or choose another folder")


class Clock:
    """Seconds of a training over all its sessions: by the wall, and of the processor.

    They are kept where the run keeps its own state, so what is lost with a killed session is not counted.
    """

    def __init__(self, path: Path):
        self.path = path
        self.before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"wall": 0.0, "cpu": 0.0}
        self.began = {"wall": time.monotonic(), "cpu": time.process_time()}

    @property
    def spent(self) -> dict[str, float]:
        now = {"wall": time.monotonic(), "cpu": time.process_time()}
        return {name: self.before[name] + now[name] - self.began[name] for name in now}

    def keep(self) -> None:
        self.path.write_text(json.dumps(self.spent), encoding="utf-8")

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] in ("valid", "end"):
            self.keep()


def _finish(config: Config, run: Path, clock: Clock) -> None:
    """Begin the run, or go on with it, how it is measured aside; nothing where the training is over."""
    finished = train(config, resume=run, allow_change=["eval"], observers=[clock]).finished
    if not finished:
        clock.keep()
        raise SystemExit(f"stopped; the same command goes on with {run}")

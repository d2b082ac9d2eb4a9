"""Training for an hour, killed at random: does memory stay flat, and is nothing left behind?

    python -m benchmarks.soak --out benchmarks/results/soak.md

A corpus of ``--lines`` sentences of the grammar is written, prepared and trained on for ``--minutes``; training is a
process of its own that gets SIGKILL after random times (``--seed``), about ``--kill-every`` seconds apart, and is gone
on with by ``--resume auto``. Every second its memory, open files and threads are read. At the end SIGTERM stops it, and
what is on the disk is held against what should be. Linux alone tells all of that (``/proc``). A short try:

    python -m benchmarks.soak --minutes 2 --lines 50000 --kill-every 15
"""

import argparse
import contextlib
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import seqvae
from benchmarks.report import command, table
from seqvae.config import Config
from seqvae.data.grammar import Grammar, write_lines
from seqvae.training.history import read_events
from seqvae.training.layout import CHECKPOINTS, METRICS

MODULE = "benchmarks.soak"
ROOT = Path(seqvae.__file__).parent.parent
VALID_LINES = 2_000
AGES_MIN = (0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 45)
STARTED_WITHIN_S = 3_600.0
"""A corpus of ten million lines is prepared once, by the first process."""


@dataclass
class Life:
    """One process: seconds since its first update, and what it held then."""

    seconds: list[float] = field(default_factory=list)
    own_mb: list[float] = field(default_factory=list)
    mapped_mb: list[float] = field(default_factory=list)
    """Of files, the corpus above all: pages that came in as they were read, and that the system may take back."""
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    end: str = ""


@dataclass
class Soak:
    folder: Path
    chance: random.Random
    kill_every_s: float
    lives: list[Life] = field(default_factory=list)
    redone: int = 0
    """Updates that came after the newest checkpoint when a process was killed, and were made again."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def begun(self) -> subprocess.Popen:
        words = ["train", "--config", "soak.yaml", "--out", "run", "--resume", "auto"]
        own = {"SEQVAE_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": str(ROOT)}
        with open(self.folder / "told.txt", "ab") as told:
            return subprocess.Popen(
                [sys.executable, "-m", "seqvae", *words],
                cwd=self.folder,
                env=os.environ | own,
                stdout=told,
                stderr=told,
            )

    def train(self, seconds: float) -> None:
        """Processes one after the other, each killed at a moment of its own; the last one is stopped.

        The time counts from the first update of the first process: before it the text is prepared.
        """
        end = float("inf")
        while True:
            life, process = Life(), self.begun()
            self.lives.append(life)
            try:
                first = self._first_update(process)
                end = min(end, first + seconds)
                killed_at = first + self.chance.uniform(0.2, 1.8) * self.kill_every_s
                while (now := time.monotonic()) < min(killed_at, end):
                    if process.poll() is not None:
                        raise SystemExit(f"the training ended by itself, with {process.returncode}: {self.told()}")
                    look(process.pid, now - first, life)
                    time.sleep(min(1.0, max(0.01, killed_at - now)))
                last = now >= end
                process.send_signal(signal.SIGTERM if last else signal.SIGKILL)
                code = process.wait()
            finally:
                process.kill()
            life.end = signal.Signals(-code).name if code < 0 else f"exit {code}"
            if last:
                return
            newest = max((int(path.name[5:]) for path in (self.run / CHECKPOINTS).glob("step-*")), default=0)
            self.redone += read_events(self.run / METRICS)[-1]["step"] - newest

    def told(self) -> str:
        return (self.folder / "told.txt").read_text(encoding="utf-8")[-2000:]

    def _first_update(self, process: subprocess.Popen) -> float:
        path, began, deadline = self.run / METRICS, time.time(), time.monotonic() + STARTED_WITHIN_S
        while not (path.exists() and path.stat().st_mtime > began and path.stat().st_size > 0):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the training did not begin: {self.told()}")
            time.sleep(0.2)
        return time.monotonic()


def look(pid: int, second: float, life: Life) -> None:
    """What a process holds now. Nothing where it has just ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))
        own, mapped = (int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    except (OSError, KeyError):
        return
    life.seconds.append(second)
    life.own_mb.append(own)
    life.mapped_mb.append(mapped)
    life.files.append(files)
    life.threads.append(int(status["Threads"]))


def slope(lives: Sequence[Life], warm_up_s: float) -> tuple[float, float]:
    """Growth of a process's own memory in MB an hour, and its standard error: least squares, with a level for each."""
    seconds, sizes, levels = [], [], 0
    for life in lives:
        warm = np.array(life.seconds) > warm_up_s
        if warm.sum() > 2:
            x, y = np.array(life.seconds)[warm], np.array(life.own_mb)[warm]
            seconds.append(x - x.mean())
            sizes.append(y - y.mean())
            levels += 1
    if not seconds:
        return float("nan"), float("nan")
    x, y = np.concatenate(seconds), np.concatenate(sizes)
    steepness = float(x @ y / (x @ x))
    freedom = max(1, len(x) - levels - 1)
    error = float(np.sqrt(((y - steepness * x) ** 2).sum() / freedom / (x @ x)))
    return 3600 * steepness, 3600 * error


def by_age(lives: Sequence[Life]) -> dict[float, str]:
    """Minutes that a process has trained for: what it holds, least and most of those that came to that age."""
    found = {}
    for minutes in AGES_MIN:
        old = [life for life in lives if life.seconds and life.seconds[-1] >= 60 * minutes]
        sizes = [life.own_mb[int(np.searchsorted(life.seconds, 60 * minutes))] for life in old]
        if sizes:
            least, most = min(sizes), max(sizes)
            found[minutes] = f"{least:,.0f} MB" if len(sizes) == 1 else f"{least:,.0f} to {most:,.0f} MB"
    return found


def left_behind(soak: Soak) -> dict[str, list[str]]:
    """What should not be there once all has ended: by kind, empty where all is well."""
    keep = Config.from_yaml(soak.run / "config.yaml").train.keep_checkpoints
    names = sorted(path.name for path in (soak.run / "checkpoints").iterdir())
    known = {"config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "checkpoints", "model", "tokenizer"}
    everywhere = [str(path.relative_to(soak.folder)) for path in soak.folder.rglob("*")]
    processes = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SEQVAE_CACHE={soak.folder}".encode() in path.read_bytes():
                processes.append(path.parent.name)
        except OSError:  # of another user, or just ended
            continue
    return {
        "files in the run": sorted(path.name for path in soak.run.iterdir() if path.name not in known),
        "temporary files": [
            name
            for name in everywhere
            # An empty folder of that name is made by an import of PyTorch.
            if ".tmp-" in name or (name.startswith("tmp/") and not name.startswith("tmp/torchinductor_"))
        ],
        "checkpoints beyond those kept": names[:-keep],
        "damaged checkpoints": [name for name in names if not name.startswith("step-")],
        "processes": processes,
    }


def settings() -> Mapping[str, Any]:
    """A small model that saves often, so that kills meet saves."""
    return {
        "data": {"train": "train.txt", "valid": "valid.txt", "batch_size": 64},
        "model": {
            "latent_dim": 16,
            "encoder": {"embedding": 64, "hidden": 64},
            "decoder": {"embedding": 64, "hidden": 64},
        },
        "objective": {"strategies": [{"name": "kl_annealing", "epochs": 0.1}]},
        "train": {
            "device": "cpu",
            "precision": "fp32",
            "steps": 1_000_000_000,
            "epochs": 1_000_000,
            "save_every": 100,
            "validate_every": 500,
            "log_every": 20,
        },
    }


def page(soak: Soak, arguments: argparse.Namespace) -> str:
    metrics = [event for event in read_events(soak.run / METRICS) if event["event"] == "train"]
    steps = [event["step"] for event in metrics]
    warm_up_s = arguments.warm_up
    growth, error = slope(soak.lives, warm_up_s)
    held = [life for life in soak.lives if life.own_mb]
    kills = sum(life.end == signal.SIGKILL.name for life in soak.lives)
    rows = [
        ["sentences", f"{arguments.lines:,}"],
        ["minutes of training", f"{arguments.minutes:g}"],
        ["updates in the run", f"{steps[-1]:,}"],
        ["SIGKILLs", str(kills)],
        ["updates in order, none twice", "yes" if steps == sorted(set(steps)) else "NO"],
        ["updates made again after kills", f"{soak.redone:,}"],
        ["a process's own memory, first and most", _first_and_most([life.own_mb for life in held])],
        ["pages of files that are mapped, first and most", _first_and_most([life.mapped_mb for life in held])],
        *([f"own memory {age:g} min after the first update", told] for age, told in by_age(held).items()),
        [
            f"growth of own memory from {warm_up_s:g} s after the first update on",
            f"{growth:+.1f} ± {error:.1f} MB an hour",
        ],
        ["open files, most at the end of a process", str(max(life.files[-1] for life in held))],
        ["open files, most at the beginning of one", str(max(life.files[0] for life in held))],
        ["threads, most", str(max(max(life.threads) for life in held))],
        ["end of the last process", soak.lives[-1].end],
    ]
    rows += [[f"left behind: {kind}", ", ".join(names[:5]) or "none"] for kind, names in left_behind(soak).items()]
    lines = [
        "# A soak: training that is killed at random",
        "",
        f"Measured by `{command(['python', '-m', MODULE, *sys.argv[1:]])}`.",
        f"seqvae {seqvae.__version__}, torch {version('torch')}, python {platform.python_version()},"
        f" {platform.machine()}, {os.cpu_count()} cores.",
        "",
        table(["", ""], rows),
        "",
    ]
    return "\n".join(lines)


def _first_and_most(sizes: Sequence[Sequence[float]]) -> str:
    return f"{sizes[0][0]:,.0f}, {max(map(max, sizes)):,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--kill-every", type=float, default=120.0, help="seconds between kills, on average")
    parser.add_argument(
        "--warm-up", type=float, default=45.0, help="seconds after the first update from which growth is counted"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where corpus and run are kept (default: a temporary folder)")
    parser.add_argument("--out", type=Path, help="the page")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        soak = Soak(folder.resolve(), random.Random(arguments.seed), arguments.kill_every)
        (soak.folder / "tmp").mkdir(parents=True)
        write_lines(Grammar.default(), arguments.lines, arguments.seed, soak.folder / "train.txt", labels=False)
        write_lines(Grammar.default(), VALID_LINES, arguments.seed + 1, soak.folder / "valid.txt", labels=False)
        config = Config.from_dict(settings())
        (soak.folder / "soak.yaml").write_text(config.to_yaml(), encoding="utf-8")
        soak.train(60 * arguments.minutes)
        text = page(soak, arguments)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

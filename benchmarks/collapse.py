"""Which methods cure posterior collapse: each beside the uncured model, in the same network and budget.

    python -m benchmarks.collapse

One row for every recipe that is shipped and for the baselines, three seeds on the small corpus and one on Penn
Treebank. All rows of a corpus share what ``benchmarks/configs/collapse-CORPUS.yaml`` says: network, optimizer, order of
the sentences, number of updates; of its recipe a row takes what makes the method. Each row and seed leaves a JSON under
``--work``: what is there is not done again, and a training that was stopped goes on. So the work can be shared out by
``--rows``, ``--seeds`` and ``--corpus`` among processes; the page is made of whatever is there, and says what is not.
``--steps 10 --sentences 40`` tries the script out, in a folder of its own.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.collapse_measure import facts_of, measure
from benchmarks.collapse_page import page
from benchmarks.collapse_rows import SEEDS, Corpus, Row, applies, config_of, rows
from benchmarks.collapse_verdict import Done
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.training.run import train

SENTENCES: Mapping[Corpus, int | None] = {"tiny": None, "ptb": 1_000}
"""Test sentences that are measured, the first ones; None: all of them."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    for corpus in arguments.corpus:
        for seed in arguments.seeds or SEEDS[corpus]:
            for row in (rows()[name] for name in arguments.rows or rows()):
                if applies(row, corpus) and not arguments.page_only:
                    _do(row, corpus, seed, arguments)
    done = {corpus: _done(corpus, arguments.work) for corpus in SEEDS}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page(done, __spec__.name), encoding="utf-8")
    print(f"{sum(map(len, done.values()))} trainings in {arguments.out}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", nargs="+", choices=list(SEEDS), default=list(SEEDS), help="do these corpora")
    parser.add_argument("--rows", metavar="NAME", nargs="+", choices=list(rows()), help="do these rows")
    parser.add_argument("--seeds", metavar="N", nargs="+", type=int, help="do these seeds")
    parser.add_argument("--work", type=Path, default=Path("runs/collapse"), help="what is done is kept here")
    parser.add_argument("--steps", type=int, help="updates, in place of those of the configs: to try the script out")
    parser.add_argument("--sentences", type=int, help="test sentences to measure: to try the script out")
    parser.add_argument("--page-only", action="store_true", help="train nothing, only write the page")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/collapse.md"))
    return parser.parse_args(argv)


def _folder(work: Path, corpus: Corpus, row: str, seed: int) -> Path:
    return work / corpus / row / f"seed-{seed}"


def _do(row: Row, corpus: Corpus, seed: int, arguments: argparse.Namespace) -> None:
    """Train and measure one row with one seed, unless it is kept already."""
    folder = _folder(arguments.work, corpus, row.name, seed)
    config = config_of(row, corpus, seed, arguments.steps)
    sentences = arguments.sentences or SENTENCES[corpus]
    asked = {"config": config.to_yaml(), "sentences": sentences, "steps": arguments.steps}
    kept, name = folder / "row.json", f"{corpus}, {row.name}, seed {seed}"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if changed := [key for key, value in asked.items() if found[key] != value]:
            raise SystemExit(f"{kept} was made with another {' and '.join(changed)}: choose another --work")
        print(f"{name}: kept in {kept}", flush=True)
        return
    print(f"{name}: {folder / 'run'}", flush=True)
    clock = Clock(folder / "seconds.json")
    try:
        _train(config, folder / "run", clock)
        seconds = clock.spent
        found = measure(config, folder / "run", sentences) | {"failed": None}
    except SeqVAEError as error:
        if not error.code.startswith("E5"):  # it diverged: that is a result
            raise
        seconds = clock.spent
        found = {"failed": f"{error.code}: {error.what}", "facts": facts_of(folder / "run")}
    seconds["measuring_cpu"] = clock.spent["cpu"] - seconds["cpu"]
    found = {"row": row.name, "title": row.title, "seed": seed, **asked, "seconds": seconds, **found}
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    part.rename(kept)


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


def _train(config: Config, run: Path, clock: Clock) -> None:
    """Begin, or go on; nothing where the training is over."""
    run.parent.mkdir(parents=True, exist_ok=True)
    finished = train(config, resume=run, observers=[clock]).finished
    if not finished:
        clock.keep()
        raise SystemExit(f"stopped; the same command goes on with {run}")


def _done(corpus: Corpus, work: Path) -> list[Done]:
    """Everything that is kept of a corpus."""
    found = []
    for name in rows():
        for path in sorted((work / corpus / name).glob("seed-*/row.json")):
            found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


if __name__ == "__main__":
    main()

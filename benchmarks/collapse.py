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
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.collapse_page import page
from benchmarks.collapse_rows import SEEDS, Corpus, Row, applies, config_of, rows
from benchmarks.collapse_verdict import Done
from benchmarks.trainings import do_once

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
    do_once(
        config_of(row, corpus, seed, arguments.steps),
        folder / "run",
        folder / "row.json",
        sentences=arguments.sentences or SENTENCES[corpus],
        about={"row": row.name, "title": row.title, "seed": seed, "steps": arguments.steps},
    )


def _done(corpus: Corpus, work: Path) -> list[Done]:
    """Everything that is kept of a corpus."""
    found = []
    for name in rows():
        for path in sorted((work / corpus / name).glob("seed-*/row.json")):
            found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


if __name__ == "__main__":
    main()

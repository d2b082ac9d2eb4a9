"""Many thousand cases of whatever can come from outside, and what came of them.

    python -m benchmarks.fuzz --cases 100000 --training-cases 2000 --jobs 2 --out benchmarks/results/fuzz.md

Cases are drawn by Hypothesis; each batch runs in a process of its own, with a seed of its own, so that a case that
takes the process down is found as well. A finding is whatever is not an answer and not an error as documented: it is
shown in its smallest form and the run goes on with the next batch.
"""

import argparse
import collections
import contextlib
import itertools
import json
import multiprocessing
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import hypothesis

import seqvae
from benchmarks.report import command, table

BATCH, TRAINING_BATCH = 2_000, 50
CASE_S = 60
"""Seconds after which a single case is a finding."""
MEMORY = 12 * 2**30
"""Bytes of address space for a batch: a case that asks for more is told, and takes nothing from the machine."""


class TookTooLong(BaseException):
    """Not an Exception: nothing on the way may take it for a fault of its own."""


class Finding(Exception):
    """The smallest case that fails, and how."""


def fuzz(name: str, cases: int, seed: int, outcomes: collections.Counter[str]) -> None:
    """Counts what comes of ``cases`` cases of one target in ``outcomes``; raises `Finding` where one fails."""
    from benchmarks.fuzz_targets import TARGETS

    target = next(target for target in TARGETS if target.name == name)
    failing: list[tuple[object, BaseException]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(target.cases)
    def one(case: object) -> None:
        try:
            with _in_time():
                outcomes[target.check(case)] += 1
        except BaseException as error:
            failing[:] = [(case, error)]  # the last one is the smallest
            raise

    try:
        one()
    except BaseException as error:
        case, error = failing[0] if failing else (None, error)
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}\n  at {Path(place.filename).name}:{place.lineno}"
        raise Finding(f"{said}\n  case {ascii(case)[:2000]}") from error


class _in_time:
    """Raises `TookTooLong` where the block takes more than `CASE_S` seconds."""

    def __enter__(self) -> None:
        def ring(*_: object) -> None:
            raise TookTooLong(f"more than {CASE_S} s")

        if hasattr(signal, "setitimer"):
            self.before = signal.signal(signal.SIGALRM, ring)
            signal.setitimer(signal.ITIMER_REAL, CASE_S)

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)


def _batch(name: str, cases: int, seed: int, pipe) -> None:
    """In a process of its own: sends (outcomes, finding or None)."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: collections.Counter[str] = collections.Counter()
    try:
        fuzz(name, cases, seed, outcomes)
    except Finding as finding:
        pipe.send((dict(outcomes), str(finding)))
    else:
        pipe.send((dict(outcomes), None))


def _run_batch(name: str, cases: int, seed: int) -> tuple[dict[str, int], str | None]:
    """(outcomes, finding) of one batch."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_batch, args=(name, cases, seed, theirs))
    process.start()
    theirs.close()
    try:
        found, finding = ours.recv()
    except EOFError:
        process.join()
        found, finding = {}, f"the process was taken down, exit code {process.exitcode}"
    process.join()
    return found, None if finding is None else f"seed {seed}: {finding}"


def run_target(
    name: str, cases: int, size: int, *, first_seed: int = 0, jobs: int = 1
) -> tuple[collections.Counter[str], list[str]]:
    """(outcomes, findings), in batches of ``size`` cases of which ``jobs`` run at once."""
    outcomes: collections.Counter[str] = collections.Counter()
    findings: list[str] = []
    counts = [min(size, cases - start) for start in range(0, cases, size)]
    with ThreadPoolExecutor(jobs) as pool:
        for found, finding in pool.map(partial(_run_batch, name), counts, itertools.count(first_seed)):
            outcomes.update(found)
            findings += [] if finding is None else [finding]
            told = f"{name}: {outcomes.total():,} of {cases:,} cases, {len(findings)} findings"
            print(told if finding is None else f"{told}\n{finding}", file=sys.stderr, flush=True)
    return outcomes, findings


def main(argv: Sequence[str] | None = None) -> None:
    from benchmarks.fuzz_targets import TARGETS

    arguments = _parse(argv, [target.name for target in TARGETS])
    rows, sections, began = [], [], time.monotonic()
    for target in TARGETS:
        if arguments.target and target.name not in arguments.target:
            continue
        cases = arguments.training_cases if target.trains else arguments.cases
        size = TRAINING_BATCH if target.trains else BATCH
        started = time.monotonic()
        outcomes, findings = run_target(target.name, cases, size, first_seed=arguments.seed, jobs=arguments.jobs)
        minutes = (time.monotonic() - started) / 60
        rows.append((target.name, f"{outcomes.total():,}", str(len(findings)), str(len(outcomes)), f"{minutes:.1f}"))
        sections.append(f"**{target.name}**: " + ", ".join(f"{name} {n:,}" for name, n in outcomes.most_common()))
        sections += [f"Finding:\n\n```text\n{finding}\n```" for finding in findings]
    page = _page(rows, sections, (time.monotonic() - began) / 60, argv)
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")


def _page(rows: list[tuple[str, ...]], sections: list[str], minutes: float, argv: Sequence[str] | None) -> str:
    versions = {"seqvae": seqvae.__version__, "hypothesis": hypothesis.__version__, "python": platform.python_version()}
    made = command(["python", "-m", "benchmarks.fuzz", *(sys.argv[1:] if argv is None else argv)])
    return "\n\n".join(
        [
            "# Fuzzing",
            f"Made by `{made}` in {minutes:.0f} minutes, {json.dumps(versions)}.",
            "A finding is an exception that no user should see, an exit code that is not documented, a changed file"
            f" that was loaded, a wrong answer, a case of more than {CASE_S} seconds, or a process taken down.",
            table(("target", "cases", "findings", "kinds of outcome", "minutes"), rows),
            "## What came of the cases",
            "Codes are those of `seqvae explain`; ok, reads, opens, loads: it was taken, and held what is checked.",
            *sections,
            "",
        ]
    )


def _parse(argv: Sequence[str] | None, names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="cases of each target")
    parser.add_argument("--training-cases", type=int, default=20, help="cases of the target that trains")
    parser.add_argument("--target", action="append", choices=names, help="this target alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first batch; the next ones count on")
    parser.add_argument("--jobs", type=int, default=1, help="batches at once")
    parser.add_argument("--out", type=Path, help="Markdown file to write; without it, standard output")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

"""Many thousand cases of whatever can come from outside, and what came of them.

    python -m benchmarks.fuzz --cases 100000 --training-cases 2000 --jobs 2 --out benchmarks/results/fuzz.md

``--cases`` are those of each kind (what parses, command lines, what loads), dealt to the targets of that
kind. Cases are drawn by Hypothesis; each batch runs in a process of its own, with a seed of its own, so that a case
that takes the process down is found as well. A finding is whatever is not an answer and not an error as documented: it
is shown in its smallest form and the run goes on with the next batch.

``--guided-cases`` come on top for the targets where most cases drawn by chance are refused at the first look: there
libFuzzer steers what Hypothesis draws by the lines of seqvae that are reached (``pip install atheris``, Linux).
"""

import argparse
import collections
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis

from benchmarks.report import command, table

# Nothing of seqvae is imported here: in a guided batch it is imported under the eyes of the fuzzer.

BATCH, TRAINING_BATCH = 5_000, 50
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
    failing: list[tuple[object, BaseException]] = []
    try:
        _test_of(name, cases, seed, outcomes, failing)()
    except BaseException as error:
        raise _finding(failing, error) from error


def fuzz_guided(
    name: str, cases: int, seed: int, outcomes: collections.Counter[str], done: Callable[[Finding | None], None]
) -> None:
    """The same, steered by the lines of seqvae that are reached. Ends the process, once it has called ``done``."""
    import atheris

    with atheris.instrument_imports(include=["seqvae"]):
        import seqvae  # noqa: F401

        failing: list[tuple[object, BaseException]] = []
        feed = _test_of(name, cases, seed, outcomes, failing).hypothesis.fuzz_one_input

    def one(content: bytes) -> None:
        try:
            feed(content)
        except BaseException as error:
            done(_finding(failing, error))
            os._exit(0)
        if outcomes.total() >= cases:
            done(None)
            os._exit(0)

    quiet = ["-verbosity=0", f"-report_slow_units={CASE_S}"]
    atheris.Setup([sys.argv[0], f"-seed={seed + 1}", "-max_len=4096", "-len_control=0", *quiet], one)
    atheris.Fuzz()


def _test_of(
    name: str,
    cases: int,
    seed: int,
    outcomes: collections.Counter[str],
    failing: list[tuple[object, BaseException]],
) -> Callable[[], None]:
    """That every case of a target is answered as documented; ``failing`` comes to hold the smallest that is not."""
    from benchmarks.fuzz_targets import TARGETS

    target = next(target for target in TARGETS if target.name == name)

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

    return one


def _finding(failing: list[tuple[object, BaseException]], error: BaseException) -> Finding:
    case, error = failing[0] if failing else (None, error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = f"{type(error).__name__}: {error}\n  at {Path(place.filename).name}:{place.lineno}"
    return Finding(f"{said}\n  case {ascii(case)[:2000]}")


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


def _batch(name: str, cases: int, seed: int, guided: bool, pipe) -> None:
    """In a process of its own: sends (outcomes, finding or None)."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: collections.Counter[str] = collections.Counter()

    def done(finding: Finding | None) -> None:
        pipe.send((dict(outcomes), None if finding is None else str(finding)))

    if guided:
        fuzz_guided(name, cases, seed, outcomes, done)
    try:
        fuzz(name, cases, seed, outcomes)
    except Finding as finding:
        done(finding)
    else:
        done(None)


def _run_batch(name: str, guided: bool, cases: int, seed: int) -> tuple[dict[str, int], str | None]:
    """(outcomes, finding) of one batch."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_batch, args=(name, cases, seed, guided, theirs))
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
    name: str, cases: int, size: int, *, first_seed: int = 0, jobs: int = 1, guided: bool = False
) -> tuple[collections.Counter[str], list[str]]:
    """(outcomes, findings), in batches of ``size`` cases of which ``jobs`` run at once."""
    outcomes: collections.Counter[str] = collections.Counter()
    findings: list[str] = []
    counts = [min(size, cases - start) for start in range(0, cases, size)]
    with ThreadPoolExecutor(jobs) as pool:
        for found, finding in pool.map(partial(_run_batch, name, guided), counts, itertools.count(first_seed)):
            outcomes.update(found)
            findings += [] if finding is None else [finding]
            told = f"{name}: {outcomes.total():,} of {cases:,} cases, {len(findings)} findings"
            print(told if finding is None else f"{told}\n{finding}", file=sys.stderr, flush=True)
    return outcomes, findings


def main(argv: Sequence[str] | None = None) -> None:
    from benchmarks.fuzz_targets import TARGETS

    arguments = _parse(argv, [target.name for target in TARGETS])
    kinds = collections.Counter(target.kind for target in TARGETS)
    found: list[dict[str, Any]] = []
    for target in TARGETS:
        trains = target.kind == "training"
        cases = arguments.training_cases if trains else arguments.cases // kinds[target.kind]
        size = TRAINING_BATCH if trains else BATCH
        for title, count, guided in (
            (target.name, cases, False),
            (f"{target.name}, guided", arguments.guided_cases if target.guided else 0, True),
        ):
            kept = None if arguments.work is None else arguments.work / f"{title.replace(' ', '-')}.json"
            if kept is not None and kept.is_file():
                found.append(json.loads(kept.read_text(encoding="utf-8")))
            elif count and not arguments.page_only and (not arguments.target or target.name in arguments.target):
                found.append(_run(target.name, title, count, size, arguments, guided=guided))
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps(found[-1]), encoding="utf-8")
    page = _page(found, argv)
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")


def _run(
    name: str, title: str, cases: int, size: int, arguments: argparse.Namespace, *, guided: bool
) -> dict[str, Any]:
    """One row of the page, as JSON."""
    started = time.monotonic()
    options = {"first_seed": arguments.seed, "jobs": arguments.jobs, "guided": guided}
    outcomes, findings = run_target(name, cases, size, **options)
    minutes = (time.monotonic() - started) / 60
    return {
        "title": title,
        "outcomes": outcomes,
        "findings": findings,
        "minutes": minutes,
        "versions": _versions(guided),
    }


def _versions(guided: bool) -> dict[str, str]:
    names = ["seqvae", "hypothesis", *(["atheris"] if guided else [])]
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def _page(found: Sequence[Mapping[str, Any]], argv: Sequence[str] | None) -> str:
    versions = {name: known for each in found for name, known in each["versions"].items()}
    made = command(["python", "-m", "benchmarks.fuzz", *(sys.argv[1:] if argv is None else argv)])
    rows, sections = [], []
    for each in found:
        outcomes = collections.Counter(each["outcomes"])
        counts = (f"{outcomes.total():,}", str(len(each["findings"])), str(len(outcomes)), f"{each['minutes']:.1f}")
        rows.append((each["title"], *counts))
        counted = ", ".join(f"{outcome} {n:,}" for outcome, n in outcomes.most_common())
        sections.append(f"**{each['title']}**: {counted}")
        sections += [f"Finding:\n\n```text\n{finding}\n```" for finding in each["findings"]]
    total = sum(sum(each["outcomes"].values()) for each in found)
    return "\n\n".join(
        [
            "# Fuzzing",
            f"Made by `{made}` in {sum(each['minutes'] for each in found):.0f} minutes, {json.dumps(versions)}:"
            f" {total:,} cases, {sum(len(each['findings']) for each in found)} findings.",
            "A finding is an exception that no user should see, an exit code that is not documented, a changed file"
            f" that was loaded, a wrong answer, a case of more than {CASE_S} seconds, or a process taken down."
            " Cases are drawn by Hypothesis; guided ones are steered by libFuzzer, by the lines of seqvae they reach.",
            table(("target", "cases", "findings", "kinds of outcome", "minutes"), rows),
            "## What came of the cases",
            "Codes are those of `seqvae explain`; ok, reads, opens, loads: it was taken, and held what is checked.",
            *sections,
            "",
        ]
    )


def _parse(argv: Sequence[str] | None, names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="cases of each kind of target")
    parser.add_argument("--training-cases", type=int, default=20, help="cases of the target that trains")
    parser.add_argument("--guided-cases", type=int, default=0, help="more cases of each target that is guided")
    parser.add_argument("--target", action="append", choices=names, help="this target alone; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first batch; the next ones count on")
    parser.add_argument("--jobs", type=int, default=1, help="batches at once")
    parser.add_argument("--work", type=Path, help="each target's results are kept here, and not made again")
    parser.add_argument("--page-only", action="store_true", help="try nothing, only write the page of what is kept")
    parser.add_argument("--out", type=Path, help="Markdown file to write; without it, standard output")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

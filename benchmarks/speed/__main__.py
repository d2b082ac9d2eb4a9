"""How fast seqvae is beside a textbook: measures what is missing, and writes the page.

    python -m benchmarks.speed

Each row is measured in a process of its own and leaves a JSON under ``--work``: what is there is not measured again, so
the work can be stopped, gone on with, and shared between machines (a GPU's rows on a machine that has one; a row that
could not run is tried again). Let nothing else run meanwhile. ``--quick`` tries the scripts out in a few minutes; its
numbers say nothing.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import command
from benchmarks.speed.page import page
from benchmarks.speed.rows import ROWS

WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""How threads wait, for both sides: as the command line of seqvae sets it."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", metavar="NAME", nargs="+", choices=list(ROWS), default=list(ROWS), help="do these")
    parser.add_argument("--quick", action="store_true", help="try the scripts out")
    parser.add_argument("--work", type=Path, default=Path("runs/speed"), help="what is done is kept here")
    parser.add_argument("--page-only", action="store_true", help="measure nothing, only write the page")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.md"))
    arguments = parser.parse_args(argv)
    for name in arguments.rows:
        if not arguments.page_only:
            _do(name, arguments.work / f"{name}.json", quick=arguments.quick)
    kept = {name: arguments.work / f"{name}.json" for name in ROWS}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in kept.items() if path.is_file()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    made_by = command(["python", "-m", "benchmarks.speed", *(sys.argv[1:] if argv is None else argv)])
    arguments.out.write_text(page(found, made_by), encoding="utf-8")
    done = sum("ratio" in each for each in found.values())
    print(f"{done} of {len(ROWS)} rows in {arguments.out}")


def _do(name: str, kept: Path, *, quick: bool) -> None:
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["quick"] != quick:
            raise SystemExit(
                f"{kept} was made {'with' if found['quick'] else 'without'} --quick: choose another --work"
            )
        if "ratio" in found:
            print(f"{name}: kept in {kept}", flush=True)
            return
    print(f"{name} ...", end=" ", flush=True)
    options = ["--quick"] if quick else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.row", name, "--out", str(kept), *options],
        env=os.environ | WAITING,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed; run again to go on")
    found = json.loads(kept.read_text(encoding="utf-8"))
    told = f"{found['ratio']:.2f} times" if "ratio" in found else f"not run: {found['not_run']}"
    print(f"{told} ({found['took_s']:.0f} s)", flush=True)


if __name__ == "__main__":
    main()

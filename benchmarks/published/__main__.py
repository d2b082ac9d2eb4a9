"""Our numbers beside the published ones: one command for each table.

    python -m benchmarks.published ptb

Each row and seed is a training of its own, measured on the test split. Its config, numbers and learning curve are kept
in ``--results``, its weights under ``--work``; what is kept is not done again, and a training that was stopped goes on.
So a table can be done in pieces, by ``--rows`` and ``--seeds``, on several machines too; the page is made of whatever
is there, and says what is not. ``--steps 10 --sentences 40`` tries the script out, in folders of its own.
"""

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.collapse_verdict import Done
from benchmarks.published.page import page, read_done
from benchmarks.published.tables import Table, read_table, tables
from benchmarks.rounded import RoundedProducts
from benchmarks.trainings import do_once
from seqvae.training.history import read_history
from seqvae.training.runtime import choose_device, gains_from_bf16

RESULTS = Path("benchmarks/results/published")
CURVE = ("step", "elbo_nats", "rec_nats", "kl_nats", "ppl_elbo", "active_units")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    spec = read_table(arguments.table)
    results = arguments.results / arguments.table
    for name in arguments.rows or spec.rows:
        if name not in spec.rows:
            raise SystemExit(f"there is no row {name} in this table, but {', '.join(spec.rows)}")
        for seed in arguments.seeds or spec.rows[name].seeds:
            if not arguments.page_only:
                _do(spec, name, seed, results, arguments)
    out = arguments.results / f"{arguments.table}.md"
    out.parent.mkdir(parents=True, exist_ok=True)
    done = read_done(results, spec)
    drawn = _draw(done, out) if spec.figure else None
    out.write_text(page(arguments.table, spec, done, figure=drawn), encoding="utf-8")
    print(out)


def _draw(done: Mapping[str, Sequence[Done]], page: Path) -> str | None:
    """Rate and distortion of each row (its first seed) beside the page; None while there are none."""
    from seqvae.plots import style
    from seqvae.plots.latent import has_rate, rate_distortion

    reports = {row: some[0]["report"] for row, some in done.items() if some and not some[0]["failed"]}
    if not any(map(has_rate, reports.values())):
        return None
    (path,) = style.save(rate_distortion(reports), page.parent, page.stem, ["svg"])
    return path.name


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables())
    parser.add_argument("--rows", metavar="NAME", nargs="+", help="do these rows")
    parser.add_argument("--seeds", metavar="N", nargs="+", type=int, help="do these seeds")
    parser.add_argument("--work", type=Path, help="the runs are kept here")
    parser.add_argument("--results", type=Path, help="what was found is kept here, with the page")
    parser.add_argument("--iw-samples", metavar="K", type=int, help="samples of the importance-weighted bound")
    parser.add_argument("--iw-precision", choices=("fp32", "bf16"), help="bf16: in half the time, within 1e-5 of fp32")
    parser.add_argument("--steps", type=int, help="updates of each phase: to try the script out")
    parser.add_argument("--sentences", type=int, help="test sentences to measure: to try the script out")
    parser.add_argument("--page-only", action="store_true", help="train nothing, only write the page")
    arguments = parser.parse_args(argv)
    trial = arguments.steps is not None or arguments.sentences is not None
    arguments.work = arguments.work or Path("runs/published-trial" if trial else "runs/published")
    arguments.results = arguments.results or (arguments.work / "results" if trial else RESULTS)
    return arguments


def _do(spec: Table, name: str, seed: int, results: Path, arguments: argparse.Namespace) -> None:
    """Train and measure one row with one seed, unless it is kept already; then keep its config and its curve."""
    config = spec.config_of(
        name, seed, updates=arguments.steps, iw_samples=arguments.iw_samples, iw_precision=arguments.iw_precision
    )
    run = arguments.work / arguments.table / name / f"seed-{seed}" / "run"
    kept = results / name / f"seed-{seed}"
    rounded = config.train.precision == "bf16" and not gains_from_bf16(choose_device(config.train.device))
    about = {"row": name, "seed": seed, "steps": arguments.steps} | ({"rounded": True} if rounded else {})
    with RoundedProducts() if rounded else contextlib.nullcontext():
        do_once(config, run, kept / "eval.json", sentences=arguments.sentences, about=about, split=spec.split)
    if not (kept / "curve.csv").exists():
        (kept / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        (kept / "curve.csv").write_text(_curve(run), encoding="utf-8")


def _curve(run: Path) -> str:
    """The validations of a run, as CSV: updates; nats per sentence, one sample of z."""
    series = read_history(run).valid
    names = [name for name in CURVE if name in series]
    rows = zip(*(series[name] for name in names), strict=True)
    return "\n".join([",".join(names), *(",".join(f"{value:.6g}" for value in row) for row in rows)]) + "\n"


if __name__ == "__main__":
    main()

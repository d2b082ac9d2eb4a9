"""The page of one table: our numbers, the published ones, and how far they lie apart."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.collapse_verdict import Done, shown, values
from benchmarks.published.tables import Row, Table
from benchmarks.report import commit, machine, table, versions

COLUMNS = {
    "ppl_iw": "PPL (IW)",
    "iw_nats": "IW-NLL",
    "elbo_nats": "-ELBO",
    "kl_nats": "KL",
    "rec_nats": "rec",
    "mi_nats": "MI",
    "active_units": "active units",
    "swap_gap_nats": "swap gap",
}


def read_done(folder: Path, spec: Table) -> dict[str, list[Done]]:
    """Everything that is kept of a table, by row, in the order of the seeds."""
    return {
        name: [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"{name}/seed-*/eval.json"))]
        for name in spec.rows
    }


def page(name: str, spec: Table, done: Mapping[str, Sequence[Done]], figure: str | None = None) -> str:
    """Markdown, of whatever is done, with the ``figure`` of that name beside it."""
    sound = {row: [each for each in some if not each["failed"]] for row, some in done.items()}
    beside = any(row.published for row in spec.rows.values())
    title = f"# {spec.title}: beside the published numbers" if beside else f"# {spec.title}"
    parts = [title, _made_by(name, done), spec.about.strip(), _definitions(spec)]
    lines = [line for row, some in sound.items() for line in _lines(row, spec.rows[row], some)]
    parts.append(table(("", *COLUMNS.values(), "hours"), lines))
    if figure is not None:
        parts.append(f"![Rate and distortion of the rows]({figure})")
    remarks = [f"- `{row}`: {text}" for row, some in sound.items() for text in _remarks(spec.rows[row], some)]
    remarks += [
        f"- `{row}` diverged: {each['failed']}" for row, some in done.items() for each in some if each["failed"]
    ]
    if remarks:
        parts.append("\n".join(remarks))
    missing = {row: sorted(set(each.seeds) - {one["seed"] for one in done[row]}) for row, each in spec.rows.items()}
    if any(missing.values()):
        told = ", ".join(f"`{row}` (seed {', '.join(map(str, seeds))})" for row, seeds in missing.items() if seeds)
        parts.append(f"**Not done yet**: {told}.")
    parts += ["## The rows", table(("", ""), [(f"`{row}`", each.title) for row, each in spec.rows.items()])]
    parts += ["## Where each was trained", table(("", "seed", "commit", "on"), list(_machines(done)))]
    return "\n\n".join(parts) + "\n"


def _made_by(name: str, done: Mapping[str, Sequence[Done]]) -> str:
    tried = sorted({each["steps"] for some in done.values() for each in some if each["steps"] is not None})
    text = f"Measured by `python -m benchmarks.published {name}`."
    if any(each["report"].get("precision") == "bf16" for some in done.values() for each in some if not each["failed"]):
        text += " Rows with bounds in bf16: with `--iw-precision bf16`."
    if tried:
        text += f" **A trial of the script, with {tried[0]} updates a phase: the numbers mean nothing.**"
    return text


def _definitions(spec: Table) -> str:
    told = (
        f"{spec.split.capitalize()} split; nats per sentence, -ELBO, rec and KL as means over the k samples of z; PPL ="
        " exp(total IW-NLL / predicted tokens), the end of a sentence counted. MI over the whole split, active units at"
        " 0.01. ± is the standard deviation over seeds; of a single seed the standard error over sentences."
    )
    beside = " *published*: what the source prints; the definitions of its columns are the same."
    return told + (beside if any(row.published for row in spec.rows.values()) else "")


def _lines(name: str, row: Row, done: Sequence[Done]) -> Iterator[list[str]]:
    if done:
        ks = sorted({each["report"]["iw_samples"] for each in done if each["report"]["iw_samples"]})
        told = "".join(f", k = {k}" for k in ks)
        told += ", bounds in bf16" if any(each["report"].get("precision") == "bf16" for each in done) else ""
        seeds = f"{len(done)} seed{'s' if len(done) > 1 else ''}"
        hours = np.mean([each["seconds"]["wall"] for each in done]) / 3600
        yield [f"`{name}` ({seeds}{told})", *_cells(done), f"{hours:.2f}"]
    if row.published and done:
        figures = (f"{row.published[metric]:g}" if metric in row.published else "" for metric in COLUMNS)
        yield ["*published*", *figures, ""]


def _cells(done: Sequence[Done]) -> Iterator[str]:
    for metric, value in values(done, tuple(COLUMNS)).items():
        whole = metric == "active_units" and value is not None and value.noise is None
        yield shown(value, digits=0 if whole else 2)


def _remarks(row: Row, done: Sequence[Done]) -> Iterator[str]:
    if row.note:
        yield f"{row.note}."
    if not done or row.bar_ppl is None:
        return
    excess = float(np.mean([each["report"]["ppl_iw"] for each in done])) - row.published["ppl_iw"]
    held = "within" if excess <= row.bar_ppl else "**outside**"
    yield f"PPL (IW) {excess:+.2f} against the published figure, {held} the bar of +{row.bar_ppl:g}."


def _machines(done: Mapping[str, Sequence[Done]]) -> Iterator[tuple[str, str, str, str]]:
    for name, some in done.items():
        for each in some:
            facts = each["facts"]
            rounded = " made of fp32" if each.get("rounded") else ""
            yield f"`{name}`", str(each["seed"]), commit(facts), f"{machine(facts)}{rounded}; {versions(facts)}"

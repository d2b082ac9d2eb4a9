"""The page of the measurements of speed."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report import table
from benchmarks.speed.rows import ROWS, Row
from seqvae.machine import Ceiling
from seqvae.models.cost import Work, least_seconds

Found = Mapping[str, Any]

HOW = """\
Each ratio is seqvae against `benchmarks/textbook.py`: the same network, weights, data and batches in plain PyTorch
(fp32, packed or equal-length LSTM, all logits at once, sentences written and scored one after another), which the tests
show to give the same losses, gradients, sentences and bounds. The two take turns in one process, and the ratio is that
of the medians; in brackets the least and the greatest of one turn. Of memory it is textbook over seqvae, each in a
process of its own. The share of the machine's best is the least time that the counted floating-point operations and
bytes allow, at the rates of matrix products and of copying that were measured in the same run, over the time that
passed."""


def page(found: Mapping[str, Found], command: str) -> str:
    """Everything that was measured; rows that were not are named as such."""
    sections = ["# Speed", f"Measured by `{command}`.", _machines(found), HOW, _ratios(found), "## What was measured"]
    sections += [f"### {_title(ROWS[name])}\n\n{_details(each)}" for name, each in found.items() if "ratio" in each]
    return "\n\n".join(section for section in sections if section) + "\n"


def _title(row: Row) -> str:
    return f"{row.work}, {'GPU' if row.device == 'cuda' else 'CPU'}"


def _machines(found: Mapping[str, Found]) -> str:
    machines = []
    for each in found.values():
        facts = each["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        gpu = "" if facts["gpu"] is None else f"; GPU {facts['gpu']}"
        machines.append(f"{facts['processor']}, {facts['cores']} cores, {facts['instructions']}{gpu}; {versions}")
    quick = any(each["quick"] for each in found.values())
    note = "\n\n**Made with `--quick`: to try the scripts out. These numbers say nothing.**" if quick else ""
    return "".join(f"Hardware and versions: {each}.\n" for each in dict.fromkeys(machines)).rstrip() + note


def _ratios(found: Mapping[str, Found]) -> str:
    lines = []
    for name, row in ROWS.items():
        each = found.get(name, {"not_run": "not yet"})
        bar = f"{row.bar:g}" + (f" (aim: {row.aim})" if row.aim else "")
        if "ratio" not in each:
            lines.append((f"`{name}`", _title(row), bar, f"not run: {each['not_run']}", "", "", ""))
            continue
        spread = f" ({each['low']:.2f} to {each['high']:.2f})" if each["low"] != each["high"] else ""
        reached = "yes" if each["ratio"] >= row.bar else "**no**"
        best = share_of_best(each, row.device)
        lines.append(
            (
                f"`{name}`",
                _title(row),
                bar,
                f"{each['ratio']:.2f}{spread}",
                reached,
                f"{each['precision']}, {each['threads']} threads",
                "-" if best is None else f"{best:.0%}",
            )
        )
    header = ("row", "work", "bar", "times textbook", "reached", "seqvae", "of the machine's best")
    return table(header, lines)


def share_of_best(found: Found, device: str) -> float | None:
    """The least time for one unit of work, part after part, over the time that it took."""
    best = found["ceiling"]
    if best is None or not found["work"]:
        return None
    work = {name: Work(*each) for name, each in found["work"].items()}
    least = least_seconds(work, Ceiling(**best), device=device, bf16=found["precision"] == "bf16")
    return least * found["seqvae"]


def _details(found: Found) -> str:
    unit = found["unit"]
    lines = []
    if unit != "bytes":
        lines.append(f"seqvae {found['seqvae']:,.0f} {unit}, textbook {found['textbook']:,.0f} {unit}")
        lines.append(f"load when it began: {found['load']:.1f}")
    if (best := found["ceiling"]) is not None:
        rates = f"fp32 {best['fp32_flops_per_s'] / 1e9:,.0f}, bf16 {best['bf16_flops_per_s'] / 1e9:,.0f}"
        lines.append(
            f"the machine at its best: {rates} billion operations/s, {best['bytes_per_s'] / 1e9:,.1f} GB/s of memory"
        )
    if found["work"]:
        flops, moved = (sum(part[place] for part in found["work"].values()) for place in (0, 1))
        lines.append(f"counted for one of {unit[:-2]}: {flops / 1e6:,.2f} million operations, {moved / 1e3:,.1f} kB")
    lines += [found["agreement"]] if found["agreement"] else []
    for name, fact in found["facts"].items():
        shown = ", ".join(f"{key} {value}" for key, value in fact.items()) if isinstance(fact, dict) else fact
        lines.append(f"{name}: {shown:,}" if isinstance(shown, int) else f"{name}: {shown}")
    return "\n".join(f"- {line}" for line in lines)

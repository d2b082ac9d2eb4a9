"""The page that ``benchmarks.breadth`` writes."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import command, table

HEADER = ("", "vocabulary", "IW-NLL", "per character", "KL", "MI", "active units", "swap gap", "in use", "training")


def page(rows: Mapping[str, Mapping[str, Any]], module: str, argv: Sequence[str] | None) -> str:
    """Markdown: one table of all rows, then each with its commands, numbers and outputs."""
    sections = [
        "# Many kinds of text",
        f"Measured by `{command(['python', '-m', module, *(sys.argv[1:] if argv is None else argv)])}`.",
        *_surroundings(rows),
        "IW-NLL, KL, MI and swap gap are nats per sentence of the test split, as `seqvae eval` measures them.",
        table(HEADER, [_summary(row) for row in rows.values()]),
        *(_section(row) for row in rows.values()),
    ]
    return "\n\n".join(sections) + "\n"


def _surroundings(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["Nothing has been measured yet."]
    facts = next(iter(rows.values()))["facts"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"Commit `{(facts['git'] or 'unknown')[:10]}`, {versions}.",
        f"Hardware: {facts['device_name']}, {facts['threads']} threads, {facts['precision']}, {os.cpu_count()} cores.",
    ]
    tried = sorted({row["steps"] for row in rows.values() if row["steps"] is not None})
    if tried:
        lines.append(f"**A trial of the script, with {tried[0]} updates a row: the numbers mean nothing.**")
    return ["\n".join(lines)]


def _summary(row: Mapping[str, Any]) -> list[str]:
    report, facts = row["report"], row["facts"]
    return [
        row["title"],
        f"{facts['vocabulary']:,}",
        f"{report['iw_nats']:.2f}",
        f"{report['nats_per_character']:.3f}",
        f"{report['kl_nats']:.2f}",
        f"{report['mi_nats']:.2f}",
        f"{report['active_units']} of {report['latent_dim']}",
        f"{report['swap_gap_nats']:.2f}",
        "no" if report["verdict"]["collapsed"] else "yes",
        f"{facts['updates']:,} updates, {row['train_seconds'] / 60:.1f} min",
    ]


def _section(row: Mapping[str, Any]) -> str:
    report, verdict = row["report"], row["report"]["verdict"]
    numbers = [
        ("sentences, predicted tokens", f"{report['sentences']:,}, {report['tokens']:,}"),
        ("-ELBO = rec + KL", f"{report['elbo_nats']:.2f} = {report['rec_nats']:.2f} + {report['kl_nats']:.2f}"),
        (f"IW-NLL (k = {report['iw_samples']})", f"{report['iw_nats']:.2f} ± {report['iw_se']:.2f}"),
        ("PPL (IW)", f"{report['ppl_iw']:.2f}"),
        ("MI", f"{report['mi_nats']:.2f} ± {report['mi_se']:.2f} (ceiling {report['mi_ceiling_nats']:.2f})"),
        ("swap gap", f"{report['swap_gap_nats']:.2f} ± {report['swap_gap_se']:.2f}"),
        ("token accuracy", f"{report['token_accuracy']:.3f}"),
        ("unknown tokens", f"{report['unknown_rate']:.2%}"),
        *row["extra"].items(),
    ]
    advice = f" Next: {verdict['next']}" if verdict.get("next") else ""
    parts = [
        f"## {row['title']}",
        _block(row["commands"]),
        table(("", ""), numbers),
        f"> {verdict['text']}{advice}",
        "Five samples from the prior (temperature 1, seed 0):",
        _block(row["samples"]),
        f"From “{row['ends'][0]}” to “{row['ends'][1]}”:",
        _block(row["path"]),
    ]
    return "\n\n".join(parts)


def _block(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)

"""What every committed table says of itself: the command, the seed, the versions, the machine."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def command(argv: str | Sequence[str]) -> str:
    """A command as it was given, without the paths of a machine."""
    words = shlex.split(argv) if isinstance(argv, str) else argv
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


def versions(facts: Mapping[str, Any]) -> str:
    """Of the libraries that a run was trained with, by its provenance."""
    return ", ".join(f"{name} {version}" for name, version in facts["versions"].items())


def commit(facts: Mapping[str, Any]) -> str:
    return f"`{(facts['git'] or 'unknown')[:10]}`"


def machine(facts: Mapping[str, Any]) -> str:
    """What a run was trained on, by its provenance."""
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    return f"{facts['device']} ({facts['device_name']}), {threads}, {facts['precision']}"


def provenance(run: Path, module: str, argv: Sequence[str] | None) -> str:
    """Who made the numbers: the training run and the command that measured it, without the paths of a machine."""
    begun = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    config = [line for line in (run / "config.yaml").read_text(encoding="utf-8").splitlines() if "seed:" in line]
    lines = [
        f"Measured by `{command(['python', '-m', module, *(sys.argv[1:] if argv is None else argv)])}`.",
        f"Training: {config[0].strip() if config else ''}, commit {commit(begun)}, {versions(begun)}.",
        f"Hardware of the training: {machine(begun)}; of the measurement: {platform.machine()},"
        f" {os.cpu_count()} cores.",
    ]
    return "\n".join(lines)

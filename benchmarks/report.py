"""What every committed table says of itself: the command, the seed, the versions, the machine."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def command(argv: str | Sequence[str]) -> str:
    """A command as it was given, without the paths of a machine."""
    words = shlex.split(argv) if isinstance(argv, str) else argv
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


def provenance(run: Path, module: str, argv: Sequence[str] | None) -> str:
    """Who made the numbers: the training run and the command that measured it, without the paths of a machine."""
    begun = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    config = [line for line in (run / "config.yaml").read_text(encoding="utf-8").splitlines() if "seed:" in line]
    versions = ", ".join(f"{name} {version}" for name, version in begun["versions"].items())
    lines = [
        f"Measured by `{command(['python', '-m', module, *(sys.argv[1:] if argv is None else argv)])}`.",
        f"Training: {config[0].strip() if config else ''}, commit `{(begun['git'] or 'unknown')[:10]}`, {versions}.",
        f"Hardware of the training: {begun['device']} ({begun['device_name']}), {begun['threads']} threads,"
        f" {begun['precision']}; of the measurement: {platform.machine()}, {os.cpu_count()} cores.",
    ]
    return "\n".join(lines)

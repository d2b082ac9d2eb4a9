"""One row, measured in a process of its own: ``python -m benchmarks.speed.row NAME --out FILE``."""

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.memory import NotEnoughMemory
from benchmarks.speed.rows import ROWS
from seqvae import __version__
from seqvae.io import disk


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(ROWS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    row, began = ROWS[arguments.name], time.monotonic()
    found: dict[str, Any] = {"quick": arguments.quick, "machine": machine(), "load": os.getloadavg()[0]}
    if row.device == "cuda" and not torch.cuda.is_available():
        found["not_run"] = "no GPU was at hand"
    else:
        try:
            found |= asdict(row.measure(row.device, arguments.quick))
        except NotEnoughMemory as error:
            found["not_run"] = str(error)
    found["took_s"] = time.monotonic() - began
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    disk.write_json(arguments.out, found)


def machine() -> dict[str, Any]:
    """What the numbers hang on, without the names and paths of a machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    kinds = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": " ".join(kinds),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {"seqvae": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


if __name__ == "__main__":
    main()

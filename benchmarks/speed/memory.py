"""Peak memory of training: each side in a process of its own, which does nothing else.

python -m benchmarks.speed.memory seqvae --device cpu --vocabulary 50000 --sentences 256 --length 64
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.speed.measured import Measured

FULL = {"vocabulary": 50_000, "sentences": 256, "length": 64}
QUICK = {"vocabulary": 5_000, "sentences": 64, "length": 32}

TEXTBOOK_COPIES = 4
"""Of the logits: themselves, their logarithms of probabilities, and the gradients of both."""


class NotEnoughMemory(Exception):
    """The textbook does not fit this machine."""


def peak(device: str, quick: bool) -> Measured:
    sizes = QUICK if quick else FULL
    _require_room(device, sizes)
    found = {side: _measure(side, device, sizes) for side in ("seqvae", "textbook")}
    bytes_ = {side: each["peak"] for side, each in found.items()}
    ratio = bytes_["textbook"] / bytes_["seqvae"]
    megabytes = {side: f"{count / 1e6:,.0f} MB" for side, count in bytes_.items()}
    return Measured(
        ratio=ratio,
        low=ratio,
        high=ratio,
        unit="bytes",
        seqvae=bytes_["seqvae"],
        textbook=bytes_["textbook"],
        precision=found["seqvae"]["precision"],
        threads=found["seqvae"]["threads"],
        facts=sizes
        | megabytes
        | {"what": "memory of the GPU" if device == "cuda" else "the whole process, PyTorch itself counted"},
    )


def _require_room(device: str, sizes: dict[str, int]) -> None:
    needed = TEXTBOOK_COPIES * 4 * sizes["vocabulary"] * sizes["sentences"] * sizes["length"]
    if device == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if free < needed:
            raise NotEnoughMemory(f"the textbook needs about {needed / 1e9:.0f} GB, and {free / 1e9:.0f} GB are free")


def _measure(side: str, device: str, sizes: dict[str, int]) -> dict[str, int | str]:
    options = [f"--{name}={value}" for name, value in sizes.items()]
    command = [sys.executable, "-m", "benchmarks.speed.memory", side, "--device", device, *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["seqvae", "textbook"])
    parser.add_argument("--device", default="cpu")
    for name, value in FULL.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    arguments = parser.parse_args(argv)
    from benchmarks.speed.material import ptb_config
    from benchmarks.speed.training import peak_of_update
    from seqvae.training.runtime import Runtime

    runtime = Runtime.choose(ptb_config(arguments.device).train)
    sizes = {"vocab_size": arguments.vocabulary, "sentences": arguments.sentences, "length": arguments.length}
    found = peak_of_update(arguments.side, arguments.device, **sizes)
    print(json.dumps({"peak": found, "precision": runtime.precision, "threads": runtime.threads}))


if __name__ == "__main__":
    main()

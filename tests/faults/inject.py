"""Trains in processes that die at a chosen disk operation: ``python inject.py CONFIG FOLDER [NUMBER ...]``.

The first process dies by SIGKILL just before its NUMBER-th operation on the disk (a flush, a rename, a removal, a new
folder), the next one resumes and dies at the next NUMBER, and so on; the last one runs to the end. Prints a JSON list:
the operation at which each process died, or null for one that came to its end. One import serves all of them.
"""

import json
import os
import signal
import sys
from pathlib import Path

import seqvae
import seqvae.training.run  # now, and not in each of the processes

OPERATIONS = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")


def arm(number: int, report: int) -> None:
    """Let this process die before its ``number``-th disk operation, whose name goes to the pipe ``report``."""
    left = [number]

    def dying(name, operation):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.write(report, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, dying(name, getattr(os, name)))


def attempt(config: Path, folder: Path, number: int | None) -> str | None:
    """Begin the run, or go on with it, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if number is not None:
            arm(number, writing)
        resume = {"resume": folder} if (folder / "config.yaml").exists() else {"out": folder}
        seqvae.train(config, **resume)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as report:
        operation = report.read() or None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (0 if operation is None else -signal.SIGKILL), code
    return operation


def main() -> None:
    config, folder, *numbers = sys.argv[1:]
    print(json.dumps([attempt(Path(config), Path(folder), n) for n in (*map(int, numbers), None)]))


if __name__ == "__main__":
    main()

"""Trains in processes that are killed: ``python kill.py FOLDER KILLS SEED``.

For each ``<kind>.yaml`` in FOLDER, of as many processes as its name ends with, a run is trained whole in
``FOLDER/whole-<kind>``; another one in ``FOLDER/<kind>-<seed>`` is killed so many times, every second time inside a
save, and then goes on to its end. Prints a JSON object: for each kind, how many kills met a living process, and how
many of them a save. One import serves all processes.
"""

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch._dynamo  # noqa: F401 - what the first optimizer would import in each process

import seqvae
import seqvae.training.run  # now, and not in each of the processes

PATIENCE_S = 120
MOST_STEPS = 5
"""Updates after which a process is killed, counted from its newest checkpoint."""


def begun(config: Path, folder: Path, processes: int) -> list[int]:
    """The processes of a run that is begun, or gone on with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        children.append(os.fork())
        if children[-1] == 0:
            train(config, folder, rank, processes, port)
    return children


def train(config: Path, folder: Path, rank: int, processes: int, port: int) -> None:
    """A process of the run, to its end."""
    if processes > 1:
        names = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "RANK": rank, "LOCAL_RANK": rank}
        os.environ |= {name: str(value) for name, value in names.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = 1
    try:
        resume = {"resume": folder} if (folder / "config.yaml").exists() else {"out": folder}
        code = 0 if seqvae.train(config, **resume).finished else 1
    finally:
        os._exit(code)


def ended(children: list[int], moment: Callable[[], bool] | None) -> bool:
    """Waits for the processes; where the moment comes first they are killed, all at once. Whether that was so."""
    left, killed, deadline = list(children), False, time.monotonic() + PATIENCE_S
    while left:
        assert time.monotonic() < deadline, "the processes hang"
        if moment is not None and not killed and len(left) == len(children) and moment():
            killed = True
            for child in left:
                os.kill(child, signal.SIGKILL)
        for child in list(left):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                left.remove(child)
                code = os.waitstatus_to_exitcode(status)
                assert code in ((0, -signal.SIGKILL) if killed else (0,)), code
        time.sleep(0.0003)
    return killed


def saving(folder: Path) -> bool:
    return any((folder / "checkpoints").glob(".tmp-*")) or any(folder.glob(".tmp-model-*"))


def after(folder: Path, steps: int) -> Callable[[], bool]:
    """The moment when so many updates have followed the newest checkpoint, as this process has told."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*")]
    target = steps + max((int(name.removeprefix("step-")) for name in names), default=0)
    path, began = folder / "metrics.jsonl", time.time()

    def moment() -> bool:
        if not path.exists() or path.stat().st_mtime < began:
            return False
        lines = [line for line in path.read_bytes().splitlines()[-2:] if line.endswith(b"}")]
        return any(json.loads(line)["step"] >= target for line in lines)

    return moment


def killed_and_resumed(config: Path, folder: Path, processes: int, kills: int, chance: random.Random) -> list[int]:
    hits, in_a_save = 0, 0
    for number in range(kills):
        moment = after(folder, chance.randint(1, MOST_STEPS)) if number % 2 else lambda: saving(folder)
        if ended(begun(config, folder, processes), moment):
            hits, in_a_save = hits + 1, in_a_save + saving(folder)
    ended(begun(config, folder, processes), None)
    return [hits, in_a_save]


def main(folder: Path, kills: int, seed: int) -> None:
    found = {}
    for config in sorted(folder.glob("*.yaml")):
        processes, chance = int(config.stem.rpartition("-")[2]), random.Random(f"{seed} {config.stem}")
        whole = folder / f"whole-{config.stem}"
        if not whole.exists():
            ended(begun(config, whole, processes), None)
        found[config.stem] = killed_and_resumed(config, folder / f"{config.stem}-{seed}", processes, kills, chance)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""What an update costs, by part, and what that predicts for many GPUs.

    python -m benchmarks.scale --config ptb.yaml

Updates of one process are timed over batch sizes, lengths and vocabularies, and `benchmarks.scale_model` is fitted to
them. Where several processes can run (one for each GPU; on a CPU two) their exchanges are timed too, and their updates
are held against the prediction. Links that cannot be measured here are assumptions: ``--inside`` and ``--between``
name them, and the page tells them as such. Let nothing else run meanwhile; ``--quick`` only tries the script out.
"""

import argparse
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.report import command, table
from benchmarks.scale_model import TERMS, Cluster, Cost, Link, Update, errors
from seqvae.config import Config
from seqvae.data.store import TokenStore
from seqvae.machine import settle
from seqvae.models.cost import update_work
from seqvae.models.vae import SeqVAE
from seqvae.speed import Rehearsal, time_training
from seqvae.training.distributed import World, joined
from seqvae.training.runtime import Runtime
from seqvae.types import BOS, EOS

MODULE = "benchmarks.scale"
SIZES = {False: ((8, 32, 128), (8, 22, 48), (2_000, 10_000, 30_000)), True: ((2, 6), (3, 7), (50, 90))}
"""Sentences, predicted tokens and vocabularies of the measured updates; a few small ones to try the script out."""
EXCHANGED = {False: (1 << 12, 1 << 18, 1 << 22, 1 << 24, 1 << 26), True: (1 << 8, 1 << 14)}
"""Bytes of the measured all-reduces."""
BATCHES = 8
PREDICTED = (1, 8, 64)
PER_NODE = 8

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """A measured update: the sizes of its batch (of all processes together) and its vocabulary."""

    sentences: int
    length: int
    vocab_size: int


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    config = Config.from_yaml(arguments.config, ["train.phases=[]", *arguments.set])
    if arguments.rank_of_group:
        with joined() as world:
            found = _of_group(config, world, quick=arguments.quick)
            if world.rank == 0:
                print(json.dumps(found))
        return
    points = list(itertools.starmap(Point, itertools.product(*SIZES[arguments.quick])))
    seconds = 0.0 if arguments.quick else arguments.seconds
    alone = [_alone(config, point, seconds) for point in points]
    group = _group(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    given = command(["python", "-m", MODULE, *(sys.argv[1:] if argv is None else argv)])
    arguments.out.write_text(_page(arguments, config, given, points, alone, group), encoding="utf-8")
    print(f"{len(points)} updates measured, {arguments.out} written")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="ptb.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each update that is measured")
    parser.add_argument("--batch", type=int, default=128, help="sentences of an update that is predicted, for each GPU")
    parser.add_argument("--length", type=int, default=22, help="its predicted tokens")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="its vocabulary")
    parser.add_argument("--inside", type=_link, default="200,10", metavar="GB/S,US", help="assumed link within a node")
    parser.add_argument("--between", type=_link, default="25,20", metavar="GB/S,US", help="assumed link between nodes")
    parser.add_argument("--processes", type=int, help="in the group that is measured (default: a GPU each; 2 on a CPU)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.md"))
    parser.add_argument("--quick", action="store_true", help="try the script out")
    parser.add_argument("--rank-of-group", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _link(given: str) -> Link:
    gigabytes, microseconds = (float(part) for part in given.split(","))
    return Link(latency_s=microseconds * 1e-6, bytes_per_s=gigabytes * 1e9)


def _rehearsal(config: Config, point: Point, world: World) -> Rehearsal:
    """A trainer on sentences that all have the same length."""
    draw, (low, high) = np.random.default_rng(0), (4, point.vocab_size)
    words = draw.integers(low, high, (BATCHES * point.sentences, point.length - 1))
    store = TokenStore.from_ids([[BOS, *row, EOS] for row in words.tolist()])
    runtime = Runtime.choose(config.train, world)
    torch.manual_seed(config.train.seed)
    model = SeqVAE(config.model, point.vocab_size).to(runtime.device)
    changes = {"data.batch_size": point.sentences, "data.batch_tokens": None, "train.accumulate": 1}
    return Rehearsal(config.replace(**changes), model, store, runtime)


def _alone(config: Config, point: Point, seconds: float) -> float:
    rehearsal = _rehearsal(config, point, World())
    return time_training(rehearsal, [[rows] for rows in rehearsal.task.plan(0)], seconds=seconds).seconds


def counted(config: Config, point: Point, processes: int = 1) -> tuple[Update, float]:
    """The share that each process has of an update, and the bytes of all gradients."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in SeqVAE(config.model, point.vocab_size).parameters())
    sentences = point.sentences / processes
    work = update_work(
        config.model,
        point.vocab_size,
        parameters=parameters,
        sentences=sentences,
        tokens=sentences * point.length,
        samples=config.objective.samples,
    )
    update = Update(
        length=point.length,
        recurrent_flops=work["encoder"].flops + work["decoder"].flops,
        output_flops=work["output"].flops,
        update_bytes=work["update"].bytes,
    )
    return update, 4.0 * parameters


def _of_group(config: Config, world: World, *, quick: bool) -> Found:
    """The median times of exchanges and of updates, which all processes make alike."""
    device, rounds = Runtime.choose(config.train, world).device, 2 if quick else 20
    exchanges = []
    for size in EXCHANGED[quick]:
        values = torch.zeros(size // 4, device=device)
        exchanges.append((size, _median(lambda values=values: dist.all_reduce(values), device, rounds)))
    updates = []
    batches, lengths, vocabularies = SIZES[quick]
    for point in (Point(batches[-1], lengths[1], vocab) for vocab in vocabularies):
        rehearsal = _rehearsal(config, point, world)
        rows = rehearsal.task.plan(0)[0]
        updates.append((asdict(point), _median(lambda r=rehearsal, rows=rows: r.train_on([rows]), device, rounds)))
    return {"processes": world.size, "exchanges": exchanges, "updates": updates}


def _median(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    taken = []
    for _ in range(rounds + 2):
        begun = time.perf_counter()
        work()
        settle(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[2:])


def _group(arguments: argparse.Namespace) -> Found | None:
    """What a group of processes on this machine found; None where there can be none."""
    gpus = torch.cuda.device_count()
    size = arguments.processes or (gpus if gpus else 2)
    if size < 2:
        return None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    told = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
    }
    given = ["--config", arguments.config, *(part for change in arguments.set for part in ("--set", change))]
    ask = [sys.executable, "-m", MODULE, "--rank-of-group", *given, *(["--quick"] if arguments.quick else [])]
    environments = [os.environ | told | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    ranks = [subprocess.Popen(ask, env=each, stdout=subprocess.PIPE, text=True) for each in environments]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("a process of the group failed; what it said stands above")
    return json.loads(outputs[0].splitlines()[-1])


def _page(
    arguments: argparse.Namespace,
    config: Config,
    given: str,
    points: Sequence[Point],
    alone: Sequence[float],
    group: Found | None,
) -> str:
    runtime = Runtime.choose(config.train)
    device = torch.cuda.get_device_name() if runtime.device.type == "cuda" else f"CPU, threads: {runtime.threads}"
    updates = [counted(config, point)[0] for point in points]
    cost = Cost.fitted(updates, alone)
    fit = errors([cost.seconds(update) for update in updates], alone)
    load = f"; load of the machine at the end: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    sections = [
        "# What an update costs, and on many devices",
        f"Measured by `{given}`.\n"
        f"Hardware: {platform.machine()}, {os.cpu_count()} cores, {device}, {runtime.precision}{load}. "
        f"torch {version('torch')}.",
        "The model, its assumptions and how to read this: [docs/scale.md](../../docs/scale.md).",
        "## One process",
        f"The fit differs from the measurement by {fit['median']:.1%} (median) and {fit['greatest']:.1%} at most.",
        table(("term", "seconds for one"), [(t, f"{c:.3g}") for t, c in zip(TERMS, cost.coefficients, strict=True)]),
        table(
            ("sentences", "tokens", "vocabulary", "measured ms", "fitted ms", *(f"{term} ms" for term in TERMS)),
            [_row(*each, cost) for each in zip(points, updates, alone, strict=True)],
        ),
        *_group_sections(config, cost, group),
        *_predictions(arguments, config, cost),
    ]
    return "\n\n".join(sections) + "\n"


def _row(point: Point, update: Update, seconds: float, cost: Cost) -> list[str]:
    sizes = [str(point.sentences), str(point.length), f"{point.vocab_size:,}"]
    return [*sizes, _ms(seconds), _ms(cost.seconds(update)), *map(_ms, cost.parts(update).values())]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _group_sections(config: Config, cost: Cost, group: Found | None) -> list[str]:
    """What several processes on this machine came to, beside what the model says of it."""
    if group is None:
        return []
    ranks, exchanges = group["processes"], group["exchanges"]
    link = Link.fitted(*zip(*exchanges, strict=True), ranks)
    here = Cluster(per_node=ranks, inside=link, between=link)
    rows = []
    for sizes, seconds in group["updates"]:
        update, gradients = counted(config, Point(**sizes), ranks)
        expected = cost.seconds(update) + here.exchange_s(gradients, ranks)
        row = (sizes["sentences"], sizes["length"], f"{sizes['vocab_size']:,}", _ms(seconds), _ms(expected))
        rows.append((*row, _ms(here.exchange_s(gradients, ranks))))
    times = [(f"{size:,}", _ms(seconds), _ms(link.all_reduce_s(size, ranks))) for size, seconds in exchanges]
    return [
        f"## {ranks} processes here",
        f"All-reduces fit a link of {link.bytes_per_s / 1e9:.3g} GB/s and {1e6 * link.latency_s:.3g} us a message.",
        table(("bytes", "measured ms", "fitted ms"), times),
        "Updates, predicted from the fit to one process and from these exchanges:",
        table(("sentences", "tokens", "vocabulary", "measured ms", "predicted ms", "of it exchange ms"), rows),
    ]


def _predictions(arguments: argparse.Namespace, config: Config, cost: Cost) -> list[str]:
    cluster = Cluster(per_node=PER_NODE, inside=arguments.inside, between=arguments.between)
    links = (
        f"{link.bytes_per_s / 1e9:g} GB/s and {1e6 * link.latency_s:g} us a message {place}"
        for place, link in (("within a node", cluster.inside), ("between nodes", cluster.between))
    )
    found = [
        "## Predictions",
        f"For devices like the one measured, {PER_NODE} in a node. Assumed, not measured: {', '.join(links)}.",
    ]
    for title, grows in (
        (f"{arguments.batch} sentences for each device", True),
        (f"{arguments.batch} sentences for all devices together", False),
    ):
        rows = []
        for devices in PREDICTED:
            total = arguments.batch * (devices if grows else 1)
            update, gradients = counted(config, Point(total, arguments.length, arguments.vocabulary), devices)
            exchange = cluster.exchange_s(gradients, devices)
            seconds = cost.seconds(update) + exchange
            rows.append((devices, total, seconds, exchange, total * arguments.length / seconds))
        first = rows[0][-1]
        shown = [
            (devices, total, _ms(seconds), _ms(exchange), f"{pace:,.0f}", f"{pace / first / devices:.0%}")
            for devices, total, seconds, exchange, pace in rows
        ]
        found += [f"{title}, of {arguments.length} tokens each, vocabulary {arguments.vocabulary:,}:"]
        found += [table(("devices", "sentences", "update ms", "of it exchange ms", "tokens/s", "efficiency"), shown)]
    return found


if __name__ == "__main__":
    main()

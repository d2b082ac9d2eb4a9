"""The rows of the table: what is measured, where, and the ratio that it should reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from benchmarks.speed import memory, scoring, training, writing
from benchmarks.speed.measured import Measured

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. ``measure`` takes the device, and whether to be quick."""

    work: str
    device: Device
    bar: float
    aim: str = ""
    measure: Callable[[str, bool], Measured]


def _rows() -> dict[str, Row]:
    ptb, large = "training, PTB config", "training, hidden 1024, embedding 512, vocabulary 20,000"
    found = {
        "train-32-cpu": Row(work=f"{ptb}, batch 32", device="cpu", bar=3, measure=partial(training.ptb, batch=32)),
        "train-128-cpu": Row(work=f"{ptb}, batch 128", device="cpu", bar=4, measure=partial(training.ptb, batch=128)),
        "train-large-cpu": Row(work=large, device="cpu", bar=2, measure=training.large),
        "train-32-cuda": Row(
            work=f"{ptb}, batch 32",
            device="cuda",
            bar=3,
            aim="the whole recipe in 2 minutes",
            measure=training.ptb_with_best_batch,
        ),
        "iw-cpu": Row(work="IW-NLL, k = 500", device="cpu", bar=3, aim="5 times", measure=scoring.importance_weighted),
        "iw-cuda": Row(work="IW-NLL, k = 500", device="cuda", bar=5, measure=scoring.importance_weighted),
    }
    named: Mapping[writing.Strategy, str] = {"greedy": "greedy", "sample": "sampled", "beam": f"beam {writing.BEAM}"}
    for device in ("cpu", "cuda"):
        for strategy, name in named.items():
            found[f"{strategy}-{device}"] = Row(
                work=f"{name} decoding, {writing.SENTENCES:,} sentences",
                device=device,
                bar=10,
                measure=partial(writing.writing, strategy=strategy),
            )
        found[f"memory-{device}"] = Row(
            work="peak memory of training, vocabulary 50,000, batch 256 x 64", device=device, bar=4, measure=memory.peak
        )
    return found


ROWS: Mapping[str, Row] = _rows()

"""``seqvae bench``."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import ChangesOption, ConfigOption, JsonOption, refuse_shards

if TYPE_CHECKING:
    from seqvae.speed import SpeedReport

NAMES = {
    "data": "data",
    "encoder": "encoder",
    "decoder": "decoder network",
    "output": "output layer and cross-entropy",
    "optimizer": "clipping and optimizer",
    "rest": "the rest",
}
"""Parts of an update as they are shown."""


@run_verb()
def bench(
    config: ConfigOption = "tiny.yaml",
    changes: ChangesOption = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="Seconds of measuring, about.")] = 10.0,
    json: JsonOption = False,
) -> None:
    """Measure how fast this machine trains, evaluates and writes at a config.

    Beside it stands what the machine does at its best, and what to change. A model is made and thrown away; nothing is
    written but the prepared text in the cache.
    """
    from seqvae.config import Config
    from seqvae.data.store import prepare
    from seqvae.speed import measure_speed
    from seqvae.speed_advice import advise

    settings = Config.from_yaml(config, changes or ())
    refuse_shards(settings.data)
    prepared = prepare(settings.data, settings.tokenizer, splits=["train"])
    say(f"measuring for about {seconds:g} s; other programs at work spoil the numbers")
    report = measure_speed(settings, prepared.splits["train"], prepared.tokenizer.vocab_size, seconds=seconds)
    advice = advise(report)
    if json:
        emit_json(asdict(report) | {"advice": advice})
    else:
        _show(report, advice)


def _show(report: "SpeedReport", advice: Sequence[str]) -> None:
    ceiling, update = report.ceiling, 1000 * report.update_seconds
    memory = "unknown" if report.peak_bytes is None else f"{report.peak_bytes / 1e6:,.0f} MB"
    emit_lines([
        f"device     {report.device} · {report.precision} · {report.threads} thread{'s' if report.threads > 1 else ''}"
        + ("" if report.load is None else f" · load {report.load:.1f}"),
        f"model      {report.parameters:,} parameters · vocabulary {report.vocab_size:,}",
        f"update     {report.sentences_per_update:,.0f} sentences · {report.tokens_per_update:,.0f} tokens"
        f" (padding {report.padding_share:.1%}) · {update:,.1f} ms",
        f"epoch      {_duration(report.epoch_seconds)}, without validation",
        f"memory     {memory} at most in training",
        f"machine    fp32 {_billions(ceiling.fp32_flops_per_s)}, bf16 {_billions(ceiling.bf16_flops_per_s)} billion"
        f" operations/s · {ceiling.bytes_per_s / 1e9:,.1f} GB/s of memory",
        "",
    ])  # fmt: skip
    scored = f"evaluation, {report.scoring_samples} samples a sentence"
    rates = {"training": report.training, scored: report.scoring, "sampling": report.writing}
    rows = [(name, f"{rate.tokens_per_s:,.0f}", f"{rate.ceiling_share:.0%}") for name, rate in rates.items()]
    _table(("", "tokens/s", "of the machine's best"), rows)
    parts = [
        (NAMES[part.name], f"{1000 * part.seconds:,.2f}", f"{part.share:.0%}", _percent(part.ceiling_share))
        for part in report.parts
    ]
    _table(("part of an update", "ms", "share", "of the machine's best"), parts)
    changed = [
        (setting, f"{rate:,.0f}", f"{rate / report.training.tokens_per_s - 1:+.0%}")
        for setting, rate in report.trials.items()
    ]
    _table(("training with", "tokens/s", "change"), changed)
    emit_lines(f"{'advice' if index == 0 else '':<10} {line}" for index, line in enumerate(advice))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(width=100, highlight=False)
    with console.capture() as shown:
        console.print(table)
    emit_lines([*(line.rstrip() for line in shown.get().splitlines()), ""])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _billions(rate: float) -> str:
    return f"{rate / 1e9:,.{0 if rate >= 1e10 else 1}f}"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:,.1f} s" if minutes < 2 else f"{minutes:,.1f} min" if minutes < 120 else f"{minutes / 60:,.1f} h"

"""``seqvae diagnose``."""

import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    SplitOption,
    labels_of_input,
    load_model,
    read_sentences,
    run_config,
    split_to_measure,
)
from seqvae.cli.progress import evaluation_display
from seqvae.cli.sentences import ColumnOption, refuse_column_alone

if TYPE_CHECKING:
    from seqvae.evaluation.diagnosis import Diagnosis, Unit


@run_verb()
def diagnose(
    model: ModelOption = None,
    split: SplitOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Look at this text instead: one sentence a line, or a table."),
    ] = None,
    column: ColumnOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Say whether the code is used, on what evidence, by which units, and what to try.

    A model has collapsed when its decoder ignores z. The KL alone does not tell, since some methods fix it; what counts
    is that z tells of its sentence (MI) and that the decoder misses it (swap gap). What to try comes as commands, the
    most promising first, each with its reason.
    """
    from seqvae.evaluation.diagnosis import QUICK
    from seqvae.evaluation.diagnosis import diagnose as judge
    from seqvae.evaluation.report import EvalConfig
    from seqvae.textvae import evaluate

    refuse_column_alone(column, file)
    vae, folder = load_model(model, device)
    split = split_to_measure(folder, split, file)
    store = read_sentences(folder, vae, split, file, text_column=column, **labels_of_input(folder, vae, file))
    config = run_config(folder)
    settings = (EvalConfig() if config is None else config.eval).model_copy(update=QUICK)
    with evaluation_display(len(store)) as on_progress:
        name = split if file is None else file.name
        report = evaluate(vae, store, split=name, config=settings, on_progress=on_progress)
    found = judge(report, config)
    run = folder.resolve().parent if config is not None else None
    if json:
        emit_json(found.to_dict() | {"commands": [_command(run, remedy.settings) for remedy in found.remedies]})
    else:
        emit_lines(_page(found, run))


def _command(run: Path | None, settings: list[str]) -> str:
    place = run if run is None or not run.is_relative_to(Path.cwd()) else run.relative_to(Path.cwd())
    config = [] if place is None else ["--config", str(place)]
    return shlex.join(["seqvae", "train", *config, *(word for each in settings for word in ("--set", each))])


def _page(found: "Diagnosis", run: Path | None) -> Iterator[str]:
    yield from _wrapped(found.verdict.text)
    if found.findings:
        yield from ("", "Evidence, nats per sentence")
        for item in found.findings:
            error = "" if item.se is None else f"± {item.se:.2f}"
            yield from _wrapped(item.meaning, f"  {item.name:<12}{item.nats:>8.2f} {error:<7} ")
    if found.units is not None:
        live = sum(unit.state == "live" for unit in found.units)
        yield from ("", f"Units: {live} of {len(found.units)} live")
        yield from _units(found.units)
    if found.remedies:
        yield from ("", "What to try, in this order")
        for number, remedy in enumerate(found.remedies, 1):
            yield from _wrapped(remedy.reason, f"  {number}. ")
            yield f"     {_command(run, remedy.settings)}"  # in one piece, to be copied
    elif found.verdict.next is not None:
        yield from ("", f"next: {found.verdict.next}")
    elif found.verdict.collapsed is False:
        yield from ("", "Nothing is called for.")


def _wrapped(text: str, lead: str = "") -> list[str]:
    """``text`` behind ``lead``, within the width of the terminal."""
    width = shutil.get_terminal_size().columns
    return textwrap.wrap(text, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False)


def _units(units: "list[Unit]") -> Iterator[str]:
    """A line each, those that are alike and idle together on one."""
    yield "  unit     KL  variance of mean"
    idle: list[Any] = []
    for unit in units:
        if unit.state == "idle":
            idle.append(unit)
            continue
        cost = "" if unit.kl_nats is None else f"{unit.kl_nats:.2f}"
        yield f"  {unit.number:>4}{cost:>7}  {unit.mean_variance:>16.4f}  {unit.state}"
    if idle:
        yield f"  idle: {', '.join(str(unit.number) for unit in sorted(idle, key=lambda unit: unit.number))}"

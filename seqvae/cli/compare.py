"""``seqvae compare``."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb, say
from seqvae.cli.options import JsonOption, MeasuredOption, Split, measured_split, run_config
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.evaluation.comparison import Comparison, Group, Measured

Format = Literal["table", "markdown", "csv", "json"]


@run_verb()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Runs or model folders that were evaluated.", autocompletion=completion.runs
        ),
    ],
    split: MeasuredOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Names as in `eval --json`; dots lead inside.", show_default="what the runs have"
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
    json: JsonOption = False,
) -> None:
    """Put runs beside one another, and their differences to the first with their noise.

    Runs of one config are one row: mean and standard deviation over seeds. Between two rows of several seeds the noise
    is that of seeds; with a single seed it is that of the sentences, paired where both runs scored the same ones, and
    it does not say what another seed would give. Numbers come from `seqvae eval`.
    """
    from seqvae.evaluation.comparison import compare as put_together

    runs = _each_once(runs)
    split = measured_split(runs, split)
    measured = _measured(runs, split)
    named = None if metrics is None else [name.strip() for name in metrics.split(",")]
    found = put_together(measured, split=split, metrics=named)
    if missing := [name for name in found.metrics if all(group.values[name] is None for group in found.groups)]:
        hint = f"they have {', '.join(put_together(measured, split=split).metrics)}"
        raise SeqVAEError("E295", f"no run has a number `{missing[0]}`", hint=hint)
    shown = found.shown if named is None else named
    printers: dict[str, Callable[[], None]] = {
        "json": lambda: emit_json(found.to_dict()),
        "csv": lambda: emit_lines(_csv(found)),
        "markdown": lambda: emit_lines(_markdown(found)),
        "table": lambda: _print_table(found, shown),
    }
    printers["json" if json else form]()


def _each_once(runs: Sequence[Path]) -> list[Path]:
    """A run that is named twice is no second seed, nor is the model in it."""
    from seqvae.io import pretrained

    found: dict[Path, Path] = {}
    for run in runs:
        found.setdefault(pretrained.model_folder(run).resolve(), run)
    if len(found) < len(runs):
        say("note     a run that is named twice counts once")
    return list(found.values())


def _measured(runs: Sequence[Path], split: Split) -> "list[Measured]":
    from seqvae.evaluation.comparison import Measured
    from seqvae.io import pretrained

    found = []
    for path in runs:
        folder = pretrained.model_folder(path)
        report, by_sentence = pretrained.kept_evaluation(path, split)
        config = run_config(folder)
        settings = None if config is None else config.model_dump(mode="json")
        found.append(Measured(name=str(path), report=report, by_sentence=by_sentence, settings=settings))
    return found


def _print_table(found: "Comparison", shown: Sequence[str]) -> None:
    from rich.console import Console, Group
    from rich.text import Text

    first, *others = found.groups
    parts: list[Any] = [Text(f"{found.split} split, nats per sentence"), _table(shown, found.groups, "values")]
    if others:
        parts += [Text(f"differences to {first.title}, ± standard error"), _table(shown, others, "differences")]
        parts += [Text(f"  {group.title}: noise of {group.noise_of(shown)}") for group in others]
    parts += [Text(f"  {line}") for line in _settings(others)]
    parts += [Text(f"  note: {note}") for note in found.notes]
    Console(highlight=False, soft_wrap=True).print(Group(*parts), crop=False)


def _table(shown: Sequence[str], groups: "Sequence[Group]", key: Literal["values", "differences"]) -> Any:
    from rich import box
    from rich.table import Table

    from seqvae.evaluation.comparison import cell, label

    table = Table(box=box.SIMPLE)
    table.add_column("")
    for metric in shown:
        table.add_column(label(metric), justify="right")
    for group in groups:
        cells = (cell(getattr(group, key)[metric], signed=key == "differences") for metric in shown)
        # The noise on a line of its own keeps the table narrow.
        table.add_row(group.title, *(each.replace(" ± ", "\n± ") for each in cells))
    return table


def _settings(groups: "Sequence[Group]") -> list[str]:
    return [
        f"{group.title}: {name} {' -> '.join(_two(there, here))}"
        for group in groups
        for name, (there, here) in group.settings.items()
    ]


def _two(there: Any, here: Any) -> tuple[str, str]:
    """Two values of a setting; lists of methods by their names alone where these differ."""
    from seqvae.yaml_source import dump_value

    if all(isinstance(value, list) and all("name" in each for each in value) for value in (there, here)):
        names = tuple(" + ".join(each["name"] for each in value) or "none" for value in (there, here))
        if names[0] != names[1]:
            return names
    return dump_value(there), dump_value(here)


def _markdown(found: "Comparison") -> list[str]:
    from seqvae.evaluation.comparison import cell, label

    first, *others = found.groups
    head = ["", *map(label, found.metrics)]
    rows = [[group.title, *(cell(group.values[name]) for name in found.metrics)] for group in found.groups]
    for group in others:
        cells = (cell(group.differences[name], signed=True) for name in found.metrics)
        rows.append([f"{group.title} - {first.title}", *cells])
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    lines += ["", f"{found.split} split. ±: over seeds the standard deviation, of one run the standard error over"]
    lines[-1] += " sentences; of a difference its standard error."
    lines += [f"- {group.title}: noise of {group.noise_of(found.metrics)}" for group in others]
    return lines + [f"- {line}" for line in [*_settings(others), *found.notes]]


def _csv(found: "Comparison") -> list[str]:
    """One line for each group and metric; the empty string where there is no number."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", "runs", "metric", "kind", "value", "noise", "noise_of"])
    for group in found.groups:
        for kind in ("values", "differences"):
            for metric, value in getattr(group, kind).items():
                cells = ["", "", ""] if value is None else [value.value, value.noise, value.of]
                writer.writerow([group.name, len(group.runs), metric, kind.removesuffix("s"), *cells])
    return stream.getvalue().splitlines()

"""``seqvae compare``."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import Split, run_config
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.evaluation.comparison import Comparison, Group, Measured, Value

Format = Literal["table", "markdown", "csv", "json"]

SHOWN = ("elbo_nats", "kl_nats", "iw_nats", "ppl_iw", "mi_nats", "active_units", "swap_gap_nats")
"""What the terminal shows unless it is told otherwise; files have everything."""

LABELS = {
    "elbo_nats": "-ELBO",
    "rec_nats": "rec",
    "kl_nats": "KL",
    "iw_nats": "IW-NLL",
    "ppl_iw": "PPL (IW)",
    "mi_nats": "MI",
    "marginal_kl_nats": "marginal KL",
    "active_units": "AU",
    "swap_gap_nats": "swap gap",
    "prior_gap_nats": "prior gap",
    "bleu": "BLEU",
    "chrf": "chrF",
    "samples.forward.ppl": "forward PPL",
    "samples.reverse.ppl": "reverse PPL",
    "samples.samples.self_bleu": "self-BLEU",
    "samples.parsed": "parsed",
}


@run_verb()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Runs or model folders that were evaluated.", autocompletion=completion.runs
        ),
    ],
    split: Annotated[Split, typer.Option(help="Part of the data whose numbers are compared.")] = "test",
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Names as in `eval --json`; dots lead inside.", show_default="what the runs have"
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """Put runs beside one another, and their differences to the first with their noise.

    Runs of one config are one row: mean and standard deviation over seeds. Between two rows of several seeds the noise
    is that of seeds; with a single seed it is that of the sentences, paired where both runs scored the same ones, and
    it does not say what another seed would give. Numbers come from `seqvae eval`.
    """
    from seqvae.evaluation.comparison import compare as put_together

    measured = _measured(runs, split)
    named = None if metrics is None else [name.strip() for name in metrics.split(",")]
    found = put_together(measured, split=split, metrics=named)
    if missing := [name for name in found.metrics if all(group.values[name] is None for group in found.groups)]:
        hint = f"they have {', '.join(put_together(measured, split=split).metrics)}"
        raise SeqVAEError("E295", f"no run has a number `{missing[0]}`", hint=hint)
    shown = [name for name in SHOWN if name in found.metrics] if named is None else named
    printers: dict[str, Callable[[], None]] = {
        "json": lambda: emit_json(found.to_dict()),
        "csv": lambda: emit_lines(_csv(found)),
        "markdown": lambda: emit_lines(_markdown(found)),
        "table": lambda: _print_table(found, shown),
    }
    printers[form]()


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


def _label(metric: str) -> str:
    return LABELS.get(metric, metric.removesuffix("_nats").replace("_", " "))


def _cell(value: "Value | None", *, signed: bool = False) -> str:
    if value is None:
        return "-"
    digits = 0 if value.value == int(value.value) and value.noise is None else 2 if abs(value.value) >= 1 else 3
    shown = format(value.value, f"{'+' if signed else ''},.{digits}f")
    return shown if value.noise is None else f"{shown} ± {value.noise:.{max(digits, 2)}f}"


def _name(group: "Group") -> str:
    return group.name if len(group.runs) == 1 else f"{group.name} ({len(group.runs)} seeds)"


def _difference_of(group: "Group", shown: Sequence[str]) -> str:
    kinds = {value.of for name in shown if (value := group.differences.get(name)) is not None and value.of is not None}
    return ", ".join(sorted(kinds))


def _print_table(found: "Comparison", shown: Sequence[str]) -> None:
    from rich.console import Console, Group
    from rich.text import Text

    first, *others = found.groups
    parts: list[Any] = [Text(f"{found.split} split, nats per sentence"), _table(shown, found.groups, "values")]
    if others:
        parts += [Text(f"differences to {_name(first)}, ± standard error"), _table(shown, others, "differences")]
        parts += [Text(f"  {_name(group)}: noise of {_difference_of(group, shown)}") for group in others]
    parts += [Text(f"  {line}") for line in _settings(others)]
    parts += [Text(f"  note: {note}") for note in found.notes]
    Console(highlight=False, soft_wrap=True).print(Group(*parts), crop=False)


def _table(shown: Sequence[str], groups: "Sequence[Group]", key: Literal["values", "differences"]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("")
    for metric in shown:
        table.add_column(_label(metric), justify="right")
    for group in groups:
        cells = (_cell(getattr(group, key)[metric], signed=key == "differences") for metric in shown)
        # The noise on a line of its own keeps the table narrow.
        table.add_row(_name(group), *(cell.replace(" ± ", "\n± ") for cell in cells))
    return table


def _settings(groups: "Sequence[Group]") -> list[str]:
    return [
        f"{_name(group)}: {name} {' -> '.join(_two(there, here))}"
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
    first, *others = found.groups
    head = ["", *map(_label, found.metrics)]
    rows = [[_name(group), *(_cell(group.values[name]) for name in found.metrics)] for group in found.groups]
    for group in others:
        cells = (_cell(group.differences[name], signed=True) for name in found.metrics)
        rows.append([f"{_name(group)} - {_name(first)}", *cells])
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    lines += ["", f"{found.split} split. ±: over seeds the standard deviation, of one run the standard error over"]
    lines[-1] += " sentences; of a difference its standard error."
    lines += [f"- {_name(group)}: noise of {_difference_of(group, found.metrics)}" for group in others]
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

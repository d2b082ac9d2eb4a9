"""Pages that are made when the site is built, from docstrings, settings, verbs, methods, errors and notebooks."""

import html
import json
import re
from collections.abc import Iterator

import typer
from typer.main import get_command

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.error_catalogue import EXIT_CODES, catalogue
from seqvae.method_docs import HEADINGS, MethodDoc, method_docs
from seqvae.setting_docs import SettingDoc, explain, inside
from seqvae.yaml_source import dump_value

PYTHON: dict[str, tuple[str, ...]] = {
    "Train, load, measure": (
        "seqvae.training.run.train",
        "seqvae.training.run.Run",
        "seqvae.io.pretrained.load",
        "seqvae.textvae.evaluate",
        "seqvae.evaluation.report.EvalReport",
    ),
    "Text in, text out": ("seqvae.textvae.TextVAE",),
    "What comes back": (
        "seqvae.generation.codes.Codes",
        "seqvae.textvae.Written",
        "seqvae.evaluation.score.Scores",
        "seqvae.generation.neighbors.Neighbor",
        "seqvae.generation.imputation.Imputation",
        "seqvae.generation.attributes.Walk",
        "seqvae.generation.attributes.Direction",
    ),
    "Settings and mistakes": ("seqvae.config.Config", "seqvae.errors.SeqVAEError"),
    "The network": ("seqvae.models.vae.SeqVAE", "seqvae.types.Batch", "seqvae.types.Terms"),
    "Writing a method": ("seqvae.objectives.base.Strategy",),
    "With scikit-learn": ("seqvae.estimator.TextVAETransformer",),
    "Figures": (
        "seqvae.plots.training.training_curves",
        "seqvae.plots.latent.kl_by_dimension",
        "seqvae.plots.latent.rate_distortion",
        "seqvae.plots.latent.latent_map",
        "seqvae.plots.paths.path_heatmap",
    ),
}
"""What the page on Python shows, by heading."""

MEASURED = ("seqvae.evaluation.report.EvalReport",)
"""Their fields have a page of their own: measurements.md."""


def python_page() -> str:
    public = {f"{home}.{name}": f"seqvae.{name}" for name, home in seqvae._HOMES.items()}
    names = ", ".join(f"`{name}`" for name in seqvae.__all__)
    lines = [
        "# Python",
        "",
        f"`import seqvae` gives {names}; everything else is imported from where it lies. The numbers of",
        "an `EvalReport` are defined in [measurements](../measurements.md).",
        "",
    ]
    for heading, objects in PYTHON.items():
        lines += [f"## {heading}", ""]
        for name in objects:
            lines += [f"::: {name}", "    options:", f"      heading: {public.get(name, name)}"]
            lines += ["      show_signature: false", ""] if name in MEASURED else [""]
    return "\n".join(lines)


def commands_page() -> str:
    lines = ["# Commands", "", "What `seqvae VERB --help` says, verb by verb. Most verbs take `--json`.", ""]
    return "\n".join([*lines, *_verbs(get_command(app), "seqvae")])


def _verbs(group: object, path: str) -> Iterator[str]:
    for name, verb in group.commands.items():
        if verb.hidden:
            continue
        within = f"{path} {name}"
        context = typer.Context(verb, info_name=within)
        yield from (f"## {within}", "", (verb.help or "").replace("\b", "").strip(), "")
        yield from ("```text", verb.get_usage(context).removeprefix("Usage: "), "```", "")
        records = [each.get_help_record(context) for each in verb.params]
        if any(records):
            rows = [(f"`{record[0]}`", _plain_default(record[1])) for record in records if record]
            yield from table(("option", "meaning"), rows)
        if hasattr(verb, "commands"):
            yield from _verbs(verb, within)


def _plain_default(text: str) -> str:
    """``[default: (a new one)]`` in words."""
    return re.sub(r" +\[default: \(?(.*?)\)?(?:; [^;]*)?\]$", r" Default: \1.", text).replace(
        "  [required]", " Required."
    )


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Every setting of a config file, and of `--set a.b=c`. `seqvae config explain SETTING` says the",
        "same in a terminal, with the shipped configs that set it.",
        "",
    ]
    for name in Config.model_fields:
        for doc in explain(name):
            lines += _section(doc)
    return "\n".join(lines)


def _section(doc: SettingDoc, name: str | None = None) -> Iterator[str]:
    """A heading, its settings as a table, then the sections below it."""
    yield from (f"## {name or doc.path}", "", _sentence(doc.description), "")
    here = inside(doc)
    plain = [each for each in here if not (each.settings or each.kinds)]
    if plain:
        yield from _settings_table(plain)
    for kind in doc.kinds:
        for each in explain(f"{doc.path}.{kind}"):
            yield from _section(each, f"{doc.path}: {kind}")
    for each in here:
        if each.settings or each.kinds:
            yield from _section(each)


def _settings_table(docs: list[SettingDoc]) -> list[str]:
    rows = []
    for doc in docs:
        default = "must be given" if doc.required else f"`{dump_value(doc.default)}`"
        rows.append((f"`{doc.path.rpartition('.')[2]}`", doc.description, doc.type, default))
    return table(("setting", "meaning", "type", "default"), rows)


def methods_page() -> str:
    lines = [
        "# Methods and families",
        "",
        "What `seqvae methods show NAME` says of each. Which to take: [methods](../methods.md).",
        "",
    ]
    for kind, heading in HEADINGS.items():
        lines += [f"## {heading[0].upper()}{heading[1:]}", ""]
        for doc in method_docs().values():
            lines += _method(doc) if doc.kind == kind else []
    return "\n".join(lines)


def _method(doc: MethodDoc) -> Iterator[str]:
    yield from (f"### {doc.name}", "", _sentence(doc.about), "")
    if doc.reference:
        yield from ("``` { .text .wrapped }", doc.reference.replace("``", "`"), "```", "")
    if doc.recipe:
        yield from (f"    seqvae train --config {doc.recipe}", "")
    if doc.settings:
        yield from _settings_table(list(doc.settings))
    if doc.conflicts:
        yield from table(("cannot go with", "because"), [(f"`{name}`", why) for name, why in doc.conflicts.items()])


def errors_page() -> str:
    lines = [
        "# Errors",
        "",
        "Every mistake has a code; its first digit is the exit code of the command. `seqvae explain E204` says",
        "in a terminal what stands here.",
        "",
    ]
    shown = None
    for entry in catalogue().values():
        if entry.exit_code != shown:
            shown = entry.exit_code
            lines += [f"## Exit code {shown}: {EXIT_CODES[shown]}", ""]
        lines += [
            f"### {entry.code}: {entry.title}",
            "",
            escaped(entry.cause),
            "",
            f"**What to do.** {escaped(entry.cure)}",
            "",
        ]
        lines += ["```text", entry.example.rstrip(), "```", ""]
    return "\n".join(lines)


def notebook_page(text: str, path: str) -> str:
    """A notebook as a page: its text as it is, its code in blocks."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    title, _, rest = "\n\n".join(parts).partition("\n\n")
    return f"{title}\n\nThis page is the notebook `{path}`; run it to see what it shows.\n\n{rest}\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = (" ".join(escaped(cell).split()).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def escaped(text: str) -> str:
    """Text in which no sign is markup, but for what stands between backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _plain(part) for part in parts)


def _plain(text: str) -> str:
    return html.escape(re.sub(r"([*_\[\]#])", r"\\\1", text), quote=False)


def _sentence(text: str) -> str:
    return escaped(text[:1].upper() + text[1:])


PAGES = {
    "reference/python.md": python_page,
    "reference/commands.md": commands_page,
    "reference/settings.md": settings_page,
    "reference/methods.md": methods_page,
    "reference/errors.md": errors_page,
}
"""Page of the site: what makes it."""

"""``seqvae config``: the configs that come with seqvae, and what may stand in one."""

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import ChangesOption, JsonOption
from seqvae.cli.usage import verbs

if TYPE_CHECKING:
    from seqvae.setting_docs import SettingDoc

app = verbs("config", "The configs that come with seqvae, and what may stand in one.")

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, a run folder, or the name of a shipped config.",
        autocompletion=completion.configs,
    ),
]

_WIDTH, _NAMES = 100, 28


@app.command("list")
@run_verb()
def list_configs(json: JsonOption = False) -> None:
    """List the configs that come with seqvae, with a line on each."""
    from seqvae.config import shipped_config, shipped_configs

    found = []
    for name in shipped_configs():
        first = shipped_config(name).read_text(encoding="utf-8").splitlines()[0]
        found.append({"name": name, "about": first.lstrip("# ")})
    if json:
        emit_json(found)
    else:
        width = max((len(each["name"]) for each in found), default=0)
        emit_lines(f"{each['name']:<{width}}  {each['about']}" for each in found)


@app.command()
@run_verb()
def show(config: ConfigArgument, changes: ChangesOption = None, json: JsonOption = False) -> None:
    """Print a config with every setting and its value, as YAML that can be trained from."""
    from seqvae.config import Config

    resolved = Config.from_yaml(config, changes or ())
    if json:
        emit_json(resolved.model_dump(mode="json"))
    else:
        emit_lines(resolved.to_yaml().removesuffix("\n").split("\n"))


@app.command()
@run_verb()
def validate(config: ConfigArgument, changes: ChangesOption = None, json: JsonOption = False) -> None:
    """Check a config: `ok`, or all of its mistakes in one pass. The text that it names is not opened."""
    from seqvae.config import Config, find_config

    Config.from_yaml(config, changes or ())
    if json:
        emit_json({"ok": True, "config": str(find_config(config))})
    else:
        emit_lines(["ok"])


@app.command()
@run_verb()
def schema() -> None:
    """Print the JSON Schema of a config, by which editors complete and check what is typed."""
    from seqvae.config import Config

    emit_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema())


@app.command()
@run_verb()
def explain(
    setting: Annotated[
        str | None,
        typer.Argument(
            metavar="[SETTING]",
            help="Such as train.schedule.patience; a section lists its settings.",
            autocompletion=completion.setting_names,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what a setting means: type, default, unit, and which shipped configs set it."""
    from seqvae.config import Config
    from seqvae.setting_docs import explain as look_up

    if setting is None:
        docs = [doc for name in Config.model_fields for doc in look_up(name)]
        if not json:
            emit_lines(f"{doc.path:<12}{doc.description}" for doc in docs)
            return
    else:
        docs = look_up(setting)
    if json:
        emit_json([asdict(doc) for doc in docs])
    else:
        emit_lines(line for doc in docs for line in _page(doc))


def _page(doc: "SettingDoc") -> list[str]:
    from seqvae.setting_docs import inside, kind_summary

    lines = [doc.path + (f"  (of {doc.kind})" if doc.kind else ""), *textwrap.wrap(doc.description, _WIDTH)]
    if doc.kinds:
        lines += ["", f"one of these, told apart by `{doc.tag}` (`seqvae config explain {doc.path}.{doc.kinds[0]}`):"]
        lines += columns([(kind, kind_summary(doc.path, kind)) for kind in doc.kinds])
    if doc.settings:
        lines += ["", *columns([(short_name(each), each.description) for each in inside(doc)])]
    lines += [""]
    if not doc.settings:
        lines += [] if doc.kinds else [f"type      {doc.type}"]
        lines += ["default   none: it must be given" if doc.required else f"default   {_yaml(doc.default)}"]
        lines += [f"unit      {doc.unit}"] if doc.unit else []
    if doc.set_by:
        where = [
            name if isinstance(value, dict | list) else f"{name} ({_yaml(value)})" for name, value in doc.set_by.items()
        ]
        lines += textwrap.wrap(", ".join(where), _WIDTH, initial_indent="set by    ", subsequent_indent=" " * 10)
    return [*lines, ""]


def short_name(doc: "SettingDoc") -> str:
    """The last part of its name, with its default."""
    name = doc.path.rpartition(".")[2]
    return name if doc.type == "section" or doc.required else f"{name}: {_yaml(doc.default)}"


def _yaml(value: object) -> str:
    from seqvae.yaml_source import dump_value

    return dump_value(value)


def columns(rows: list[tuple[str, str]]) -> list[str]:
    """Names and what they mean, side by side."""
    lines = []
    for name, text in rows:
        lead = f"  {name:<{_NAMES}}  "
        lines += textwrap.wrap(
            text, _WIDTH, initial_indent=lead, subsequent_indent=" " * len(f"  {'':<{_NAMES}}  ")
        ) or [lead.rstrip()]
    return lines

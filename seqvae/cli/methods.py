"""``seqvae methods``: what there is to train with."""

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import JsonOption
from seqvae.cli.usage import verbs

if TYPE_CHECKING:
    from seqvae.method_docs import MethodDoc
    from seqvae.setting_docs import SettingDoc

app = verbs("methods", "The training methods, families of models and baselines.")

_WIDTH, _NAMES = 110, 22


@app.callback(invoke_without_command=True, no_args_is_help=False)
@run_verb()
def list_methods(ctx: typer.Context, json: JsonOption = False) -> None:
    """List the training methods, families of models, recipes and baselines: a line on each, source and recipe.

    `seqvae methods show NAME` tells one at length.
    """
    if ctx.invoked_subcommand is not None:
        return
    from seqvae.method_docs import HEADINGS, method_docs

    docs = list(method_docs().values())
    if json:
        emit_json([_summary(doc) for doc in docs])
        return
    for kind, heading in HEADINGS.items():
        emit_lines([heading])
        emit_lines(line for doc in docs if doc.kind == kind for line in _entry(doc))
        emit_lines([""])
    emit_lines(["`seqvae methods show NAME` tells more; `seqvae train --config RECIPE` trains one"])


@app.command()
@run_verb()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Such as free_bits; `seqvae methods` lists them.", autocompletion=completion.methods
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Tell all about one: formula and source, hooks, settings, what it cannot go with, and its recipe."""
    from seqvae.method_docs import method_doc

    doc = method_doc(name)
    if json:
        settings = [asdict(each) for each in doc.settings]
        more = {"hooks": doc.hooks, "settings": settings, "conflicts": doc.conflicts, "reference": doc.reference}
        emit_json(_summary(doc) | more)
    else:
        emit_lines(_page(doc))


def _summary(doc: "MethodDoc") -> dict[str, object]:
    return {name: getattr(doc, name) for name in ("name", "kind", "about", "source", "recipe")}


def _entry(doc: "MethodDoc") -> list[str]:
    lead, below = f"  {doc.name:<{_NAMES}}  ", " " * (_NAMES + 4)
    facts = [*(["; ".join(doc.source)] if doc.source else []), *([doc.recipe] if doc.recipe else [])]
    return [
        *textwrap.wrap(doc.about, _WIDTH, initial_indent=lead, subsequent_indent=below),
        *textwrap.wrap(" - ".join(facts), _WIDTH, initial_indent=below, subsequent_indent=below),
    ]


def _page(doc: "MethodDoc") -> list[str]:
    from seqvae.cli.config import columns, short_name
    from seqvae.method_docs import HOOKS

    lines = [f"{doc.name}  ({doc.kind})", *textwrap.wrap(doc.about, _WIDTH), ""]
    lines += [*doc.reference.replace("``", "`").splitlines(), ""]
    if doc.source:
        lines += [
            "source",
            *textwrap.wrap("; ".join(doc.source), _WIDTH, initial_indent="  ", subsequent_indent="  "),
            "",
        ]
    if doc.hooks:
        lines += ["hooks", *columns([(hook, HOOKS[hook]) for hook in doc.hooks]), ""]
    if doc.settings:
        rows = [(short_name(each), f"{each.description} ({_kind(each)})") for each in doc.settings]
        lines += ["settings", *columns(rows), ""]
    if doc.conflicts:
        lines += ["cannot go with", *columns(list(doc.conflicts.items())), ""]
    if doc.recipe:
        lines += ["recipe", f"  seqvae train --config {doc.recipe}"]
    return lines


def _kind(doc: "SettingDoc") -> str:
    return doc.type + ("; it must be given" if doc.required else "")

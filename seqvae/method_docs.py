"""What there is to train with, read from the code and the recipes themselves: no list that anybody keeps by hand.

A method's line is that of its file, its source what its docstring cites; a recipe's are in its first line. A recipe
that bears the name of no method and no family is listed for itself: as a baseline where it says that it is one.
"""

import difflib
import functools
import inspect
import re
import sys
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel
from torch import nn

from seqvae.config import shipped_config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.models.families import conflict
from seqvae.models.posterior import PosteriorConfig
from seqvae.models.prior import PriorConfig
from seqvae.objectives.base import Strategy
from seqvae.objectives.registry import refusal, strategy_types
from seqvae.setting_docs import SettingDoc, explain, inside
from seqvae.training.settings import PhaseConfig
from seqvae.validation import models_in
from seqvae.yaml_source import read_yaml

Kind = Literal["method", "phases", "posterior", "prior", "recipe", "baseline"]

HEADINGS: dict[Kind, str] = {
    "method": "training methods (objective.strategies)",
    "phases": "training in phases (train.phases)",
    "posterior": "families of posteriors (model.posterior)",
    "prior": "priors (model.prior)",
    "recipe": "recipes that put settings together",
    "baseline": "baselines",
}

HOOKS = {
    name: (inspect.getdoc(value) or "").split("\n\n")[0]
    for name, value in vars(Strategy).items()
    if inspect.isfunction(value) and not name.startswith("_")
}
"""What a method may override: the first line on each."""

_CITED = re.compile(r"([A-Z][\w'-]+(?:(?:, [A-Z][\w'-]+)* and [A-Z][\w'-]+| et al\.)?),? \(?((?:19|20)\d\d)\b")


@dataclass(frozen=True, kw_only=True)
class MethodDoc:
    """One method, family, recipe or baseline."""

    name: str
    kind: Kind
    about: str
    """A line."""
    source: tuple[str, ...]
    """The papers: ``Fu et al. 2019``."""
    recipe: str | None
    """The shipped config that uses it."""
    reference: str = ""
    """What the code says about it: formula, source, deviations."""
    hooks: tuple[str, ...] = ()
    """What it overrides, of `HOOKS`."""
    settings: tuple[SettingDoc, ...] = ()
    conflicts: dict[str, str] = field(default_factory=dict)
    """What it cannot go with: the reason."""


@functools.cache
def method_docs() -> dict[str, MethodDoc]:
    """Everything there is, by name, kind after kind."""
    docs = [*_methods(), _phases(), *_families("posterior", PosteriorConfig), *_families("prior", PriorConfig)]
    docs += _recipes({doc.name for doc in docs})
    order = list(HEADINGS)
    return {doc.name: doc for doc in sorted(docs, key=lambda doc: order.index(doc.kind))}


def method_doc(name: str) -> MethodDoc:
    """The one of that name; SeqVAEError (E269) with the nearest name where there is none."""
    known = method_docs()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or [each for each in known if name and name in each]
        hint = f"did you mean `{near[0]}`?" if near else "`seqvae methods` lists them all"
        raise SeqVAEError("E269", f"there is no method `{name}`", hint=hint)
    return known[name]


def citations(text: str) -> tuple[str, ...]:
    """The papers that a text cites by author and year, in order, each once."""
    found = (f"{authors} {year}" for authors, year in _CITED.findall(" ".join(text.split())))
    return tuple(dict.fromkeys(found))


def _methods() -> list[MethodDoc]:
    built = [cls(cls.Config.model_construct()) for cls in strategy_types().values()]
    docs = []
    for strategy in built:
        cls = type(strategy)
        refused = {other.name: refusal(strategy, other) for other in built if other is not strategy}
        recipe = _named(strategy.name)
        docs.append(
            MethodDoc(
                name=strategy.name,
                kind="baseline" if recipe and _is_baseline(recipe) else "method",
                about=_first_line(cls),
                source=citations(cls.__doc__ or ""),
                recipe=recipe,
                reference=inspect.getdoc(cls) or "",
                hooks=tuple(hook for hook in HOOKS if getattr(cls, hook) is not getattr(Strategy, hook)),
                settings=_settings(f"objective.strategies.{strategy.name}"),
                conflicts={name: reason for name, reason in refused.items() if reason is not None},
            )
        )
    return docs


def _families(kind: Literal["posterior", "prior"], annotation: object) -> list[MethodDoc]:
    others = {"posterior": PriorConfig, "prior": PosteriorConfig}[kind]
    docs = []
    for config in models_in(annotation):
        name = _family(config)
        pairs = {
            each: (name, each) if kind == "posterior" else (each, name) for each in map(_family, models_in(others))
        }
        networks = [
            inspect.getdoc(value) or ""
            for value in vars(sys.modules[config.__module__]).values()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == config.__module__
        ]
        reference = "\n\n".join(networks)
        refused = {each: conflict(*pair) for each, pair in pairs.items()}
        docs.append(
            MethodDoc(
                name=name,
                kind=kind,
                about=_first_line(config),
                source=citations(reference),
                recipe=_named(name) or _using(("model", kind, "family"), name),
                reference=reference,
                settings=_settings(f"model.{kind}.{name}"),
                conflicts={each: reason for each, reason in refused.items() if reason is not None},
            )
        )
    return docs


def _phases() -> MethodDoc:
    recipe = _using(("train", "phases"))
    about, _, more = (inspect.getdoc(PhaseConfig) or "").replace("``", "`").partition("\n\n")
    return MethodDoc(
        name="phases",
        kind="phases",
        about=about,
        source=citations(_header(recipe)) if recipe else (),
        recipe=recipe,
        reference=more,
        settings=_settings("train.phases"),
    )


def _recipes(known: set[str]) -> list[MethodDoc]:
    """The recipes that bear another name, and the baselines among the other configs."""
    docs = []
    for config in shipped_configs():
        name = config.rpartition("/")[2].removesuffix(".yaml")
        baseline = _is_baseline(config)
        if name in known or not (baseline or config.startswith("recipes/")):
            continue
        about = _header(config)
        docs.append(
            MethodDoc(
                name=name,
                kind="baseline" if baseline else "recipe",
                about=about,
                source=citations(about),
                recipe=config,
                reference="\n".join(_text(config).splitlines()[2:]),
            )
        )
    return docs


def _settings(path: str) -> tuple[SettingDoc, ...]:
    (doc,) = explain(path)
    return tuple(inside(doc))


def _family(config: type[BaseModel]) -> str:
    return config.model_fields["family"].default


def _first_line(cls: type) -> str:
    """The first line of the file that the class stands in, as text."""
    return (sys.modules[cls.__module__].__doc__ or "").strip().split("\n\n")[0].replace("``", "`").replace("\n", " ")


def _named(name: str) -> str | None:
    recipe = f"recipes/{name}.yaml"
    return recipe if recipe in shipped_configs() else None


def _using(path: tuple[str, ...], value: object = None) -> str | None:
    """The first recipe that gives a setting this value; without a value, that gives it any."""
    for name in shipped_configs():
        found: object = read_yaml(shipped_config(name)).data if name.startswith("recipes/") else None
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None and value in (None, found):
            return name
    return None


@functools.cache
def _text(config: str) -> str:
    return shipped_config(config).read_text(encoding="utf-8")


def _header(config: str) -> str:
    return _text(config).splitlines()[0].lstrip("# ")


def _is_baseline(config: str) -> bool:
    return "baseline" in _header(config)

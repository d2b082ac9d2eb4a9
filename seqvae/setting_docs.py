"""What a setting means, read from the settings classes themselves: description, type, default, unit, who sets it."""

import difflib
import functools
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from seqvae.config import Config, shipped_config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.objectives.registry import strategy_types
from seqvae.validation import is_list, item_type, kinds_of, models_in, plain, tag_of, types_in
from seqvae.yaml_source import dump_value, read_yaml

PHASES = ("train", "phases")
"""A phase repeats settings of ``objective`` and ``train``: a config that sets one there counts."""

_UNITS = (
    *("tokens", "sentences", "epochs", "updates", "validations", "decays", "checkpoints", "nats", "words"),
    *("seconds", "bytes", "threads", "samples", "dimensions", "characters", "layers", "rows"),
)
_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", type(None): "null"}
_BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


@dataclass(frozen=True, kw_only=True)
class SettingDoc:
    """One setting, or one section with the names of those in it (``settings``) and its ``kinds``."""

    path: str
    kind: str | None = None
    """Of which kind of section it is a setting (``plateau`` of the schedules), where there are several."""
    description: str
    type: str
    default: Any = None
    """As YAML has it."""
    required: bool = False
    unit: str | None = None
    settings: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tag: str | None = None
    """The setting that tells the kinds apart."""
    set_by: dict[str, Any] = field(default_factory=dict)
    """Shipped config: the value there."""


def explain(dotted: str) -> list[SettingDoc]:
    """The setting or section of that name; several where kinds of a section share a name and differ in its meaning.

    A name may lead through a kind: ``objective.strategies.free_bits``, ``train.schedule.plateau.patience``. Raises
    SeqVAEError (E204) with the nearest name.
    """
    parts = tuple(part for part in dotted.strip().split(".") if not part.isdecimal())
    found = _at(parts)
    if not found:
        known = setting_names()
        near = [path for path in known if path.rpartition(".")[2] in parts[-1:]]
        near = near or difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"the sections are: {', '.join(Config.model_fields)}"
        raise SeqVAEError("E204", f"`{dotted}` is not a setting", hint=hint)
    docs: list[SettingDoc] = []
    for kind, info, model in found:
        doc = _describe(parts, kind, info, model)
        same = next((i for i, other in enumerate(docs) if _meaning(other) == _meaning(doc)), None)
        if same is None:
            docs.append(doc)
        elif doc.kind and docs[same].kind:
            docs[same] = replace(docs[same], kind=f"{docs[same].kind}, {doc.kind}")
    return docs


@functools.cache
def setting_names() -> list[str]:
    """Every name that `explain` knows."""
    return sorted(set(_all_paths(Config)))


def settable_names(model: type[BaseModel] = Config, above: str = "") -> list[str]:
    """The settings that ``--set NAME=VALUE`` takes, of every kind of each section; a list is set as a whole."""
    found: dict[str, None] = {}
    for name, info in model.model_fields.items():
        sections = [] if is_list(info.annotation) else models_in(info.annotation)
        inner = [each for section in sections for each in settable_names(section, f"{above}{name}.")]
        found |= dict.fromkeys(inner or [f"{above}{name}"])
    return list(found)


def inside(doc: SettingDoc) -> list[SettingDoc]:
    """The settings of a section, in order."""
    return [found for name in doc.settings for found in explain(f"{doc.path}.{name}")]


def _meaning(doc: SettingDoc) -> tuple:
    return doc.description, doc.type, dump_value(doc.default), doc.required


Found = tuple[str | None, FieldInfo | None, type[BaseModel] | None]
"""The kind that a setting belongs to, the field of a setting, and the settings class where a kind itself is meant."""


def _at(parts: Sequence[str]) -> list[Found]:
    """What the name leads to."""
    models: list[tuple[str | None, type[BaseModel]]] = [(None, Config)]
    found: list[Found] = []
    for part in parts:
        chosen = [model for kind, model in models if kind and part in kinds_of(model)]
        fields = [(k, m.model_fields[part]) for k, m in models if part in m.model_fields] if not chosen else []
        found = [(kind, info, None) for kind, info in fields] + [(None, None, model) for model in chosen]
        models = [pair for _, info in fields for pair in _below(info.annotation)] + [(None, each) for each in chosen]
        if not found:
            return []
    return found


def _below(annotation: Any) -> list[tuple[str | None, type[BaseModel]]]:
    """(kind or None, settings class) of a section, or of the items of a list of sections."""
    models = models_in(annotation) or (models_in(item_type(annotation)) if is_list(annotation) else [])
    return [(str(next(iter(kinds_of(model)), "")) if len(models) > 1 else None, model) for model in models]


def _describe(
    parts: Sequence[str], kind: str | None, info: FieldInfo | None, model: type[BaseModel] | None
) -> SettingDoc:
    path, set_by = (
        ".".join(parts),
        _set_by((*parts[:-1], kind, parts[-1]) if kind else parts, _default_kind(parts[:-1])),
    )
    if info is None:
        names = tuple(name for name in model.model_fields if name != tag_of([model]))
        return SettingDoc(path=path, description=_about(model), type="section", settings=names, set_by=set_by)
    below = _below(info.annotation)
    description = (info.description or "which kind of section this is").strip()
    if below:
        kinds = tuple(each for each, _ in below if each)
        names = tuple(dict.fromkeys(name for _, each in below for name in each.model_fields)) if not kinds else ()
        what = "list of sections" if is_list(info.annotation) else "section"
        default = plain(info.get_default(call_default_factory=True))
        return SettingDoc(
            path=path, kind=kind, description=description, type=what, settings=names, kinds=kinds, set_by=set_by,
            default=default if kinds or what != "section" else None,
            tag=tag_of([each for _, each in below]) if kinds else None,
        )  # fmt: skip
    return SettingDoc(
        path=path,
        kind=kind,
        description=description,
        type=_type(info),
        default=None if info.is_required() else plain(info.get_default(call_default_factory=True)),
        required=info.is_required(),
        unit=_unit(parts[-1], description, info.annotation),
        set_by=set_by,
    )


def kind_summary(path: str, kind: str) -> str:
    """One line on a kind of section."""
    return explain(f"{path}.{kind}")[0].description


def _about(model: type[BaseModel]) -> str:
    """The first paragraph that says what a settings class is for.

    Of a method it is the method's own, which cites its paper; of a family of posteriors or priors that of its file.
    """
    owner = next((cls for cls in strategy_types().values() if cls.Config is model), model)
    text = (sys.modules[model.__module__] if tag_of([model]) == "family" else owner).__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].replace("``", "`").split())


def _type(info: FieldInfo) -> str:
    """In words: ``whole number, from 1; or null``."""
    words = [_words(kind) for kind in types_in(info.annotation) if kind is not type(None)]
    text = " or ".join(dict.fromkeys(words))
    bounds = [_BOUNDS[name].format(getattr(m, name)) for m in info.metadata for name in _BOUNDS if hasattr(m, name)]
    pattern = next((m.pattern for m in info.metadata if getattr(m, "pattern", None)), None)
    text = ", ".join([text, *bounds, *([f"like {pattern}"] if pattern else [])])
    return f"{text}; or null" if type(None) in types_in(info.annotation) else text


def _words(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (list, tuple):
        inner = [each for each in arguments if each is not ...]
        count = "" if ... in arguments or origin is list else f"{len(inner)} times "
        return f"list of {count}" + " or ".join(
            dict.fromkeys(_words(part) for each in inner for part in types_in(each))
        )
    return _TYPES.get(kind, getattr(kind, "__name__", str(kind)))


def _unit(name: str, description: str, annotation: Any) -> str | None:
    """What a number counts: the first unit that its description, or else its name, speaks of."""
    if not {int, float} & set(types_in(annotation)):
        return None
    words = re.findall(r"[a-z]+", f"{description.lower()} {name.replace('_', ' ')}")
    return next((word for word in words if word in _UNITS), None)


def _default_kind(parts: Sequence[str]) -> str | None:
    """The kind of a section where none is named."""
    for _, info, _ in _at(parts):
        default = None if info is None or info.is_required() else info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            return getattr(default, tag_of([type(default)]), None)
    return None


def _set_by(parts: Sequence[str], default: str | None) -> dict[str, Any]:
    """The shipped configs that name the setting, with the (first) value that each gives it; ``default`` is the kind of
    a section that names none."""
    names = [parts, (*PHASES, *parts[1:])] if parts[0] in ("objective", "train") else [parts]
    found = {
        name: [value for each in names for value in _values(data, each, default)] for name, data in _shipped().items()
    }
    return {name: values[0] for name, values in found.items() if values}


@functools.cache
def _shipped() -> dict[str, Any]:
    """What stands in each shipped config."""
    return {name: read_yaml(shipped_config(name)).data for name in shipped_configs()}


def _values(data: Any, parts: Sequence[str], default: str | None, told: bool = False) -> Iterator[Any]:
    """The values at that name, in every item of a list; ``told``: the kind of ``data`` has been named already."""
    if isinstance(data, list):
        for item in data:
            yield from _values(item, parts, default)
    elif not parts:
        yield data
    elif isinstance(data, dict):
        kind = data.get("name", data.get("family", default if len(parts) == 2 else None))
        if not told and parts[0] == kind:
            yield from _values(data, parts[1:], default, told=True)
        elif parts[0] in data:
            below = data[parts[0]]
            yield from [below] if len(parts) == 1 else _values(below, parts[1:], default)


def _all_paths(model: type[BaseModel], above: str = "", depth: int = 0) -> Iterator[str]:
    """Every name that `explain` knows."""
    for name, info in model.model_fields.items():
        path = f"{above}{name}"
        yield path
        for kind, below in _below(info.annotation) if depth < 5 else ():
            if kind:
                yield f"{path}.{kind}"
                yield from _all_paths(below, f"{path}.{kind}.", depth + 1)
            yield from _all_paths(below, f"{path}.", depth + 1)

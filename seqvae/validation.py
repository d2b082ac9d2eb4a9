"""From plain data to settings: overrides, defaults of partial sections, and errors that point at the mistake.

Works on any pydantic model. Where several kinds of settings may stand (the optimizers, the training methods, the
families of a distribution), ``name`` or ``family`` tells them apart.
"""

import copy
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seqvae.errors import Location, SeqVAEError
from seqvae.yaml_source import Document, Place, ValuePath, locate_argument, parse_value

Settings = TypeVar("Settings", bound=BaseModel)

_TAGS = ("name", "family")
"""Settings that tell of which kind the others beside them are."""


def validate(cls: type[Settings], document: Document, name: str, overrides: Sequence[str] = ()) -> Settings:
    """The settings that ``document`` holds once ``overrides`` (``a.b=c``) are applied; ``name`` is for messages.

    Raises SeqVAEError: E204 unknown setting, E205 wrong value, E206 an override that cannot be read or applied.
    """
    document = Document(copy.deepcopy(document.data), dict(document.places))
    for argument in overrides:
        _override(document, argument, cls)
    document.data = _complete(document.data, cls, None)
    try:
        return cls.model_validate(document.data)
    except ValidationError as error:
        raise _explain(error, document, cls, name) from None
    except SeqVAEError as error:
        error.where = error.where or name
        raise


def explicit(settings: BaseModel) -> dict[str, Any]:
    """What was set, as plain data, defaults left out (but those that tell what the rest belongs to)."""
    names = [name for name in type(settings).model_fields if name in _TAGS or name in settings.model_fields_set]
    return {name: plain(getattr(settings, name)) for name in names}


def plain(value: Any) -> Any:
    """A value of a setting in the types that YAML has."""
    if isinstance(value, BaseModel):
        return explicit(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if type(value).__module__ == "numpy":  # a number, or an array of them
        return value.tolist()
    return str(value) if isinstance(value, PurePath) else value


# Reading the types of settings.


def types_in(annotation: Any) -> list[Any]:
    """The types that a value may have: unions flattened, annotations removed."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return types_in(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for argument in typing.get_args(annotation) for kind in types_in(argument)]
    return [annotation]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The kinds of settings that may stand where ``annotation`` is; none for a plain value."""
    return [kind for kind in types_in(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]


def item_type(annotation: Any) -> Any:
    """The type of the items of a list or tuple."""
    return next((typing.get_args(kind)[0] for kind in types_in(annotation) if typing.get_args(kind)), None)


def is_list(annotation: Any) -> bool:
    return any(typing.get_origin(kind) in (list, tuple) for kind in types_in(annotation))


def tag_of(models: Sequence[type[BaseModel]]) -> str:
    """The setting that tells these kinds apart."""
    return next((tag for tag in _TAGS if any(tag in model.model_fields for model in models)), _TAGS[0])


def kinds_of(model: type[BaseModel]) -> tuple[Any, ...]:
    """What the tag of a kind may say."""
    field = model.model_fields.get(tag_of([model]))
    return typing.get_args(field.annotation) if field else ()


def _candidates(annotation: Any, data: Any) -> list[type[BaseModel]]:
    """The settings classes that ``data`` may be meant for; all of them where its tag does not tell."""
    models = models_in(annotation)
    name = data.get(tag_of(models)) if isinstance(data, dict) else None
    return [model for model in models if name in kinds_of(model)] or models


def _complete(data: Any, annotation: Any, default: Any) -> Any:
    """``data`` with what a person may leave out: an empty section is all defaults, and the kind is the default's."""
    models = models_in(annotation)
    if isinstance(data, list) and not models:
        return [_complete(item, item_type(annotation), None) for item in data]
    if data is None and models and type(None) not in types_in(annotation):
        data = {}
    if not isinstance(data, dict) or not models:
        return data
    tag = tag_of(models)
    if len(models) > 1 and tag not in data and isinstance(default, BaseModel):
        data = {tag: getattr(default, tag, None), **data}
    fields = _candidates(annotation, data)[0].model_fields
    for key in data.keys() & fields.keys():
        field = fields[key]
        data[key] = _complete(data[key], field.annotation, field.get_default(call_default_factory=True))
    return data


def _annotation_at(cls: type[BaseModel], data: Any, path: ValuePath) -> Any:
    """The type of the setting at ``path``, or None where there is none."""
    annotation: Any = cls
    for part in path:
        if isinstance(part, int):
            annotation = item_type(annotation)
        else:
            fields = [model.model_fields.get(part) for model in _candidates(annotation, data)]
            annotation = next((field.annotation for field in fields if field), None)
        data = _get(data, part)
    return annotation


# Overrides: `--set a.b=c`.


def _override(document: Document, argument: str, cls: type[BaseModel]) -> None:
    """Applies one ``a.b=c`` to the data, and notes its places so that an error points into the argument."""
    dotted, equals, _ = argument.partition("=")
    if not equals:
        hint = f"write `{argument.strip() or 'section.setting'}=VALUE`"
        raise SeqVAEError("E206", "there is no `=`", where=locate_argument(argument, 0, len(argument)), hint=hint)
    node, path, column = document.data, (), 0
    words = dotted.split(".")
    for index, word in enumerate(words):
        where = locate_argument(argument, column + len(word) - len(word.lstrip()), max(1, len(word.strip())))
        part = _step(node, word.strip(), where, path)
        path, column = (*path, part), column + len(word) + 1
        if index == len(words) - 1:
            break
        present = _get(node, part)
        if present is None:
            _set(node, part, [] if is_list(_annotation_at(cls, document.data, path)) else {})
            document.places[path] = Place(where, where)
        elif not isinstance(present, (dict, list)):
            raise _not_inside(path, where)
        node = node[part]
    value = parse_value(argument, len(dotted) + 1, path)
    for other in [place for place in document.places if place[: len(path)] == path]:
        del document.places[other]
    document.places |= value.places
    document.places[path] = Place(where, value.places[path].value)
    _set(node, part, value.data)
    if part in _TAGS and isinstance(node, dict):
        _drop_foreign(node, document, cls, path[:-1])


def _get(node: Any, part: str | int) -> Any:
    if isinstance(node, list):
        return node[part] if isinstance(part, int) and part < len(node) else None
    return node.get(part) if isinstance(node, dict) else None


def _set(node: Any, part: str | int, value: Any) -> None:
    if isinstance(node, list) and part == len(node):
        node.append(value)
    else:
        node[part] = value


def _step(node: Any, word: str, where: Location, path: ValuePath) -> str | int:
    """The key or index that ``word`` means inside ``node``; one past the end of a list appends to it."""
    if not word:
        raise SeqVAEError("E206", "a name is missing", where=where, hint="write `section.setting=VALUE`")
    if not isinstance(node, list):
        return word
    if word.isdecimal() and int(word[:9]) <= len(node):
        return int(word)
    entries = "no entry" if not node else f"entries 0 to {len(node) - 1}"
    hint = f"it has {entries}; {len(node)} adds one"
    raise SeqVAEError("E206", f"`{_dotted(path)}` has no entry `{word}`", where=where, hint=hint)


def _not_inside(path: ValuePath, where: Location) -> SeqVAEError:
    return SeqVAEError("E206", f"`{_dotted(path)}` is a value: nothing stands below it", where=where, hint=None)


def _drop_foreign(node: dict, document: Document, cls: type[BaseModel], path: ValuePath) -> None:
    """Another kind was chosen by its tag: settings that only the former kind has go."""
    models = models_in(_annotation_at(cls, document.data, path))
    chosen = [model for model in models if node.get(tag_of(models)) in kinds_of(model)]
    if len(models) < 2 or not chosen:
        return
    for key in [key for key in node if key not in chosen[0].model_fields]:
        del node[key]


# Errors.


def _explain(error: ValidationError, document: Document, cls: type[BaseModel], name: str) -> SeqVAEError:
    """All mistakes in one error: the first in the order of the file in full, the others in a line each."""
    grouped: dict[ValuePath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        grouped.setdefault(_path(details, document.data, cls), []).append(details)
    mistakes = [_mistake(path, details, document, cls, name) for path, details in grouped.items()]
    mistakes.sort(key=lambda mistake: _order(mistake.where))
    first, *others = mistakes
    first.also = tuple(f"{other.where}: {other.what}" for other in others)
    return first


def _order(where: Location | str | None) -> tuple[int, int]:
    return (where.line or 0, where.column or 0) if isinstance(where, Location) else (0, 0)


def _path(details: ErrorDetails, data: Any, cls: type[BaseModel]) -> ValuePath:
    """Where in the data an error is, without what pydantic adds to tell the kinds of a union apart."""
    path: ValuePath = ()
    node, tagged = data, False
    for part in details["loc"]:
        kinds = models_in(_annotation_at(cls, data, path))
        if len(kinds) > 1 and not tagged and isinstance(node, dict) and node.get(tag_of(kinds)) == part:
            tagged = True
        elif part in node if isinstance(node, dict) else isinstance(node, list) and part in range(len(node)):
            path, node, tagged = (*path, part), node[part], False
    return (*path, details["loc"][-1]) if details["type"] == "missing" and not _is_short(details) else path


def _is_short(details: ErrorDetails) -> bool:
    """Whether a list has fewer values than it should, which pydantic calls a missing field."""
    return details["type"] == "missing" and isinstance(details["loc"][-1], int)


def _mistake(
    path: ValuePath, errors: list[ErrorDetails], document: Document, cls: type[BaseModel], name: str
) -> SeqVAEError:
    details, dotted = errors[0], _dotted(path)
    kind, given = details["type"], details["input"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        hint = _suggest(path, document.data, cls)
        return SeqVAEError("E204", f"`{dotted}` is not a setting", where=_where(document, path, name, "key"), hint=hint)
    if kind == "too_long" or _is_short(details):
        what = f"`{dotted}` has too {'many' if kind == 'too_long' else 'few'} values: {_show(given)}"
        where = _where(document, path, name, "value")
        return SeqVAEError("E205", what, where=where, hint=_describe(path, document.data, cls))
    if kind == "missing":
        where = _where(document, path[:-1], name, "key")
        return SeqVAEError("E205", f"`{dotted}` is missing", where=where, hint=_describe(path, document.data, cls))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        models = models_in(_annotation_at(cls, document.data, path))
        tag, allowed = tag_of(models), sorted(str(known) for model in models for known in kinds_of(model))
        what = (
            f"`{dotted}` needs a `{tag}`"
            if kind.endswith("found")
            else f"`{dotted}.{tag}`: there is no {_show(given[tag])}"
        )
        where = _where(document, (*path, tag), name, "value") if kind.endswith("invalid") else None
        where = where or _where(document, path, name, "key")
        return SeqVAEError("E205", what, where=where, hint=_choose(str(context.get("tag", "")), allowed))
    where = _where(document, path, name, "value")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        what = f"`{dotted}` is a section, it cannot be {_show(given)}"
        models = models_in(_annotation_at(cls, document.data, path))
        names = [str(known) for model in models for known in kinds_of(model)]
        hint = (
            f"set `{dotted}.{tag_of(models)}`; " + _listing(names)
            if len(names) > 1
            else _listing(_fields(path, document.data, cls))
        )
        return SeqVAEError("E205", what, where=where, hint=hint)
    if kind == "value_error":
        what = f"`{dotted}`: {context['error']}" if path else str(context["error"])
        hint = None if models_in(_annotation_at(cls, document.data, path)) else _describe(path, document.data, cls)
        return SeqVAEError("E205", what, where=where, hint=hint)
    messages = list(dict.fromkeys(_requirement(each["msg"]) for each in errors))
    what = f"`{dotted}` should be {' or '.join(messages)}, not {_show(given)}"
    if len(messages) == 1 and details["msg"].startswith(messages[0]):
        what = f"`{dotted}` cannot be {_show(given)}: {messages[0][0].lower()}{messages[0][1:]}"
    expected = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    near = difflib.get_close_matches(str(given), expected, n=1)
    hint = f"did you mean `{near[0]}`?" if near else _describe(path, document.data, cls)
    return SeqVAEError("E205", what, where=where, hint=hint)


def _requirement(message: str) -> str:
    message = message.removeprefix("Input should be ").partition(", unable to parse")[0]
    return "a list" if message == "a valid tuple" else message


def _where(document: Document, path: ValuePath, name: str, what: str) -> Location | str:
    """The place of a setting's key or value, or of the nearest section above it that stands in a file."""
    for length in range(len(path), 0, -1):
        place = document.places.get(path[:length])
        if place:
            inline = length == len(path) and place.value.line == place.key.line
            return place.value if what == "value" and inline else place.key
    return name


def _suggest(path: ValuePath, data: Any, cls: type[BaseModel]) -> str:
    """The nearest setting in the same section, else one of that name elsewhere, else all of the section.

    A setting of another kind of the same section (another optimizer, another tokenizer) comes first: the kind is wrong.
    """
    fields, wrong = _fields(path[:-1], data, cls), str(path[-1])
    models = models_in(_annotation_at(cls, data, path[:-1]))
    others = [f"`{tag_of(models)}: {kinds_of(model)[0]}`" for model in models if wrong in model.model_fields]
    if others:
        return f"`{wrong}` is a setting of {' and of '.join(others)}"
    near = difflib.get_close_matches(wrong, fields, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    elsewhere = [dotted for dotted in _settings(cls) if dotted.rpartition(".")[2] == wrong]
    return f"did you mean `{elsewhere[0]}`?" if elsewhere else _listing(fields)


def _fields(path: ValuePath, data: Any, cls: type[BaseModel]) -> list[str]:
    return list(dict.fromkeys(field for model in _models_at(path, data, cls) for field in model.model_fields))


def _models_at(path: ValuePath, data: Any, cls: type[BaseModel]) -> list[type[BaseModel]]:
    """The settings classes that the data at ``path`` may be meant for."""
    annotation = _annotation_at(cls, data, path)
    for part in path:
        data = _get(data, part)
    return _candidates(annotation, data)


def _settings(cls: type[BaseModel], above: str = "") -> Iterator[str]:
    """Dotted names of all settings, lists left out."""
    for name, field in cls.model_fields.items():
        yield above + name
        for model in models_in(field.annotation):
            yield from _settings(model, f"{above}{name}.")


def _describe(path: ValuePath, data: Any, cls: type[BaseModel]) -> str | None:
    """What a setting means, from its own description."""
    if not path or isinstance(path[-1], int):
        return None
    for model in _models_at(path[:-1], data, cls):
        field = model.model_fields.get(str(path[-1]))
        if field and field.description:
            return f"`{path[-1]}`: {field.description}"
    return None


def _choose(wrong: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(wrong, allowed, n=1)
    return f"did you mean `{near[0]}`?" if near else _listing(allowed)


def _listing(names: list[str]) -> str:
    return "choose from: " + ", ".join(names)


def _dotted(path: ValuePath) -> str:
    return ".".join(str(part) for part in path)


def _show(value: Any) -> str:
    """A value as YAML would write it, cut where it is long."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

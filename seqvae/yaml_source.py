"""Strict YAML that remembers where everything stands.

The dialect is the core of YAML 1.2: only ``true`` and ``false`` are booleans (``no`` and ``on`` are text), ``1e-3`` is
a number, keys are text, and a key stands once. No tag ever constructs an object.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from seqvae.errors import Location, SeqVAEError

MAX_BYTES = 2**20
MAX_NODES = 20_000
"""Values in one document with its aliases written out: a bound for documents that multiply themselves."""
MAX_DEPTH = 40

ValuePath = tuple[str | int, ...]
"""Where a value stands in a document: keys and list indices, from the top."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    "float": re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.inf\Z|\.nan\Z"),
}
_LINE_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True)
class Place:
    """Where a setting's key and its value stand; a list item has no key of its own."""

    key: Location
    value: Location


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the place of each value in it."""

    data: Any
    places: dict[ValuePath, Place] = field(default_factory=dict)


def read_yaml(path: Path) -> Document:
    """Parses a file. Raises SeqVAEError E203 with the place where it is not strict YAML in UTF-8."""
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        hint = "a config is a page of text: is this the right file?"
        raise SeqVAEError("E203", f"larger than {MAX_BYTES // 2**20} MB", where=str(path), hint=hint)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", errors="replace")
        lines = _LINE_BREAK.split(before)
        rest = content[error.start :].split(b"\n")[0].decode("utf-8", errors="replace")
        where = Location(path, len(lines), len(lines[-1]) + 1, lines[-1] + rest)
        what = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise SeqVAEError("E203", what, where=where, hint="save the file in UTF-8") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, name: str | Path) -> Document:
    """Parses a whole document; ``name`` is what errors call it. An empty document is an empty mapping."""
    lines = _LINE_BREAK.split(text)

    def locate(line: int, column: int, width: int) -> Location:
        return Location(name, line + 1, column + 1, lines[line] if line < len(lines) else "", width)

    reader = _Reader(text, locate, "E203")
    node = reader.compose()
    if node is None or (isinstance(node, ScalarNode) and not node.value):
        return Document({})
    if not isinstance(node, MappingNode):
        what = "a config is a mapping of settings (`section:` and below it `setting: value`)"
        raise SeqVAEError("E203", what, where=reader.span(node), hint="begin with a section, such as `train:`")
    return reader.document(node, ())


def parse_value(argument: str, start: int, path: ValuePath) -> Document:
    """Parses what follows ``=`` at ``start`` in the ``argument`` of a ``--set``; places are in the argument."""
    text = argument[start:]
    if text.strip() == "-":  # standard input; in YAML it would be a list with nothing in it
        text = text.replace("-", "'-'")
    reader = _Reader(text, lambda line, column, width: locate_argument(argument, start + column, width), "E206")
    node = reader.compose()
    if node is None:
        hint = "write `null` for none, or `''` for empty text"
        raise SeqVAEError("E206", "there is no value after `=`", where=locate_argument(argument, start - 1), hint=hint)
    rest = text[node.end_mark.index :]
    if rest.strip():
        where = locate_argument(argument, len(argument) - len(rest.lstrip()), len(rest.strip()))
        hint = "quote the value: `#` after a space begins a comment"
        raise SeqVAEError("E206", "something follows the value", where=where, hint=hint)
    return reader.document(node, path)


def locate_argument(argument: str, column: int, width: int = 1) -> Location:
    """A place in the argument of a ``--set``; ``column`` counts from 0."""
    return Location("--set", None, column + 1, argument, width)


def dump_yaml(data: Any) -> str:
    """YAML that :func:`parse_yaml` reads back to the same data, and that YAML 1.1 readers read alike."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)


def dump_value(value: Any) -> str:
    """A value as it can stand after ``=`` in a ``--set``."""
    text = yaml.dump([value], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=True)
    return text.strip()[1:-1]


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would read as something other than text."""

    yaml_implicit_resolvers: ClassVar[dict] = dict(yaml.SafeDumper.yaml_implicit_resolvers)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, data: str) -> Node:
        """Text with line breaks, of which YAML knows five, stands in double quotes, with escapes."""
        return self.represent_scalar(_TAG + "str", data, style='"' if _LINE_BREAK.search(data) else None)

    def represent_list(self, data: list) -> Node:
        """Lists of plain values stand on one line."""
        inline = self.default_flow_style or not any(isinstance(item, (list, dict)) for item in data)
        return self.represent_sequence(_TAG + "seq", data, flow_style=inline)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_list)


class _Loader(yaml.SafeLoader):
    """Composes nodes only: nothing is constructed by PyYAML."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    depth = nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth, self.nodes = self.depth + 1, self.nodes + 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            what = "nested too deeply" if self.depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise yaml.composer.ComposerError(None, None, what, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, None)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, None)


class _Reader:
    """Turns one text into a :class:`Document`."""

    def __init__(self, text: str, locate: Callable[[int, int, int], Location], code: str):
        self.text, self.locate, self.code = text, locate, code
        self.places: dict[ValuePath, Place] = {}
        self.nodes, self.above = 0, []

    def compose(self) -> Node | None:
        try:
            loader = _Loader(self.text)
            try:
                return loader.get_single_node()
            finally:
                loader.dispose()
        except yaml.reader.ReaderError as error:
            before = _LINE_BREAK.split(self.text[: error.position])
            where = self.locate(len(before) - 1, len(before[-1]), 1)
            what = f"the character U+{ord(self.text[error.position]):04X} cannot stand in YAML"
            raise SeqVAEError(self.code, what, where=where, hint="remove it") from error
        except yaml.MarkedYAMLError as error:
            raise self._mistake(error) from error

    def document(self, node: Node, path: ValuePath) -> Document:
        return Document(self._value(node, path), self.places)

    def span(self, node: Node) -> Location:
        """The text of a node, or of its first line."""
        start, end = node.start_mark, node.end_mark
        if start.line == end.line:
            return self.locate(start.line, start.column, max(1, end.column - start.column))
        line = _LINE_BREAK.split(self.text[start.index : end.index])[0]
        return self.locate(start.line, start.column, max(1, len(line.rstrip())))

    def _mistake(self, error: yaml.MarkedYAMLError) -> SeqVAEError:
        mark = error.problem_mark or error.context_mark
        what, hint = (
            error.problem or "this is not YAML",
            "check the lines around it: colons, quotes, brackets, indentation",
        )
        if "'\\t'" in what:
            what, hint = "a tab cannot stand here", "use spaces"
        elif "unexpected end of stream" in what and error.context_mark:
            mark, what, hint = error.context_mark, "the quote that begins here is not closed", "close it"
        elif "expected a single document" in (error.context or ""):
            what, hint = "a second document begins here", "keep one document in a file (`---` begins another)"
        return SeqVAEError(self.code, what, where=self.locate(mark.line, mark.column, 1), hint=hint)

    def _refuse(self, node: Node, what: str, hint: str) -> SeqVAEError:
        return SeqVAEError(self.code, what, where=self.span(node), hint=hint)

    def _value(self, node: Node, path: ValuePath) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._refuse(node, f"more than {MAX_NODES} values", "aliases (`*name`) multiply: write values out")
        if node in self.above:
            raise self._refuse(node, "this value contains itself", "remove the alias (`*name`)")
        here = self.span(node)
        self.places[path] = Place(here, here)
        self.above.append(node)
        try:
            if isinstance(node, ScalarNode):
                return self._scalar(node)
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
        finally:
            self.above.pop()
        raise self._refuse(node, f"the tag `{node.tag}` is not allowed", "remove it: settings are plain values")

    def _mapping(self, node: MappingNode, path: ValuePath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise self._refuse(key, "a key is a word, not a list or a mapping", "write `setting: value`")
            if key.value in data:
                first = self.places[(*path, key.value)].key.line
                again = f"`{key.value}` stands twice" + ("" if first is None else f" (first on line {first})")
                raise self._refuse(key, again, "keep one of them")
            data[key.value] = self._value(value, (*path, key.value))
            self.places[(*path, key.value)] = Place(self.span(key), self.span(value))
        return data

    def _scalar(self, node: ScalarNode) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind == "str":
            return text
        if kind not in _SCALARS:
            raise self._refuse(node, f"the tag `{node.tag}` is not allowed", "remove it: settings are plain values")
        if not _SCALARS[kind].match(text) or len(text) > 1000:
            raise self._refuse(node, f"this is not of type `{kind}`", "write a plain value")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        return math.nan if text == ".nan" else float(text.replace(".inf", "inf"))

"""For mkdocstrings: an example in a docstring (lines after ``>>>``) is code, and to Markdown only as a block."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n|$).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts each example into a fenced block."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_block, obj.docstring.value)


def _block(example: re.Match) -> str:
    return f"```python\n{re.sub(r' +# doctest:.*', '', example[0])}\n```"

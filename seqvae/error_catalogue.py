"""What each error code means: cause, cure and an example, from ``error_catalogue.yaml`` beside this file."""

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path

from seqvae.errors import SeqVAEError
from seqvae.yaml_source import read_yaml

FILE = Path(__file__).with_suffix(".yaml")

EXIT_CODES = {
    2: "usage or config",
    3: "data",
    4: "checkpoint or model",
    5: "diverged",
    6: "memory",
    7: "storage",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One code; ``title`` is a line, ``cause`` and ``cure`` are sentences, ``example`` what brings it about."""

    code: str
    title: str
    cause: str
    cure: str
    example: str

    @property
    def exit_code(self) -> int:
        return int(self.code[1])


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Every code that seqvae can raise, in order."""
    return {code: Entry(code=code, **fields) for code, fields in read_yaml(FILE).data.items()}


def entry(code: str) -> Entry:
    """The entry of ``code``, in either case and with or without its E; SeqVAEError (E265) for one that is none."""
    known = catalogue()
    wanted = code.strip().upper()
    wanted = wanted if wanted.startswith("E") else f"E{wanted}"
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {near[0]} ({known[near[0]].title})? " if near else ""
    raise SeqVAEError("E265", f"there is no error code `{code}`", hint=f"{hint}`seqvae explain` lists all codes")

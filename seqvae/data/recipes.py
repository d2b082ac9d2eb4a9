"""How the files of a named corpus are made from the public ones: pure functions from lines to lines, by file name."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

Files = Mapping[str, Sequence[str]]
Recipe = Callable[[Files], dict[str, list[str]]]


def interleave(origin: Mapping[str, Sequence[str]], raw: Files) -> dict[str, list[str]]:
    """The first line of each file that a result is made from, then the second of each; of one file: the file itself.

    >>> interleave({"all.txt": ["a", "b"]}, {"a": ["1", "2"], "b": ["x", "y"]})
    {'all.txt': ['1', 'x', '2', 'y']}
    """
    return {
        name: [line for lines in zip(*(raw[file] for file in files), strict=False) for line in lines]
        for name, files in origin.items()
    }


def share_by_hash(sizes: Mapping[str, int], raw: Files) -> dict[str, list[str]]:
    """The lines of the only file, ordered by their sha1, cut into pieces of these sizes."""
    (lines,) = raw.values()
    rest = sorted(lines, key=_sha1)
    shares = {}
    for name, size in sizes.items():
        shares[name], rest = rest[:size], rest[size:]
    return shares


def choose_by_hash(
    raw: Files, *, pattern: str, shares: Mapping[str, Mapping[str, int]], labels: Sequence[str]
) -> dict[str, list[str]]:
    """A draw without chance: of each part, its items (all labels) ordered by the sha1 of ``part.label.index``.

    ``shares`` says how many of the first ones go into which split; each gives ``SPLIT.txt`` and ``SPLIT.labels``.
    """
    made = {}
    for part, sizes in shares.items():
        files = {label: raw[pattern.format(part=part, label=label)] for label in labels}
        items = [(label, index) for label, lines in files.items() for index in range(len(lines))]
        items.sort(key=lambda item: _sha1(f"{part}.{item[0]}.{item[1]}"))
        for split, size in sizes.items():
            chosen, items = items[:size], items[size:]
            made[f"{split}.txt"] = [files[label][index].strip() for label, index in chosen]
            made[f"{split}.labels"] = [label for label, _ in chosen]
    return made


def cut_columns(origin: Mapping[str, str], raw: Files, *, text_column: str, label_column: str) -> dict[str, list[str]]:
    """Two columns of tab-separated files with a header, stripped, as ``SPLIT.txt`` and ``SPLIT.labels``."""
    made = {}
    for split, file in origin.items():
        header, *rows = (line.split("\t") for line in raw[file])
        for column, ending in ((text_column, "txt"), (label_column, "labels")):
            index = header.index(column) if column in header else 0
            made[f"{split}.{ending}"] = [row[index].strip() for row in rows]
    return made


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

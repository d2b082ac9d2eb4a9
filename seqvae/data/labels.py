"""Labels as class numbers: the classes are those of the training rows, in alphabetical order."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from seqvae.data.sources import Row, Source
from seqvae.errors import Location, SeqVAEError

MOST_CLASSES = 10_000
"""More different labels than this are no classes but numbers or identifiers."""


def class_names(sources: Iterable[Source]) -> list[str]:
    """The different labels of the sentences of ``sources``, sorted; raises E327 where there are far too many."""
    names: set[str] = set()
    for source in sources:
        for block in source.blocks():
            sentences = block.where(block.filled)
            if len(names.union(sentences.labels)) <= MOST_CLASSES:
                names.update(sentences.labels)
                continue
            for row in sentences.rows():
                names.add(row.label)
                if len(names) > MOST_CLASSES:
                    what = f"more than {MOST_CLASSES:,} different labels: these are no classes"
                    hint = "check `data.label_column`, or train without labels"
                    raise SeqVAEError("E327", what, where=Location(source.label_name, row.number), hint=hint)
    return sorted(names)


def class_number(row: Row, numbers: Mapping[str, int], source: Source) -> int:
    """The number of a row's label; raises E325 for a label that no training row has."""
    if row.label not in numbers:
        close = get_close_matches(row.label, numbers, n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        shown = ", ".join(repr(name) for name in list(numbers)[:10]) + (", ..." if len(numbers) > 10 else "")
        what = f"the label {row.label!r} is not among those of the training text"
        where = Location(source.label_name, row.number)
        raise SeqVAEError("E325", what, where=where, hint=f"{guess}the training text has {shown}")
    return numbers[row.label]

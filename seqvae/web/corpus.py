"""The sentences that the map shows: drawn from a corpus, with the text as it stands in the file and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32

from seqvae.data.sources import Source
from seqvae.data.store import TokenStore
from seqvae.evaluation.latent import subset

LONGEST_SHOWN = 2_000
"""Characters of a sentence that are shown."""

MOST_SENTENCES = 100_000


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """One label for each sentence: a number of ``classes``."""

    title: str
    classes: list[str]
    numbers: Int32[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The sentences of the map, in the order of their lines."""

    name: str
    store: TokenStore
    """What the tokenizer made of them; its ``lines`` are those of the file."""
    texts: list[str]
    """As they stand in the file, cut at `LONGEST_SHOWN` characters."""
    labellings: list[Labelling]
    total: int
    """Sentences that they were drawn from."""

    def __len__(self) -> int:
        return len(self.texts)


def draw_corpus(
    store: TokenStore,
    source: Source,
    *,
    name: str,
    at_most: int,
    seed: int = 0,
    labelled: Mapping[str, Source] | None = None,
) -> Corpus:
    """``at_most`` sentences of ``store``, which was made from ``source``; all of them where there are no more.

    ``labelled``: the same source with labels, for each kind of label by its name.
    """
    chosen = pick(store, subset(len(store), at_most, seed))
    place = {int(line): row for row, line in enumerate(chosen.lines)}
    texts = [""] * len(place)
    for row in source.rows():
        if row.number in place:
            texts[place[row.number]] = row.text[:LONGEST_SHOWN]
    labellings = [_labelling(title, each, place) for title, each in (labelled or {}).items()]
    return Corpus(name=name, store=chosen, texts=texts, labellings=labellings, total=len(store))


def _labelling(title: str, source: Source, place: Mapping[int, int]) -> Labelling:
    found = {place[row.number]: str(row.label) for row in source.rows() if row.number in place}
    classes = sorted(set(found.values()))
    number = {label: i for i, label in enumerate(classes)}
    numbers = np.array([number[found[row]] for row in range(len(place))], np.int32)
    return Labelling(title=title, classes=classes, numbers=numbers)


def pick(store: TokenStore, rows: Int[np.ndarray, " N"]) -> TokenStore:
    """A store in memory with some of the rows of another."""
    pieces = [store[row] for row in rows.tolist()]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return TokenStore(
        tokens=np.concatenate(pieces) if pieces else store.tokens[:0],
        offsets=offsets,
        lines=np.asarray(store.lines[rows]),
        stats=store.stats,
        fingerprint=f"{store.fingerprint} rows {len(rows)}",
        labels=None if store.labels is None else np.asarray(store.labels[rows]),
        classes=store.classes,
    )

"""What is known around the text of a model: its training text, labels, paraphrases, a grammar, pairs with scores."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

import numpy as np
from jaxtyping import Int

from seqvae.data.catalogue import SPLITS
from seqvae.data.corpora import DataConfig, resolve
from seqvae.data.grammar import Grammar
from seqvae.data.lines import file_lines
from seqvae.data.sources import TextSource
from seqvae.data.store import TokenStore, prepare
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import Location, SeqVAEError
from seqvae.evaluation.fluency import LanguageModel
from seqvae.evaluation.samples import Obeys, Parses

GRAMMARS: dict[str, Callable[[], Grammar]] = {"tiny": Grammar.default}
"""The corpora that a grammar of ours made."""

CAPTIONS = {"flickr30k_captions": 5}
"""The corpora whose lines are paraphrases, so many at a time."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of sentences with what people say of their similarity; higher is more alike."""

    first: list[str]
    second: list[str]
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the full suite measures a model against beside the split itself; what is not there is not measured."""

    train: TokenStore | None = None
    labels: dict[str, tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)
    """Name -> the labels of the training sentences and of the split, row by row."""
    groups: Int[np.ndarray, " R"] | None = None
    """Number of the set of paraphrases that each row of the split belongs to."""
    parses: Parses | None = None
    """Whether the grammar that made the corpus can produce a text."""
    obeys: Obeys | None = None
    """Whether it can produce a text with a label, where the labels of the model are a factor of the grammar."""
    pairs: Pairs | None = None
    language_model: LanguageModel | None = None


def surroundings_of(
    run: DataConfig | None,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    data: DataConfig,
    split: str,
    group_size: int | None = None,
    language_model: LanguageModel | None = None,
    pairs: Pairs | None = None,
) -> Surroundings:
    """What there is around ``store``, which is ``split`` of ``data``, for a model trained with the settings ``run``.

    ``group_size``: every so many lines of the source are paraphrases; known for some named corpora. A training text
    that ``data.shards`` deals out is not read.
    """
    train = None
    if run is not None and not run.shards and "train" in resolve(run, []):
        train = prepare(run, tokenizer, splits=["train"]).splits["train"]
    labels = {}
    if train is not None and train.fingerprint != store.fingerprint:
        known, asked = labels_of(run, "train", train), labels_of(data, split, store)
        labels = {name: (known[name], asked[name]) for name in known if name in asked}
    size = CAPTIONS.get(data.corpus or "") if group_size is None else group_size
    grammar = None if run is None else corpus_grammar(run)
    return Surroundings(
        train=train,
        labels=labels,
        groups=None if size is None else (np.asarray(store.lines) - 1) // size,
        parses=None if grammar is None else grammar.parses,
        obeys=None if grammar is None or run.labels not in grammar.factors else _obedience(grammar, run.labels),
        pairs=pairs,
        language_model=language_model,
    )


def _obedience(grammar: Grammar, factor: str) -> Obeys:
    return lambda text, label: grammar.log_prob(text, **{factor: label}) > -math.inf


def corpus_grammar(data: DataConfig) -> Grammar | None:
    """The grammar that made the corpus of these settings, if one did."""
    own = any(getattr(data, split) is not None for split in SPLITS)
    return None if own or data.corpus not in GRAMMARS else GRAMMARS[data.corpus]()


def texts_of(data: DataConfig, split: str, store: TokenStore) -> list[str]:
    """The text of each row of ``split``."""
    by_line = dict(resolve(data, [split])[split].lines())
    return [by_line[line] for line in store.lines.tolist()]


def labels_of(data: DataConfig, split: str, store: TokenStore) -> dict[str, Sequence[str]]:
    """The labels of each row of ``split``, by name: those of the data, and those of the label files beside it.

    ``train.topic.labels`` beside ``train.txt`` is ``topic``, ``train.labels`` is ``label``.
    """
    source, found = resolve(data, [split])[split], {}
    if store.labels is not None:
        name = data.label_column or (data.labels if isinstance(data.labels, str) else "label")
        found[name] = [store.classes[label] for label in store.labels.tolist()]
    if isinstance(source, TextSource):
        stem = source.path.name.removesuffix(".gz").removesuffix(".txt")
        for path in sorted(source.path.parent.glob(f"{escape(stem)}.*labels")):
            name = path.name.removeprefix(stem).removesuffix(".labels").removeprefix(".") or "label"
            if name not in found:
                by_line = {row.number: row.label for row in replace(source, labels=path).rows()}
                found[name] = [by_line[line] for line in store.lines.tolist()]
    return found


def read_pairs(path: Path, columns: Sequence[str] | None = None) -> Pairs:
    """Pairs from a file with tabs between its columns; ``columns`` names first sentence, second sentence and score.

    By their names in the first line, or by their numbers from 1. Without ``columns`` three layouts are known: that of
    SICK, that of STS-B (whose files have no names), and three columns of just this. Errors: E291 for a layout
    that is not known or a column that is not there, E292 for a row that does not fit.
    """
    lines = [(number, text.split("\t")) for number, text in file_lines(path, str(path)) if text.strip()]
    header = lines[0][1] if lines else []
    wanted = list(columns or _layout(header, path))
    named = not all(name.isdigit() for name in wanted)
    if missing := [name for name in wanted if (name not in header if named else int(name) < 1)]:
        what = f"there is no column {missing[0]!r}"
        raise SeqVAEError("E291", what, where=Location(path), hint=f"the first line has: {', '.join(header)}")
    places = [header.index(name) if named else int(name) - 1 for name in wanted]
    rows = [_pair(path, number, row, places) for number, row in lines[named:]]
    if len(rows) < 2:
        raise SeqVAEError("E292", f"{len(rows)} pairs are too few to correlate", where=Location(path))
    first, second, scores = (list(column) for column in zip(*rows, strict=True))
    return Pairs(first=first, second=second, scores=scores)


_LAYOUTS = (("sentence_A", "sentence_B", "relatedness_score"), ("sentence1", "sentence2", "score"))


def _layout(header: Sequence[str], path: Path) -> Sequence[str]:
    for names in _LAYOUTS:
        if set(names) <= set(header):
            return names
    for numbers in (("1", "2", "3"), ("6", "7", "5")):
        fits = len(header) == 3 if numbers[0] == "1" else len(header) >= 7
        if fits and _number(header[int(numbers[2]) - 1]) is not None:
            return numbers
    hint = "name first sentence, second sentence and score: `--pair-columns sentence1,sentence2,score`, or 6,7,5"
    raise SeqVAEError("E291", "which columns hold the pairs?", where=Location(path), hint=hint)


def _pair(path: Path, line: int, row: Sequence[str], places: Sequence[int]) -> tuple[str, str, float]:
    cells = [row[place] if place < len(row) else None for place in places]
    score = None if cells[2] is None else _number(cells[2])
    if cells[0] is None or cells[1] is None or score is None:
        what = "a row without two sentences and a number for their similarity"
        raise SeqVAEError("E292", what, where=Location(path, line), hint="tabs separate columns; quotes mean nothing")
    return cells[0], cells[1], score


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None

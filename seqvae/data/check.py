"""What is good and bad about a text before it is trained on: every split looked through once, all findings together.

Nothing stops at the first bad line. Memory grows by eight bytes a line, whatever the lines hold.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from seqvae.data import scan
from seqvae.data.corpora import DataConfig
from seqvae.data.labels import MOST_CLASSES
from seqvae.data.scan import Line, Odd
from seqvae.data.sources import Source
from seqvae.data.store import MOST_TOKENS
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, train_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.specials import UNK

Status = Literal["ok", "warning", "failed"]

FEW_SENTENCES = 100
LONG_TOKENS = 1000
MANY_BLANK, MANY_UNKNOWN, MANY_REPEATED, MANY_SHARED, MANY_TOO_LONG, RARE_CLASS = 0.1, 0.05, 0.3, 0.05, 0.1, 0.01
"""Shares above (of a class: below) which a finding is a warning."""

_BARS, _BAR_CELLS = 12, 40


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer: what was looked at, in which split, how it is, and the next step where there is one."""

    split: str
    about: str
    status: Status
    text: str
    hint: str | None = None
    lines: tuple[str, ...] = ()
    """Further lines to show: places in the file, or the bars of a histogram."""
    values: Mapping[str, object] = field(default_factory=dict)
    """The numbers behind it, for programs."""


@dataclass
class _Seen:
    """What one pass over a split leaves in memory."""

    rows: int = 0
    digests: array = field(default_factory=lambda: array("Q"))
    lengths: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    label_at: dict[str, int] = field(default_factory=dict)
    """The first line that has each label."""
    tokens: int = 0
    unknown: int = 0


def check(sources: Mapping[str, Source], tokenizer: TokenizerConfig, data: DataConfig) -> Iterator[Finding]:
    """Findings on each split, as soon as it was read, and at the end on what the splits share.

    The vocabulary is that of the first split, made as ``tokenizer`` says. What cannot be read is a finding too.
    """
    seen: dict[str, _Seen] = {}
    made = None
    for number, (split, source) in enumerate(sources.items()):
        no_vocabulary = None
        if number == 0:
            try:
                good = (line.text for line in scan.lines(source, {}) if line.text is not None)
                made = train_tokenizer(good, tokenizer)
            except SeqVAEError as error:
                no_vocabulary = error
        odd: dict[str, Odd] = {}
        seen[split] = _Seen()
        try:
            for line in scan.lines(source, odd):
                _take(line, seen[split], made)
            if no_vocabulary is not None:
                yield _failed(split, "vocabulary", no_vocabulary)
        except SeqVAEError as error:
            yield _failed(split, "reading", error)
        if source.part != "held_out" and (odd or seen[split].rows):  # one part tells of the whole file
            yield from _about_lines(split, odd, seen[split].rows)
        if seen[split].rows:
            yield from _about_sentences(split, seen[split], data, made, number == 0, next(iter(seen.values())))
    yield from _about_overlap(seen)


def failures(findings: Iterable[Finding]) -> int:
    return sum(finding.status == "failed" for finding in findings)


def _failed(split: str, about: str, error: SeqVAEError) -> Finding:
    place = "" if error.where is None else f" ({error.where})"
    text, values = f"{error.what}{place}", {"code": error.code}
    return Finding(split=split, about=about, status="failed", text=text, hint=error.hint, values=values)


def _take(line: Line, seen: _Seen, tokenizer: Tokenizer | None) -> None:
    if line.text is None:
        return
    seen.rows += 1
    seen.digests.append(scan.digest(line.text))
    ids = None if tokenizer is None else tokenizer.encode(line.text)
    seen.lengths[len(line.text.split()) if ids is None else len(ids)] += 1
    if ids is not None:
        seen.tokens += len(ids)
        seen.unknown += ids.count(UNK)
    if line.label is not None and (line.label in seen.labels or len(seen.labels) <= MOST_CLASSES):
        seen.labels[line.label] += 1
        seen.label_at.setdefault(line.label, line.number)


def _about_lines(split: str, odd: Mapping[str, Odd], rows: int) -> Iterator[Finding]:
    """Encoding, line ends and blank lines."""
    for about, kinds in scan.KINDS.items():
        found = [kind for kind in kinds if kind in odd]
        for kind in found:
            meaning = kinds[kind]
            many = kind != "blank" or odd[kind].count > MANY_BLANK * (rows + odd[kind].count)
            yield Finding(
                split=split,
                about=about,
                status=meaning.status if many else "ok",
                text=f"{odd[kind].count:,} line{'' if odd[kind].count == 1 else 's'} {meaning.text}",
                hint=meaning.hint if many else None,
                lines=odd[kind].shown(),
                values={"kind": kind, "count": odd[kind].count, "first": odd[kind].first},
            )
        if not found:
            yield Finding(split=split, about=about, status="ok", text=scan.FINE[about])


def _about_sentences(
    split: str, seen: _Seen, data: DataConfig, tokenizer: Tokenizer | None, first: bool, training: _Seen
) -> Iterator[Finding]:
    few = seen.rows < FEW_SENTENCES and first
    hint = "enough to try things out, not to learn from; thousands are wanted" if few else None
    status: Status = "warning" if few else "ok"
    yield Finding(
        split=split, about="sentences", status=status, text=f"{seen.rows:,}", hint=hint, values={"rows": seen.rows}
    )
    yield _about_lengths(split, seen, data, "word" if tokenizer is None else tokenizer.unit)
    if tokenizer is not None:
        yield _about_unknown(split, seen, tokenizer, needed=not first and split != "test")
    distinct = len(np.unique(np.frombuffer(seen.digests, np.uint64)))
    repeated = 1 - distinct / seen.rows
    alike = distinct == 1 and seen.rows > 1
    yield Finding(
        split=split,
        about="repeated",
        status="warning" if repeated > MANY_REPEATED else "ok",
        text="all sentences are alike" if alike else f"{repeated:.1%} repeat another sentence of this text",
        hint="keep one of each: `sort -u`, unless they are meant to weigh more" if repeated > MANY_REPEATED else None,
        values={"distinct": distinct, "repeated_rate": repeated},
    )
    if seen.labels:
        yield _about_labels(split, seen, training)


def _about_lengths(split: str, seen: _Seen, data: DataConfig, unit: str) -> Finding:
    lengths = np.array(sorted(seen.lengths), np.int64)
    counts = np.array([seen.lengths[length] for length in lengths.tolist()], np.int64)
    below = np.cumsum(counts)
    median, most, longest = (int(lengths[np.searchsorted(below, share * seen.rows)]) for share in (0.5, 0.99, 1.0))
    values = {"median": median, "within_99_percent": most, "longest": longest, "unit": unit}
    status, hint = "ok", None
    text = f"{unit}s a sentence: median {median:,}, 99 % have at most {most:,}, the longest {longest:,}"
    if data.max_length is not None:
        over = int(counts[lengths > data.max_length].sum())
        values["too_long"] = over
        text += f"; {over:,} over data.max_length={data.max_length}"
        if over and data.too_long == "error":
            status, hint = "failed", "`data.too_long=error` refuses them; raise `data.max_length`, drop or truncate"
        elif over == seen.rows and data.too_long == "drop":
            status, hint = "failed", "no sentence is left: raise `data.max_length`, or `data.too_long=truncate`"
        elif over > MANY_TOO_LONG * seen.rows:
            status, hint = "warning", f"{data.too_long} loses much; raise `data.max_length`"
    elif longest > MOST_TOKENS:
        status, hint = "failed", f"over {MOST_TOKENS:,} are refused: `data.max_length={max(most, 1)}` keeps 99 %"
    elif longest > LONG_TOKENS:
        status, hint = "warning", f"long sentences cost memory and time: `data.max_length={max(most, 1)}` keeps 99 %"
    if status == "ok" and unit == "word" and median <= 1:
        status, hint = "warning", "hardly any spaces: try `tokenizer.name=char` or `tokenizer.name=sentencepiece`"
    bars = tuple(_bars(lengths, counts, most))
    return Finding(split=split, about="length", status=status, text=text, hint=hint, lines=bars, values=values)


def _bars(lengths: np.ndarray, counts: np.ndarray, most: int) -> Iterator[str]:
    """A histogram in text: equal steps up to the length that 99 % have, and a last bar for what is longer."""
    step = max(1, -(-(most + 1 - int(lengths[0])) // _BARS))
    edges = list(range(int(lengths[0]), most + 1, step))
    inside = [int(counts[(lengths >= edge) & (lengths < edge + step)].sum()) for edge in edges]
    names = [f"{edge:,}" if step == 1 else f"{edge:,}-{edge + step - 1:,}" for edge in edges]
    if (over := int(counts[lengths >= edges[-1] + step].sum())) > 0:
        names, inside = [*names, f"over {edges[-1] + step - 1:,}"], [*inside, over]
    width = max(map(len, names))
    for name, count in zip(names, inside, strict=True):
        bar = "#" * max(round(_BAR_CELLS * count / max(inside)), int(count > 0))
        yield f"{name:>{width}}  {bar:<{_BAR_CELLS}}  {count:,}"


def _about_unknown(split: str, seen: _Seen, tokenizer: Tokenizer, *, needed: bool) -> Finding:
    rate = seen.unknown / max(1, seen.tokens)
    text = f"{rate:.2%} of the {tokenizer.unit}s are not in the vocabulary of {tokenizer.vocab_size:,}"
    status, hint = "ok", None
    if needed and seen.tokens and seen.unknown == seen.tokens:
        status, hint = "failed", "is it in the language, the case and the script of the training text?"
    elif rate > MANY_UNKNOWN:
        status, hint = (
            "warning",
            "try `tokenizer.lowercase=true`, a larger vocabulary, or `tokenizer.name=sentencepiece`",
        )
    values = {"unknown_rate": rate, "vocabulary": tokenizer.vocab_size}
    return Finding(split=split, about="unknown", status=status, text=text, hint=hint, values=values)


def _about_labels(split: str, seen: _Seen, training: _Seen) -> Finding:
    if len(seen.labels) > MOST_CLASSES:
        text, hint = f"more than {MOST_CLASSES:,} different ones: these are no classes", "name another, or none"
        return Finding(split=split, about="labels", status="failed", text=text, hint=hint)
    foreign = sorted(seen.labels.keys() - training.labels.keys())
    values = {"labels": dict(seen.labels.most_common(100)), "classes": len(seen.labels)}
    shown = tuple(f"{name}  {count:,} ({count / seen.rows:.1%})" for name, count in seen.labels.most_common(10))
    if foreign:
        text = f"{len(foreign):,} labels that the first text does not have: "
        text += ", ".join(f"{name!r} in line {seen.label_at[name]:,}" for name in foreign[:3])
        return Finding(
            split=split, about="labels", status="failed", text=text, hint="mend them", lines=shown, values=values
        )
    rare = [name for name, count in seen.labels.items() if count < RARE_CLASS * seen.rows]
    status: Status = "warning" if rare or len(seen.labels) == 1 else "ok"
    text = f"{len(seen.labels):,} classes" + (f", {len(rare):,} of them with less than 1 %" if rare else "")
    hint = "a class so rare is hardly learned; join it to another" if rare else None
    if len(seen.labels) == 1:
        text, hint = "one class only", "a label that is always the same tells nothing: train without labels"
    return Finding(split=split, about="labels", status=status, text=text, hint=hint, lines=shown, values=values)


def _about_overlap(seen: Mapping[str, _Seen]) -> Iterator[Finding]:
    """Sentences of a later split that an earlier one has too."""
    unique = {split: np.frombuffer(each.digests, np.uint64) for split, each in seen.items() if each.rows}
    names = list(unique)
    for number, split in enumerate(names):
        for other in names[:number]:
            rate = float(np.isin(unique[split], unique[other]).mean())
            yield Finding(
                split=split,
                about=f"also in {other}",
                status="warning" if rate > MANY_SHARED else "ok",
                text=f"{rate:.1%} of the sentences",
                hint="what was seen in training is no test: take them out, or report them apart"
                if rate > MANY_SHARED
                else None,
                values={"shared_rate": rate},
            )

"""The further parts of a full report as tables."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seqvae.notebook import Table

if TYPE_CHECKING:
    from seqvae.evaluation.suite import FullReport


def sections(report: "FullReport") -> Iterator[Table]:
    """One table for each part that was measured."""
    yield from _aggregate(report)
    yield from _samples(report)
    yield from _paths(report)
    yield from _knowledge(report)


def in_terminal(section: Table) -> Iterator[Any]:
    """What rich prints: a title (which as the table's own would be wrapped at its width), and the rows."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    yield Text(f"\n{section.title}", style="italic")
    table = RichTable(box=box.SIMPLE)
    for number, name in enumerate(section.columns):
        last = number == len(section.columns) - 1
        table.add_column(name, justify="left" if number == 0 or last else "right", style="dim" if last else "")
    for row in section.rows:
        table.add_row(*row)
    yield table


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The rows that hold anything."""
    return Table(title=title, columns=columns, rows=[row for row in rows if any(row[1:-1])])


def _value(value: float | int | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return _value(value, ".1%")


def _aggregate(report: "FullReport") -> Iterator[Table]:
    if (found := report.aggregate_posterior) is None:
        return
    rows = [
        ("hole", _value(found.hole_nats), _value(found.hole_se), "KL(p(z) || q(z)), nats"),
        ("continuous units", _value(found.continuous_units, "d"), "", "dimensions that the prior fills"),
        ("MI in batches of 32", _value(found.batch_mi_nats), "", "the older estimate: not the MI above"),
        ("its ceiling", _value(found.batch_mi_ceiling_nats), "", "ln 32 = 3.47 at most"),
    ]
    yield _table("all codes together against the prior", ("", "value", "± se", "meaning"), rows)


def _samples(report: "FullReport") -> Iterator[Table]:
    found = report.samples
    ours, real = found.samples, found.real

    def ppl(measured: Any) -> str:
        return "" if measured is None else _value(measured.ppl, ",.2f")

    rows = [
        ("forward PPL", ppl(found.forward), ppl(found.forward_real), "under the language model: fluency"),
        ("reverse PPL", ppl(found.reverse), ppl(found.reverse_real), "of the split, learned from these"),
        ("self-BLEU", _value(ours.self_bleu, ".2f"), _value(real.self_bleu, ".2f"), "lower: more varied"),
        ("distinct-1", _value(ours.distinct_1), _value(real.distinct_1), "share of distinct words"),
        ("distinct-2", _value(ours.distinct_2), _value(real.distinct_2), "of distinct pairs of words"),
        ("distinct-3", _value(ours.distinct_3), _value(real.distinct_3), "of distinct triples"),
        ("distinct sentences", _share(ours.distinct_sentences), _share(real.distinct_sentences), ""),
        ("novelty", _share(found.novelty), _share(found.novelty_real), "share not in the training text"),
        ("tokens", _value(ours.mean_tokens, ".2f"), _value(real.mean_tokens, ".2f"), "mean length"),
        ("sd of tokens", _value(ours.std_tokens, ".2f"), _value(real.std_tokens, ".2f"), ""),
        ("length distance", _value(found.length_distance_tokens, ".2f"), "", "earth mover's, in tokens"),
        ("unknown tokens", _share(ours.unknown_rate), _share(real.unknown_rate), ""),
        ("cut off", _share(found.truncated), "", "ended by the limit"),
        ("parsed", _share(found.parsed), "", "by the grammar of the corpus"),
        ("obeyed", _share(found.obeyed), "", "parsed with the label asked for"),
    ]
    title = f"{ours.sentences:,} samples (codes: {report.samples_from}) beside {real.sentences:,} real sentences"
    yield _table(title, ("", "samples", "real", "meaning"), rows)


def _paths(report: "FullReport") -> Iterator[Table]:
    if (found := report.interpolation) is None:
        return
    kinds = {"lerp": found.lerp, "slerp": found.slerp}
    middle, last = found.steps // 2, found.steps - 1
    rows: list[list[str]] = []
    for place, name in ((0, "the start"), (middle, "the middle"), (last, "the end")):
        for side, ends in (("to_start", "first"), ("to_end", "second")):
            cells = [_value(None if path is None else getattr(path, side)[place]) for path in kinds.values()]
            rows.append([f"{name}, to the {ends}", *cells, "ROUGE-L to that sentence"])
    shares = (("distinct outputs", "distinct_outputs", "share of a path"), ("parsed", "parsed", "between the ends"))
    for name, key, meaning in shares:
        rows.append([name, *(_share(None if path is None else getattr(path, key)) for path in kinds.values()), meaning])
    fluent = [None if path is None or path.fluency is None else path.fluency.ppl for path in kinds.values()]
    rows.append(["PPL", *(_value(value, ",.2f") for value in fluent), "between them, language model"])
    yield _table(f"{found.pairs:,} paths of {found.steps} points", ("", *kinds, "meaning"), rows)


def _knowledge(report: "FullReport") -> Iterator[Table]:
    if report.probes:
        rows = [
            (
                name,
                _share(probe.accuracy),
                _share(probe.majority),
                _share(probe.bag_of_words),
                f"{probe.classes} labels",
            )
            for name, probe in report.probes.items()
        ]
        yield _table("labels by a linear probe", ("", "code", "majority", "words", ""), rows)
    if (found := report.retrieval) is not None:
        rows = [
            (f"recall at {k}", _share(found.recall[k]), _share(found.chance[k]), _share(found.bag_of_words[k]), "")
            for k in found.recall
        ]
        title = f"paraphrases among the nearest, {found.sentences:,} sentences"
        yield _table(title, ("", "code", "chance", "words", ""), rows)
    if (pairs := report.similarity) is not None:
        title = f"similarity as people see it, {pairs.pairs:,} pairs, {pairs.unknown_rate:.1%} of the tokens unknown"
        row = ("Spearman", _value(pairs.spearman), _value(pairs.spearman_se), _value(pairs.bag_of_words), "")
        yield _table(title, ("", "code", "± se", "words", ""), [row])

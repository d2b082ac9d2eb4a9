"""The page that ``benchmarks.collapse`` writes."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks import collapse_sections as sections
from benchmarks.collapse_rows import SEEDS, UNCURED, Corpus, Row, applies, base, rows
from benchmarks.collapse_verdict import NEGLIGIBLE_NATS, STANDARD_ERRORS, Done, outcome, shown, values
from benchmarks.report import commit, machine, table, versions

HEADER = ("", "-ELBO", "IW-NLL", "rec", "KL", "MI", "active units", "swap gap", "time, s", "a cure?")

TITLES: Mapping[Corpus, str] = {"tiny": "The small corpus (tiny)", "ptb": "Penn Treebank (ptb)"}


def page(done: Mapping[Corpus, Sequence[Done]], module: str) -> str:
    """Markdown, of whatever is done."""
    every = [each for some in done.values() for each in some]
    parts = ["# Posterior collapse: what cures it", _provenance(every, module), *_rules()]
    for corpus in SEEDS:
        parts += _corpus(corpus, done.get(corpus, ()))
    parts += ["## The rows", table(("", ""), [(f"`{row.name}`", row.title) for row in rows().values()])]
    return "\n\n".join(parts) + "\n"


def _provenance(every: Sequence[Done], module: str) -> str:
    tried = [each for each in every if each["steps"] is not None]
    options = "".join(f" --steps {each['steps']} --sentences {each['report']['sentences']}" for each in tried[:1])
    lines = [f"Measured by `python -m {module}{options}`."]
    facts = [each["facts"] for each in every]
    if facts:
        commits, used = dict.fromkeys(map(commit, facts)), sorted(set(map(versions, facts)))
        lines.append(f"Commit {', '.join(commits)}; {'; '.join(used)}.")
        lines.append(f"Hardware: {'; '.join(sorted(set(map(machine, facts))))}.")
    if tried:
        lines.append(f"**A trial of the script, with {tried[0]['steps']} updates a row: the numbers mean nothing.**")
    return "\n".join(lines)


def _rules() -> list[str]:
    return [
        "All rows of a corpus have the network, the optimizer, the order of the sentences (by seed) and the number of "
        "updates of the uncured model, from `benchmarks/configs/collapse-*.yaml`; a row adds what makes its method, as "
        "in `configs/recipes/`. What a recipe gives in epochs keeps its share of the training. An update costs some "
        "methods more than others: *time* is that of the whole training with its validations, in seconds of the "
        "processor (on a GPU: by the wall).",
        "Nats per sentence of the test split, measured as `seqvae eval` does. ± is the standard deviation over seeds; "
        "of a single seed the standard error over sentences.",
        "A method counts as a cure if its MI and its swap gap both exceed those of the uncured model, by "
        f"{NEGLIGIBLE_NATS} nats or more and by more than {STANDARD_ERRORS} standard errors of the difference (over "
        "seeds; of a single seed over sentences, which says nothing about another seed). The KL does not count: some "
        "methods fix it by construction, and it may be spent on noise.",
    ]


def _corpus(corpus: Corpus, every: Sequence[Done]) -> Iterator[str]:
    by_row = {name: [each for each in every if each["row"] == name] for name in rows()}
    sound = {name: [each for each in some if not each["failed"]] for name, some in by_row.items()}
    diverged = {name: [each for each in some if each["failed"]] for name, some in by_row.items()}
    yield f"## {TITLES[corpus]}"
    yield _budget(corpus, [each for some in sound.values() for each in some])
    if every:
        yield table(HEADER, [_line(rows()[name], sound, diverged) for name, some in by_row.items() if some])
    yield from _missing(corpus, by_row)
    yield from sections.uncured(sound)
    yield from sections.not_cured(corpus, sound, diverged)
    for section in (sections.truths, sections.probes, sections.obedience):
        yield from section(sound)


def _budget(corpus: Corpus, sound: Sequence[Done]) -> str:
    settings, seeds = base(corpus), len(SEEDS[corpus])
    counts = sorted({each["report"]["sentences"] for each in sound})
    measured = "".join(
        f" {count:,} test sentences are measured, on which MI is at most {np.log(count):.2f}." for count in counts
    )
    return (
        f"{settings.train.steps:,} updates of {settings.data.batch_size} sentences, {seeds} "
        f"seed{'s' if seeds > 1 else ''}; IW-NLL with k = {settings.eval.iw_samples}.{measured}"
    )


def _line(row: Row, sound: sections.ByRow, diverged: sections.ByRow) -> list[str]:
    done, lost = sound[row.name], diverged[row.name]
    name = f"`{row.name}`" + (f" ({len(lost)} of {len(done) + len(lost)} diverged)" if lost else "")
    if not done:
        return [name, *["-"] * 7, _seconds(lost), "diverged"]
    found = values(done)
    units = found["active_units"]
    return [
        name + (" (given the label)" if done[0]["report"]["conditional"] else ""),
        *(shown(found[metric]) for metric in ("elbo_nats", "iw_nats", "rec_nats", "kl_nats", "mi_nats")),
        "-" if units is None else f"{units.value:.3g} of {done[0]['report']['latent_dim']}",
        shown(found["swap_gap_nats"]),
        _seconds(done),
        "baseline" if row.baseline else _verdict(outcome(done, sound[UNCURED]).cured),
    ]


def _seconds(done: Sequence[Done]) -> str:
    kinds = ["cpu" if each["facts"]["device"] == "cpu" else "wall" for each in done]
    return f"{np.mean([each['seconds'][kind] for each, kind in zip(done, kinds, strict=True)]):.0f}"


def _verdict(cured: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[cured]


def _missing(corpus: Corpus, by_row: sections.ByRow) -> Iterator[str]:
    """What is not done yet, and what cannot be done."""
    wanted = {name: set(SEEDS[corpus]) - {each["seed"] for each in done} for name, done in by_row.items()}
    lacking = {name: seeds for name, seeds in wanted.items() if seeds and applies(rows()[name], corpus)}
    for seeds in sorted({tuple(sorted(seeds)) for seeds in lacking.values()}):
        names = ", ".join(f"`{name}`" for name, some in lacking.items() if some == set(seeds))
        yield f"**Not done yet**, seed {', '.join(map(str, seeds))}: {names}."
    if unfit := [f"`{row.name}`" for row in rows().values() if not applies(row, corpus)]:
        yield f"Left out, since the corpus has no labels: {', '.join(unfit)}."

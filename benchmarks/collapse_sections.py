"""The sections of the page of methods beside its tables: what did not cure, the truth, the probes, obedience."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks.collapse_rows import UNCURED, Corpus, rows
from benchmarks.collapse_verdict import Done, outcome
from benchmarks.report import table

ByRow = Mapping[str, Sequence[Done]]

NOTES: Mapping[tuple[Corpus, str], str] = {
    ("tiny", "capacity"): "The log has the KL follow its target to 6 nats; no unit is active, so it is the same noise "
    "for every sentence that is paid for.",
    ("tiny", "importance_weighted"): "MI rises, but by less than the bar; the log has the KL at 0.2 nats or less "
    "throughout. More samples ask less of the encoder (Rainforth et al. 2018).",
    ("tiny", "input_noise"): "Noise on what the encoder reads leaves the decoder as well off without the code: the log "
    "has a KL of 0.02 nats or less from update 200 on. It is beside the adversary, in `adversarial`, that it cures.",
    ("tiny", "kl_annealing"): "The log has a KL of 7 to 12 nats at update 50, while its weight is 0.01, and of 0.01 at "
    "update 350, once the weight is 1: what the code held is given up as soon as it costs.",
    ("ptb", "adversarial"): "The codes differ (MI), and the decoder does not look at them (swap gap): all 32 units are "
    "active by the last validation, of 4 at update 340.",
    ("ptb", "ae_pretraining"): "The autoencoder's phase ends at update 227 with a KL of 763 nats and 31 active units; "
    "annealing over 76 updates leaves 2.5 nats and no active unit at update 397. The recipe's 90 epochs give each of "
    "the three stretches some 180 times as many updates.",
    ("ptb", "aggressive"): "MI rises, but by less than the bar: 0.11 at update 170, 0.08 from update 340 on.",
    ("ptb", "capacity"): "The log has the KL follow its target to 6 nats, with no active unit at any validation.",
    ("ptb", "cyclical_annealing"): "The KL is 0.002 nats at update 170, before the second cycle, and 0.01 or less in "
    "every cycle after it: what the first ramp took is not learned again while the weight is low.",
    ("ptb", "delta"): "The KL settles at the rate that the family commits, 3.00 nats, with no active unit at any "
    "validation: a variance below the prior's, and the same mean for every sentence.",
    ("ptb", "importance_weighted"): "The log has the KL below 0.06 nats from update 170 on.",
    ("ptb", "input_noise"): "The log has the KL at 0.006 nats or less from update 170 on.",
    (
        "ptb",
        "kl_annealing",
    ): "The log has a KL of 30 nats at update 50, while its weight is 0.03, and of 0.01 at update "
    "170, when the weight is 0.98.",
    ("ptb", "minimum_rate"): "The multiplier has not come to rest: the log has the KL swing between 0.2 and 15 nats "
    "from update 200 on, with no active unit at any validation; the best one fell on 0.8.",
    (
        "ptb",
        "vamp",
    ): "The prior comes to the posteriors before they tell sentences apart: 10 units are active at update "
    "170 and none from update 340 on, while the KL, of which 9.6 nats are free here, goes from 0.2 to 2.0 nats.",
}
"""(corpus, row) -> what is known of a row that did not cure, beyond what the diagnosis says; from measurements only."""

STANDARD_ERRORS = 3
"""A bound that lies below the truth by more than this many standard errors is a bug."""


def uncured(by_row: ByRow) -> Iterator[str]:
    """Whether the uncured model collapsed: an observation, in the words of the diagnosis."""
    if by_row[UNCURED]:
        yield f"The uncured model: {_diagnoses(by_row[UNCURED])}"


def _diagnoses(done: Sequence[Done]) -> str:
    """What the diagnosis says of each seed; numbers may differ where words do not."""
    said = Counter(each["diagnosis"]["verdict"]["text"] for each in done)
    if len(said) == 1:
        return next(iter(said))
    seeds = {
        text: [str(each["seed"]) for each in done if each["diagnosis"]["verdict"]["text"] == text] for text in said
    }
    return " ".join(f"(seed {', '.join(numbers)}) {text}" for text, numbers in seeds.items())


def not_cured(corpus: Corpus, by_row: ByRow, diverged: ByRow) -> Iterator[str]:
    """A line for every method that is no cure here: the differences, and what the diagnosis says."""
    lines = []
    for name, row in rows().items():
        if diverged[name]:
            lines.append(f"- `{name}` diverged with seed {_listed(diverged[name])}: {diverged[name][0]['failed']}")
        if row.baseline or not by_row[name] or (found := outcome(by_row[name], by_row[UNCURED])).cured:
            continue
        said = "" if found.cured is False else "it cannot be told yet: "
        note = NOTES.get((corpus, name), "")
        lines.append(
            f"- `{name}`: {said}{found.text}. Diagnosis: {_diagnoses(by_row[name])}{_next(by_row[name])} {note}"
        )
    if lines:
        yield "### No cure here, and why"
        yield "\n".join(line.rstrip() for line in lines)


def _next(done: Sequence[Done]) -> str:
    """The setting that the diagnosis proposes first, most often over the seeds."""
    first = Counter(
        (" ".join(each["diagnosis"]["remedies"][0]["settings"]), each["diagnosis"]["remedies"][0]["reason"])
        for each in done
        if each["diagnosis"]["remedies"]
    )
    if not first:
        return ""
    settings, reason = first.most_common(1)[0][0]
    return f" To try first: `{settings}` ({reason})."


def _listed(done: Sequence[Done]) -> str:
    return ", ".join(str(each["seed"]) for each in done)


def truths(by_row: ByRow) -> Iterator[str]:
    """No bound can lie below the NLL of the grammar that made the text."""
    known = {name: done for name, done in by_row.items() if done and all("truth" in each for each in done)}
    if not known:
        return
    found = {name: {bound: _above(done, bound) for bound in ("elbo", "iw")} for name, done in known.items()}
    yield "### Against the truth"
    yield (
        "How far the bounds lie above the NLL of the grammar that made the text: mean of the paired difference ± its "
        "standard error over sentences, of the seed where it is least in standard errors. The truth is "
        "-log p(x) for every model but the conditional one, for which it is -log p(x given its label)."
    )
    lines = [
        (
            f"`{name}`",
            f"{known[name][0]['truth']['nats']:.3f}",
            *(f"{gap:+.3f} ± {error:.3f}" for gap, error in found[name].values()),
            "yes" if _holds(found[name]) else "**no**",
        )
        for name in known
    ]
    yield table(("", "truth", "-ELBO above it", "IW-NLL above it", f"not below by {STANDARD_ERRORS} se"), lines)
    if broken := [name for name in known if not _holds(found[name])]:
        yield f"**A bound beats the truth, which is a bug: {', '.join(broken)}.**"


def _above(done: Sequence[Done], bound: str) -> tuple[float, float]:
    gaps = [(each["truth"]["above"][bound]["nats"], each["truth"]["above"][bound]["se"]) for each in done]
    return min(gaps, key=lambda gap: gap[0] / max(gap[1], 1e-12))


def _holds(bounds: Mapping[str, tuple[float, float]]) -> bool:
    return all(gap >= -STANDARD_ERRORS * error for gap, error in bounds.values())


def probes(by_row: ByRow) -> Iterator[str]:
    """What the posterior means know of the factors behind each sentence."""
    known = {name: done for name, done in by_row.items() if done and all(each.get("probes") for each in done)}
    if not known:
        return
    first = next(iter(known.values()))[0]["probes"]
    yield "### What the code knows: linear probes of the factors"
    yield (
        f"Test accuracy in %, mean over seeds; a logistic regression on the posterior means of "
        f"{next(iter(first.values()))['train_sentences']:,} training sentences. A conditional model is told one of "
        "the factors, and its posterior reads it."
    )
    lines = [
        ("majority", *(f"{100 * first[factor]['majority']:.1f}" for factor in first)),
        ("bag of words", *(f"{100 * first[factor]['bag_of_words']:.1f}" for factor in first)),
        *(
            (
                f"`{name}`",
                *(f"{100 * np.mean([each['probes'][factor]['accuracy'] for each in done]):.1f}" for factor in first),
            )
            for name, done in known.items()
        ),
    ]
    yield table(("", *first), lines)


def obedience(by_row: ByRow) -> Iterator[str]:
    """Whether a sample with a label has it."""
    known = {name: done for name, done in by_row.items() if done and all(each.get("obedience") for each in done)}
    for name, done in known.items():
        labels = done[0]["obedience"]
        yield f"### Does `{name}` obey the label that is asked for?"
        yield (
            f"{next(iter(labels.values()))['samples']:,} samples for each label and seed; shares in %, mean over "
            "seeds. *with it*: the grammar can produce the sample with that label. *by chance*: the same for test "
            "sentences, which were asked for nothing."
        )
        shares = ("parsed", "obeyed", "by_chance")
        lines = [
            (label, *(f"{100 * mean[share]:.1f}" for share in shares), f"{100 * mean['obeyed'] / mean['parsed']:.1f}")
            for label in labels
            if (mean := {share: np.mean([each["obedience"][label][share] for each in done]) for share in shares})
        ]
        yield table(
            ("", "the grammar can produce it", "with it", "by chance", "with it, of those it can produce"), lines
        )

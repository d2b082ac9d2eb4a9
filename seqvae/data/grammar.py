"""A probabilistic grammar whose sentences have known factors and an exact log-probability: the ruler for every model.

A sentence is drawn in two steps: a value for each factor (topic, tense, ...), then a derivation by rules whose weights
may depend on them. Different choices can give the same string, so its probability sums over all of them:

    p(x) = sum_f p(f) sum_{derivations d of x} prod_{rules r in d} p(r | f)

The sampler draws one derivation at a time; the log-probability comes from the inside algorithm (Baker 1979), with a
vector over all factor assignments in place of a number. They share the rules and nothing else, so each tests the other.

    python -m seqvae.data.grammar --lines 1000000 --seed 7 --out lines.txt --labels
    python -m seqvae.data.grammar --corpus data/tiny
"""

import argparse
import itertools
import math
import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from seqvae.data.grammar_rules import FACTORS, Rule, english
from seqvae.errors import SeqVAEError

CORPUS = {"train": (20_000, 1), "valid": (2_000, 2), "test": (2_000, 3)}
"""Split -> (sentences, seed) of the built-in corpus."""


class Sentence(NamedTuple):
    """A line of text and the value of every factor behind it."""

    text: str
    factors: dict[str, str]


Choice = tuple[list[float], list[tuple[str, ...]]]
"""Thresholds for a uniform number in [0, 1), and the expansion of each interval between them."""


class Grammar:
    """Factors with independent probabilities, and weighted rules without recursion; ``start`` is the first symbol.

    Whatever stands on the left of a rule is a symbol, everything else is a word.

    >>> grammar = Grammar.default()
    >>> sentence = next(grammar.sample(1, seed=5))
    >>> grammar.parses(sentence.text), grammar.parses("colourless green ideas sleep furiously")
    (True, False)

    Raises ``SeqVAEError`` E360 if rules are recursive, a symbol has no rule for some assignment that reaches it, or a
    factor value has no probability.
    """

    def __init__(self, factors: Mapping[str, Mapping[str, float]], rules: Iterable[Rule], start: str = "SENTENCE"):
        if any(probability <= 0 for values in factors.values() for probability in values.values()):
            raise SeqVAEError("E360", "every factor value of a grammar needs a positive probability")
        self.factors: dict[str, tuple[str, ...]] = {name: tuple(values) for name, values in factors.items()}
        self._start = start
        self._assignments = [
            dict(zip(self.factors, values, strict=True)) for values in itertools.product(*self.factors.values())
        ]
        weights = [math.prod(factors[name][value] for name, value in row.items()) for row in self._assignments]
        self._prior = np.array(weights) / sum(weights)
        self._columns = {
            (name, value): np.array([row[name] == value for row in self._assignments])
            for name, values in self.factors.items()
            for value in values
        }
        self._rules: dict[str, list[tuple[tuple[str, ...], np.ndarray]]] = self._normalised(list(rules))
        words = {word for options in self._rules.values() for expansion, _ in options for word in expansion}
        self._words = words - set(self._rules)
        self.vocabulary: tuple[str, ...] = tuple(sorted(self._words))
        self._choices: list[dict[str, Choice | None]] = [{} for _ in self._assignments]
        self._check()

    @classmethod
    @cache
    def default(cls) -> "Grammar":
        """The grammar of the built-in corpus."""
        return cls(FACTORS, english())

    def _normalised(self, rules: list[Rule]) -> dict[str, list[tuple[tuple[str, ...], np.ndarray]]]:
        """Symbol -> (expansion, its probability under every assignment); all zeros where no rule applies."""
        weights: dict[str, list[tuple[tuple[str, ...], np.ndarray]]] = defaultdict(list)
        for rule in rules:
            weight = np.full(len(self._assignments), rule.weight)
            for factor, values in rule.when:
                weight *= sum(self._column(factor, value) for value in values)
            weights[rule.symbol].append((rule.expansion, weight))
        normalised = {}
        for symbol, options in weights.items():
            total = sum(weight for _, weight in options)
            scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            normalised[symbol] = [(expansion, weight * scale) for expansion, weight in options]
        return normalised

    def _column(self, factor: str, value: str) -> np.ndarray:
        """Which assignments have this value, as booleans."""
        if (factor, value) not in self._columns:
            known = ", ".join(f"{name}={'|'.join(values)}" for name, values in self.factors.items())
            raise SeqVAEError("E361", f"the grammar has no factor {factor}={value}", hint=f"it has {known}")
        return self._columns[factor, value]

    def _check(self) -> None:
        """Refuse recursion, and symbols that some reachable assignment leaves without a rule."""
        children = {
            symbol: {part for expansion, _ in options for part in expansion if part in self._rules}
            for symbol, options in self._rules.items()
        }
        try:
            order = list(TopologicalSorter(children).static_order())[::-1]
        except CycleError as error:
            raise SeqVAEError("E360", f"grammar rules are recursive: {' -> '.join(error.args[1])}") from error
        reached = defaultdict(lambda: np.zeros(len(self._assignments), dtype=bool), {self._start: self._prior > 0})
        for symbol in order:
            options = self._rules[symbol]
            stuck = reached[symbol] & (sum(probability for _, probability in options) == 0)
            if stuck.any():
                example = self._assignments[int(stuck.argmax())]
                raise SeqVAEError("E360", f"grammar symbol {symbol} has no rule for {example}")
            for expansion, probability in options:
                for part in expansion:
                    reached[part] = reached[part] | (reached[symbol] & (probability > 0))

    def sample(self, n: int, seed: int) -> Iterator[Sentence]:
        """``n`` independent sentences; the first k of them do not depend on n.

        Python's own generator is used: its ``random()`` gives the same numbers in every version.
        """
        draw = random.Random(seed).random
        thresholds = np.cumsum(self._prior)[:-1].tolist()
        for _ in range(n):
            row = bisect(thresholds, draw())
            yield Sentence(self._derive(row, draw), dict(self._assignments[row]))

    def _derive(self, row: int, draw: Callable[[], float]) -> str:
        """One leftmost derivation under the assignment of this row."""
        choices = self._choices[row]
        words: list[str] = []
        stack = [self._start]
        while stack:
            part = stack.pop()
            if part not in choices:
                choices[part] = self._choice(part, row)
            choice = choices[part]
            if choice is None:
                words.append(part)
            else:
                thresholds, expansions = choice
                stack += expansions[bisect(thresholds, draw()) if thresholds else 0]
        return " ".join(words)

    def _choice(self, part: str, row: int) -> Choice | None:
        """What a symbol can become under one assignment: thresholds for a uniform number, and the expansions reversed
        (for a stack); ``None`` for a word."""
        if part not in self._rules:
            return None
        options = [(float(chance[row]), expansion[::-1]) for expansion, chance in self._rules[part] if chance[row] > 0]
        thresholds = list(itertools.accumulate(chance for chance, _ in options))[:-1]
        return thresholds, [expansion for _, expansion in options]

    def log_prob(self, text: str, **given: str) -> float:
        """log p(text | given) in nats, summed over derivations and over the factors not given; -inf if none exists.

        ``given`` are factors and their values: ``log_prob(text, topic="garden", tense="past")``. Raises ``SeqVAEError``
        E361 for a factor or value that the grammar does not have.
        """
        prior = self._prior
        for factor, value in given.items():
            prior = prior * self._column(factor, value)
        probability = float(prior @ self._inside(text.split())) / float(prior.sum())
        return math.log(probability) if probability > 0 else -math.inf

    def parses(self, text: str) -> bool:
        """Whether the grammar can produce this text."""
        return self.log_prob(text) > -math.inf

    def _inside(self, words: list[str]) -> np.ndarray:
        """p(words | assignment) for every assignment (the inside algorithm, a vector for its number)."""
        nothing = np.zeros(len(self._assignments))
        if not self._words.issuperset(words):
            return nothing
        chart: dict[tuple[str, int], dict[int, np.ndarray]] = {}

        def spans(symbol: str, begin: int) -> dict[int, np.ndarray]:
            """End -> probability that ``symbol`` becomes words[begin:end]."""
            if (symbol, begin) not in chart:
                found: dict[int, np.ndarray] = {}
                for expansion, probability in self._rules[symbol]:
                    for end, value in follow(expansion, begin, probability).items():
                        found[end] = found[end] + value if end in found else value
                chart[symbol, begin] = found
            return chart[symbol, begin]

        def follow(expansion: tuple[str, ...], begin: int, probability: np.ndarray) -> dict[int, np.ndarray]:
            """End -> probability of the rule times that of its parts covering words[begin:end]."""
            reached = {begin: probability}
            for part in expansion:
                step: dict[int, np.ndarray] = {}
                for here, value in reached.items():
                    if part not in self._rules:
                        if here < len(words) and words[here] == part:
                            step[here + 1] = value
                        continue
                    for end, inner in spans(part, here).items():
                        product = value * inner
                        if product.any():
                            step[end] = step[end] + product if end in step else product
                reached = step
            return reached

        return spans(self._start, 0).get(len(words), nothing)


def write_lines(grammar: Grammar, n: int, seed: int, path: Path, *, labels: bool) -> None:
    """``n`` sentences to ``path`` and, with ``labels``, each factor's values line by line to <stem>.<factor>.labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def lines(name: str) -> TextIO:
            return stack.enter_context((path.parent / name).open("w", encoding="utf-8", newline="\n"))

        text = lines(path.name)
        columns = {factor: lines(f"{path.stem}.{factor}.labels") for factor in grammar.factors if labels}
        for sentence in grammar.sample(n, seed):
            text.write(sentence.text + "\n")
            for factor, column in columns.items():
                column.write(sentence.factors[factor] + "\n")


def write_corpus(folder: Path) -> None:
    """The built-in corpus: every split of ``CORPUS`` with its labels."""
    for split, (n, seed) in CORPUS.items():
        write_lines(Grammar.default(), n, seed, folder / f"{split}.txt", labels=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m seqvae.data.grammar", description="Write sentences of the grammar."
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="write the built-in corpus (all splits, with labels)"
    )
    parser.add_argument("--lines", type=int, metavar="N", help="number of sentences to write to --out")
    parser.add_argument("--seed", type=int, default=0, help="seed of --lines (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="text file to write --lines to")
    parser.add_argument("--labels", action="store_true", help="also write <stem>.<factor>.labels beside --out")
    options = parser.parse_args(arguments)
    if (options.corpus is None) == (options.lines is None) or (options.lines is None) != (options.out is None):
        parser.error("give either --corpus DIR or both --lines N and --out FILE")
    if options.corpus is not None:
        write_corpus(options.corpus)
    elif options.lines < 0:
        parser.error("--lines must be 0 or more")
    else:
        write_lines(Grammar.default(), options.lines, options.seed, options.out, labels=options.labels)


if __name__ == "__main__":
    main()

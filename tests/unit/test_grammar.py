"""The grammar is the ruler of the built-in corpus: probabilities are exact, sentences parse, files are pinned."""

import itertools
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from seqvae.data.grammar import CORPUS, Grammar, main, write_corpus
from seqvae.data.grammar_rules import FACTORS, Rule, alternatives
from seqvae.errors import SeqVAEError

TINY = Path(__file__).parents[2] / "data" / "tiny"

SMALL_FACTORS = {"mood": {"up": 0.3, "down": 0.7}, "size": {"one": 0.2, "two": 0.5, "many": 0.3}}
SMALL_RULES = [
    # "a b c" has several derivations: (a)(b c), (a b)(c), each from either rule of SENTENCE, whose MAYBE may be empty.
    *alternatives("SENTENCE", "2 LEFT RIGHT | LEFT RIGHT MAYBE"),
    *alternatives("LEFT", "a | 3 a b | 2 b", mood="up"),
    *alternatives("LEFT", "a | a b", mood="down"),
    *alternatives("RIGHT", "c | b c | 2 d", size="one two"),
    *alternatives("RIGHT", "c | a | b MAYBE", size="many"),
    *alternatives("MAYBE", "2 | c | a"),
]


def small() -> Grammar:
    return Grammar(SMALL_FACTORS, SMALL_RULES)


def derivations(symbol: str, assignment: dict[str, str], rules: list[Rule]):
    """Every (words, probability) of a symbol, by brute force: nothing shared with the code under test but the rules."""
    options = [rule for rule in rules if rule.symbol == symbol]
    if not options:
        yield (symbol,), 1.0
        return
    options = [rule for rule in options if all(assignment[name] in values for name, values in rule.when)]
    total = sum(rule.weight for rule in options)
    for rule in options:
        for parts in itertools.product(*(list(derivations(part, assignment, rules)) for part in rule.expansion)):
            words = tuple(word for part, _ in parts for word in part)
            yield words, rule.weight / total * math.prod(probability for _, probability in parts)


def enumerated(given: dict[str, str] | None = None) -> dict[str, float]:
    """String -> probability on the small instance, conditional on ``given``, by enumeration of all derivations."""
    table: dict[str, float] = defaultdict(float)
    mass = 0.0
    for mood, size in itertools.product(SMALL_FACTORS["mood"], SMALL_FACTORS["size"]):
        assignment = {"mood": mood, "size": size}
        if any(assignment[name] != value for name, value in (given or {}).items()):
            continue
        prior = SMALL_FACTORS["mood"][mood] * SMALL_FACTORS["size"][size]
        mass += prior
        for words, probability in derivations("SENTENCE", assignment, SMALL_RULES):
            table[" ".join(words)] += prior * probability
    return {text: probability / mass for text, probability in table.items()}


@pytest.fixture(scope="module")
def sentences():
    return list(Grammar.default().sample(20_000, seed=11))


def test_probabilities_sum_to_one_where_derivations_are_ambiguous():
    table, grammar = enumerated(), small()
    counts = Counter(
        " ".join(words) for words, _ in derivations("SENTENCE", {"mood": "up", "size": "one"}, SMALL_RULES)
    )
    assert counts["a b c"] > 2
    assert sum(math.exp(grammar.log_prob(text)) for text in table) == pytest.approx(1, abs=1e-12)
    for text, probability in table.items():
        assert grammar.log_prob(text) == pytest.approx(math.log(probability), abs=1e-12)


def test_every_string_outside_the_language_has_no_probability():
    table, grammar = enumerated(), small()
    for length in range(5):
        for words in itertools.product("abcd", repeat=length):
            assert grammar.parses(" ".join(words)) == (" ".join(words) in table)
    assert grammar.log_prob("") == -math.inf


@pytest.mark.parametrize("given", [{"mood": "up"}, {"size": "many"}, {"mood": "down", "size": "two"}])
def test_conditional_probabilities_match_enumeration(given):
    table, grammar = enumerated(given), small()
    for text in enumerated():
        expected = math.log(table[text]) if text in table else -math.inf
        assert grammar.log_prob(text, **given) == pytest.approx(expected, abs=1e-12)


def test_samples_have_the_frequencies_that_log_prob_says():
    grammar, n = small(), 60_000
    texts = Counter(sentence.text for sentence in grammar.sample(n, seed=3))
    for text, probability in enumerated().items():
        assert abs(texts[text] / n - probability) < 5 * math.sqrt(probability / n)
    assert set(texts) <= set(enumerated())


def test_factors_of_samples_have_their_own_frequencies():
    n = 40_000
    joint = Counter(tuple(sentence.factors.items()) for sentence in small().sample(n, seed=8))
    for mood, size in itertools.product(SMALL_FACTORS["mood"], SMALL_FACTORS["size"]):
        probability = SMALL_FACTORS["mood"][mood] * SMALL_FACTORS["size"][size]
        assert abs(joint[("mood", mood), ("size", size)] / n - probability) < 5 * math.sqrt(probability / n)


def test_mean_negative_log_prob_of_samples_is_the_entropy():
    entropy = -sum(probability * math.log(probability) for probability in enumerated().values())
    grammar = small()
    nll = np.array([-grammar.log_prob(sentence.text) for sentence in grammar.sample(8_000, seed=6)])
    assert abs(nll.mean() - entropy) < 4 * nll.std() / math.sqrt(len(nll))


def test_every_sentence_parses_also_given_its_own_factors(sentences):
    grammar = Grammar.default()
    for text, factors in sentences[:400]:
        assert -60 < grammar.log_prob(text) < 0
        assert math.isfinite(grammar.log_prob(text, **factors))


def test_conditionals_average_to_the_marginal(sentences):
    grammar = Grammar.default()
    for factor, values in grammar.factors.items():
        for text, _ in sentences[:40]:
            logs = [math.log(FACTORS[factor][value]) + grammar.log_prob(text, **{factor: value}) for value in values]
            assert np.logaddexp.reduce(logs) == pytest.approx(grammar.log_prob(text), abs=1e-9)


def test_swapped_words_mostly_do_not_parse(sentences):
    grammar, chance = Grammar.default(), random.Random(0)
    broken = 0
    for text, _ in sentences[:500]:
        words = text.split()
        first, second = chance.sample(range(len(words)), 2)
        words[first], words[second] = words[second], words[first]
        broken += not grammar.parses(" ".join(words))
    assert broken > 450


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("she cooks the fresh soup in the kitchen", "she cook the fresh soup in the kitchen"),
        ("she will cook the fresh soup in the kitchen", "she will cooks the fresh soup in the kitchen"),
        ("they were tired of the train at night", "they was tired of the train at night"),
        ("the chef cooked the fresh soup in the kitchen", "the chef cooked the fresh train in the kitchen"),
        ("yesterday we visited our lovely city by the sea", "tomorrow we visited our lovely city by the sea"),
        (
            "my sister and i did not read the story because it was so late",
            "my sister and i did not read the story it was",
        ),
        (
            "you will never sing our lovely anthem on the stage again",
            "you will sing our lovely anthem on the stage again",
        ),
        ("i planted the roses at night", "i planted the flowers at night"),
    ],
)
def test_one_wrong_word_and_a_sentence_does_not_parse(right, wrong):
    assert Grammar.default().parses(right)
    assert not Grammar.default().parses(wrong)


def test_forms_shared_by_two_tenses_count_for_both():
    grammar = Grammar.default()
    for tense, possible in (("past", True), ("present", True), ("future", False)):
        assert (grammar.log_prob("i read the book at school", tense=tense) > -math.inf) is possible


def test_few_sentences_repeat(sentences):
    assert len({sentence.text for sentence in sentences}) >= 0.97 * len(sentences)


def test_vocabulary_is_exactly_what_sentences_use(sentences):
    vocabulary = Grammar.default().vocabulary
    assert 250 <= len(vocabulary) <= 600
    assert list(vocabulary) == sorted(vocabulary)
    assert {word for sentence in sentences for word in sentence.text.split()} == set(vocabulary)


def test_corpus_readme_states_what_is_measured():
    readme = (TINY.parent / "README.md").read_text(encoding="utf-8")
    assert f"vocabulary has {len(Grammar.default().vocabulary)} words" in readme
    for split, (n, _) in CORPUS.items():
        text = (TINY / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        words = sum(len(line.split()) for line in text)
        assert f"| {split} | {n:,} | {words:,} | {words + n:,} | {words / n:.2f} | " in readme
        assert 9 < words / n < 12
    nll = np.array([-Grammar.default().log_prob(line) for line in text])  # of the last split, test
    error = nll.std(ddof=1) / math.sqrt(len(nll))
    assert f"| {nll.mean():.2f} ± {error:.2f} |\n\n" in readme
    assert f"= {math.exp(nll.sum() / (words + n)):.2f} by the usual count" in readme


def test_factors_are_told_by_the_words(sentences):
    """Bayes' rule with the grammar itself reads the factor from the text: they shape several words, not one."""
    grammar = Grammar.default()
    for factor, least in (("topic", 0.97), ("sentiment", 0.8), ("tense", 0.9)):
        values = grammar.factors[factor]
        right = 0
        for sentence in sentences[:200]:
            logs = [grammar.log_prob(sentence.text, **{factor: value}) for value in values]
            right += values[int(np.argmax(logs))] == sentence.factors[factor]
        assert right / 200 > least


def test_samples_depend_on_the_seed_alone():
    grammar = Grammar.default()
    short, long = list(grammar.sample(30, seed=7)), list(grammar.sample(90, seed=7))
    assert long[:30] == short
    assert list(Grammar.default().sample(30, seed=8)) != short
    assert list(grammar.sample(0, seed=7)) == []


def test_sentences_do_not_share_their_factors():
    first, second = itertools.islice(Grammar({"only": {"value": 1.0}}, alternatives("SENTENCE", "a")).sample(2, 0), 2)
    first.factors["only"] = "changed"
    assert second.factors == {"only": "value"}


def test_committed_corpus_is_what_the_command_writes(tmp_path):
    main(["--corpus", str(tmp_path)])
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(written) == len(CORPUS) * (1 + len(Grammar.default().factors))
    assert written == {path.name: path.read_bytes() for path in TINY.iterdir()}


def test_labels_are_parallel_to_the_text():
    for split, (n, seed) in CORPUS.items():
        text = (TINY / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        assert len(text) == n
        columns = {
            factor: (TINY / f"{split}.{factor}.labels").read_text(encoding="utf-8").splitlines()
            for factor in Grammar.default().factors
        }
        for row, sentence in enumerate(Grammar.default().sample(200, seed)):
            assert sentence.text == text[row]
            assert sentence.factors == {factor: column[row] for factor, column in columns.items()}
        assert {len(column) for column in columns.values()} == {n}


def test_splits_share_hardly_any_sentence():
    train, valid, test = (set((TINY / f"{split}.txt").read_text().splitlines()) for split in ("train", "valid", "test"))
    assert len(train & test) + len(train & valid) + len(valid & test) < 100


def test_any_number_of_lines_can_be_written(tmp_path):
    out = tmp_path / "new" / "lines.txt"
    main(["--lines", "70", "--seed", "5", "--out", str(out)])
    assert [path.name for path in out.parent.iterdir()] == ["lines.txt"]
    assert out.read_bytes() == "".join(s.text + "\n" for s in Grammar.default().sample(70, 5)).encode()
    main(["--lines", "70", "--seed", "5", "--out", str(out), "--labels"])
    assert (out.parent / "lines.tense.labels").read_text().count("\n") == 70


@pytest.mark.parametrize(
    "arguments", [[], ["--lines", "3"], ["--lines", "-1", "--out", "x"], ["--corpus", "a", "--lines", "3"]]
)
def test_incomplete_commands_are_refused(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "--lines" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_factor_names_the_known_ones():
    for given in ({"colour": "red"}, {"mood": "sideways"}):
        with pytest.raises(SeqVAEError, match="no factor") as caught:
            small().log_prob("a c", **given)
        assert caught.value.code == "E361"
        assert "mood=up|down" in caught.value.hint


def test_recursive_and_incomplete_rules_are_refused():
    with pytest.raises(SeqVAEError, match=r"recursive.*SENTENCE"):
        Grammar({"only": {"value": 1.0}}, alternatives("SENTENCE", "a | a SENTENCE"))
    with pytest.raises(SeqVAEError, match="positive"):
        Grammar({"only": {"value": 1.0, "never": 0.0}}, alternatives("SENTENCE", "a"))
    rules = [*alternatives("SENTENCE", "a PART"), *alternatives("PART", "b", mood="up")]
    with pytest.raises(SeqVAEError, match=r"PART has no rule for .*'mood': 'down'") as caught:
        Grammar(SMALL_FACTORS, rules)
    assert caught.value.code == "E360"


def test_corpus_folder_is_made_where_it_is_missing(tmp_path):
    write_corpus(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "train.txt").exists()

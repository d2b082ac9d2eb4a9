"""The English of the built-in corpus: factors and rules, as data for :class:`seqvae.data.grammar.Grammar`.

Symbols are upper-case, words lower-case; ``|`` separates alternatives and a leading number is a weight (1 without it).
A symbol may carry the form of its verb after a colon (``DO:past``), so that agreement is decided in one place, at the
finite verb, and never at a distance.
"""

from collections.abc import Iterator
from typing import NamedTuple

from seqvae.data.grammar_lexicon import ANY_TIME, BY_SENTIMENT, GENERAL_VERBS, THINKS, TIMES, TOPICS, WANTS


class Rule(NamedTuple):
    """``symbol`` may be rewritten as ``expansion`` where every factor of ``when`` has one of the values given for it.

    Weights are relative: the probability of a rule is its weight over the sum of those that apply to its symbol.
    """

    symbol: str
    expansion: tuple[str, ...]
    weight: float = 1.0
    when: tuple[tuple[str, tuple[str, ...]], ...] = ()


def alternatives(symbol: str, text: str, **when: str) -> Iterator[Rule]:
    """Rules from ``"3 the | my | our"``; conditions as ``person="first second"``.

    >>> [rule.expansion for rule in alternatives("DET", "2 the | all the")]
    [('the',), ('all', 'the')]
    """
    conditions = tuple((factor, tuple(values.split())) for factor, values in when.items())
    for alternative in text.split("|"):
        words = alternative.split()
        weight = float(words.pop(0)) if words and words[0][0].isdigit() else 1.0
        yield Rule(symbol, tuple(words), weight, conditions)


FACTORS: dict[str, dict[str, float]] = {
    "topic": dict.fromkeys(("kitchen", "garden", "office", "school", "travel", "music"), 1 / 6),
    "sentiment": {"positive": 0.35, "neutral": 0.3, "negative": 0.35},
    "tense": {"past": 0.4, "present": 0.35, "future": 0.25},
    "number": {"singular": 0.6, "plural": 0.4},
    "polarity": {"affirmative": 0.75, "negated": 0.25},
    "person": {"first": 0.2, "second": 0.1, "third": 0.7},
}
"""Factor -> value -> probability; the factors are independent of each other."""

FORMS = ("base", "third", "past")

SENTENCES = """
    2 SUBJECT DID PLACE TIME | SUBJECT DID COMPANY TIME | SUBJECT DID COMPANY PLACE
    | 3 SUBJECT DID PLACE | 2 SUBJECT DID TIME | 5 WHEN SUBJECT DID PLACE | 2 WHEN SUBJECT DID COMPANY
    | 2 SUBJECT DID PLACE MOOD | 3 SUBJECT DID because REASON
    | 2 SUBJECT WANTED to ACT:base PLACE | SUBJECT WANTED to ACT:base TIME | SUBJECT WANTED to ACT:base COMPANY
    | 2 SUBJECT WAS FEELING THING PLACE | 2 SUBJECT WAS FEELING THING TIME | 3 SUBJECT THOUGHT that CLAIM
"""
"""Frames for either polarity. What only one polarity can say well is added to them in ``english``."""

SUBJECTS = {
    ("first", "singular"): "i",
    ("first", "plural"): "3 we | my RELATIVE and i",
    ("second", "singular"): "you",
    ("second", "plural"): "2 you | you and HIM",
    (
        "third",
        "singular",
    ): "he | she | HIM | HER | my RELATIVE | my CHARACTER RELATIVE | 2 the PERSON | 2 the CHARACTER PERSON",
    (
        "third",
        "plural",
    ): "2 they | HER and HIM | my RELATIVES | my CHARACTER RELATIVES | 2 the PEOPLE | 2 the CHARACTER PEOPLE",
}

NAMES = """
HIM: tom | paul | peter
HER: anna | maria | julia
RELATIVE: sister | brother | mother | father | friend
RELATIVES: parents | friends | neighbors
OCCASION: weather | news | mood
DEGREE: so | really | rather
THE: 3 the | our | your
COMPANY: with a friend | with our cousins | 2 with another PERSON | 2 with NUMBER PEOPLE
NUMBER: two | three | some
SOMEWHERE: | PLACE
"""

BORROWED = ("CHARACTER", "MANNER", "MOOD", "REASON")
"""What one sentence in ten or so takes from another sentiment: sad people read lovely books, too."""

THIRD = {"person": "third", "number": "singular"}
NOT_THIRD = ({"person": "first second"}, {"person": "third", "number": "plural"})


def finite(symbol: str, verb: str, before: str = "") -> Iterator[Rule]:
    """A verb in the tense, person and polarity of the sentence; ``verb`` takes the place of ``{}`` in its form."""

    def rule(text: str, form: str, **when: str) -> Iterator[Rule]:
        return alternatives(symbol, f"{text} {before} {verb.format(form)}", **when)

    yield from rule("", "past", tense="past", polarity="affirmative")
    yield from rule("did not", "base", tense="past", polarity="negated")
    yield from rule("will", "base", tense="future", polarity="affirmative")
    yield from rule("will not", "base", tense="future", polarity="negated")
    yield from rule("", "third", tense="present", polarity="affirmative", **THIRD)
    yield from rule("does not", "base", tense="present", polarity="negated", **THIRD)
    for who in NOT_THIRD:
        yield from rule("", "base", tense="present", polarity="affirmative", **who)
        yield from rule("do not", "base", tense="present", polarity="negated", **who)


def never(symbol: str, verb: str) -> Iterator[Rule]:
    """The same verb with ``never``, which takes no auxiliary."""
    yield from alternatives(symbol, f"never {verb.format('past')}", tense="past")
    yield from alternatives(symbol, f"will never {verb.format('base')}", tense="future")
    yield from alternatives(symbol, f"never {verb.format('third')}", tense="present", **THIRD)
    for who in NOT_THIRD:
        yield from alternatives(symbol, f"never {verb.format('base')}", tense="present", **who)


def copulas() -> Iterator[Rule]:
    """WAS agrees with the subject; IS and ARE are for a third person and keep the tense but not the polarity."""
    past = {"singular": "was", "plural": "were"}
    for suffix, polarity in (("", "affirmative"), (" not", "negated")):
        yield from alternatives("WAS", "will" + suffix + " be", tense="future", polarity=polarity)
        yield from alternatives("WAS", "were" + suffix, tense="past", polarity=polarity, person="second")
        for number in past:
            when = {"polarity": polarity, "number": number}
            yield from alternatives("WAS", past[number] + suffix, tense="past", person="first third", **when)
        yield from alternatives("WAS", "are" + suffix, tense="present", polarity=polarity, person="second")
        for person, singular in (("first", "am"), ("third", "is")):
            for number, verb in (("singular", singular), ("plural", "are")):
                when = {"polarity": polarity, "number": number, "person": person}
                yield from alternatives("WAS", verb + suffix, tense="present", **when)
    for symbol, past_form, present in (("IS", "was", "is"), ("ARE", "were", "are")):
        yield from alternatives(symbol, past_form, tense="past")
        yield from alternatives(symbol, present, tense="present")
        yield from alternatives(symbol, "will be", tense="future")


def verbs(symbol: str, triples: str, **when: str) -> Iterator[Rule]:
    """``symbol:base``, ``symbol:third`` and ``symbol:past`` from "cook cooks cooked | 2 bake bakes baked"."""
    for rule in alternatives(symbol, triples, **when):
        for form, word in zip(FORMS, rule.expansion, strict=True):
            yield rule._replace(symbol=f"{symbol}:{form}", expansion=(word,))


def mostly(symbol: str, text: str, **when: str) -> Iterator[Rule]:
    """Alternatives that one value of a factor prefers and the others can borrow, at 1 in 10: pianists cook, too."""
    (value,) = when.values()
    own = f"{symbol}:{value.upper()}"
    yield from alternatives(own, text)
    yield from alternatives(symbol, f"9 {own} | ANY:{symbol}", **when)
    yield from alternatives(f"ANY:{symbol}", own)


def topic_rules(topic: str) -> Iterator[Rule]:
    """What one topic does, to what and where: the verbs of an action go with its objects, general verbs with all."""
    words = TOPICS[topic]
    for symbol, text in (("PERSON", words.people), ("PEOPLE", words.crowd), ("PLACE", words.places)):
        yield from mostly(symbol, text, topic=topic)
    for number, action in enumerate(words.actions, start=1):
        name = f"{topic.upper()}{number}"
        yield from verbs(f"VERB:{name}", action.verbs)
        yield from alternatives(f"ONE:{name}", action.things)
        yield from alternatives(f"MANY:{name}", action.many)
        one, many = f"ONE:{name}", f"MANY:{name}"
        things = f"5 THE ADJECTIVE {one} | THE {one} | 3 THE ADJECTIVE {many} | THE {many}"
        yield from alternatives(f"THING:{name}", things)
        yield from alternatives("THING", f"THING:{name}", topic=topic)
        claims = f"2 THE {one} SOMEWHERE IS DEGREE QUALITY | THE {many} SOMEWHERE ARE DEGREE QUALITY"
        yield from alternatives("CLAIM", claims, topic=topic)
        for form in FORMS:
            yield from alternatives(f"ACT:{form}", f"VERB:{name}:{form} THING:{name}", topic=topic)


def english() -> Iterator[Rule]:
    """Every rule of the built-in grammar; the first symbol is ``SENTENCE``."""
    yield from alternatives("SENTENCE", SENTENCES)
    affirmative = "2 SUBJECT GLADLY PLACE | 2 SUBJECT GLADLY TIME"
    yield from alternatives("SENTENCE", affirmative, polarity="affirmative")
    yield from alternatives("SENTENCE", "4 SUBJECT NEVER PLACE AGAIN", polarity="negated")
    yield from alternatives("AGAIN", "again", tense="past future")
    yield from alternatives("AGAIN", "", tense="present")
    for (person, number), text in SUBJECTS.items():
        yield from alternatives("SUBJECT", text, person=person, number=number)
    for line in NAMES.strip().splitlines():
        symbol, text = line.split(":")
        yield from alternatives(symbol, text)
    for form in FORMS:
        yield from alternatives(f"DO:{form}", f"3 ACT:{form} | GENERAL:{form} THING")
    yield from finite("DID", "DO:{}")
    yield from finite("GLADLY", "DO:{}", before="MANNER")
    yield from never("NEVER", "DO:{}")
    yield from finite("WANTED", "WANT:{}")
    yield from finite("THOUGHT", "THINK:{}")
    yield from verbs("THINK", THINKS)
    yield from copulas()
    yield from alternatives("TIME", ANY_TIME)
    for tense, text in TIMES.items():
        yield from alternatives("WHEN", text, tense=tense)
    for sentiment, lists in BY_SENTIMENT.items():
        yield from verbs("GENERAL", GENERAL_VERBS[sentiment], sentiment=sentiment)
        yield from verbs("WANT", WANTS[sentiment], sentiment=sentiment)
        for symbol, text in lists.items():
            listed = mostly if symbol in BORROWED else alternatives
            yield from listed(symbol, text, sentiment=sentiment)
    for topic, words in TOPICS.items():
        yield from topic_rules(topic)
        for sentiment, own in (("positive", words.positive), ("negative", words.negative)):
            yield from alternatives("QUALITY", own, topic=topic, sentiment=sentiment)
    yield from alternatives("QUALITY", "3 OPINION", sentiment="positive negative")
    yield from alternatives("QUALITY", "OPINION", sentiment="neutral")
    yield from alternatives("ADJECTIVE", "QUALITY", sentiment="positive negative")
    yield from alternatives("ADJECTIVE", "3 QUALITY | other | usual | first | last", sentiment="neutral")

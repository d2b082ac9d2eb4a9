"""The words of the built-in corpus, by the factor that chooses them: written for this project.

``|`` separates alternatives; a leading number is a weight. Verbs are given as base, third person singular and past.
Some words serve two topics, and some forms two tenses (``cut``, ``read``): a code must weigh evidence, as in real text.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Action:
    """Verbs (base, third person, past) and the objects, singular and plural, that every one of them can take."""

    verbs: str
    things: str
    many: str


@dataclass(frozen=True, kw_only=True)
class Topic:
    """The words of one topic."""

    people: str
    crowd: str
    actions: tuple[Action, Action]
    positive: str
    negative: str
    places: str


TOPICS = {
    "kitchen": Topic(
        people="chef | guest",
        crowd="chefs | guests",
        actions=(
            Action(
                verbs="cook cooks cooked | serve serves served",
                things="soup | rice | fish",
                many="beans | noodles",
            ),
            Action(verbs="bake bakes baked | cut cuts cut", things="bread | cake", many="pies | cookies"),
        ),
        positive="delicious | fresh | tasty",
        negative="cold | burnt | salty",
        places="in the kitchen | at the table | at the restaurant | near the stove",
    ),
    "garden": Topic(
        people="gardener | worker",
        crowd="gardeners | workers",
        actions=(
            Action(
                verbs="plant plants planted | water waters watered",
                things="tree | hedge",
                many="roses | tulips",
            ),
            Action(verbs="pick picks picked | wash washes washed", things="fruit", many="apples"),
        ),
        positive="fresh | pretty | healthy",
        negative="dry | ugly | weak",
        places="in the garden | behind the house | near the fence | by the pond",
    ),
    "office": Topic(
        people="manager | worker",
        crowd="managers | workers",
        actions=(
            Action(
                verbs="write writes wrote | send sends sent",
                things="report | letter | contract",
                many="emails",
            ),
            Action(
                verbs="discuss discusses discussed | change changes changed",
                things="plan | budget | project",
                many="rules | ideas",
            ),
        ),
        positive="useful | clear | helpful",
        negative="boring | useless | confusing",
        places="at the office | in the meeting | at the desk | on the second floor",
    ),
    "school": Topic(
        people="teacher | student",
        crowd="teachers | students",
        actions=(
            Action(
                verbs="read reads read | finish finishes finished",
                things="book | story | poem",
                many="chapters",
            ),
            Action(
                verbs="learn learns learned | explain explains explained",
                things="lesson | answer | method",
                many="rules | words",
            ),
        ),
        positive="interesting | easy | useful",
        negative="difficult | boring | confusing",
        places="at school | in the classroom | in the library | at the desk",
    ),
    "travel": Topic(
        people="tourist | guest",
        crowd="tourists | guests",
        actions=(
            Action(
                verbs="visit visits visited | explore explores explored",
                things="city | island | castle",
                many="villages | mountains",
            ),
            Action(
                verbs="take takes took | book books booked",
                things="train | ferry | flight",
                many="trips",
            ),
        ),
        positive="charming | quiet | famous",
        negative="noisy | crowded | expensive",
        places="near the coast | in the south | by the sea | across the border",
    ),
    "music": Topic(
        people="singer | pianist",
        crowd="singers | pianists",
        actions=(
            Action(
                verbs="sing sings sang | record records recorded",
                things="song | melody | anthem",
                many="ballads",
            ),
            Action(verbs="play plays played | tune tunes tuned", things="guitar | piano", many="drums"),
        ),
        positive="charming | gentle | famous",
        negative="noisy | loud | dull",
        places="on the stage | at the concert | in the studio | at the festival",
    ),
}

GENERAL_VERBS = {
    "positive": "enjoy enjoys enjoyed | praise praises praised",
    "neutral": "choose chooses chose | describe describes described",
    "negative": "avoid avoids avoided | forget forgets forgot",
}

WANTS = {
    "positive": "love loves loved | hope hopes hoped",
    "neutral": "plan plans planned | try tries tried",
    "negative": "hate hates hated | refuse refuses refused",
}

THINKS = "think thinks thought | say says said"

BY_SENTIMENT = {
    "positive": {
        "OPINION": "good | wonderful | lovely",
        "CHARACTER": "cheerful | kind | lucky",
        "MANNER": "happily | proudly",
        "FEELING": "happy with | proud of",
        "MOOD": "with a smile | with great joy | in a good mood",
        "REASON": "the OCCASION IS DEGREE OPINION",
    },
    "neutral": {
        "OPINION": "new | ordinary | typical",
        "CHARACTER": "young | old | tall",
        "MANNER": "slowly | quickly",
        "FEELING": "ready for | curious about",
        "MOOD": "with a friend | without a word | in no hurry",
        "REASON": "2 it IS DEGREE late | 2 it IS DEGREE early | it IS winter | it IS monday",
    },
    "negative": {
        "OPINION": "bad | terrible | awful",
        "CHARACTER": "sad | angry | lonely",
        "MANNER": "sadly | angrily",
        "FEELING": "tired of | worried about",
        "MOOD": "with a sigh | with little hope | in a bad mood",
        "REASON": "the OCCASION IS DEGREE OPINION",
    },
}

TIMES = {
    "past": "2 yesterday | last week | last night | last summer | two days ago",
    "present": "2 every day | every week | every summer | these days | on mondays",
    "future": "2 tomorrow | next week | next summer | soon | in two days",
}

ANY_TIME = "in the morning | in the evening | after lunch | before lunch | at noon | at night"

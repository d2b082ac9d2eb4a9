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
        people="chef | baker | guest",
        crowd="chefs | bakers | guests",
        actions=(
            Action(
                verbs="cook cooks cooked | serve serves served | taste tastes tasted",
                things="soup | rice | fish | dinner",
                many="beans | noodles",
            ),
            Action(verbs="bake bakes baked | cut cuts cut", things="bread | cake", many="pies | cookies"),
        ),
        positive="delicious | fresh | tasty",
        negative="cold | burnt | salty",
        places="in the kitchen | at the table | at the restaurant | near the stove",
    ),
    "garden": Topic(
        people="gardener | farmer | worker",
        crowd="gardeners | farmers | workers",
        actions=(
            Action(
                verbs="plant plants planted | water waters watered | grow grows grew",
                things="tree | hedge",
                many="roses | tulips",
            ),
            Action(verbs="pick picks picked | wash washes washed", things="fruit", many="apples | berries"),
        ),
        positive="fresh | pretty | healthy",
        negative="dry | ugly | weak",
        places="in the garden | behind the house | near the fence | by the pond",
    ),
    "office": Topic(
        people="manager | lawyer | worker",
        crowd="managers | lawyers | workers",
        actions=(
            Action(
                verbs="write writes wrote | send sends sent | sign signs signed",
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
        people="teacher | student | child",
        crowd="teachers | students | children",
        actions=(
            Action(
                verbs="read reads read | study studies studied | finish finishes finished",
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
        people="tourist | pilot | guest",
        crowd="tourists | pilots | guests",
        actions=(
            Action(
                verbs="visit visits visited | explore explores explored | leave leaves left",
                things="city | island | castle",
                many="villages | mountains",
            ),
            Action(
                verbs="take takes took | book books booked",
                things="train | bus | ferry | flight",
                many="trips",
            ),
        ),
        positive="charming | quiet | famous",
        negative="noisy | crowded | expensive",
        places="near the coast | in the south | by the sea | across the border",
    ),
    "music": Topic(
        people="singer | pianist | guest",
        crowd="singers | pianists | guests",
        actions=(
            Action(
                verbs="sing sings sang | perform performs performed | record records recorded",
                things="song | melody | anthem",
                many="ballads",
            ),
            Action(verbs="play plays played | tune tunes tuned", things="guitar | piano | violin", many="drums"),
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
        "CHARACTER": "cheerful | kind | lucky | clever",
        "MANNER": "happily | gladly | proudly",
        "FEELING": "happy with | proud of | excited about",
        "MOOD": "with a smile | with great joy | in a good mood",
        "REASON": "the OCCASION IS DEGREE OPINION",
    },
    "neutral": {
        "OPINION": "new | ordinary | typical",
        "CHARACTER": "young | old | tall | shy",
        "MANNER": "quietly | slowly | quickly",
        "FEELING": "ready for | sure about | curious about",
        "MOOD": "with a friend | without a word | in no hurry",
        "REASON": "2 it IS DEGREE late | 2 it IS DEGREE early | it IS winter | it IS monday",
    },
    "negative": {
        "OPINION": "bad | terrible | awful",
        "CHARACTER": "sad | angry | lonely | nervous",
        "MANNER": "sadly | angrily | nervously",
        "FEELING": "tired of | unhappy with | worried about",
        "MOOD": "with a sigh | with little hope | in a bad mood",
        "REASON": "the OCCASION IS DEGREE OPINION",
    },
}

TIMES = {
    "past": "2 yesterday | last week | last night | last summer | an hour ago | two days ago",
    "present": "2 every day | every week | every summer | on mondays | on sundays | these days",
    "future": "2 tomorrow | next week | next month | next summer | soon | in an hour",
}

ANY_TIME = "in the morning | in the evening | after lunch | before dinner | at noon | at night"

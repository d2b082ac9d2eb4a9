"""What a page that is saved as one file holds: answers to a choice of questions, worked out beforehand."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np

from seqvae.evaluation.likelihood import OnProgress
from seqvae.io.disk import jsonable
from seqvae.web import requests
from seqvae.web.explorer import Answer, Explorer
from seqvae.web.page import encoded

SENTENCES, WALKED, UNITS = 40, 10, 12
"""Sentences whose codes are shown, those of them whose units can be moved, and units that can be."""

ENDS, STEPS = 6, 21
"""Sentences with a path from each to each other, and points of a path: those of the page."""

SAMPLES = {"n": 40, "temperature": 1.0, "top_p": 1.0, "seed": 0}


def saved_answers(explorer: Explorer, *, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """All that the page asks for, by question. Takes the NLL of every sentence and some hundred decodings."""
    about = explorer.about()
    labelled = {"label": explorer.vae.labels[0]} if explorer.vae.labels else {}
    about["labels"] = list(labelled.values()) or None  # what can be chosen is what there are answers for
    chosen = _spread_out(explorer)
    dims = [unit["dim"] for unit in about["units"] if unit["active"] is not False][:UNITS]
    dims = dims or [unit["dim"] for unit in about["units"]][:UNITS]
    ways = ("slerp",) if explorer.vae.model.spherical else ("slerp", "lerp")
    pairs = list(permutations(chosen[:ENDS], 2))
    sample = SAMPLES | {"source": "aggregate" if explorer.vae.noiseless else "prior"}
    asked: list[tuple[str, Answer]] = [("sentence", {"text": text}) for text in chosen]
    asked += [("path", {"a": a, "b": b, "steps": STEPS, "path": way}) for a, b in pairs for way in ways]
    asked += [("walk", {"text": text, "dim": dim}) for text in chosen[:WALKED] for dim in dims]
    asked.append(("sample", sample))
    answers = []
    for done, (name, body) in enumerate(asked, 1):
        answers.append({"name": name, "body": body | labelled, "answer": _answer(explorer, name, body | labelled)})
        if on_progress is not None:
            on_progress(done, len(asked))
    choices = {
        "sentence": chosen,
        "path": pairs,
        "walk": {"texts": chosen[:WALKED], "dims": dims},
        "sample": sample,
    }
    found = {"about": about, "texts": explorer.texts(), "diagnosis": explorer.diagnose(wait=True)}
    numbers = {name: encoded(values) for name, values in _numbers(explorer, about)}
    return jsonable(found | {"numbers": numbers, "choices": choices, "answers": answers})


def _answer(explorer: Explorer, name: str, body: Answer) -> Answer:
    kinds = {
        "sentence": requests.SentenceRequest,
        "path": requests.PathRequest,
        "walk": requests.WalkRequest,
        "sample": requests.SampleRequest,
    }
    return getattr(explorer, name)(kinds[name].model_validate(body))


def _numbers(explorer: Explorer, about: Answer) -> Iterator[tuple[str, np.ndarray]]:
    for name, drawn in explorer.atlas.maps.items():
        yield f"map/{name}", drawn.xy
    names = [each["name"] for each in about["columns"]] + [f"dim-{unit['dim']}" for unit in about["units"]]
    for name in names:
        yield f"column/{name}", explorer.column(name, wait=True)


def _spread_out(explorer: Explorer) -> list[str]:
    """Different sentences that lie far from each other on the first map, so that every region has one.

    Farthest-first (Gonzalez 1985), from the sentence nearest to the middle, among sentences of a usual length.
    """
    xy, lengths = explorer.atlas.maps["pca"].xy.astype(np.float64), explorer.corpus.store.lengths
    usual = lengths <= np.quantile(lengths, 0.9)
    distance = np.where(usual, np.inf, -np.inf)
    row, chosen = int(np.argmin(np.where(usual, np.hypot(*xy.T), np.inf))), []
    while len(chosen) < SENTENCES and distance[row] > 0:
        if (text := explorer.corpus.texts[row]) not in chosen:
            chosen.append(text)
        distance = np.minimum(distance, np.hypot(*(xy - xy[row]).T))
        row = int(np.argmax(distance))
    return chosen

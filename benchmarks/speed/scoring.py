"""Importance-weighted likelihood: whole batches of sentences against one sentence after another."""

import numpy as np
import torch

from benchmarks.speed.material import Sides, ptb_config, ptb_text, sentences_of, some
from benchmarks.speed.measured import Measured, measured
from seqvae.data.store import TokenStore
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.passes import row_seed
from seqvae.models.cost import scoring_work

SAMPLES, SEED = 500, 0
OURS = {"cpu": 60, "cuda": 3_761}
"""Sentences of the test text that seqvae scores: all of them on a GPU."""
THEIRS = {"cpu": 15, "cuda": 100}


def importance_weighted(device: str, quick: bool) -> Measured:
    store, vocab_size, text = ptb_text("test")
    sides = Sides.of(ptb_config(device), vocab_size)
    kind, samples = sides.runtime.device.type, 20 if quick else SAMPLES
    many, few = (some(store, 4 if quick else counts[kind]) for counts in (OURS, THEIRS))
    ours, theirs = (TokenStore.from_ids([store[row] for row in rows.tolist()]) for rows in (many, few))
    sentences = [sentence.to(sides.runtime.device) for sentence in sentences_of(store, few)]
    noise, bounds = torch.Generator(sides.runtime.device), np.zeros(len(few))
    sides.book.eval()

    def one_after_another() -> None:
        for place, sentence in enumerate(sentences):
            noise.manual_seed(row_seed(SEED, place))
            bounds[place] = sides.book.iw_nll(sentence, samples, generator=noise)

    found = measured(
        {
            "seqvae": (lambda: elbo_and_iw(sides.model, ours, samples=samples, seed=SEED), ours.stats.tokens),
            "textbook": (one_after_another, theirs.stats.tokens),
        },
        sides,
        rounds=2 if quick else 3,
    )
    same = elbo_and_iw(sides.model, theirs, samples=samples, seed=SEED).iw
    found.agreement = f"bounds differ by {np.abs(same / bounds - 1).max():.1e} at most, relative"
    work = scoring_work(sides.model.config, vocab_size, sentences=len(ours), tokens=ours.stats.tokens, samples=samples)
    found.precision = "fp32"  # the evaluation's, whatever the training's
    found.work = {name: (part.flops / ours.stats.tokens, part.bytes / ours.stats.tokens) for name, part in work.items()}
    found.facts |= {
        "text": text,
        "samples": samples,
        "sentences": f"{len(ours):,} for seqvae, {len(theirs):,} for the textbook, spread over the lengths alike;"
        " rates are per token, so neither is scaled",
    }
    return found

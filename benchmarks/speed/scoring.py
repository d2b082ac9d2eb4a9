"""Importance-weighted likelihood: whole batches of sentences against one sentence after another."""

import numpy as np
import torch

from benchmarks.speed.material import Sides, ptb_config, ptb_text, sentences_of, some
from benchmarks.speed.measured import Measured, measured
from seqvae.data.batching import evaluation_plan
from seqvae.data.store import TokenStore
from seqvae.evaluation.likelihood import Likelihoods, elbo_and_iw
from seqvae.evaluation.passes import row_seed
from seqvae.models.cost import scoring_work

SAMPLES, SEED = 500, 0

BATCHES = {"cpu": 3, "cuda": None}
"""Batches of the test text that seqvae scores, as `eval` makes them, spread over the lengths; None: all of them."""

BATCH_TOKENS = 16_384
"""As `eval.batch_tokens`: of all samples."""

THEIRS = {"cpu": 15, "cuda": 100}
"""Sentences that the textbook scores, of the same ones."""


def importance_weighted(device: str, quick: bool) -> Measured:
    store, vocab_size, text = ptb_text("test")
    sides = Sides.of(ptb_config(device), vocab_size)
    kind, samples = sides.runtime.device.type, 20 if quick else SAMPLES
    ours = _part(store, samples, 1 if quick else BATCHES[kind])
    few = some(ours, 4 if quick else THEIRS[kind])
    theirs = TokenStore.from_ids([ours[row] for row in few.tolist()])
    sentences = [sentence.to(sides.runtime.device) for sentence in sentences_of(ours, few)]
    noise, bounds = torch.Generator(sides.runtime.device), np.zeros(len(few))
    sides.book.eval()

    def together(store: TokenStore, precision: str) -> Likelihoods:
        return elbo_and_iw(sides.model, store, samples=samples, seed=SEED, bf16=precision == "bf16")

    def one_after_another() -> None:
        for place, sentence in enumerate(sentences):
            noise.manual_seed(row_seed(SEED, place))
            bounds[place] = sides.book.iw_nll(sentence, samples, generator=noise)

    found = measured(
        {
            "seqvae": (lambda: together(ours, sides.runtime.precision), ours.stats.tokens),
            "textbook": (one_after_another, theirs.stats.tokens),
        },
        sides,
        rounds=2 if quick else 3,
        quick=quick,
    )
    kinds = dict.fromkeys(["fp32", sides.runtime.precision])
    apart = {kind: np.abs(together(theirs, kind).iw / bounds - 1).max() for kind in kinds}
    found.agreement = "; ".join(
        f"in {kind} bounds differ by {most:.1e} at most, relative" for kind, most in apart.items()
    )
    work = scoring_work(sides.model.config, vocab_size, sentences=len(ours), tokens=ours.stats.tokens, samples=samples)
    found.work = {name: (part.flops / ours.stats.tokens, part.bytes / ours.stats.tokens) for name, part in work.items()}
    found.facts |= {
        "text": text,
        "samples": samples,
        "sentences": f"{len(ours):,} for seqvae, {len(theirs):,} for the textbook, spread over the lengths alike;"
        " rates are per token, so neither is scaled",
    }
    return found


def _part(store: TokenStore, samples: int, count: int | None) -> TokenStore:
    """Whole batches of one length each: sentences drawn from everywhere would be padded, as those of a text are not."""
    plan = evaluation_plan(store.lengths, batch_tokens=BATCH_TOKENS // min(samples, 16))
    if count is None:
        return store
    kept = [plan[int((place + 0.5) * len(plan) / count)] for place in range(count)]
    return TokenStore.from_ids([store[row] for rows in kept for row in rows.tolist()])

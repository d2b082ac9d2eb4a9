"""Greedy, sampled and beam decoding: a batch of codes at once against one sentence after another.

The weights are as they are drawn, and such a model does not end a sentence: all sentences are cut at the mean length of
Penn Treebank's, so that both sides write the same number of tokens.
"""

import statistics
from typing import Literal

import torch

from benchmarks.speed.material import PTB_LENGTH, PTB_VOCABULARY, Sides, ptb_config
from benchmarks.speed.measured import Measured, measured
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.models.cost import writing_work

SENTENCES, ROUNDS = 10_000, 10
"""Sentences in all; each round writes its share of them."""

TOGETHER = 256
"""Codes that are decoded at once, as `TextVAE` does."""

THEIRS = 20
"""Sentences that the textbook writes in each round."""

BEAM = 5

Strategy = Literal["greedy", "sample", "beam"]


def writing(device: str, quick: bool, *, strategy: Strategy) -> Measured:
    sides = Sides.of(ptb_config(device), PTB_VOCABULARY)
    rounds = 2 if quick else ROUNDS
    ours, theirs = (64, 4) if quick else (SENTENCES // rounds, THEIRS)
    model, book = sides.model.eval(), sides.book.eval()
    codes = torch.randn(ours * rounds, model.latent_dim, generator=torch.Generator().manual_seed(0))
    config = DecodeConfig(strategy=strategy, beam_size=BEAM, max_length=PTB_LENGTH)
    parts = iter([*codes.split(ours), codes[:ours]])  # one more: the first round is not counted
    some = codes[:theirs].to(sides.runtime.device)
    written: dict[str, list[list[int]]] = {"seqvae": [], "textbook": []}

    def batches() -> None:
        part = next(parts)
        found = [decode(model, z, config, torch.Generator().manual_seed(0)).tokens for z in part.split(TOGETHER)]
        written["seqvae"] = [words for some_words in found for words in some_words]

    def one_after_another() -> None:
        if strategy == "beam":
            written["textbook"] = [book.beam(z, PTB_LENGTH, BEAM) for z in some]
        else:
            written["textbook"] = [book.write(z, PTB_LENGTH, draw=strategy == "sample") for z in some]

    found = measured(
        {"seqvae": (batches, ours), "textbook": (one_after_another, theirs)},
        sides,
        rounds=rounds,
        quick=quick,
        unit="sentences/s",
    )
    lengths = {side: statistics.mean(map(len, sentences)) for side, sentences in written.items()}
    same = decode(model, some, config).tokens if strategy != "sample" else None
    alike = same and sum(ours == theirs for ours, theirs in zip(same, written["textbook"], strict=True))
    found.agreement = (
        f"{alike} of {theirs} sentences are the same"
        if same
        else f"{lengths['seqvae']:.1f} and {lengths['textbook']:.1f} tokens a sentence"
    )
    hypotheses = BEAM if strategy == "beam" else 1
    steps = PTB_LENGTH * -(-ours // TOGETHER)
    work = writing_work(model.config, PTB_VOCABULARY, tokens=ours * PTB_LENGTH * hypotheses, steps=steps)
    found.precision = "fp32"
    found.work = {name: (part.flops / ours, part.bytes / ours) for name, part in work.items()}
    found.facts["sentences"] = (
        f"{ours * rounds:,} for seqvae, {theirs} in each of {rounds} rounds for the textbook; all cut at {PTB_LENGTH}"
        " tokens; rates are per sentence, so neither is scaled"
    )
    return found

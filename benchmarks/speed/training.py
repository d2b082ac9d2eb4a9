"""Training: updates of seqvae and of the textbook in turn, on the same batches from the same weights."""

import numpy as np
import torch

from benchmarks.speed.material import Sides, ptb_config, ptb_text, sentences_of, synthetic
from benchmarks.speed.measured import Measured, measured
from benchmarks.textbook import Textbook, Training
from seqvae.config import Config
from seqvae.data.batching import Plan, epoch_plan
from seqvae.data.store import TokenStore
from seqvae.machine import peak_bytes
from seqvae.models.vae import SeqVAE
from seqvae.speed import Rehearsal, time_parts, time_training
from seqvae.training.runtime import Runtime
from seqvae.types import BOS, EOS

LARGE = {"embedding": 512, "hidden": 1024}
LARGE_VOCABULARY = 20_000

BATCHES_TRIED = (32, 64, 128, 256, 512, 1024, 2048)
"""Sentences in a batch, where the best batch is looked for."""

RECIPE_EPOCHS = 16
"""Those of `ptb.yaml`, both phases together."""


def ptb(device: str, quick: bool, *, batch: int) -> Measured:
    store, vocab_size, text = ptb_text("train")
    config = _config(device, batch)
    found = _compare(config, store, vocab_size, quick)
    found.facts["text"] = text
    return found


def ptb_with_best_batch(device: str, quick: bool) -> Measured:
    """Batch 32 against the textbook, and what larger batches make of an epoch."""
    found = ptb(device, quick, batch=32)
    store, vocab_size, _ = ptb_text("train")
    rates = {}
    for batch in BATCHES_TRIED[: 2 if quick else None]:
        config = _config(device, batch)
        sides = Sides.of(config, vocab_size)
        rehearsal = Rehearsal(config, sides.model, store, sides.runtime)
        timed = time_training(rehearsal, [[rows] for rows in _plan(config, store)[:16]], seconds=0.2 if quick else 5)
        rates[batch] = timed.tokens / timed.seconds
    best = max(rates, key=rates.get)
    minutes = RECIPE_EPOCHS * store.stats.tokens / rates[best] / 60
    found.facts["tokens a second by batch"] = {str(batch): round(rate) for batch, rate in rates.items()}
    found.facts["best batch"] = best
    found.facts["updates of the whole recipe at that batch, minutes"] = round(minutes, 2)
    return found


def large(device: str, quick: bool) -> Measured:
    sizes = {f"model.{part}.{size}": value for part in ("encoder", "decoder") for size, value in LARGE.items()}
    config = ptb_config(device, **sizes | {"model.decoder.tie_weights": False})
    found = _compare(config, synthetic(2_000 if quick else 42_068, LARGE_VOCABULARY), LARGE_VOCABULARY, quick)
    found.facts["text"] = "made"
    return found


def _config(device: str, batch: int) -> Config:
    return ptb_config(device, **{"data.batch_size": batch, "train.cuda_graphs": device == "cuda"})


def _plan(config: Config, store: TokenStore) -> Plan:
    data = config.data
    return epoch_plan(
        store.lengths, seed=config.train.seed, epoch=0, batch_size=data.batch_size, equal_length=data.equal_length
    )


def _compare(config: Config, store: TokenStore, vocab_size: int, quick: bool) -> Measured:
    sides = Sides.of(config, vocab_size)
    device, train = sides.runtime.device, config.train
    noise = torch.Generator(device).manual_seed(train.seed + 1)  # as the trainer's own
    rehearsal = Rehearsal(config, sides.model, store, sides.runtime)
    book = Training(sides.book, lr=train.optimizer.lr, clip_norm=train.clip_norm, generator=noise)
    # Whole batches only: an epoch's shorter ones, one for each length, would be more work for a token.
    plan = [rows for rows in _plan(config, store) if len(rows) == config.data.batch_size][: 2 if quick else 16]
    plan = plan or _plan(config, store)[:2]
    agreement = max(_difference(rehearsal, book, store, rows) for rows in plan[:3])

    def ours() -> None:
        for rows in plan:
            rehearsal.train_on([rows])

    def theirs() -> None:
        for rows in plan:
            book.step(sentences_of(store, rows))

    tokens = sum(int(store.lengths[rows].sum()) - len(rows) for rows in plan)
    found = measured(
        {"seqvae": (ours, tokens), "textbook": (theirs, tokens)}, sides, rounds=2 if quick else 7, quick=quick
    )
    timed = time_training(rehearsal, [[rows] for rows in plan], seconds=0.0)
    found.work = {name: (part.flops / timed.tokens, part.bytes / timed.tokens) for name, part in timed.work.items()}
    parts = time_parts(rehearsal, plan[0], seconds=0.0 if quick else 10.0)
    found.facts["parts of an update, ms"] = {name: round(1000 * taken, 3) for name, taken in parts.items()}
    found.facts["updates"] = f"batches of {config.data.batch_size} sentences, {tokens / len(plan):,.0f} tokens"
    found.agreement = f"losses of 3 updates differ by {agreement:.1e} at most, relative"
    return found


def _difference(rehearsal: Rehearsal, book: Training, store: TokenStore, rows: np.ndarray) -> float:
    """Of the losses of an update from the same weights, with the same noise and dropout."""
    torch.manual_seed(int(rows[0]))
    rehearsal.train_on([rows])
    torch.manual_seed(int(rows[0]))
    theirs = book.step(sentences_of(store, rows))
    return abs(float(rehearsal.loss) / len(rows) / theirs - 1)


def peak_of_update(side: str, device: str, *, vocab_size: int, sentences: int, length: int) -> int | None:
    """The most memory of two updates on one batch, in bytes; for a process that does nothing else."""
    random = torch.Generator().manual_seed(0)
    words = torch.randint(4, vocab_size, (sentences, length - 2), generator=random).tolist()
    store = TokenStore.from_ids([[BOS, *each, EOS] for each in words])
    config, rows = ptb_config(device, **{"data.batch_size": sentences}), np.arange(sentences)
    runtime = Runtime.choose(config.train)
    model = SeqVAE(config.model, vocab_size).to(runtime.device)
    if side == "seqvae":
        rehearsal = Rehearsal(config, model, store, runtime)
        for _ in range(2):
            rehearsal.train_on([rows])
    else:
        book = Training(Textbook.like(model), lr=1e-3, clip_norm=5.0)
        del model
        for _ in range(2):
            book.step(sentences_of(store, rows))
    return peak_bytes(runtime.device)

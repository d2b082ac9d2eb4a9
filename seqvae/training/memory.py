"""What a device's memory holds: found out before the first update, and acted on without changing an update.

An update adds up the gradients of its micro-batches and divides once, so a batch may be cut anywhere: the update stays
the same, to rounding and for the noise that is drawn. Where a method computes over the sentences of a batch together, a
cut would change what it computes, and the run ends instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import torch

from seqvae.data.batching import collate, evaluation_plan
from seqvae.errors import SeqVAEError, is_out_of_memory
from seqvae.evaluation.passes import evaluating
from seqvae.training import state as states
from seqvae.training.divergence import answers_later
from seqvae.training.stage import Stage
from seqvae.training.task import Task
from seqvae.types import Batch

if TYPE_CHECKING:
    from seqvae.models.vae import SeqVAE
    from seqvae.training.trainer import Trainer

Found = TypeVar("Found")

VALIDATION_TOKENS = 16_384
"""Tokens of a batch of validation, padding included, where the memory holds them."""

_OPTIMIZER_COPIES = 2
"""Tensors of the size of each parameter that an optimizer keeps from its first step on, at most."""


def pieces(batches: Sequence[Batch], most_tokens: int | None) -> list[Batch]:
    """The batches, those of more than so many tokens (padding included) in pieces of at least one sentence."""
    if most_tokens is None:
        return list(batches)
    found: list[Batch] = []
    for batch in batches:
        size = max(1, most_tokens // batch.tokens.shape[1])
        whole = size >= len(batch)
        found += [batch] if whole else [_part(batch, at, at + size) for at in range(0, len(batch), size)]
    return found


def _part(batch: Batch, start: int, stop: int) -> Batch:
    """Some of the sentences, padded to the longest of them."""
    inside = slice(start, stop)
    lengths = batch.lengths[inside]
    return replace(
        batch,
        tokens=batch.tokens[inside, : int(lengths.max())],
        lengths=lengths,
        rows=batch.rows[inside],
        labels=None if batch.labels is None else batch.labels[inside],
    )


def most_tokens(trainer: "Trainer") -> int | None:
    """Tokens of a micro-batch at most: by the settings, and by what did not fit so far."""
    bounds = [bound for bound in (trainer.config.micro_tokens, trainer.progress.micro_tokens) if bound is not None]
    return min(bounds, default=None)


def within_memory(trainer: "Trainer", batches: Sequence[Batch], compute: Callable[[list[Batch]], Found]) -> Found:
    """``compute`` of the batches, in smaller and smaller pieces until the memory holds it.

    Each attempt begins with the random states of the first one. What was found stays in the progress of the run.
    Raises E602 where one sentence is too much, E603 where the batch must not be cut. With several processes the others
    are in the middle of the same update, and the error is raised as it came.
    """
    device = trainer.task.runtime.device
    random = states.random_tensors({"noise": trainer.noise}, device)
    while True:
        given = pieces(batches, most_tokens(trainer))
        try:
            return compute(given)
        except (RuntimeError, MemoryError) as error:
            if trainer.world.size > 1 or not is_out_of_memory(error):
                raise
        # Out of the handler: what the error holds on to is what filled the memory.
        had_more = trainer.gradients.let_go()
        _release(trainer.model, device)
        if not had_more:
            largest = max(given, key=lambda batch: batch.tokens.numel())
            _cut_to(trainer, len(largest) // 2 * largest.tokens.shape[1], largest, trainer.stage)
        states.restore_random({"noise": trainer.noise}, random, device)


def validation_tokens(trainer: "Trainer") -> int:
    """Tokens of a batch of validation: its numbers do not depend on them, but for rounding."""
    return min(VALIDATION_TOKENS, most_tokens(trainer) or VALIDATION_TOKENS)


def try_largest(trainer: "Trainer") -> None:
    """One forward and backward pass of the batch that needs the most memory, for each phase, and one batch of
    validation; nothing is changed by them.

    Where it does not fit, `Progress.micro_tokens` is set for the run; errors as those of `within_memory`, alike in all
    processes.
    """
    task, model, device = trainer.task, trainer.model, trainer.task.runtime.device
    random = states.random_tensors({"noise": trainer.noise}, device)
    buffers, refiners = [(buffer, buffer.clone()) for buffer in model.buffers()], model.refiners
    model.train()
    for phase in task.phases:
        stage = Stage(phase, model, trainer.stage.epoch_steps)
        batch = max(pieces([task.batch(task.largest_rows())], most_tokens(trainer)), key=lambda one: one.tokens.numel())
        sentences = len(batch)
        while sentences > 0:
            part = _part(batch, len(batch) - sentences, len(batch))
            if _fits(model, device, partial(_passes, stage, part, task)):
                break
            sentences //= 2
        own = states.NEVER if sentences == len(batch) else sentences * batch.tokens.shape[1]
        tokens = min(int(each) for each in trainer.world.gather(torch.tensor([own])))
        if tokens < states.NEVER:
            _cut_to(trainer, tokens, batch, stage)
    _try_validation(trainer)
    model.refiners = refiners
    for buffer, before in buffers:
        buffer.copy_(before)
    states.restore_random({"noise": trainer.noise}, random, device)


def _try_validation(trainer: "Trainer") -> None:
    """A forward pass of the largest batch of validation; what does not fit is cut, no further than training is."""
    task, model, tokens = trainer.task, trainer.model, validation_tokens(trainer)
    store = task.stores["valid"]

    def largest(tokens: int) -> Batch:
        plan = evaluation_plan(store.lengths, batch_tokens=tokens)
        return collate(store, max(plan, key=lambda rows: len(rows) * store.lengths[rows[-1]]))

    def passes() -> None:
        with evaluating(model), task.runtime.autocast():
            model.terms(largest(tokens).to(task.runtime.device))

    while not _fits(model, task.runtime.device, passes):
        if len(batch := largest(tokens)) == 1:
            raise _too_large(batch, task, "valid")
        tokens = len(batch) // 2 * batch.tokens.shape[1]
    if tokens < validation_tokens(trainer):
        # What training has tried fits, so that no batch of a method that looks at sentences together is cut.
        trained = pieces([task.batch(task.largest_rows())], most_tokens(trainer))
        tokens = max(tokens, *(part.tokens.numel() for part in trained))
    found = min(int(each) for each in trainer.world.gather(torch.tensor([tokens])))
    if found < validation_tokens(trainer):
        _set_bound(trainer, found)


def _fits(model: "SeqVAE", device: torch.device, passes: Callable[[], None]) -> bool:
    """Whether the memory holds what ``passes`` computes. Nothing of it is left behind."""
    try:
        passes()
        fits = True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    _release(model, device)
    return fits


def _passes(stage: Stage, batch: Batch, task: Task) -> None:
    copies = _OPTIMIZER_COPIES + answers_later(task.runtime.device)  # gradients of the update before
    spare = [torch.empty_like(p) for p in stage.main_parameters for _ in range(copies)]
    with task.runtime.autocast():
        loss, _ = stage.loss_of(batch, 0, torch.Generator(task.runtime.device), None)
    loss.backward()
    del spare  # until here it takes the room that the optimizer will


def _release(model: "SeqVAE", device: torch.device) -> None:
    model.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _cut_to(trainer: "Trainer", tokens: int, batch: Batch, stage: Stage) -> None:
    """From here on batches of more tokens are cut. ``batch``: the one that was too large."""
    longest = batch.tokens.shape[1]
    if tokens == 0:
        raise _too_large(batch, trainer.task, "train")
    if (method := _coupling(trainer.model, stage)) is not None:
        batches = f"`data.batch_size={tokens // longest}`"
        batches = batches if trainer.task.data.batch_tokens is None else f"`data.batch_tokens={tokens}`"
        raise SeqVAEError(
            "E603",
            f"out of memory at {len(batch)} sentences of {longest} tokens, which {method} looks at together",
            where=f"phase `{stage.phase.name}`",
            hint=f"set {batches}, or `train.micro_tokens={tokens}` to have it look at smaller pieces",
        )
    _set_bound(trainer, tokens)


def _set_bound(trainer: "Trainer", tokens: int) -> None:
    trainer.progress.micro_tokens = tokens
    trainer.note(
        f"memory ran out: batches of more than {tokens:,} tokens, padding included, are cut from here on; "
        "updates stay those of whole batches",
        micro_tokens=tokens,
    )


def _coupling(model: "SeqVAE", stage: Stage) -> str | None:
    """What computes over the sentences of a batch together, if anything does."""
    if any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules()):
        return "batch normalisation"
    return next((f"`{one.name}`" for one in stage.objective.strategies if one.couples_sentences), None)


def _too_large(batch: Batch, task: Task, split: Literal["train", "valid"]) -> SeqVAEError:
    """One sentence alone is more than the memory holds: its place in the text."""
    row, store = int(batch.rows[batch.lengths.argmax()]), task.stores[split]
    file = getattr(task.data, split) or task.data.train  # without a file of its own, validation is a part of training
    place = f"{file}:{store.lines[row]}" if file else f"{task.data.corpus}, {split}, row {row}"
    return SeqVAEError(
        "E602",
        f"out of memory by one sentence alone, of {int(batch.lengths.max())} tokens",
        where=place,
        hint="bound the length by `data.max_length` (`seqvae data check` shows the lengths), or take a smaller model",
    )

"""What a device's memory holds: found out before the first update, and acted on without changing an update.

An update adds up the gradients of its micro-batches and divides once, so a batch may be cut anywhere: the update stays
the same, to rounding and for the noise that is drawn. Where a method computes over the sentences of a batch together, a
cut would change what it computes, and the run ends instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch

from seqvae.errors import SeqVAEError, is_out_of_memory
from seqvae.training import state as states
from seqvae.training.stage import Stage
from seqvae.training.task import Task
from seqvae.types import Batch

if TYPE_CHECKING:
    from seqvae.models.vae import SeqVAE
    from seqvae.training.trainer import Trainer

Found = TypeVar("Found")

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
        _release(trainer.model, device)
        largest = max(given, key=lambda batch: batch.tokens.numel())
        _cut_to(trainer, len(largest) // 2 * largest.tokens.shape[1], largest, trainer.stage)
        states.restore_random({"noise": trainer.noise}, random, device)


def try_largest(trainer: "Trainer") -> None:
    """One forward and backward pass of the batch that needs the most memory, for each phase, changing nothing.

    Where it does not fit, `Progress.micro_tokens` is set for the run; errors as those of `within_memory`, alike in all
    processes.
    """
    task, model, device = trainer.task, trainer.model, trainer.task.runtime.device
    random = states.random_tensors({"noise": trainer.noise}, device)
    buffers, refiners = [(buffer, buffer.clone()) for buffer in model.buffers()], model.refiners
    model.train()
    for phase in task.phases:
        stage = Stage(phase, model, trainer.stage.epoch_steps)
        batch = pieces([task.batch(task.largest_rows())], most_tokens(trainer))[-1]
        sentences = len(batch)
        while sentences > 0 and not _fits(model, stage, _part(batch, len(batch) - sentences, len(batch)), task):
            sentences //= 2
        own = states.NEVER if sentences == len(batch) else sentences * batch.tokens.shape[1]
        tokens = min(int(each) for each in trainer.world.gather(torch.tensor([own])))
        if tokens < states.NEVER:
            _cut_to(trainer, tokens, batch, stage)
    model.refiners = refiners
    for buffer, before in buffers:
        buffer.copy_(before)
    states.restore_random({"noise": trainer.noise}, random, device)


def _fits(model: "SeqVAE", stage: Stage, batch: Batch, task: Task) -> bool:
    """Whether the memory holds an update of the batch. Nothing of it is left behind."""
    try:
        _passes(stage, batch, task)
        fits = True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    _release(model, task.runtime.device)
    return fits


def _passes(stage: Stage, batch: Batch, task: Task) -> None:
    spare = [torch.empty_like(p) for p in stage.main_parameters for _ in range(_OPTIMIZER_COPIES)]
    with task.runtime.autocast():
        loss, _ = stage.loss_of(batch, 0, torch.Generator(task.runtime.device))
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
        raise _too_large(batch, trainer.task)
    if (method := _coupling(trainer.model, stage)) is not None:
        batches = f"`data.batch_size={tokens // longest}`"
        batches = batches if trainer.task.data.batch_tokens is None else f"`data.batch_tokens={tokens}`"
        raise SeqVAEError(
            "E603",
            f"out of memory at {len(batch)} sentences of {longest} tokens, which {method} looks at together",
            where=f"phase `{stage.phase.name}`",
            hint=f"set {batches}, or `train.micro_tokens={tokens}` to have it look at smaller pieces",
        )
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


def _too_large(batch: Batch, task: Task) -> SeqVAEError:
    """One sentence alone is more than the memory holds: its place in the text."""
    row, store = int(batch.rows[batch.lengths.argmax()]), task.stores["train"]
    place = f"{task.data.train}:{store.lines[row]}" if task.data.train else f"{task.data.corpus}, train, row {row}"
    return SeqVAEError(
        "E602",
        f"out of memory by one sentence alone, of {int(batch.lengths.max())} tokens",
        where=place,
        hint="bound the length by `data.max_length` (`seqvae data check` shows the lengths), or take a smaller model",
    )

"""How fast this machine trains, evaluates and writes at a config, and how far that is from its best.

Everything is measured with the trainer, the evaluation and the decoding of every other verb, on a model that is thrown
away: nothing is written.
"""

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqvae.config import Config
from seqvae.data.batching import Plan, epoch_plan
from seqvae.data.store import TokenStore
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.machine import Ceiling, ceiling, in_turn, peak_bytes, seconds_of
from seqvae.models.cost import Work, least_seconds, scoring_work, update_work, writing_work
from seqvae.models.cross_entropy import token_nll
from seqvae.models.vae import SeqVAE
from seqvae.training.captured import CapturedGradients, obstacle
from seqvae.training.phases import resolve_phases
from seqvae.training.runtime import Runtime
from seqvae.training.task import Task
from seqvae.training.trainer import Trainer
from seqvae.types import PAD, Batch

Least = Callable[[Mapping[str, Work]], float]
"""The least seconds that the machine could need for some work."""

UPDATES = 16
"""Updates of the epoch that are measured in turn, since the lengths of their sentences differ."""

SCORED = {"cpu": (8, 32), "cuda": (64, 500)}
"""Sentences, and most samples for each, of a measured evaluation."""

WRITTEN, LONGEST = 256, 50
"""Sentences that are sampled at once, and their most tokens: a model that was never trained hardly ends one."""


class Rehearsal(Trainer):
    """The trainer of a run that leaves nothing behind, at the start of its last phase (mostly the longest one)."""

    def __init__(self, config: Config, model: SeqVAE, store: TokenStore, runtime: Runtime):
        phases = resolve_phases(config.objective, config.train)
        task = Task(
            phases=phases,
            train=config.train,
            data=config.data,
            stores={"train": store},
            runtime=runtime,
            checkpoints=Path(),
            observe=lambda event: None,
            log_bytes=lambda: 0,
            save_model=lambda trainer: None,
        )
        super().__init__(model, task)
        self._start_phase(len(phases) - 1)
        self.model.train()

    def train_on(self, group: Plan) -> None:
        """One update on some batches, each given by its rows."""
        self._train_on([self.task.batch(rows) for rows in group])

    def apply(self) -> None:
        """The end of an update once more: its gradients are clipped, checked and applied."""
        finite = self.stage.clip(self.loss, self.config.clip_norm)
        self.stage.apply(self.progress, finite if self.stage.skips else None)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured: a time, the predicted tokens (under every sample) that it was for, and the counted work."""

    seconds: float
    tokens: float
    work: Mapping[str, Work]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``ceiling_share``: the least time that the machine could need for the counted work, over that which passed."""

    tokens_per_s: float
    ceiling_share: float


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of an update by itself, forward and backward; ``share`` is that of the whole update."""

    name: str
    seconds: float
    share: float
    ceiling_share: float | None
    """None for what is not counted."""


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """What `seqvae bench` measures. Tokens are predicted tokens: EOS counted, BOS and padding not."""

    device: str
    precision: str
    threads: int
    load: float | None
    """Programs that wanted a processor at the start."""
    parameters: int
    vocab_size: int
    sentences_per_update: float
    tokens_per_update: float
    padding_share: float
    """Positions of a batch that are padding."""
    update_seconds: float
    training: Rate
    epoch_seconds: float
    """The updates of an epoch, without validation."""
    parts: list[Part]
    scoring: Rate
    """A token counts once under each of ``scoring_samples``."""
    scoring_samples: int
    writing: Rate
    """Ancestral samples."""
    peak_bytes: int | None
    """At its most in training: of the device where that is a GPU, else of the process."""
    ceiling: Ceiling
    trials: dict[str, float]
    """Training tokens a second with one setting changed."""


def measure_speed(config: Config, store: TokenStore, vocab_size: int, *, seconds: float = 10.0) -> SpeedReport:
    """Everything in about ``seconds`` of measuring, more where a single update takes long.

    ``store`` is the training text. Raises what training raises where the settings cannot be trained.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    runtime = Runtime.choose(config.train)
    torch.manual_seed(config.train.seed)
    model = SeqVAE(config.model, vocab_size, store.classes).to(runtime.device)
    rehearsal = Rehearsal(config, model, store, runtime)
    groups = _groups(rehearsal.task.plan(0), config.train.accumulate)
    with runtime.kernels():
        once = seconds_of(lambda: rehearsal.train_on(groups[0]), runtime.device, 0.0)
        groups = groups[: max(1, int(0.1 * seconds / once))]
        training = time_training(rehearsal, groups, seconds=0.3 * seconds)
        peak = peak_bytes(runtime.device)
        parts = time_parts(rehearsal, groups[0][0], seconds=0.15 * seconds)
        trials = _trials(rehearsal, groups, seconds=0.25 * seconds)
    scores_in_bf16 = config.eval.precision == "bf16"
    scoring, samples = _time_scoring(rehearsal, seconds=0.1 * seconds, bf16=scores_in_bf16)
    writing = _time_writing(rehearsal, seconds=0.1 * seconds)
    best = ceiling(runtime.device, 0.1 * seconds)
    sentences, positions = (_mean(groups, count) for count in (len, lambda rows: _positions(store, rows)))
    exact, scored, trained = (
        partial(least_seconds, best=best, device=runtime.device.type, bf16=bf16)
        for bf16 in (False, scores_in_bf16, runtime.bf16)
    )
    training_rate = _rate(training, trained)
    return SpeedReport(
        device=torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else runtime.device.type,
        precision=runtime.precision,
        threads=runtime.threads,
        load=load,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=vocab_size,
        sentences_per_update=sentences,
        tokens_per_update=training.tokens,
        padding_share=1 - training.tokens / positions,
        update_seconds=training.seconds,
        training=training_rate,
        epoch_seconds=store.stats.tokens / training_rate.tokens_per_s,
        parts=_shares(parts, training, trained),
        scoring=_rate(scoring, scored),
        scoring_samples=samples,
        writing=_rate(writing, exact),
        peak_bytes=peak,
        ceiling=best,
        trials=trials,
    )


def time_training(rehearsal: Rehearsal, groups: Sequence[Plan], *, seconds: float) -> Timed:
    """One update, on the average of ``groups``, which are gone through in turn."""
    store, device = rehearsal.task.stores["train"], rehearsal.task.runtime.device

    def all_of_them() -> None:
        for group in groups:
            rehearsal.train_on(group)

    taken = seconds_of(all_of_them, device, seconds)
    sentences, tokens = (_mean(groups, count) for count in (len, lambda rows: _tokens(store, rows)))
    work = update_work(
        rehearsal.model.config,
        rehearsal.model.vocab_size,
        parameters=sum(parameter.numel() for parameter in rehearsal.model.parameters()),
        sentences=sentences,
        tokens=tokens,
        samples=rehearsal.objective.samples,
    )
    return Timed(seconds=taken / len(groups), tokens=tokens, work=work)


def _groups(plan: Plan, accumulate: int) -> list[Plan]:
    """The first updates of an epoch, each as its batches."""
    return [plan[start : start + accumulate] for start in range(0, min(len(plan), UPDATES * accumulate), accumulate)]


def _mean(groups: Sequence[Plan], count: Callable[[np.ndarray], int]) -> float:
    """The mean over updates of what is counted in the rows of each batch."""
    return sum(count(rows) for group in groups for rows in group) / len(groups)


def _tokens(store: TokenStore, rows: np.ndarray) -> int:
    return int(store.lengths[rows].sum()) - len(rows)


def _positions(store: TokenStore, rows: np.ndarray) -> int:
    return len(rows) * (int(store.lengths[rows].max(initial=2)) - 1)


def time_parts(rehearsal: Rehearsal, rows: np.ndarray, *, seconds: float) -> dict[str, float]:
    """Seconds of each part of an update on one batch, and under ``update`` those of the whole."""
    task = rehearsal.task
    batch = task.batch(rows)
    parts = {
        "data": lambda: task.batch(rows),
        **_passes(rehearsal, batch),
        "update": lambda: rehearsal.train_on([rows]),
        "optimizer": rehearsal.apply,
    }
    with task.runtime.autocast():  # `update` leaves the gradients that `optimizer` then needs
        taken = in_turn(parts, task.runtime.device, seconds)
    return {name: statistics.median(times) for name, times in taken.items()}


def _passes(rehearsal: Rehearsal, batch: Batch) -> dict[str, Callable[[], object]]:
    """Forward and backward through the parts of the network, as one update goes through them."""
    model, samples = rehearsal.model, rehearsal.objective.samples
    decoder, tokens = model.decoder, batch.tokens.repeat(samples, 1)
    with torch.no_grad():
        q = model.amortised(batch)
        z = torch.zeros(samples, len(batch), 0, device=model.device) if q is None else q.rsample(samples)
        code = model.decoder_input(z, batch.labels).flatten(0, 1)
        hidden = decoder(tokens[:, :-1], code).flatten(0, 1)
    hidden.requires_grad_()
    weights = [weight for weight in (decoder.output_weight, decoder.output_bias) if weight is not None]

    def encode() -> None:
        _backward(model.amortised(batch).mean, model.encoder.parameters())

    def decode_states() -> None:
        _backward(decoder(tokens[:, :-1], code), decoder.parameters())

    def score() -> None:
        nll = token_nll(hidden, decoder.output_weight, decoder.output_bias, tokens[:, 1:].flatten(), ignored=PAD)
        _backward(nll, [hidden, *weights])

    return ({} if q is None else {"encoder": encode}) | {"decoder": decode_states, "output": score}


def _backward(outputs: Tensor, inputs: Iterable[Tensor]) -> None:
    wanted = [each for each in inputs if each.requires_grad]
    torch.autograd.grad(outputs.sum(), wanted, allow_unused=True)


def _shares(seconds: Mapping[str, float], training: Timed, least: Least) -> list[Part]:
    """The parts of an update, and what is left of it beside them."""
    parts = [(name, taken) for name, taken in seconds.items() if name != "update"]
    apart = sum(taken for _, taken in parts)
    whole = max(apart, seconds["update"])
    parts.append(("rest", whole - apart))
    # The work is counted for an average update and the parts were timed in one: by their tokens alone they differ.
    scale = seconds["update"] / training.seconds
    found = []
    for name, taken in parts:
        work = training.work.get({"optimizer": "update"}.get(name, name))
        share = None if work is None or not taken else scale * least({name: work}) / taken
        found.append(Part(name=name, seconds=taken, share=taken / whole, ceiling_share=share))
    return found


def _rate(timed: Timed, least: Least) -> Rate:
    return Rate(tokens_per_s=timed.tokens / timed.seconds, ceiling_share=least(timed.work) / timed.seconds)


def _trials(rehearsal: Rehearsal, groups: Sequence[Plan], *, seconds: float) -> dict[str, float]:
    """Training tokens a second with another number of threads, with CUDA graphs, and with larger batches."""
    task, found = rehearsal.task, {}
    some = groups[: max(1, UPDATES // 4)]
    data, lengths = task.data, task.stores["train"].lengths
    if task.runtime.device.type == "cpu" and task.runtime.threads > 1:
        try:
            torch.set_num_threads(1)
            found["train.threads=1"] = _pace(rehearsal, some, seconds / 3)
        finally:
            torch.set_num_threads(task.runtime.threads)
    capturable = not rehearsal.gradients.overwritten and obstacle(rehearsal.stage, task.runtime) is None
    if task.runtime.device.type == "cuda" and capturable:
        found["train.cuda_graphs=true"] = _captured_pace(rehearsal, some, seconds / 3)
    size = "batch_size" if data.batch_tokens is None else "batch_tokens"
    for factor in (2, 4):
        bounds = {size: factor * getattr(data, size), "equal_length": data.equal_length}
        plan = epoch_plan(lengths, seed=task.train.seed, epoch=0, **bounds)
        found[f"data.{size}={bounds[size]}"] = _pace(rehearsal, _groups(plan, len(groups[0]))[:4], seconds / 3)
    return found


def _captured_pace(rehearsal: Rehearsal, groups: Sequence[Plan], seconds: float) -> float:
    former = rehearsal.gradients
    rehearsal.gradients = CapturedGradients(rehearsal.stage, rehearsal.task.runtime, rehearsal.noise)
    try:
        return _pace(rehearsal, groups, seconds)
    finally:
        rehearsal.gradients = former


def _pace(rehearsal: Rehearsal, groups: Sequence[Plan], seconds: float) -> float:
    timed = time_training(rehearsal, groups, seconds=seconds)
    return timed.tokens / timed.seconds


def _time_scoring(rehearsal: Rehearsal, *, seconds: float, bf16: bool) -> tuple[Timed, int]:
    """Importance-weighted evaluation of a few sentences of the median length, and its samples for each."""
    model, store, device = rehearsal.model, rehearsal.task.stores["train"], rehearsal.task.runtime.device
    count, samples = SCORED.get(device.type, SCORED["cpu"])
    middle = np.argsort(store.lengths, kind="stable")[len(store) // 2 :][:count]
    some = TokenStore.from_ids([store[row] for row in middle.tolist()])
    if store.labels is not None:
        some = some.with_labels(store.labels[middle], store.classes)
    samples = samples if model.latent_dim else 1
    taken = seconds_of(lambda: elbo_and_iw(model, some, samples=samples, bf16=bf16), device, seconds)
    tokens = some.stats.tokens
    work = scoring_work(model.config, model.vocab_size, sentences=len(some), tokens=tokens, samples=samples)
    return Timed(seconds=taken, tokens=tokens * samples, work=work), samples


def _time_writing(rehearsal: Rehearsal, *, seconds: float) -> Timed:
    """Ancestral samples. The end of a sentence is left to chance, as it is for a trained model."""
    model, device = rehearsal.model, rehearsal.task.runtime.device
    z = torch.zeros(WRITTEN, 0) if model.prior is None else model.prior.sample(WRITTEN).detach()
    labels = None if model.labels is None else torch.zeros(WRITTEN, dtype=torch.long)
    config, generator = DecodeConfig(max_length=LONGEST), torch.Generator()

    def write():
        return decode(model, z, config, generator.manual_seed(0), labels=labels)

    taken = seconds_of(write, device, seconds)
    written = write()
    tokens = sum(map(len, written.tokens)) + written.truncated.count(False)
    work = writing_work(model.config, model.vocab_size, tokens=tokens, steps=max(map(len, written.tokens)))
    return Timed(seconds=taken, tokens=tokens, work=work)

"""The seam for training methods: what a strategy may do, and how several combine into one objective.

A method is one file in this folder with one class derived from :class:`Strategy`. The training loop never names a
method: it calls the hooks below, each a no-op by default.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from seqvae.types import Batch, Posterior, Terms


class StrategyConfig(BaseModel):
    """Base of every method's settings; each adds ``name: Literal[...]`` and its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Dims:
    """Sizes that a strategy may need to build itself. ``epoch_steps``: updates in one epoch of this phase."""

    vocab: int
    latent: int
    hidden: int
    epoch_steps: int

    def steps(self, *, steps: int | None, epochs: float | None) -> int:
        """A length given in updates or in epochs, in updates."""
        return steps if steps is not None else round((epochs or 0.0) * self.epoch_steps)


@runtime_checkable
class Model(Protocol):
    """What strategies see of the model, which is a ``torch.nn.Module``."""

    training: bool

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def eval(self) -> nn.Module: ...

    def amortised(self, batch: Batch) -> Posterior | None: ...

    def terms(self, batch: Batch, samples: int = 1, **given: Any) -> Terms: ...

    def reset(self, part: str) -> None: ...


@runtime_checkable
class Loop(Protocol):
    """What strategies see of the training loop.

    ``loss`` and ``tokens``: those of the last update, in nats and in predicted tokens, summed over its sentences;
    ``finite``: whether it was, on its device: where nobody waits for that, what is not goes by it (`torch.where`).
    ``draw_batch`` leaves the data order untouched; ``update`` makes one more update of some parts of the model.
    ``generator`` is on the CPU and made anew from the run's seed, the update and ``name``: nothing of it needs to be
    saved.

    Where several processes train together, ``batch`` and what ``update`` returns are this one's share, and ``loss``,
    ``tokens`` and the metrics of a validation are those of all: what a strategy decides, it decides by these.
    """

    model: Model
    batch: Batch
    step: int
    loss: Float[Tensor, ""]
    tokens: Float[Tensor, ""]
    finite: Bool[Tensor, ""]

    def generator(self, name: str) -> torch.Generator: ...

    def draw_batch(self, generator: torch.Generator) -> Batch: ...

    def update(self, batch: Batch, parts: frozenset[str]) -> Terms: ...

    def reset(self, part: str) -> None: ...

    def summed(self, values: Tensor) -> Tensor:
        """The sum of the values of all processes that train together."""
        ...


PARTS = frozenset({"encoder", "decoder"})


class Strategy(nn.Module):
    """One method against collapse. Override only the hooks that it needs; ``step`` counts updates in the phase.

    Tensors that a strategy must not lose on resume are its buffers and parameters. Parameters join the main optimizer
    unless ``optimizers`` claims them.
    """

    Config: ClassVar[type[StrategyConfig]]
    conflicts: ClassVar[Mapping[str, str]] = {}
    """Names of strategies that cannot go with this one, each with the reason."""
    monitor: ClassVar[Literal["iw"] | None] = None
    """What picks the best weights under ``monitor: auto``, where -ELBO (rec at KL weight 0) does not suit."""
    measures: ClassVar[frozenset[str]] = frozenset()
    """What ``after_validation`` asks for beside the quick metrics: ``mi``."""

    def __init__(self, config: StrategyConfig):
        super().__init__()
        self.config = config

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def without_kl(self) -> str | None:
        """Why the KL has no weight beside it; None where it has one."""
        return None

    @property
    def weighs_kl(self) -> bool:
        """Whether it weighs or shapes the KL and does nothing else: without a KL to move it has no effect."""
        return _overrides(self, "kl_weight", "shape_kl") and not _overrides(
            self, "noise_scale", "corrupt_encoder", "corrupt_decoder", "refine", "objective", "penalty", "trains"
        )

    @property
    def couples_sentences(self) -> bool:
        """Whether its loss is no sum over sentences: it has statistics over those of a micro-batch."""
        return False

    @property
    def capturable(self) -> bool:
        """Whether its part of a forward and backward pass may be recorded and replayed at later updates (CUDA graphs):
        it depends on ``step`` through `kl_weight` alone, and never waits for what a device has computed."""
        return False

    def build(self, dims: Dims) -> None:
        """Make what depends on the model's sizes or the length of an epoch."""

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimizers of its own; their parameters leave the main one."""
        return {}

    def kl_weight(self, step: int) -> float:
        """Factor on the KL; those of all strategies are multiplied."""
        return 1.0

    def noise_scale(self, step: int) -> float:
        """Factor on the deviation of z from the posterior mean; multiplied."""
        return 1.0

    def corrupt_encoder(self, batch: Batch, step: int, generator: torch.Generator) -> Batch:
        """What the encoder reads in training (lengths may change); chained."""
        return batch

    def corrupt_decoder(self, batch: Batch, step: int, generator: torch.Generator) -> Batch:
        """What the decoder reads in training (same lengths); the targets stay clean; chained."""
        return batch

    def refine(self, q: Posterior, batch: Batch, model: Model) -> Posterior:
        """A better q(z|x), in training and evaluation, with gradients on; chained.

        It goes with the saved model by its settings alone, so it may use nothing that ``build`` made.
        """
        return q

    def shape_kl(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        """The KL as the loss sees it (the loss takes its mean over B); at most one strategy overrides this."""
        return terms.kl

    def objective(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        """A loss per sentence in place of rec + weight * kl; at most one strategy overrides this."""
        raise AssertionError("called only where it is overridden")

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        """Added to the mean loss; summed over strategies. ``terms.rec`` may enter it only with equal weights."""
        return 0.0

    def trains(self, step: int) -> frozenset[str]:
        """Parts that this update trains; the strategies' answers are intersected."""
        return PARTS

    def before_update(self, loop: Loop) -> None: ...

    def after_update(self, loop: Loop, terms: Terms) -> None: ...

    def after_validation(self, loop: Loop, metrics: Mapping[str, float | None]) -> None: ...


class Objective(nn.Module):
    """The training loss of one phase: a model's terms, shaped by the phase's strategies.

    Loss = sum over sentences of [mean over S of rec + weight * shaped kl] + B * penalties. Reported numbers are never
    made from it; they come from the untouched ``Terms``.
    """

    def __init__(self, model: Model, strategies: Iterable[Strategy], samples: int = 1):
        super().__init__()
        self._model = (model,)  # in a tuple: the model's parameters are not the objective's
        self.strategies = nn.ModuleList(strategies)
        self.samples = samples
        self._shaper = self._only("shape_kl")
        self._replacement = self._only("objective")

    def _only(self, hook: str) -> Strategy | None:
        owners = overriders(self.strategies, hook)
        assert len(owners) <= 1, "settings are checked by check_strategies"
        return owners[0] if owners else None

    def kl_weight(self, step: int) -> float:
        return _product(strategy.kl_weight(step) for strategy in self.strategies)

    def noise_scale(self, step: int) -> float:
        return _product(strategy.noise_scale(step) for strategy in self.strategies)

    def trains(self, step: int) -> frozenset[str]:
        return PARTS.intersection(*(strategy.trains(step) for strategy in self.strategies))

    def forward(
        self, batch: Batch, step: int, generator: torch.Generator, kl_weight: Float[Tensor, ""] | None = None
    ) -> tuple[Float[Tensor, ""], Terms]:
        """Loss summed over the sentences of the batch, and the terms that it was made from.

        ``kl_weight`` stands for that of ``step`` where it is given: a tensor on the device, to be written anew.
        """
        terms = self._terms(batch, step, generator)
        if self._replacement is not None:
            loss = self._replacement.objective(terms, step)
        else:
            kl = terms.kl if self._shaper is None else self._shaper.shape_kl(terms, step)
            loss = terms.rec.mean(0) + (self.kl_weight(step) if kl_weight is None else kl_weight) * kl
        penalty = sum(strategy.penalty(terms, batch, step, generator) for strategy in self.strategies)
        return loss.sum() + len(batch) * penalty, terms

    def _terms(self, batch: Batch, step: int, generator: torch.Generator) -> Terms:
        (model,) = self._model
        read, inputs = batch, batch
        for strategy in self.strategies:
            read = strategy.corrupt_encoder(read, step, generator)
            inputs = strategy.corrupt_decoder(inputs, step, generator)
        alike = self._replacement is None  # else it may give each sample a weight of its own
        q = model.amortised(read)
        if q is None:
            return model.terms(batch, inputs=inputs, alike=alike)
        for strategy in self.strategies:
            q = strategy.refine(q, batch, model)
        scale = self.noise_scale(step)
        z = q.rsample(self.samples, generator)
        if scale != 1.0:
            z = q.mean + scale * (z - q.mean)
        return model.terms(batch, q=q, z=z, inputs=inputs, alike=alike)


def overriders(strategies: Iterable[Strategy], hook: str) -> list[Strategy]:
    """The strategies that override a hook."""
    return [strategy for strategy in strategies if _overrides(strategy, hook)]


def _overrides(strategy: Strategy, *hooks: str) -> bool:
    return any(getattr(type(strategy), hook) is not getattr(Strategy, hook) for hook in hooks)


def _product(factors: Iterable[float]) -> float:
    result = 1.0
    for factor in factors:
        result *= factor
    return result

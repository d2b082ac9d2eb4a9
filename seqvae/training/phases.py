"""Phases with every setting filled in, from the ``objective`` and ``train`` sections."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.objectives.registry import ObjectiveConfig, build_strategy
from seqvae.training.settings import Monitor, OptimizerConfig, PhaseConfig, ScheduleConfig, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training with its own methods, optimizer, monitor and budget."""

    name: str
    strategies: tuple[StrategyConfig, ...]
    samples: int
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    epochs: int
    steps: int | None
    patience: int | None
    monitor: Monitor
    reset: tuple[str, ...]

    def total_steps(self, epoch_steps: int) -> int:
        """Updates that the phase may make at most."""
        return min(self.epochs * epoch_steps, self.steps or self.epochs * epoch_steps)

    def build_strategies(self) -> list[Strategy]:
        return [build_strategy(config) for config in self.strategies]


def resolve_phases(objective: ObjectiveConfig, train: TrainConfig) -> Sequence[Phase]:
    """The phases of a run; one made of ``objective`` and ``train`` where none is listed."""
    return [_resolve(phase, objective, train) for phase in train.phases or (PhaseConfig(name="training"),)]


def check_resets(phases: Sequence[Phase], present: Collection[str]) -> None:
    """Raises SeqVAEError (E218) where a phase resets a part that the model does not have."""
    for phase in phases:
        for part in phase.reset:
            if part not in present:
                raise SeqVAEError(
                    "E218",
                    f"there is no {part} to reset: with `model.latent_dim: 0` the model is a language model",
                    where=f"phase `{phase.name}`",
                    hint=f"leave {part} out of `reset`, or set `model.latent_dim` above 0",
                )


def _resolve(phase: PhaseConfig, objective: ObjectiveConfig, train: TrainConfig) -> Phase:
    fallbacks = {"strategies": objective.strategies, "samples": objective.samples}
    fallbacks |= {
        name: getattr(train, name) for name in ("optimizer", "schedule", "epochs", "steps", "patience", "monitor")
    }
    given = {name: getattr(phase, name) for name in fallbacks if getattr(phase, name) is not None}
    return Phase(name=phase.name, reset=phase.reset, **(fallbacks | given))

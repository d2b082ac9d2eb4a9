"""Finds the methods in this folder and joins their settings into one type; there is no list to edit."""

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Annotated, Union

from pydantic import BaseModel, ConfigDict, Field, model_validator

import seqvae.objectives
from seqvae.objectives.base import Strategy, StrategyConfig, overriders


@functools.cache
def strategy_types() -> dict[str, type[Strategy]]:
    """Every method by its name, from a scan of this folder."""
    found: dict[str, type[Strategy]] = {}
    for module in pkgutil.iter_modules(seqvae.objectives.__path__):
        if module.name in ("base", "registry"):
            continue
        members = vars(importlib.import_module(f"seqvae.objectives.{module.name}")).values()
        for cls in members:
            if isinstance(cls, type) and issubclass(cls, Strategy) and cls is not Strategy:
                found[cls.Config.model_fields["name"].default] = cls
    return dict(sorted(found.items()))


AnyStrategyConfig = Annotated[
    Union[tuple(cls.Config for cls in strategy_types().values())],  # noqa: UP007
    Field(discriminator="name"),
]
"""The settings of any one method, told apart by ``name``."""


def build_strategy(config: StrategyConfig) -> Strategy:
    return strategy_types()[config.name](config)


def check_strategies(configs: Sequence[StrategyConfig]) -> None:
    """Refuse strategies that cannot go together, with the reason (ValueError, located by the config reader)."""
    strategies = [build_strategy(config) for config in configs]
    for index, strategy in enumerate(strategies):
        for other in strategies[index + 1 :]:
            if other.name == strategy.name:
                raise ValueError(f"`{strategy.name}` stands twice")
            reason = strategy.conflicts.get(other.name) or other.conflicts.get(strategy.name)
            if reason:
                raise ValueError(f"`{strategy.name}` and `{other.name}` cannot go together: {reason}")
    for hook, what in (("shape_kl", "the KL"), ("objective", "the whole loss")):
        owners = [strategy.name for strategy in overriders(strategies, hook)]
        if len(owners) > 1:
            raise ValueError(f"`{owners[0]}` and `{owners[1]}` both replace {what}; keep one of them")
    for owner in overriders(strategies, "objective"):
        idle = [s for s in overriders(strategies, "kl_weight") + overriders(strategies, "shape_kl") if s is not owner]
        if idle:
            raise ValueError(f"`{owner.name}` replaces the whole loss, so that `{idle[0].name}` would have no effect")


class ObjectiveConfig(BaseModel):
    """Settings of the training objective (section ``objective``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(1, ge=1, description="draws of z for each sentence in training (L)")
    strategies: tuple[AnyStrategyConfig, ...] = Field((), description="methods against posterior collapse, in order")

    @model_validator(mode="after")
    def _compatible(self) -> "ObjectiveConfig":
        check_strategies(self.strategies)
        return self

"""Finds the methods in this folder and joins their settings into one type; there is no list to edit."""

import functools
import importlib
import itertools
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
    for one, other in itertools.combinations(strategies, 2):
        if one.name == other.name:
            raise ValueError(f"`{one.name}` stands twice")
        reason = refusal(one, other)
        if reason is not None:
            raise ValueError(reason)


def refusal(one: Strategy, other: Strategy) -> str | None:
    """Why two different methods cannot go together, in a sentence that names them; None where they can."""
    reason = one.conflicts.get(other.name) or other.conflicts.get(one.name)
    reason = reason or (other.weighs_kl and one.without_kl) or (one.weighs_kl and other.without_kl)
    if reason:
        return f"`{one.name}` and `{other.name}` cannot go together: {reason}"
    for hook, what in (("shape_kl", "the KL"), ("objective", "the whole loss")):
        if len(overriders([one, other], hook)) == 2:
            return f"`{one.name}` and `{other.name}` both replace {what}; keep one of them"
    for owner, idle in ((one, other), (other, one)):
        if overriders([owner], "objective") and (overriders([idle], "kl_weight") or overriders([idle], "shape_kl")):
            return f"`{owner.name}` replaces the whole loss, so that `{idle.name}` would have no effect"
    return None


class ObjectiveConfig(BaseModel):
    """Settings of the training objective (section ``objective``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(1, ge=1, description="draws of z for each sentence in training (L)")
    strategies: tuple[AnyStrategyConfig, ...] = Field((), description="methods against posterior collapse, in order")

    @model_validator(mode="after")
    def _compatible(self) -> "ObjectiveConfig":
        check_strategies(self.strategies)
        return self

"""The rows of the table of methods: the recipes that are shipped, the baselines, and the settings of each.

A row takes from its recipe what makes the method, and from ``benchmarks/configs/collapse-CORPUS.yaml`` everything else.
A new recipe is a new row.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqvae.config import Config, find_config, shipped_configs
from seqvae.objectives.base import StrategyConfig
from seqvae.validation import explicit

Corpus = Literal["tiny", "ptb"]

CONFIGS = Path(__file__).parent / "configs"
SEEDS: Mapping[Corpus, tuple[int, ...]] = {"tiny": (0, 1, 2), "ptb": (0,)}

METHOD = (
    *("data.labels", "model.latent_dim", "model.posterior", "model.prior", "model.conditional"),
    *("model.decoder.z_to_output", "objective.samples", "objective.strategies"),
)
"""The settings that make a method; its phases are another."""

UNCURED = "uncured"
BASELINES = ("language_model", "autoencoder", "noisy_autoencoder", "denoising_autoencoder", UNCURED)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method or baseline: its settings as a recipe has them."""

    name: str
    title: str
    recipe: Config

    @property
    def baseline(self) -> bool:
        return self.name in BASELINES

    def settings(self, updates: int, latent_dim: int) -> dict[str, Any]:
        """What to set in the base config for a training of ``updates`` updates.

        Lengths that the recipe gives in epochs become the same share of the updates.
        """
        plain = explicit(self.recipe)
        found = {path: value for path in METHOD if (value := _at(plain, path)) is not None}
        if found.get("model.latent_dim") != 0:  # only the language model has a size of its own
            found["model.latent_dim"] = latent_dim
        train = self.recipe.train
        length = sum(phase.epochs or train.epochs for phase in train.phases) or train.epochs
        found["objective.strategies"] = _scaled(self.recipe.objective.strategies, updates / length)
        if train.phases:
            ends = _ends([(phase.epochs or train.epochs) / length * updates for phase in train.phases])
            found["train.phases"] = [
                {
                    "name": phase.name,
                    "reset": list(phase.reset),
                    "strategies": _scaled(phase.strategies or (), updates / length),
                    "steps": end - start,
                }
                for phase, start, end in zip(train.phases, [0, *ends], ends, strict=False)
            ]
        return found


def _at(settings: Mapping[str, Any], path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _scaled(strategies: tuple[StrategyConfig, ...], updates_per_epoch: float) -> list[dict[str, Any]]:
    found = []
    for strategy in strategies:
        settings, epochs = explicit(strategy), getattr(strategy, "epochs", None)
        if epochs is not None and settings.get("steps") is None:
            settings.pop("epochs", None)
            settings["steps"] = max(1, round(epochs * updates_per_epoch))
        found.append(settings)
    return found


def _ends(lengths: list[float]) -> list[int]:
    """Where each phase ends, in whole updates that add up."""
    return [max(number + 1, round(sum(lengths[: number + 1]))) for number in range(len(lengths))]


@functools.cache
def rows() -> dict[str, Row]:
    """Every row by its name: the baselines, then the methods."""
    recipes = [Path(name).stem for name in shipped_configs() if name.startswith("recipes/")]
    found = {name: Row(name=name, title=_title(f"recipes/{name}.yaml"), recipe=_read(name)) for name in recipes}
    found["language_model"] = Row(
        name="language_model", title=_title("tiny-lm.yaml"), recipe=Config.from_dict({"model": {"latent_dim": 0}})
    )
    found["noisy_autoencoder"] = Row(
        name="noisy_autoencoder",
        title="The noisy autoencoder, a baseline (Li et al. 2019)",
        recipe=Config.from_dict({"objective": {"strategies": [{"name": "beta", "beta": 0.0}]}}),
    )
    order = [*BASELINES, *sorted(found.keys() - set(BASELINES))]
    return {name: found[name] for name in order}


def _read(recipe: str) -> Config:
    return Config.from_yaml(f"recipes/{recipe}.yaml")


def _title(config: str) -> str:
    """What the first line of a config says of the method: up to its last source, or to its colon."""
    first = find_config(config).read_text(encoding="utf-8").splitlines()[0]
    said = first.removeprefix("#").strip().split(": ")[0]
    return said[: said.rfind(")") + 1] or said


@functools.cache
def base(corpus: Corpus) -> Config:
    return Config.from_yaml(CONFIGS / f"collapse-{corpus}.yaml")


def applies(row: Row, corpus: Corpus) -> bool:
    """Whether the corpus has what the row needs: labels, for a conditional model."""
    return row.recipe.model.conditional is None or corpus == "tiny"


def config_of(row: Row, corpus: Corpus, seed: int, updates: int | None = None) -> Config:
    """The whole config of one training; ``updates`` in place of those of the base."""
    shared = base(corpus)
    count = updates or shared.train.steps
    every = min(count, shared.train.validate_every)
    settings = row.settings(count, shared.model.latent_dim)
    fixed = {"train.steps": count, "train.validate_every": every, "train.seed": seed}
    return shared.replace(**settings, **fixed)

"""The tables beside published numbers: one YAML each, with the rows, their settings and the figures to match."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.collapse_measure import Split
from seqvae.config import Config

FOLDER = Path(__file__).parent


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Model):
    """One model: how it is trained, and what was published of it."""

    title: str
    config: str | None = Field(None, description="a shipped config in place of the base of the table")
    settings: dict[str, Any] = Field({}, description="changes to it, by dotted name")
    published: dict[str, float] = Field({}, description="figures to match, by their names in eval.json")
    bar_ppl: float | None = Field(None, description="how far PPL (IW) may lie above the published one")
    note: str | None = None
    seeds: tuple[int, ...] = (0,)


class Table(_Model):
    """Rows on one corpus."""

    title: str
    about: str
    base: dict[str, Any]
    rows: dict[str, Row]
    split: Split = Field("test", description="what is measured: a choice is made on valid")
    figure: bool = Field(False, description="whether rate and distortion of the rows are drawn")

    def config_of(
        self,
        name: str,
        seed: int,
        *,
        updates: int | None = None,
        iw_samples: int | None = None,
        iw_precision: str | None = None,
    ) -> Config:
        """The whole config of one training; ``updates`` of each phase, and samples and precision of the bounds, where
        they are given."""
        row = self.rows[name]
        config = Config.from_dict(self.base) if row.config is None else Config.from_yaml(row.config)
        changed = {"eval.iw_samples": self.base["eval"]["iw_samples"], **row.settings, "train.seed": seed}
        if updates is not None:
            changed |= {"train.steps": updates, "train.validate_every": updates}
        if iw_samples is not None:
            changed["eval.iw_samples"] = iw_samples
        if iw_precision is not None:
            changed["eval.precision"] = iw_precision
        return config.replace(**changed)


def tables() -> Sequence[str]:
    """The names of all tables."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_table(name: str) -> Table:
    """A table; one that is ``like`` another has its base and its rows, on the corpus that it is named after."""
    found = _read(name)
    if (other := found.pop("like", None)) is not None:
        shared = _read(other)
        base = shared["base"] | {"data": shared["base"]["data"] | {"corpus": name}}
        found |= {"base": base, "rows": shared["rows"]}
    return Table.model_validate(found)


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))

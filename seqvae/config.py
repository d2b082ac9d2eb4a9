"""The settings of a whole run: the components' own settings, composed, read from YAML and ``--set``."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from seqvae.data.corpora import DataConfig
from seqvae.data.tokenizers import TokenizerConfig, WordTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.evaluation.report import EvalConfig
from seqvae.io.disk import expanded
from seqvae.models.vae import ModelConfig
from seqvae.objectives.registry import ObjectiveConfig
from seqvae.shipped import shipped, shipped_configs
from seqvae.training.settings import TrainConfig
from seqvae.validation import explicit, plain, validate
from seqvae.yaml_source import Document, dump_value, dump_yaml, read_yaml


class Config(BaseModel):
    """Everything that a run depends on, in six sections, each owned by its component.

    >>> config = Config.from_dict({"train": {"steps": 2}}, overrides=["model.latent_dim=8"])
    >>> config.train.steps, config.model.latent_dim
    (2, 8)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataConfig = Field(DataConfig(), description="the text and its batches")
    tokenizer: TokenizerConfig = Field(WordTokenizerConfig(), description="how text becomes tokens")
    model: ModelConfig = Field(ModelConfig(), description="the network")
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="the loss and the methods against collapse")
    train: TrainConfig = Field(TrainConfig(), description="the training loop")
    eval: EvalConfig = Field(EvalConfig(), description="the evaluation")

    @model_validator(mode="after")
    def _batches_have_a_variance(self) -> "Config":
        normalised = self.model.latent_dim > 0 and self.model.posterior.family == "batchnorm"
        if normalised and self.data.batch_tokens is None and self.data.batch_size == 1:
            raise ValueError("posterior.family batchnorm needs data.batch_size 2 or more: one sentence has no variance")
        return self

    @classmethod
    def from_yaml(cls, name: str | Path, overrides: Sequence[str] = ()) -> "Config":
        """Reads a file, or a shipped config by its name, and applies ``overrides`` such as ``"train.steps=2"``.

        Raises SeqVAEError: E202 not found, E203 not strict YAML, E204 unknown setting, E205 wrong value, E206 an
        override that cannot be read.
        """
        path = find_config(name)
        return validate(cls, read_yaml(path), str(path), overrides)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], overrides: Sequence[str] = ()) -> "Config":
        """The same from plain data, such as parsed JSON."""
        return validate(cls, Document(dict(data)), "config", overrides)

    def replace(self, *overrides: str, **values: Any) -> "Config":
        """A changed copy: ``config.replace("train.steps=2")`` or ``config.replace(**{"train.steps": 2})``."""
        arguments = [f"{dotted}={dump_value(plain(value))}" for dotted, value in values.items()]
        return self.from_dict(explicit(self), [*overrides, *arguments])

    def to_yaml(self) -> str:
        """Every setting with its value, in YAML that :meth:`from_yaml` reads back to an equal config."""
        return dump_yaml(self.model_dump(mode="json"))


def shipped_config(name: str) -> Path:
    """The file of a config of `shipped_configs`, whatever lies in the working directory under that name."""
    return shipped("configs") / name


def find_config(name: str | Path) -> Path:
    """The file that ``--config name`` means: a path, a folder with ``config.yaml`` in it, or a shipped config.

    For a shipped config, ``.yaml`` and ``recipes/`` may be left out. Raises SeqVAEError E202 with where it looked.
    """
    given = expanded(name)
    named = given if given.suffix in (".yaml", ".yml") else given.parent / f"{given.name}.yaml"
    folder = shipped("configs")
    candidates = [given, given / "config.yaml", named, folder / named, folder / "recipes" / named]
    for path in candidates:
        if path.is_file():
            return path
    names = shipped_configs()
    stems = {Path(each).stem: Path(each).name for each in names}
    stems |= {each.stem: str(each) for each in given.parent.glob("*.y*ml")}
    near = [stems[stem] for stem in difflib.get_close_matches(named.stem, stems, n=1)]
    looked = f"looked in {Path.cwd()} and {folder}; shipped: {', '.join(names) or 'none'}"
    hint = f"did you mean `{near[0]}`? {looked}" if near else looked
    raise SeqVAEError("E202", f"there is no config `{name}`", where=str(given), hint=hint)

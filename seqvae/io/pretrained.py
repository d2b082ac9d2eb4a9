"""The model folder: what is shared, and loads with no flags and without running code from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

import seqvae
from seqvae.data.tokenizers import load_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.io import card, storage
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.registry import AnyStrategyConfig, build_strategy
from seqvae.textvae import TextVAE

WEIGHTS, CONFIG, TOKENIZER, EVALUATION = "model.safetensors", "config.json", "tokenizer", "eval.json"
RUN_CONFIG = "config.yaml"


class Description(BaseModel):
    """What ``config.json`` of a model folder says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = storage.SCHEMA_VERSION
    seqvae_version: str
    vocab_size: int
    noiseless: bool
    """Trained as a plain autoencoder."""
    model: ModelConfig
    labels: tuple[str, ...] | None = None
    """Names of the labels of a conditional model, in the order of their numbers."""
    refiners: tuple[AnyStrategyConfig, ...] = ()
    """Training methods that improve q(z|x) in use too."""


def save(folder: Path, vae: TextVAE, *, facts: dict[str, Any]) -> None:
    """Write a model folder atomically; ``facts`` (name: value) go into its card. Equal weights give equal bytes."""
    with storage.atomic_folder(folder) as temporary:
        storage.save_tensors(temporary / WEIGHTS, vae.model.state_dict())
        description = Description(
            seqvae_version=seqvae.__version__,
            vocab_size=vae.model.vocab_size,
            noiseless=vae.noiseless,
            model=vae.model.config,
            labels=vae.model.labels,
            refiners=tuple(refiner.config for refiner in vae.model.refiners),
        )
        storage.write_json(temporary / CONFIG, description.model_dump(mode="json"))
        vae.tokenizer.save(temporary / TOKENIZER)
        (temporary / "README.md").write_text(card.model_card(vae, facts), encoding="utf-8")


def keep_evaluation(
    folder: Path,
    split: str,
    report: dict[str, Any],
    *,
    weights_sha256: str | None,
    by_sentence: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Add the numbers of one split to ``eval.json`` of a model folder, which stays whole throughout.

    ``by_sentence`` (nats of each sentence) go into ``eval-SPLIT.safetensors`` beside it. Raises E406 where the folder
    holds other weights by now than those that were measured, ``weights_sha256``: a run that goes on saves its best
    model anew.
    """
    present = storage.read_json(folder / EVALUATION) if (folder / EVALUATION).exists() else {}
    with storage.atomic_folder(folder, amend=True) as temporary:
        storage.write_json(temporary / EVALUATION, present | {split: report})
        tensors = {name: torch.from_numpy(values) for name, values in (by_sentence or {}).items()}
        storage.save_tensors(temporary / sentences_file(split), tensors)
        if storage.recorded_sha256(folder, WEIGHTS) != weights_sha256:
            what = "the model has been saved anew since it was measured"
            raise SeqVAEError("E406", what, where=str(folder), hint="measure again once the run has ended")


def kept_evaluation(path: str | Path, split: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `keep_evaluation` wrote: the numbers of a split, and the nats of each sentence by name.

    Raises E294 where this split of the model in ``path`` has not been measured.
    """
    folder = model_folder(Path(path))
    present = storage.read_json(folder / EVALUATION) if (folder / EVALUATION).exists() else {}
    if not isinstance(present, dict) or split not in present:
        hint = f"measure it: `seqvae eval --model {path} --split {split}`"
        raise SeqVAEError("E294", f"the {split} split has not been measured", where=str(folder), hint=hint)
    file = folder / sentences_file(split)
    tensors = storage.load_tensors(file) if file.is_file() else {}
    return present[split], {name: tensor.numpy() for name, tensor in tensors.items()}


def sentences_file(split: str) -> str:
    """The file of a model folder with the nats of each sentence of a split."""
    return f"eval-{split}.safetensors"


def load(path: str | Path, *, device: str | torch.device = "cpu") -> TextVAE:
    """Load a model from a run folder or from the model folder in it.

    Errors (SeqVAEError): E404 where there is no model, E401-E403 where the folder is damaged, incomplete or newer,
    E405 where the weights are those of another model.
    """
    folder = model_folder(Path(path))
    storage.verify(folder)
    # Taken before the weights are read: a run that saves anew in between makes it too old, never too new.
    weights_sha256 = storage.recorded_sha256(folder, WEIGHTS)
    description = _describe(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    weights = storage.load_tensors(folder / WEIGHTS)
    if tokenizer.vocab_size != description.vocab_size:
        raise _unfit(folder, "vocabulary size")
    with torch.device("meta"):  # shapes only: a description that lies about its sizes takes no memory
        expected = {name: tensor.shape for name, tensor in _build(folder, description).state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise _unfit(folder, ", ".join(wrong[:3]))
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn; a caller's random numbers stay his own
        model = _build(folder, description)
    model.refiners = tuple(build_strategy(config) for config in description.refiners)
    model.load_state_dict(weights)
    vae = TextVAE(model, tokenizer, noiseless=description.noiseless)
    vae.weights_sha256 = weights_sha256
    return vae.to(device)


def _build(folder: Path, description: Description) -> SeqVAE:
    try:
        return SeqVAE(description.model, description.vocab_size, description.labels)
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says to sizes that cannot be
        raise _unfit(folder, f"its sizes cannot be: {error}") from None


def _unfit(folder: Path, what: str) -> SeqVAEError:
    return SeqVAEError(
        "E405",
        f"the weights do not fit the model that {CONFIG} describes ({what})",
        where=str(folder),
        hint="the folder mixes files of different models; copy it again",
    )


def model_folder(path: Path) -> Path:
    """The model folder that ``path`` names: itself, or ``model/`` of a run."""
    if (path / CONFIG).is_file() or (path / WEIGHTS).is_file():
        return path
    if (path / "model").is_dir():
        return path / "model"
    if (path / RUN_CONFIG).is_file():
        hint = f"it is saved at the first validation; continue with `seqvae train --resume {path}`"
        raise SeqVAEError("E404", "this run has no model yet", where=str(path), hint=hint)
    what = "there is no model here" if path.exists() else "there is no such folder"
    raise SeqVAEError("E404", what, where=str(path), hint="give a run folder (or its `model/`) with `--model`")


def _describe(folder: Path) -> Description:
    raw = storage.read_json(folder / CONFIG)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > storage.SCHEMA_VERSION:
        raise SeqVAEError(
            "E403",
            f"the model was saved by a newer seqvae ({raw.get('seqvae_version')}); this is {seqvae.__version__}",
            where=str(folder / CONFIG),
            hint="upgrade: `pip install -U seqvae`",
        )
    try:
        return Description.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{CONFIG} is not a model description: {place}: {first['msg']}"
        raise SeqVAEError("E401", what, where=str(folder), hint="the file was changed; copy the folder again") from None

"""The model folder: what is shared, and loads with no flags and without running code from it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

import seqvae
from seqvae.data.tokenizers import load_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.io import card, disk, hub, manifests, storage
from seqvae.io.tensors import load_tensors, save_tensors, tensor_shapes
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.base import Strategy, overriders
from seqvae.objectives.registry import AnyStrategyConfig, build_strategy
from seqvae.textvae import TextVAE

WEIGHTS, CONFIG, TOKENIZER, EVALUATION = "model.safetensors", "config.json", "tokenizer", "eval.json"
RUN_CONFIG = "config.yaml"

_REAL = {"F16", "BF16", "F32", "F64"}
"""Kinds of numbers that weights may be saved in; they are used in that of the model."""


class Description(BaseModel):
    """What ``config.json`` of a model folder says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = manifests.SCHEMA_VERSION
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
        save_tensors(temporary / WEIGHTS, vae.model.state_dict())
        description = Description(
            seqvae_version=seqvae.__version__,
            vocab_size=vae.model.vocab_size,
            noiseless=vae.noiseless,
            model=vae.model.config,
            labels=vae.model.labels,
            refiners=tuple(refiner.config for refiner in vae.model.refiners),
        )
        disk.write_json(temporary / CONFIG, description.model_dump(mode="json"))
        vae.tokenizer.save(temporary / TOKENIZER)
        (temporary / card.FILE).write_text(card.model_card(vae, facts), encoding="utf-8")


def keep_evaluation(
    folder: Path,
    split: str,
    report: dict[str, Any],
    *,
    weights_sha256: str | None,
    by_sentence: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Add the numbers of one split to ``eval.json`` of a model folder, which stays whole throughout.

    Several processes may do so at once, and a run may save its model: nothing of theirs is lost.

    ``by_sentence`` (nats of each sentence) go into ``eval-SPLIT.safetensors`` beside it. Raises E406 where the folder
    holds other weights by now than those that were measured, ``weights_sha256``: a run that goes on saves its best
    model anew.
    """
    folder = folder.resolve()  # of a link the folder is replaced, and not the link
    tensors = {name: torch.from_numpy(values) for name, values in (by_sentence or {}).items()}
    for _ in storage.tries(folder):
        with suppress(storage.ChangedMeanwhile):
            with storage.atomic_folder(folder, amend=True) as temporary:
                if manifests.recorded_sha256(temporary, WEIGHTS) != weights_sha256:
                    what = "the model has been saved anew since it was measured"
                    raise SeqVAEError("E406", what, where=str(folder), hint="measure again once the run has ended")
                disk.write_json(temporary / EVALUATION, _evaluations(temporary) | {split: report})
                save_tensors(temporary / sentences_file(split), tensors)
            return


def kept_evaluation(path: str | Path, split: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `keep_evaluation` wrote: the numbers of a split, and the nats of each sentence by name.

    Raises E294 where this split of the model in ``path`` has not been measured, E401 where the file is damaged.
    """
    folder = model_folder(Path(path))
    present = _evaluations(folder)
    if split not in present:
        chosen = "" if split == "test" else f" --split {split}"  # of a run without a test text `eval` finds another
        hint = f"measure it: `seqvae eval --model {path}{chosen}`"
        raise SeqVAEError("E294", f"the {split} split has not been measured", where=str(folder), hint=hint)
    file = folder / sentences_file(split)
    tensors = load_tensors(file) if file.is_file() else {}
    if any(tensor.dim() != 1 or not tensor.is_floating_point() for tensor in tensors.values()):
        raise _damaged(folder, f"{file.name} holds something other than a number for each sentence")
    return present[split], {name: tensor.double().numpy() for name, tensor in tensors.items()}


def evaluated_splits(folder: Path) -> list[str]:
    """The splits that `keep_evaluation` wrote down."""
    return sorted(_evaluations(folder))


def _evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """The numbers of each split that was measured."""
    present = disk.read_json(folder / EVALUATION) if (folder / EVALUATION).exists() else {}
    if not isinstance(present, dict) or not all(isinstance(report, dict) for report in present.values()):
        raise _damaged(folder, f"{EVALUATION} does not hold the numbers of each split")
    return present


def sentences_file(split: str) -> str:
    """The file of a model folder with the nats of each sentence of a split."""
    return f"eval-{split}.safetensors"


def load(path: str | Path, *, device: str | torch.device = "cpu", revision: str | None = None) -> TextVAE:
    """Load a model from a run folder, from the model folder in it, or from the Hub by ``user/name``.

    ``revision``: branch, tag or commit of a model of the Hub; ``vae.origin`` tells the commit that it was.

    Errors (SeqVAEError): E404 where there is no model, E401-E403 where the folder is damaged, incomplete or newer,
    E405 where the weights are those of another model, E432-E440 where the Hub does not give it.
    """
    folder = model_folder(Path(path), revision=revision)
    manifests.verify(folder, editable=[card.FILE])
    # Taken before the weights are read: a run that saves anew in between makes it too old, never too new.
    weights_sha256 = manifests.recorded_sha256(folder, WEIGHTS)
    description = describe(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    check_weights(folder, description, tokenizer.vocab_size)
    weights = load_tensors(folder / WEIGHTS)
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn; a caller's random numbers stay his own
        model = _build(folder, description)
    model.refiners = _refiners(folder, description)
    model.load_state_dict(weights)
    vae = TextVAE(model, tokenizer, noiseless=description.noiseless)
    vae.weights_sha256, vae.origin = weights_sha256, hub.origin(folder)
    return vae.to(device)


def check_weights(folder: Path, description: Description, vocab_size: int) -> None:
    """Raises E405 unless tokenizer, description and the header of the weights are those of one model.

    Nothing of the size that any of them claims is held in memory: what is read afterwards is no larger than the file.
    """
    if vocab_size != description.vocab_size:
        raise _unfit(folder, "vocabulary size")
    with torch.device("meta"):  # shapes only
        expected = _build(folder, description).state_dict()
    found = tensor_shapes(folder / WEIGHTS)
    wrong = sorted(name for name in expected.keys() | found.keys() if not _fits(expected.get(name), found.get(name)))
    if wrong:
        raise _unfit(folder, ", ".join(wrong[:3]))


def _fits(expected: torch.Tensor | None, found: tuple[str, tuple[int, ...]] | None) -> bool:
    if expected is None or found is None:
        return False
    kind, shape = found
    return shape == tuple(expected.shape) and (kind in _REAL) == expected.is_floating_point()


def _build(folder: Path, description: Description) -> SeqVAE:
    try:
        return SeqVAE(description.model, description.vocab_size, description.labels)
    except SeqVAEError as error:  # a mistake of the user's in training; here the file's
        raise _damaged(folder, f"{CONFIG} is not a model description: {error.what}") from None
    except (RuntimeError, OverflowError, TypeError) as error:  # what torch says to sizes that cannot be
        raise _unfit(folder, f"its sizes cannot be: {error}") from None


def _refiners(folder: Path, description: Description) -> tuple[Strategy, ...]:
    refiners = tuple(build_strategy(config) for config in description.refiners)
    idle = sorted({refiner.name for refiner in refiners} - {one.name for one in overriders(refiners, "refine")})
    if idle or len({refiner.name for refiner in refiners}) < len(refiners):
        what = f"`{idle[0]}` does nothing in a trained model" if idle else "a method stands twice"
        raise _damaged(folder, f"{CONFIG} is not a model description: refiners: {what}")
    return refiners


def _unfit(folder: Path, what: str) -> SeqVAEError:
    return SeqVAEError(
        "E405",
        f"the weights do not fit the model that {CONFIG} describes ({what})",
        where=str(folder),
        hint="the folder mixes files of different models; copy it again",
    )


def model_folder(path: Path, *, revision: str | None = None) -> Path:
    """The model folder that ``path`` names: itself, ``model/`` of a run, or that of a model of the Hub, fetched."""
    if hub.is_reference(path):
        return hub.fetch(hub.reference(path.as_posix(), revision))
    if revision is not None:
        what = f"{path} is a folder, and only a model of the Hub has revisions"
        raise SeqVAEError("E432", what, hint="leave the revision out; `hub:user/name` is never a folder")
    if (path / CONFIG).is_file() or (path / WEIGHTS).is_file():
        return path
    if (path / "model").is_dir():
        return path / "model"
    if (path / RUN_CONFIG).is_file():
        hint = f"it is saved at the first validation; continue with `seqvae train --resume {path}`"
        raise SeqVAEError("E404", "this run has no model yet", where=str(path), hint=hint)
    what = "there is no model here" if path.exists() else "there is no such folder"
    raise SeqVAEError("E404", what, where=str(path), hint="give a run folder (or its `model/`) with `--model`")


def describe(folder: Path) -> Description:
    """What ``config.json`` of a model folder says. Raises E402, E401, E403 where it is missing, damaged or newer."""
    raw = disk.read_json(folder / CONFIG)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > manifests.SCHEMA_VERSION:
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
        raise _damaged(folder, f"{CONFIG} is not a model description: {place}: {first['msg']}") from None


def _damaged(folder: Path, what: str) -> SeqVAEError:
    return SeqVAEError("E401", what, where=str(folder), hint="the file was changed; copy the folder again")

"""What `seqvae validate` looks at in the folder of a model or a run: step by step, nothing changed, nothing run."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from seqvae.config import Config
from seqvae.data.tokenizers import Tokenizer, load_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.health import Finding
from seqvae.io import card, manifests, pretrained
from seqvae.io.tensors import load_tensors
from seqvae.textvae import TextVAE
from seqvae.training import lock
from seqvae.training import state as states
from seqvae.training.layout import CHECKPOINTS, CONFIG, MODEL, PROVENANCE
from seqvae.types import SPECIALS

_WORDS = 5
"""Tokens of the sentence that goes through the model and back."""


def inspect_folder(path: Path) -> Iterator[Finding]:
    """All steps in turn, each as soon as it is done. A step that needs what failed before it is left out.

    Raises E404 where there is neither a model nor a run.
    """
    above = path.resolve().parent
    run = path if _is_run(path) else above if path.is_dir() and path.name == MODEL and _is_run(above) else None
    try:
        folder = pretrained.model_folder(path)
    except SeqVAEError as error:
        if run is None:
            raise
        yield Finding(name="model", status="warning", found=error.what, next=error.hint)
    else:
        yield from _model(folder)
    if run is not None:
        yield settings(run)
        yield checkpoints(run)


def _is_run(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / PROVENANCE).is_file()


def _model(folder: Path) -> Iterator[Finding]:
    files = whole_files(folder)
    yield files
    if files.status == "failed":
        return
    try:
        description = pretrained.describe(folder)
    except SeqVAEError as error:
        yield _failed("description", error)
        return
    model = description.model
    kind = "language model" if model.latent_dim == 0 else f"VAE · z {model.latent_dim} · {model.posterior.family}"
    found = f"{model.cells} {kind} · vocabulary {description.vocab_size:,} · seqvae {description.seqvae_version}"
    yield Finding(name="description", found=found)
    try:
        tokenizer = load_tokenizer(folder / pretrained.TOKENIZER)
    except SeqVAEError as error:
        yield _failed("tokenizer", error)
        return
    yield tokens(tokenizer)
    weights = tensors(folder, description, tokenizer)
    yield weights
    if weights.status != "failed":
        yield round_trip(pretrained.load(folder))
    yield evaluations(folder)


def whole_files(folder: Path) -> Finding:
    """The manifest, and every file by its size and sha256."""
    try:
        wrong = list(manifests.faults(folder, editable=[card.FILE]))
    except SeqVAEError as error:
        return _failed("files", error)
    if wrong:
        found = "; ".join(fault.what for fault in wrong)
        return Finding(name="files", status="failed", found=found, next=wrong[0].hint)
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return Finding(name="files", found=f"{len(sizes)} files, {sum(sizes):,} bytes, as the manifest says")


def tokens(tokenizer: Tokenizer) -> Finding:
    """Whether the tokenizer reads back what it writes."""
    sentence = _sentence(tokenizer)
    found = f"{tokenizer.name}, {tokenizer.vocab_size:,} {tokenizer.unit}s"
    again = tokenizer.decode(tokenizer.encode(sentence))
    if again != sentence:
        hint = "its own tokens do not come back: it was made for another text form, or the file was changed by hand"
        found += f"; {sentence!r} comes back as {again!r}"
        return Finding(name="tokenizer", status="warning", found=found, next=hint)
    return Finding(name="tokenizer", found=found)


def _sentence(tokenizer: Tokenizer) -> str:
    """A sentence of the first tokens that text can have."""
    first = range(len(SPECIALS), tokenizer.vocab_size)
    shown = [number for number in first if "\N{REPLACEMENT CHARACTER}" not in tokenizer.decode([number])]
    return tokenizer.decode(shown[:_WORDS])


def tensors(folder: Path, description: pretrained.Description, tokenizer: Tokenizer) -> Finding:
    """Names, shapes and kinds of the weights, and whether each number is finite."""
    try:
        pretrained.check_weights(folder, description, tokenizer.vocab_size)
        weights = load_tensors(folder / pretrained.WEIGHTS)
    except SeqVAEError as error:
        return _failed("tensors", error)
    wrong = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if wrong:
        hint = "the model diverged: take another checkpoint, or train again with a lower `train.optimizer.lr`"
        found = f"NaN or infinity in {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}"
        return Finding(name="tensors", status="failed", found=found, next=hint)
    numbers = sum(tensor.numel() for tensor in weights.values())
    return Finding(name="tensors", found=f"{len(weights)} tensors, {numbers:,} numbers, all finite")


def round_trip(vae: TextVAE) -> Finding:
    """One sentence through the model and back."""
    sentence, label = _sentence(vae.tokenizer), None if vae.labels is None else vae.labels[0]
    hint = "the files are whole, so the fault lies in the model or in seqvae: please report it"
    try:
        nats = float(vae.score([sentence], label=label).nats[0])
        code = None if vae.latent_dim == 0 else vae.encode([sentence], label=label).mean
        written = vae.sample(1, label=label) if code is None else vae.decode(code, label=label)
    except SeqVAEError as error:
        return Finding(name="round trip", status="failed", found=error.what, next=error.hint or hint)
    if not np.isfinite(nats):
        return Finding(name="round trip", status="failed", found=f"the score of {sentence!r} is {nats}", next=hint)
    if code is None:
        return Finding(name="round trip", found=f"{sentence!r} costs {nats:.1f} nats; it writes {written[0]!r}")
    return Finding(name="round trip", found=f"{sentence!r} costs {nats:.1f} nats and comes back as {written[0]!r}")


def evaluations(folder: Path) -> Finding:
    """The numbers that `seqvae eval` kept beside the weights."""
    try:
        splits = pretrained.evaluated_splits(folder)
        for split in splits:
            pretrained.kept_evaluation(folder, split)
    except SeqVAEError as error:
        return _failed("evaluation", error)
    if not splits:
        return Finding(name="evaluation", found=f"none kept; `seqvae eval --model {folder}` makes one")
    return Finding(name="evaluation", found=f"of {', '.join(splits)}")


def settings(run: Path) -> Finding:
    """The config that the run would go on with."""
    try:
        Config.from_yaml(run / CONFIG)
    except SeqVAEError as error:
        return _failed("settings", error)
    return Finding(name="settings", found=f"{CONFIG} is a config of this version")


def checkpoints(run: Path) -> Finding:
    """Every checkpoint, and where the run would go on."""
    if lock.is_held(run):
        hint = "look again when it has ended, or between two saves"
        return Finding(name="checkpoints", status="warning", found="the run is being trained now", next=hint)
    places = sorted((run / CHECKPOINTS).glob("step-*"))
    usable, wrong = [], []
    for place in places:
        try:
            usable.append((place.name, states.Checkpoint.load(place)))
        except SeqVAEError as error:
            wrong.append(f"{place.name}: {error.what}")
    if not places:
        return Finding(name="checkpoints", found=f"none; `seqvae train --resume {run}` begins anew")
    if not usable:
        hint = f"`seqvae train --resume {run}` begins anew; the model in {run / MODEL} is apart from them"
        return Finding(name="checkpoints", status="failed", found="none is whole: " + "; ".join(wrong), next=hint)
    name, newest = usable[-1]
    found = f"{len(usable)} of {len(places)} whole; the newest is {name}, {_standing(newest)}"
    if wrong:
        hint = f"`seqvae train --resume {run}` goes on from {name}, and sets aside what is newer"
        return Finding(name="checkpoints", status="warning", found=f"{found}; {'; '.join(wrong)}", next=hint)
    return Finding(name="checkpoints", found=found)


def _standing(checkpoint: states.Checkpoint) -> str:
    return "the end of the run" if checkpoint.progress.finished else f"update {checkpoint.progress.step:,}"


def _failed(name: str, error: SeqVAEError) -> Finding:
    return Finding(name=name, status="failed", found=error.what, next=error.hint)

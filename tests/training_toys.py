"""A corpus, a config and a trainer so small that a run takes a tenth of a second."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae.config import Config
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import WordTokenizer
from seqvae.models.vae import SeqVAE
from seqvae.training.distributed import World
from seqvae.training.phases import Phase, resolve_phases
from seqvae.training.runtime import Runtime
from seqvae.training.state import Checkpoint, newest_intact
from seqvae.training.task import Task
from seqvae.training.trainer import Trainer

WORDS = WordTokenizer([f"w{i}" for i in range(9)])

MODEL = {
    "latent_dim": 3,
    "encoder": {"embedding": 5, "hidden": 6},
    "decoder": {"embedding": 7, "hidden": 8, "dropout_in": 0.1, "dropout_out": 0.1},
}
TRAIN = {"device": "cpu", "precision": "fp32", "threads": 1, "log_every": 1, "optimizer": {"name": "adamw", "lr": 0.01}}
NO_DROPOUT = {"decoder.dropout_in": 0.0, "decoder.dropout_out": 0.0}


def sentences(count: int, seed: int = 0) -> list[str]:
    """Up to seven words each; the first word decides the rest but for one, so that there is something to learn."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        first, length = int(random.integers(9)), int(random.integers(1, 8))
        words = [WORDS.words[(first + i) % 9] for i in range(length)]
        words[int(random.integers(length))] = WORDS.words[int(random.integers(9))]
        found.append(" ".join(words))
    return found


def store_of(count: int, seed: int = 0) -> TokenStore:
    return TokenStore.from_texts(sentences(count, seed), WORDS)


def settings(**sections: dict[str, Any]) -> dict[str, Any]:
    """The toy's settings, changed by section; ``model={"decoder.layers": 2}`` reaches into a section."""
    base = {"model": MODEL, "train": TRAIN, "data": {"batch_size": 5}, "objective": {}}
    return {name: _merged(base.get(name, {}), sections.get(name, {})) for name in base.keys() | sections.keys()}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in base.items()}
    for dotted, value in changes.items():
        *outer, last = dotted.split(".")
        place = result
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    return result


def write_corpus(folder: Path, train: int = 37, valid: int = 13) -> dict[str, str]:
    """Text files, as the ``data`` section names them."""
    paths = {}
    for seed, (split, count) in enumerate({"train": train, "valid": valid}.items()):
        paths[split] = str(folder / f"{split}.txt")
        Path(paths[split]).write_text("".join(f"{line}\n" for line in sentences(count, seed)), encoding="utf-8")
    return paths


class Events(list):
    """Keeps what a run reports."""

    def __call__(self, event) -> None:
        self.append(dict(event))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == kind]

    def timeless(self) -> list[dict[str, Any]]:
        """What belongs to a step, without the pace."""
        kept = [event for event in self if "step" in event and event["event"] != "resume"]
        return [{key: value for key, value in event.items() if key != "tokens_per_s"} for event in kept]


class StopsAt(Events):
    """SIGTERM comes after so many updates."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, event) -> None:
        super().__call__(event)
        if event["event"] == "train" and event["step"] == self.step:
            signal.raise_signal(signal.SIGTERM)


def stopped_at(step: int, make: Callable[[Events], Trainer]) -> Trainer:
    """The trainer that ``make`` gives for these observers, after it was stopped."""
    trainer = make(StopsAt(step))
    assert not trainer.fit()
    assert trainer.progress.step == step
    return trainer


def toy_trainer(
    folder: Path,
    *,
    phases: list[Phase] | None = None,
    train_count: int = 37,
    observe=None,
    world: World | None = None,
    **sections: dict[str, Any],
) -> Trainer:
    """A trainer on generated sentences; ``trainer.task.observe`` is its :class:`Events`."""
    config = Config.from_dict(settings(**sections))
    torch.manual_seed(config.train.seed)
    runtime = Runtime.choose(config.train, world)
    model = SeqVAE(config.model, WORDS.vocab_size).to(runtime.device)
    events = Events() if observe is None else observe
    task = Task(
        phases=phases or resolve_phases(config.objective, config.train),
        train=config.train,
        data=config.data,
        stores={"train": store_of(train_count, 0), "valid": store_of(13, 1)},
        runtime=runtime,
        checkpoints=folder / "checkpoints",
        observe=events,
        log_bytes=lambda: 0,
        save_model=lambda trainer: None,
    )
    return Trainer(model, task)


def phase_of(folder: Path, *strategies, name: str = "training", **sections) -> Phase:
    """The phase that the settings make, with strategies that no config file could name."""
    config = Config.from_dict(settings(**sections))
    (resolved,) = resolve_phases(config.objective, config.train)
    return Phase(**{**vars(resolved), "strategies": strategies, "name": name})


def bytes_of(tensors) -> dict[str, bytes]:
    """Tensors by name, as bytes: equal only where every bit is."""
    tensors = tensors.state_dict() if isinstance(tensors, torch.nn.Module) else tensors
    return {name: tensor.detach().cpu().contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def last_checkpoint(trainer: Trainer) -> Checkpoint:
    checkpoint, notes = newest_intact(trainer.task.checkpoints)
    assert checkpoint is not None
    assert not notes
    return checkpoint

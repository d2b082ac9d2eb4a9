"""What the measurements of speed work on: configs, models with their textbook, and text of the right sizes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.textbook import Textbook
from seqvae.config import Config
from seqvae.data import catalogue
from seqvae.data.store import TokenStore, prepare
from seqvae.models.vae import SeqVAE
from seqvae.training.runtime import Runtime
from seqvae.types import BOS, EOS

PTB_VOCABULARY, PTB_TRAIN, PTB_TEST = 10_000, 42_068, 3_761
"""Tokens (special ones among them) and sentences of Penn Treebank as the papers on sentence VAEs use it."""

PTB_LENGTH = 22
"""Predicted tokens of its mean sentence."""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """seqvae and the textbook with the same weights, on the device and in the precision that the config chooses."""

    config: Config
    runtime: Runtime
    model: SeqVAE
    book: Textbook

    @classmethod
    def of(cls, config: Config, vocab_size: int) -> "Sides":
        runtime = Runtime.choose(config.train)
        torch.manual_seed(config.train.seed)
        model = SeqVAE(config.model, vocab_size).to(runtime.device)
        return cls(config=config, runtime=runtime, model=model, book=Textbook.like(model))


def ptb_config(device: str, **changes: Any) -> Config:
    """`ptb.yaml` in one phase, with the plain objective and one learning rate, so that the textbook trains the same."""
    plain = {"train.phases": [], "train.schedule": {"name": "constant"}, "train.optimizer.lr": 1e-3}
    plain |= {"train.average_decay": None}  # a textbook has none
    return Config.from_yaml("ptb.yaml").replace(**(plain | {"train.device": device, "train.log_every": 1000} | changes))


def ptb_text(split: str) -> tuple[TokenStore, int, str]:
    """A split, its vocabulary, and what it is: Penn Treebank where it lies on this machine, else text of its sizes."""
    if catalogue.find("ptb") is None:
        rows = PTB_TRAIN if split == "train" else PTB_TEST
        return synthetic(rows, PTB_VOCABULARY, seed=len(split)), PTB_VOCABULARY, "made, of the sizes of Penn Treebank"
    config = Config.from_yaml("ptb.yaml")
    prepared = prepare(config.data, config.tokenizer, splits=[split])
    return prepared.splits[split], prepared.tokenizer.vocab_size, "Penn Treebank"


def synthetic(rows: int, vocab_size: int, *, seed: int = 0) -> TokenStore:
    """Sentences of drawn words: lengths with the mean and the spread of Penn Treebank, words by Zipf's law."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.gamma(4.3, (PTB_LENGTH - 1) / 4.3, rows).round().astype(int), 1, 80)
    weights = 1 / np.arange(1, vocab_size - 3)
    words = random.choice(vocab_size - 4, size=int(lengths.sum()), p=weights / weights.sum()) + 4
    parts = np.split(words, np.cumsum(lengths)[:-1])
    return TokenStore.from_ids([np.concatenate([[BOS], part, [EOS]]) for part in parts])


def sentences_of(store: TokenStore, rows: np.ndarray) -> list[torch.Tensor]:
    """As a textbook holds them: a tensor of ids for each."""
    return [torch.from_numpy(np.asarray(store[row], np.int64)) for row in rows.tolist()]


def some(store: TokenStore, count: int) -> np.ndarray:
    """Rows whose lengths are spread like those of all."""
    order = np.argsort(store.lengths, kind="stable")
    return order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]

"""What a trainer works on, and whom it tells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqvae.data.batching import Plan, collate, epoch_plan, largest_batch
from seqvae.data.corpora import DataConfig
from seqvae.data.store import TokenStore
from seqvae.training.phases import Phase
from seqvae.training.runtime import Runtime
from seqvae.training.settings import TrainConfig
from seqvae.types import Batch

if TYPE_CHECKING:
    from seqvae.training.trainer import Trainer

Observer = Callable[[Mapping[str, Any]], None]
"""Receives every event of a run as a mapping with the key ``event``; may print or write, never touches the run."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The fixed surroundings of a training run."""

    phases: Sequence[Phase]
    train: TrainConfig
    data: DataConfig
    stores: Mapping[str, TokenStore]
    runtime: Runtime
    checkpoints: Path
    observe: Observer
    log_bytes: Callable[[], int]
    """Length of the metrics file so far."""
    save_model: Callable[["Trainer"], None]
    """Called whenever the weights are the best so far."""
    _kept: dict[int, Plan] = field(default_factory=dict, init=False, repr=False)

    def plan(self, epoch: int) -> Plan:
        """This rank's share of the batches of an epoch, as rows of the training split: by seed and epoch alone.

        The last one is kept: whoever draws batches besides asks often, and sorting takes time.
        """
        if epoch not in self._kept:
            self._kept.clear()
            world, size = self.runtime.world, self.data.batch_size
            share = {"batch_size": size, "rank": world.rank, "world": world.size}
            if self.data.shards:  # the store holds this rank's share already
                share = {"batch_size": size // world.size}
            self._kept[epoch] = epoch_plan(
                self.stores["train"].row_lengths,
                seed=self.train.seed,
                epoch=epoch,
                batch_tokens=self.data.batch_tokens,
                equal_length=self.data.equal_length,
                **share,
            )
        return self._kept[epoch]

    def largest_rows(self) -> np.ndarray:
        """This rank's share of the largest batch that there can be."""
        world, data = self.runtime.world, self.data
        sizes = {"batch_tokens": data.batch_tokens, "equal_length": data.equal_length}
        size = data.batch_size // world.size if data.shards else data.batch_size
        rows = largest_batch(self.stores["train"].row_lengths, batch_size=size, **sizes)
        return rows if data.shards else rows[world.rank :: world.size]

    def batch(self, rows: np.ndarray) -> Batch:
        return collate(self.stores["train"], rows).to(self.runtime.device)

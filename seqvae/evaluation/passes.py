"""How a split is walked through: evaluation mode, batches, and noise that belongs to the sentence.

In this package ``R`` is the number of sentences of the whole split, in the order of the store.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.batching import collate, evaluation_plan
from seqvae.data.store import TokenStore
from seqvae.models.conditional import check_classes
from seqvae.types import Batch, Posterior


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; afterwards every module is in the mode it was in before.

    Modes are kept module by module, since a training method may hold a part of the model in evaluation mode.
    """
    training = [module for module in model.modules() if module.training]
    # A model that is in evaluation mode already is not written to: several threads may use it at once.
    for module in training:
        module.training = False
    try:
        # A caller may be in inference mode, whose tensors no method could use that refines codes by gradients.
        with torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def batches(
    model: nn.Module, store: TokenStore, *, batch_tokens: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[np.ndarray, Batch]]:
    """The whole split, each sentence once: (row numbers in the store, batch on the model's device).

    Of ``world`` processes that share the work each goes through its part of the same batches.
    """
    check_classes(store.classes, model.labels)
    for rows in evaluation_plan(store.lengths, batch_tokens=batch_tokens, rank=rank, world=world):
        yield rows, collate(store, rows).to(model.device)


def row_seed(seed: int, row: int | str) -> int:
    """A 63-bit seed for one sentence (or a name): a hash, so that neighbouring seeds and rows have unrelated noise."""
    digest = hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Draw(NamedTuple):
    """Samples of q(z|x), and their log-density in nats."""

    z: Float[Tensor, "S B Z"]
    log_q: Float[Tensor, "S B"] | None
    """None for the codes of a noiseless autoencoder, which are no samples."""

    def split(self, size: int) -> "list[Draw]":
        """At most ``size`` of the samples each."""
        return [Draw(*parts) for parts in zip(self.z.split(size), self.log_q.split(size), strict=True)]


def draw_by_row(q: Posterior, samples: int, rows: Int[np.ndarray, " B"], seed: int) -> Draw:
    """Samples of each q(z|x) from a generator of its own, seeded by (seed, row).

    The noise of a sentence therefore depends neither on its batch nor on the order of the batches, and the global
    random state is left alone. It works for every family, since it only needs ``q[i:i+1].rsample``. A density that is
    costly to find afterwards is taken from the drawing, which knows it exactly.
    """
    generator = torch.Generator(device=q.mean.device)
    drawn, known = [], []
    for i, row in enumerate(rows.tolist()):
        generator.manual_seed(row_seed(seed, row))
        own = q[i : i + 1]
        drawn.append(own.rsample(samples, generator))
        if q.costly_density:
            known.append(own.log_prob(drawn[-1]))
    z = torch.cat(drawn, dim=1)
    return Draw(z, torch.cat(known, dim=1) if known else q.log_prob(z))


def one_code(q: Posterior, rows: Int[np.ndarray, " B"], seed: int, *, noiseless: bool) -> Draw:
    """One code per sentence: the mean of a noiseless autoencoder, otherwise one posterior sample."""
    return Draw(q.mean[None], None) if noiseless else draw_by_row(q, 1, rows, seed)


def standard_error(values: Float[np.ndarray, " R"]) -> float | None:
    """Standard error of the mean; None for a single value, which says nothing about its spread."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None

"""An update that is not finite: kept for study, and gone back from where the settings say so; and what comes before."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from seqvae import gaussian
from seqvae.errors import SeqVAEError
from seqvae.io import storage
from seqvae.training import state as states
from seqvae.training.layout import DIVERGED
from seqvae.types import Batch, Terms

if TYPE_CHECKING:
    from seqvae.training.trainer import Trainer

CODE = "E501"


@contextlib.contextmanager
def kept(trainer: "Trainer", batches: Sequence[Batch], terms: Terms) -> Iterator[None]:
    """Where the block raises E501: weights, gradients and batches of the update that was not applied go to a folder.

    ``state.json`` names the rows, the norm of each gradient, and rec and kl of each sentence of the last micro-batch
    (``terms``); a number that is not finite is null there.
    """
    try:
        yield
    except SeqVAEError as error:
        if error.code == CODE and trainer.world.rank == 0:
            try:
                _write(trainer, batches, terms)
            except SeqVAEError as failed:  # of the disk: what is to be told is the divergence
                trainer.note(f"what diverged could not be kept: {failed.what}")
        raise


def _write(trainer: "Trainer", batches: Sequence[Batch], terms: Terms) -> None:
    parameters = dict(trainer.model.named_parameters())
    gradients = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    rows = [batch.rows.tolist() for batch in batches]
    state = {
        "schema_version": storage.SCHEMA_VERSION,
        "step": trainer.progress.step + 1,
        "phase": trainer.stage.phase.name,
        "lr": trainer.stage.learning_rate(trainer.progress),
        "loss": float(trainer.loss),
        "rows": rows,
        "gradient_norms": {name: float(gradient.norm()) for name, gradient in gradients.items()},
        "last": {
            "rows": rows[-1][-terms.rec.shape[1] :],
            "rec_nats": terms.rec.detach().mean(0).tolist(),
            "kl_nats": terms.kl.detach().tolist(),
        },
    }
    texts = {f"{index}.{name}": getattr(b, name) for index, b in enumerate(batches) for name in ("tokens", "lengths")}
    folder = states.place(trainer.task.checkpoints.with_name(DIVERGED), trainer.progress.step + 1)
    with storage.atomic_folder(folder) as temporary:
        storage.save_tensors(temporary / "model.safetensors", trainer.model.state_dict())
        storage.save_tensors(temporary / "gradients.safetensors", gradients)
        storage.save_tensors(temporary / "batches.safetensors", texts)
        storage.write_json(temporary / "state.json", state)


def way_back(trainer: "Trainer", error: SeqVAEError) -> states.Checkpoint:
    """The newest checkpoint, to go on from with a lower learning rate.

    Raises ``error`` where it is another one, where the settings say to stop, or where that was done often enough.
    """
    config, progress = trainer.config, trainer.progress
    allowed = config.on_divergence == "rollback" and progress.rollbacks < config.max_rollbacks
    if error.code != CODE or not allowed:
        raise error
    checkpoint, _ = states.newest_intact(trainer.task.checkpoints)
    if checkpoint is None:
        raise error
    checkpoint.progress.rollbacks = progress.rollbacks + 1
    checkpoint.progress.lr_scale = progress.lr_scale * config.rollback_lr_factor
    checkpoint.progress.micro_tokens = progress.micro_tokens
    return checkpoint


@torch.no_grad()
def symptoms(terms: Terms) -> Mapping[str, Any]:
    """What a line of the log has beside its numbers where an encoder explodes: the share of log-variances, of the last
    micro-batch, that lie at an end of their range."""
    logvar = getattr(terms.q, "logvar", None)
    if logvar is None:
        return {}
    lowest, highest = gaussian.LOGVAR_RANGE
    share = float(((logvar <= lowest) | (logvar >= highest)).float().mean())
    return {"logvar_clamped": share} if share > 0 else {}

"""An update that is not finite: kept for study, and gone back from where the settings say so; and what comes before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from seqvae import gaussian
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage
from seqvae.io.tensors import save_tensors
from seqvae.training import state as states
from seqvae.training.layout import DIVERGED
from seqvae.types import Batch, Terms

if TYPE_CHECKING:
    from seqvae.training.trainer import Trainer

CODE = "E501"


_LATER = {"cuda"}
"""Types of device whose answer is not waited for at every update."""


def answers_later(device: torch.device) -> bool:
    """Whether an update, with its gradients, is kept until the next one is on its way."""
    return device.type in _LATER


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is needed to tell of an update that was not finite. ``terms`` are those of its last micro-batch."""

    step: int
    lr: float
    loss: Tensor
    batches: Sequence[Batch]
    terms: Terms
    gradients: Mapping[str, Tensor]
    finite: Bool[Tensor, ""]


class _Answer:
    """Whether an update was finite, on its way to the host.

    Read from the device itself, it would have to wait for all that the device was given to do since.
    """

    def __init__(self, finite: Bool[Tensor, ""]):
        self._value, self._arrived = finite, None
        if finite.is_cuda:
            self._value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._value.copy_(finite, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def __bool__(self) -> bool:
        if self._arrived is not None:
            self._arrived.synchronize()
        return bool(self._value)


class Watch:
    """No update that is not finite is applied: E501 is raised, and what it was is kept.

    On a CPU it is raised before the optimizers make their step. On a GPU the host does not wait for the answer: the
    optimizers leave the step out by themselves, and the error is raised at the next update, whose passes the device has
    by then been given, or before anything is measured or saved. It waits where a method has an optimizer of its own
    that cannot leave a step out.
    """

    def __init__(self) -> None:
        self._open: tuple[Update, _Answer] | None = None
        self.found_at = 0
        """The update, from 1, that was not finite."""

    def look(self, trainer: "Trainer", update: Update) -> Bool[Tensor, ""] | None:
        """What the optimizers have to be told: nothing where the update is known to be finite."""
        self.settle(trainer)
        self._open = update, _Answer(update.finite)
        if answers_later(update.finite.device) and trainer.stage.skips:
            return update.finite
        self.settle(trainer)
        return None

    def settle(self, trainer: "Trainer") -> None:
        """Raises E501 where the last update was not finite.

        Its weights, gradients and batches go to a folder, whose ``state.json`` names the rows, the norm of each
        gradient, and rec and kl of each sentence of the last micro-batch; a number that is not finite is null there.
        """
        opened, self._open = self._open, None
        if opened is None or opened[1]:
            return
        update, _ = opened
        self.found_at = update.step
        if trainer.world.rank == 0:
            try:
                _write(trainer, update)
            except SeqVAEError as failed:  # of the disk: what is to be told is the divergence
                trainer.note(f"what diverged could not be kept: {failed.what}")
        raise SeqVAEError(
            CODE,
            f"the loss or its gradient is not finite at step {update.step}; the update was not applied",
            where=f"train, rows {update.batches[-1].rows[:8].tolist()} and on",
            hint="lower `train.optimizer.lr` or `train.clip_norm`"
            + (", or set `train.on_divergence=rollback`" if trainer.config.on_divergence == "stop" else "")
            + "; the last checkpoint is intact",
        )


def _write(trainer: "Trainer", update: Update) -> None:
    rows = [batch.rows.tolist() for batch in update.batches]
    state = {
        "schema_version": manifests.SCHEMA_VERSION,
        "step": update.step,
        "phase": trainer.stage.phase.name,
        "lr": update.lr,
        "loss": float(update.loss),
        "rows": rows,
        "gradient_norms": {name: float(gradient.norm()) for name, gradient in update.gradients.items()},
        "last": {
            "rows": rows[-1][-update.terms.rec.shape[1] :],
            "rec_nats": update.terms.rec.detach().mean(0).tolist(),
            "kl_nats": update.terms.kl.detach().tolist(),
        },
    }
    batches = enumerate(update.batches)
    texts = {f"{index}.{name}": getattr(batch, name) for index, batch in batches for name in ("tokens", "lengths")}
    folder = states.place(trainer.task.checkpoints.with_name(DIVERGED), update.step)
    with storage.atomic_folder(folder) as temporary:
        save_tensors(temporary / "model.safetensors", trainer.model.state_dict())
        save_tensors(temporary / "gradients.safetensors", update.gradients)
        save_tensors(temporary / "batches.safetensors", texts)
        disk.write_json(temporary / "state.json", state)


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

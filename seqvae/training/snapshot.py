"""What a trainer must not lose, taken from it and put back."""

from typing import TYPE_CHECKING

from seqvae.evaluation.passes import row_seed
from seqvae.training import state as states

if TYPE_CHECKING:
    from seqvae.training.trainer import Trainer


def taken(trainer: "Trainer") -> states.Checkpoint:
    """All of it, as it is now. Every rank has to ask; that of rank 0 has the random states of all."""
    random = states.random_tensors({"noise": trainer.noise}, trainer.task.runtime.device)
    training = {"sums": trainer.sums} | trainer.world.collected(random)
    training |= trainer.average.tensors() | states.strategy_tensors(trainer.objective.strategies)
    training |= states.optimizer_tensors(trainer.optimizers)
    return states.Checkpoint(
        progress=trainer.progress,
        model=trainer.model.state_dict(),
        best=trainer.best,
        training=training,
        log_bytes=trainer.task.log_bytes(),
    )


def put_back(trainer: "Trainer", checkpoint: states.Checkpoint) -> None:
    """Into a trainer whose stage is that of the checkpoint; SeqVAEError (E401) where it does not fit.

    Random states come last, so that nothing before them can move them.
    """
    device = trainer.task.runtime.device
    states.restore_weights(trainer.model, checkpoint.model)
    states.require_fit(trainer.model.state_dict(), checkpoint.best, "model")
    trainer.best = {name: tensor.to(device) for name, tensor in checkpoint.best.items()}
    trainer.average.restore(checkpoint.training)
    trainer.sums.copy_(checkpoint.training["sums"])
    states.restore_strategies(trainer.objective.strategies, checkpoint.training)
    states.restore_optimizers(trainer.optimizers, checkpoint.training)
    random = trainer.world.own(checkpoint.training)
    if random is None or states.device_of(random) != device.type:
        seed = row_seed(trainer.config.seed, f"{trainer.progress.step}:rank {trainer.world.rank}")
        states.seed_random({"noise": trainer.noise}, seed)
    else:
        states.restore_random({"noise": trainer.noise}, random, device)

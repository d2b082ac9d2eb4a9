"""A phase at work: its objective, its optimizers, and what its settings say at a step."""

import functools
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from seqvae.data.batching import smallest_batch
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import encode_split, mutual_information
from seqvae.evaluation.likelihood import elbo_and_iw, quick_metrics
from seqvae.evaluation.passes import evaluating
from seqvae.models.vae import SeqVAE
from seqvae.objectives.base import Dims, Objective, overriders
from seqvae.training.distributed import World
from seqvae.training.optim import build_optimizer, learning_rate
from seqvae.training.phases import Phase
from seqvae.training.settings import PlateauConfig
from seqvae.training.state import NEVER, Progress

_MI_SENTENCES = 5_000
"""Most sentences of a validation's mutual information, whose cost is the square."""


def check_phases(phases: Sequence[Phase], model: SeqVAE) -> None:
    """Raises what any of the phases will refuse of this model, before a run is begun: a later one costs hours.

    Each phase is built and computes one loss, since what a method needs of the terms shows in them alone.
    """
    config, device = model.config, model.device
    families = f"`model.posterior.family: {config.posterior.family}`, `model.prior.family: {config.prior.family}`"
    with torch.random.fork_rng(devices=[]), evaluating(model):  # what is drawn here is drawn again in its phase
        for phase in phases:
            stage = Stage(phase, model, epoch_steps=1)
            try:
                stage.objective(smallest_batch().to(device), 0, torch.Generator(device))
            except SeqVAEError as error:
                error.where = error.where or f"phase `{phase.name}`, with {families}"
                raise
    model.refiners = ()


class Stage:
    """One phase built for a model, shared by the processes of ``world``.

    ``epoch_steps``: updates in an epoch; ``steps``: updates in the phase at most. ``loss_of`` is what is trained.
    """

    def __init__(self, phase: Phase, model: SeqVAE, epoch_steps: int, world: World | None = None):
        self.phase, self.epoch_steps, self.model = phase, epoch_steps, model
        self._world = world or World()
        self.steps = phase.total_steps(epoch_steps)
        strategies = phase.build_strategies()
        dims = Dims(
            vocab=model.vocab_size,
            latent=model.latent_dim,
            hidden=model.config.decoder.hidden,
            epoch_steps=epoch_steps,
        )
        for strategy in strategies:
            strategy.build(dims)
        self.objective = Objective(model, strategies, phase.samples).to(model.device)
        self.loss_of = self._world.parallel(model, self.objective)
        self.optimizers = self._build_optimizers(model)
        model.refiners = tuple(overriders(strategies, "refine"))
        if phase.monitor in ("elbo", "iw") and self.noiseless:
            raise SeqVAEError(
                "E217",
                f"`monitor: {phase.monitor}` cannot pick the best weights of a plain autoencoder, which has no KL",
                where=f"phase `{phase.name}`",
                hint="leave `monitor` at auto, or set it to rec",
            )

    def _build_optimizers(self, model: SeqVAE) -> Mapping[str, torch.optim.Optimizer]:
        """``main`` for the model and for what strategies leave unclaimed; theirs as ``<strategy>.<name>``."""
        strategies = self.objective.strategies
        own = {f"{s.name}.{name}": optimizer for s in strategies for name, optimizer in s.optimizers().items()}
        claimed = {p for optimizer in own.values() for group in optimizer.param_groups for p in group["params"]}
        self.main_parameters = [p for p in (*model.parameters(), *self.objective.parameters()) if p not in claimed]
        return {"main": build_optimizer(self.phase.optimizer, self.main_parameters)} | own

    def buffers(self) -> list[Tensor]:
        """What a pass may change beside the gradients: running averages of the model and of the strategies."""
        return [*self.model.buffers(), *self.objective.buffers()]

    @property
    def noiseless(self) -> bool:
        """Whether the phase trains a plain autoencoder: z is the posterior mean. A language model has no z."""
        return self.model.latent_dim > 0 and self.objective.noise_scale(self.steps) == 0

    @property
    def monitor(self) -> str:
        """What picks the best weights: ``elbo`` (-ELBO at KL weight 1), ``iw`` or ``rec``."""
        if self.phase.monitor != "auto":
            return self.phase.monitor
        for strategy in self.objective.strategies:
            if strategy.monitor is not None:
                return strategy.monitor
        return "elbo" if self.weighs_kl else "rec"

    @functools.cached_property
    def weighs_kl(self) -> bool:
        """Whether the KL has a weight at any of the phase's updates; of very many, a thousand are looked at."""
        looked_at = [*range(0, self.steps, max(1, self.steps // 1000)), self.steps - 1]
        return any(self.objective.kl_weight(step) != 0 for step in looked_at)

    @property
    def skips(self) -> bool:
        """Whether every optimizer leaves out a step by itself where it is told so on the device: the fused ones do."""
        return all(optimizer.defaults.get("fused") for optimizer in self.optimizers.values())

    def clip(self, loss: Tensor, clip_norm: float) -> Bool[Tensor, ""]:
        """Clip the gradients, where they are finite. Whether they and the loss are, on their device: nobody need wait.

        Those that are not stay as they are: divided by their norm, all of them would be lost with the one at fault.
        """
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.main_parameters if p.grad is not None])
        usable = torch.where(torch.isfinite(norm), norm, 0.0)
        torch.nn.utils.clip_grads_with_norm_(self.main_parameters, clip_norm, usable)
        others = [p.grad for p in self.objective.parameters() if p.grad is not None]
        return torch.isfinite(norm + loss + torch.nn.utils.get_total_norm(others))

    def apply(self, progress: Progress, finite: Bool[Tensor, ""] | None = None) -> None:
        """Let every optimizer make its step; where ``finite`` is given (see `skips`) and False, they leave it out."""
        for group in self.optimizers["main"].param_groups:
            group["lr"] = self.learning_rate(progress)
        for optimizer in self.optimizers.values():
            if finite is not None:  # as torch.amp.GradScaler tells them
                optimizer.grad_scale, optimizer.found_inf = None, (~finite).float()
            optimizer.step()

    def metrics(self, model: SeqVAE, store: TokenStore, seed: int, batch_tokens: int) -> dict[str, float | int | None]:
        """The quick metrics of a validation, and what the monitor and the strategies need beside them.

        The ranks share the work and get the same numbers.
        """
        share = {"rank": self._world.rank, "world": self._world.size, "gather": self._world.gather}
        settings = {"seed": seed, "batch_tokens": batch_tokens, "noiseless": self.noiseless}
        quick = quick_metrics(model, store, **settings, **share)
        return quick | self.further_metrics(model, store, seed, batch_tokens)

    def further_metrics(
        self, model: SeqVAE, store: TokenStore, seed: int, batch_tokens: int
    ) -> dict[str, float | None]:
        """What the monitor and the strategies need beside the quick metrics, in nats; only that is computed.

        ``iw_nats``: the bound of as many samples as in training; ``mi_nats``: None without a noisy code. It compares
        every sentence with every other, so each rank computes the whole of it, and that of rank 0 counts.
        """
        found: dict[str, float | None] = {}
        if self.monitor == "iw":
            share = {"rank": self._world.rank, "world": self._world.size, "batch_tokens": batch_tokens}
            bound = elbo_and_iw(model, store, samples=self.phase.samples, seed=seed, **share)
            sums = self._world.gather(torch.tensor([bound.iw.sum()]))
            found["iw_nats"] = float(sum(sums)) / len(store)
        if any("mi" in strategy.measures for strategy in self.objective.strategies):
            found["mi_nats"] = None
            if self.model.latent_dim > 0 and not self.noiseless:
                nats = mutual_information(encode_split(model, store, seed=seed, mi_sentences=_MI_SENTENCES)).nats
                found["mi_nats"] = float(self._world.gather(torch.tensor([nats], dtype=torch.float64))[0])
        return found

    def learning_rate(self, progress: Progress) -> float:
        """Learning rate of the next update of the main optimizer."""
        schedule = self.phase.schedule
        rate = learning_rate(self.phase.optimizer.lr, schedule, progress.phase_step, self.steps)
        rate *= schedule.factor**progress.decays if isinstance(schedule, PlateauConfig) else 1.0
        return rate * progress.lr_scale

    def require_best(self, progress: Progress) -> None:
        """SeqVAEError (E502) where no validation of the phase gave a number: there are no weights to go on from."""
        if progress.best is None:
            raise SeqVAEError(
                "E502",
                f"no validation gave a finite {self.monitor}: there are no best weights to end with",
                where=f"phase `{self.phase.name}`, step {progress.step}",
                hint="lower `train.optimizer.lr` or `train.clip_norm`, and begin a new run",
            )

    def over(self, progress: Progress) -> bool:
        """Whether the budget is spent, or validation has not improved for as long as the settings allow."""
        schedule = self.phase.schedule
        if isinstance(schedule, PlateauConfig) and progress.decays >= (schedule.max_decays or NEVER):
            return True
        # An epoch of batches by tokens can have fewer updates than the first, by which the steps are reckoned.
        if progress.phase_step >= self.steps or progress.epoch >= self.phase.epochs:
            return True
        return progress.stale_validations >= (self.phase.patience or NEVER)

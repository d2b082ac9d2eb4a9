"""The training loop. It names no method: strategies act through their hooks."""

from typing import Any

import torch
from torch import Tensor

from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import row_seed
from seqvae.gaussian import widest
from seqvae.models.vae import SeqVAE
from seqvae.objectives.base import PARTS
from seqvae.training import snapshot
from seqvae.training import state as states
from seqvae.training.averaging import Average
from seqvae.training.captured import gradients_of, obstacle
from seqvae.training.divergence import Update, Watch, symptoms, way_back
from seqvae.training.memory import try_largest, validation_tokens, within_memory
from seqvae.training.pace import Pace
from seqvae.training.runtime import StopSignals
from seqvae.training.settings import PlateauConfig
from seqvae.training.stage import Stage
from seqvae.training.task import Task
from seqvae.types import Batch, Terms


class Trainer:
    """Trains a model through its phases; ``fit`` may be stopped anywhere and taken up again bit by bit."""

    def __init__(self, model: SeqVAE, task: Task):
        self.model, self.task, self.config = model, task, task.train
        self.progress, self.best = states.Progress(), states.copy_weights(model)
        self.world, device = task.runtime.world, task.runtime.device
        self.noise = torch.Generator(device).manual_seed(task.train.seed + 1)
        self.stop, self.stopped_by = StopSignals(), None
        # Since the log's last line: rec, kl, sentences, tokens. On the device: one transfer a line, not four a step.
        self.sums = torch.zeros(4, dtype=widest(device), device=device)
        self.loss = self.tokens = torch.zeros(())
        self.finite = torch.tensor(True)
        self.pace, self.watch = Pace(), Watch()
        self.average = Average(model, self.config.average_decay)

    # What strategies see of the loop (objectives.base.Loop).

    @property
    def step(self) -> int:
        return self.progress.phase_step

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(row_seed(self.config.seed, f"{self.progress.step}:{name}"))

    def draw_batch(self, generator: torch.Generator) -> Batch:
        plan = self.task.plan(self.progress.total_epochs)
        return self.task.batch(plan[int(torch.randint(len(plan), (), generator=generator, device=generator.device))])

    def update(self, batch: Batch, parts: frozenset[str] = PARTS) -> Terms:
        return self._update([batch], parts)

    def reset(self, part: str) -> None:
        self.model.reset(part)
        self.world.align(self.model)

    def summed(self, values: Tensor) -> Tensor:
        return self.world.summed(values)

    # The loop.

    def fit(self, resume: states.Checkpoint | None = None) -> bool:
        """Train to the end; False where a signal stopped it (its state is then saved)."""
        with self.stop.installed(), self.task.runtime.kernels():
            if resume is None:
                if self.world.rank > 0:
                    states.seed_random({"noise": self.noise}, row_seed(self.config.seed, f"rank {self.world.rank}"))
                self._start_phase(0)
                try_largest(self)
                if self.config.on_divergence == "rollback":
                    self._save()
            else:
                self._restore(resume)
            self.pace.restart(float(self.sums[3]))
            self.model.train()
            while not self.progress.finished and self.stopped_by is None:
                try:
                    self._run_epoch()
                except SeqVAEError as error:
                    self._go_back(way_back(self, error))
            return self.progress.finished

    def _run_epoch(self) -> None:
        """The rest of this epoch, up to a signal or the end of the phase."""
        plan, size = self.task.plan(self.progress.total_epochs), self.config.accumulate
        for start in range(self.progress.position * size, len(plan), size):
            self._train_on([self.task.batch(rows) for rows in plan[start : start + size]])
            epoch_over = start + size >= len(plan)
            if epoch_over:
                self.progress.next_epoch()
            every = self.config.validate_every
            due = epoch_over if every is None else self.step % every == 0
            if due or self.stage.over(self.progress):
                with self.pace.stopped():
                    self._validate()
            self.stopped_by = self.world.stopping(self.stop.received)
            if self.stage.over(self.progress):
                self._end_phase()
                return
            if self.stopped_by or due or self.step % (self.config.save_every or states.NEVER) == 0:
                with self.pace.stopped():
                    self._save()
            if self.stopped_by:
                return

    def _train_on(self, batches: list[Batch]) -> None:
        self.batch = batches[-1]
        for strategy in self.objective.strategies:
            strategy.before_update(self)
        terms = self._update(batches, self.objective.trains(self.step))
        for strategy in self.objective.strategies:
            strategy.after_update(self, terms)
        self.progress.next_step()
        self.average.follow(self.model, self.step)
        if self.progress.step % self.config.log_every == 0:
            self._log(terms)

    def _update(self, batches: list[Batch], parts: frozenset[str]) -> Terms:
        if self.gradients.overwritten:
            self.watch.settle(self)
        share = self.world.share(sum(len(batch) for batch in batches), self.stop.received, self.sums.device)
        total, counts, terms = within_memory(self, batches, lambda pieces: self._backward(pieces, share))
        sums = self.world.summed(torch.cat([total.reshape(1).to(counts), counts]))
        self.loss, counts = sums[0].to(total), sums[1:]
        self.finite = self.stage.clip(self.loss, self.config.clip_norm)  # by the norm of all parts, idle ones too
        for name, modules in self.model.parts().items():
            if name not in parts:
                for module in modules:
                    module.zero_grad(set_to_none=True)
        update = Update(
            step=self.progress.step + 1,
            lr=self.stage.learning_rate(self.progress),
            loss=self.loss,
            batches=batches,
            terms=terms,
            gradients={name: p.grad for name, p in self.model.named_parameters() if p.grad is not None},
            finite=self.finite,
        )
        self.stage.apply(self.progress, self.watch.look(self, update))
        self.sums += counts
        self.tokens = counts[3]
        return terms

    def _backward(self, batches: list[Batch], share: int | Tensor) -> tuple[Tensor, Tensor, Terms]:
        """Gradients are summed over all sentences of an update, then divided by their number: no mean of means."""
        counts, total = torch.zeros_like(self.sums), torch.zeros((), device=self.sums.device)
        self.gradients.begin()
        for batch in batches:
            with self.world.holding(batch is not batches[-1]):
                added = self.gradients.add(batch, self.step, share)
            total = total + added.loss
            counts += added.counts.to(counts)
        return total, counts, added.terms

    # Phases.

    def _start_phase(self, index: int) -> None:
        self.progress.start_phase(index)
        self.sums.zero_()
        for part in self.task.phases[index].reset:
            self.model.reset(part)
        self._build_stage()
        self.average.restart(self.model)  # of several processes only now the same in all
        self._announce("phase")

    def _build_stage(self) -> None:
        epoch_steps = -(-len(self.task.plan(0)) // self.config.accumulate)
        self.stage = Stage(self.task.phases[self.progress.phase], self.model, epoch_steps, self.world)
        self.objective, self.optimizers = self.stage.objective, self.stage.optimizers
        self.gradients = gradients_of(self.stage, self.task.runtime, self.noise)

    def _announce(self, event: str) -> None:
        """Tell the present phase, how many updates the run can come to, and at its start what is not done as asked."""
        phases, progress = self.task.phases, self.progress
        ahead = sum(phase.total_steps(self.stage.epoch_steps) for phase in phases[progress.phase :])
        total = progress.step - progress.phase_step + ahead
        self._emit(event, name=self.stage.phase.name, phases=len(phases), steps=self.stage.steps, total_steps=total)
        if event != "phase":
            return
        if self.task.runtime.cuda_graphs and (reason := obstacle(self.stage, self.task.runtime)) is not None:
            self.note(f"phase `{self.stage.phase.name}` is trained without CUDA graphs: {reason}")
        learned = [] if self.model.prior is None else list(self.model.prior.parameters())
        if learned and not self.stage.weighs_kl:
            self.note(f"phase `{self.stage.phase.name}` leaves the learned prior as it is: its KL has no weight")
        idle = [each.name for each in self.stage.objective.strategies if each.weighs_kl]
        if idle and self.model.config.posterior.family == "vmf":
            names = " and ".join(f"`{name}`" for name in idle)
            self.note(f"{names} cannot move the KL of `vmf` in phase `{self.stage.phase.name}`: kappa alone sets it")

    def _end_phase(self) -> None:
        """Go on from the best weights of this phase: to the next one, or to the end."""
        self.stage.require_best(self.progress)
        self.model.load_state_dict(self.best)
        if self.progress.phase + 1 < len(self.task.phases):
            self._start_phase(self.progress.phase + 1)
        else:
            self.progress.finished = True
            self._emit("end", best=self.progress.best, best_step=self.progress.best_step)
        self._save()
        self.pace.restart(float(self.sums[3]))

    # Validation, and what follows from it.

    def _validate(self) -> None:
        self.watch.settle(self)
        self.world.align(self.model)  # running averages were each rank's own
        with self.average.in_place(self.model):
            with self.task.runtime.autocast():
                metrics = self.stage.metrics(
                    self.model, self.task.stores["valid"], self.config.seed, validation_tokens(self)
                )
            improved = self.progress.record_validation(metrics[f"{self.stage.monitor}_nats"])
            if improved:
                self.best = states.copy_weights(self.model)
                self.task.save_model(self)
        self._emit("valid", **metrics, monitor=self.stage.monitor, best=improved)
        for strategy in self.objective.strategies:
            strategy.after_validation(self, metrics)
        schedule = self.stage.phase.schedule
        if isinstance(schedule, PlateauConfig) and self.progress.decay_is_due(schedule):
            if schedule.reload_best:
                self.model.load_state_dict(self.best)
                self.average.restart(self.model)
            self.note(f"learning rate lowered to {self.stage.learning_rate(self.progress):g}")

    def _log(self, terms: Terms) -> None:
        self.watch.settle(self)
        rec, kl, sentences, tokens = self.sums.tolist()
        self._emit(
            "train",
            rec_nats=rec / sentences,
            kl_nats=kl / sentences,
            elbo_nats=(rec + kl) / sentences,
            kl_weight=self.objective.kl_weight(self.step - 1),
            lr=self.optimizers["main"].param_groups[0]["lr"],
            tokens_per_s=self.pace.tokens_per_s(tokens),
            **symptoms(terms),
        )
        self.sums.zero_()
        self.pace.restart(float(self.sums[3]))

    def note(self, text: str, **facts: Any) -> None:
        """Something that the user should know, in the log and among the metrics."""
        self._emit("note", text=text, **facts)

    def _emit(self, event: str, **facts: Any) -> None:
        progress = self.progress
        epoch = progress.epoch + progress.position / self.stage.epoch_steps
        where = {"step": progress.step, "phase": progress.phase, "phase_step": self.step, "epoch": round(epoch, 4)}
        self.task.observe({"event": event, **where, **facts})

    # Checkpoints.

    def _save(self) -> None:
        self.watch.settle(self)
        checkpoint = snapshot.taken(self)
        if self.world.rank == 0:
            written = states.place(self.task.checkpoints, self.progress.step)
            checkpoint.save(written)
            states.prune(self.task.checkpoints, self.config.keep_checkpoints, written)

    def _restore(self, checkpoint: states.Checkpoint) -> None:
        self.progress = checkpoint.progress
        self._build_stage()
        self._announce("resume")
        snapshot.put_back(self, checkpoint)

    def _go_back(self, checkpoint: states.Checkpoint) -> None:
        self._restore(checkpoint)
        scale = self.progress.lr_scale
        self.note(
            f"diverged at update {self.watch.found_at:,}: back to {self.step:,}, with {scale:g} of the learning rate"
        )
        self._save()
        self.pace.restart(float(self.sums[3]))

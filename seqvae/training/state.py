"""Everything that a run must not lose, and its checkpoints.

A checkpoint is a folder of safetensors and JSON, written atomically. Random states are restored last.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage
from seqvae.io.tensors import load_tensors, save_tensors
from seqvae.training.settings import PlateauConfig

Weights = dict[str, Tensor]

NEVER = 1 << 62
"""A step that no run reaches, in place of a setting that is null."""


@dataclass
class Progress:
    """Where a run stands. ``epoch``, ``phase_step``, ``best`` and what follows are counted within the phase."""

    step: int = 0
    total_epochs: int = 0
    phase: int = 0
    epoch: int = 0
    position: int = 0
    """Updates already made in this epoch."""
    phase_step: int = 0
    best: float | None = None
    best_step: int | None = None
    bad_validations: int = 0
    """Validations since the best one (or since the last decay)."""
    stale_validations: int = 0
    """Validations since the best one."""
    decays: int = 0
    micro_tokens: int | None = None
    """Most tokens of a micro-batch, since memory ran out; None: it has not."""
    rollbacks: int = 0
    """Times that the run went back to a checkpoint because it diverged."""
    lr_scale: float = 1.0
    """Factor on the learning rate of the main optimizer since then."""
    finished: bool = False

    def start_phase(self, index: int) -> None:
        self.phase = index
        self.total_epochs += self.position > 0  # An epoch that was begun is over: its batches have been seen.
        self.epoch = self.position = self.phase_step = self.bad_validations = self.stale_validations = self.decays = 0
        self.best = self.best_step = None

    def next_step(self) -> None:
        self.step += 1
        self.phase_step += 1
        self.position += 1

    def next_epoch(self) -> None:
        self.epoch += 1
        self.total_epochs += 1
        self.position = 0

    def record_validation(self, value: float) -> bool:
        """Whether ``value`` is the best of the phase; NaN and infinity never are."""
        improved = math.isfinite(value) and (self.best is None or value < self.best)
        if improved:
            self.best, self.best_step = value, self.step
        self.bad_validations = 0 if improved else self.bad_validations + 1
        self.stale_validations = 0 if improved else self.stale_validations + 1
        return improved

    def decay_is_due(self, schedule: PlateauConfig) -> bool:
        """Whether the learning rate falls now; if so, it is counted."""
        due = self.epoch >= schedule.start_epoch and self.bad_validations >= schedule.patience
        if due:
            self.decays += 1
            self.bad_validations = 0
        return due


@dataclass
class Checkpoint:
    """What a checkpoint holds."""

    progress: Progress
    model: Weights
    best: Weights
    training: Weights
    """Optimizers (``optimizer.<name>.<parameter>.<key>`` and ``optimizer_size.<name>``), strategies
    (``strategy.<index>.<name>``), random states (``rng.<source>``) and the running sums of the log (``sums``)."""
    log_bytes: int
    """Length of metrics.jsonl when the checkpoint was written: what stands after it is written again."""

    def save(self, folder: Path) -> None:
        with storage.atomic_folder(folder) as temporary:
            save_tensors(temporary / "model.safetensors", self.model)
            save_tensors(temporary / "best.safetensors", self.best)
            save_tensors(temporary / "training.safetensors", self.training)
            state = {"schema_version": manifests.SCHEMA_VERSION, "log_bytes": self.log_bytes}
            disk.write_json(temporary / "state.json", state | {"progress": asdict(self.progress)})

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint":
        """Read a checkpoint whose manifest agrees with its files; SeqVAEError (E401-E403) otherwise."""
        manifests.verify(folder)
        try:
            state = _State.model_validate(disk.read_json(folder / "state.json"))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"`state.json` is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise SeqVAEError("E401", what, where=str(folder), hint="use another checkpoint") from None
        tensors = {name: load_tensors(folder / f"{name}.safetensors") for name in ("model", "best", "training")}
        return cls(progress=state.progress, log_bytes=state.log_bytes, **tensors)


class _State(BaseModel):
    """What ``state.json`` says."""

    schema_version: int
    log_bytes: int = Field(ge=0)
    progress: Progress


def place(folder: Path, step: int) -> Path:
    """Where the checkpoint of an update stands."""
    return folder / f"step-{step:08d}"


def require_room(folder: Path, model: nn.Module, keep: int, *, averaged: bool = False) -> None:
    """Raises E701 where the disk has no room for the checkpoints of a run that is to begin, by an estimate.

    ``averaged``: whether the run keeps a moving average of the weights.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    needed = weights * (
        (_COPIES + averaged) * (keep + 1) + 2
    )  # one more while it is written; the model folder, likewise
    with disk.storage_errors(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise SeqVAEError(
            "E701",
            f"checkpoints and model of this run take {needed / 1e6:,.1f} MB; the disk has {free / 1e6:,.1f} MB free",
            where=str(folder),
            hint="free some room, write the run elsewhere by `--out`, or lower `train.keep_checkpoints`",
        )


_COPIES = 4
"""Tensors in a checkpoint for each of the model: weights, best weights, and what an optimizer keeps, at most two."""


def newest_intact(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and what was wrong with newer ones."""
    notes: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return Checkpoint.load(path), notes
        except SeqVAEError as error:
            notes.append(f"checkpoint {path.name} is not usable ({error.what}); trying the one before it")
    return None, notes


def set_aside_newer(folder: Path, chosen: Checkpoint | None) -> None:
    """Rename what is newer than the checkpoint that a run goes on from: it must not pass for the newest again."""
    for path in sorted(folder.glob("step-*")):
        if chosen is None or path > place(folder, chosen.progress.step):
            aside = path.with_name(f"damaged-{path.name}")
            if aside.exists():
                storage.remove_folder(aside)
            with disk.storage_errors(path):
                path.rename(aside)


def prune(folder: Path, keep: int, written: Path) -> None:
    """Remove all but ``keep`` checkpoints: the one just ``written`` and the newest others."""
    others = sorted(path for path in folder.glob("step-*") if path != written)
    for path in others[: max(0, len(others) - (keep - 1))]:
        storage.remove_folder(path)


def optimizer_tensors(optimizers: Mapping[str, torch.optim.Optimizer]) -> Weights:
    """The state of every optimizer as named tensors (learning rates are a function of the progress).

    ``optimizer_size.<name>`` counts its parameters and its entries, so that none is missed.
    """
    found: Weights = {}
    for name, optimizer in optimizers.items():
        entries = {
            f"optimizer.{name}.{index}.{key}": torch.as_tensor(value)
            for index, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
            if value is not None
        }
        found |= entries | {f"optimizer_size.{name}": torch.tensor([len(_parameters(optimizer)), len(entries)])}
    return found


def restore_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], tensors: Weights) -> None:
    """Put back what :func:`optimizer_tensors` gave; SeqVAEError (E401) where it does not fit the optimizers."""
    names = {f"optimizer_size.{name}" for name in optimizers}
    states: dict[str, dict[int, Weights]] = {name: {} for name in optimizers}
    entries = dict.fromkeys(optimizers, 0)
    for full_name, tensor in tensors.items():
        if full_name.startswith("optimizer_size.") and full_name not in names:
            raise _unfit(full_name)
        if full_name.startswith("optimizer."):
            owner, index, key = full_name.removeprefix("optimizer.").rsplit(".", 2)
            parameters = _parameters(optimizers[owner]) if owner in optimizers else []
            if int(index) >= len(parameters) or tensor.shape not in (parameters[int(index)].shape, torch.Size()):
                raise _unfit(full_name)
            states[owner].setdefault(int(index), {})[key] = tensor
            entries[owner] += 1
    for name, optimizer in optimizers.items():
        size = tensors.get(f"optimizer_size.{name}")
        if size is None or size.tolist() != [len(_parameters(optimizer)), entries[name]]:
            raise _unfit(f"optimizer.{name}")
        optimizer.load_state_dict({"state": states[name], "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _unfit(name: str, what: str = "optimizers") -> SeqVAEError:
    hint = "resume with the version of seqvae that began the run, or begin a new one"
    return SeqVAEError("E401", f"the checkpoint's `{name}` does not fit the {what} of this run", hint=hint)


def require_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Raises E401 unless both have the same names, each with one shape and one type."""
    for name in sorted(expected.keys() | found.keys()):
        kinds = [
            None if tensor is None else (tensor.shape, tensor.dtype) for tensor in (expected.get(name), found.get(name))
        ]
        if kinds[0] != kinds[1]:
            raise _unfit(name, what)


def restore_weights(module: nn.Module, tensors: Weights, what: str = "model") -> None:
    require_fit(module.state_dict(), tensors, what)
    module.load_state_dict(tensors)


def strategy_tensors(strategies: nn.ModuleList) -> Weights:
    return {f"strategy.{name}": tensor for name, tensor in strategies.state_dict().items()}


def restore_strategies(strategies: nn.ModuleList, tensors: Weights) -> None:
    prefix = "strategy."
    own = {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n.startswith(prefix)}
    restore_weights(strategies, own, "methods")


def random_tensors(generators: Mapping[str, torch.Generator], device: torch.device) -> Weights:
    """The global random states of the CPU and of the run's device, and those of the run's own generators."""
    states = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["rng.cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["rng.mps"] = torch.mps.get_rng_state()
    return states | {f"rng.own.{name}": generator.get_state() for name, generator in generators.items()}


def device_of(tensors: Weights) -> str:
    """The type of device that `random_tensors` were of: no other one can go on with them."""
    return next((kind for kind in ("cuda", "mps") if f"rng.{kind}" in tensors), "cpu")


def restore_random(generators: Mapping[str, torch.Generator], tensors: Weights, device: torch.device) -> None:
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
    elif device.type == "mps" and "rng.mps" in tensors:
        torch.mps.set_rng_state(tensors["rng.mps"])
    for name, generator in generators.items():
        generator.set_state(tensors[f"rng.own.{name}"])


def seed_random(generators: Mapping[str, torch.Generator], seed: int) -> None:
    """New random states in place of those that `restore_random` would put back."""
    torch.manual_seed(seed)
    for number, generator in enumerate(generators.values(), 1):
        generator.manual_seed(seed + number)


def copy_weights(module: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

"""A run: its folder, its files, and ``train``, which makes or resumes one."""

import contextlib
import importlib.metadata
import itertools
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import torch

import seqvae
from seqvae.config import Config
from seqvae.data.corpora import title
from seqvae.data.progress import Told
from seqvae.data.store import Prepared, prepare
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, is_saved, load_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import evaluating
from seqvae.io import disk, manifests, pretrained, storage
from seqvae.models.vae import SeqVAE
from seqvae.textvae import TextVAE
from seqvae.training import state as states
from seqvae.training.distributed import World, joined, ranks_of
from seqvae.training.embeddings import PretrainedEmbeddings
from seqvae.training.external_loggers import ExternalLoggers, ShownCodes, check_loggers, codes_to_show
from seqvae.training.layout import CHECKPOINTS, CONFIG, LOG, METRICS, MODEL, PROVENANCE, TOKENIZER
from seqvae.training.listing import BEGAN, newest_first
from seqvae.training.lock import locked
from seqvae.training.loggers import MetricsFile, PlainLog
from seqvae.training.phases import check_resets, resolve_phases
from seqvae.training.resuming import (
    changed_settings,
    is_unused,
    is_within,
    keep_changes,
    refuse_changes,
    resumed_config,
    rooted,
)
from seqvae.training.runtime import Runtime
from seqvae.training.shares import check_dealing, check_shares, check_sources, dealt, processes
from seqvae.training.stage import check_phases
from seqvae.training.task import Observer, Task
from seqvae.training.trainer import Trainer


@dataclass(frozen=True)
class Run:
    """A run on disk. ``signal`` is what stopped it, else None."""

    folder: Path
    finished: bool
    signal: Signals | None = None

    def load(self, device: str = "cpu") -> TextVAE:
        """The best model of the run."""
        return pretrained.load(self.folder, device=device)


def train(
    config: Config | str | Path | Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    allow_change: Sequence[str] = (),
    observers: Sequence[Observer] = (),
) -> Run:
    """Train a model, or go on with a run that was stopped.

    ``config``: a Config, the name or path of a YAML file, or a mapping of settings. ``out``: the run's folder (default:
    a new one under ``./runs``). ``resume``: a run folder to go on with; ``config`` may then be left out and must agree
    where it is given, but for the settings that ``allow_change`` names. Every event of the run is handed to
    ``observers``.

    SIGINT (Ctrl-C) and SIGTERM stop it after the update: the run is saved, its ``finished`` is False, and no
    KeyboardInterrupt is raised; a loop over configs has to look. Threads and random states of the program are
    afterwards what they were before.

    Under ``torchrun`` every process calls this alike. The one of rank 0 writes the run and tells its observers; the
    others have the same result.
    """
    stem = Path(config).stem if isinstance(config, (str, Path)) else "run"
    if config is None and resume is None:
        hint = "`seqvae train --config tiny.yaml` needs nothing else, `seqvae config list` shows more; "
        hint += "`seqvae init FILE` writes a config for a text of yours"
        raise SeqVAEError("E210", "there is nothing to train", hint=hint)
    with _as_before(), joined() as world:
        if config is not None:
            config = with_full_paths(as_config(config), world)
        if resume is not None:
            folder, config = Path(resume), resumed_config(Path(resume), config, allow_change)
        else:
            folder = Path(world.told(lambda: str(new_folder(stem) if out is None else _checked_folder(Path(out)))))
        if world.rank > 0:
            return _train(config, folder, (), world)
        try:
            with locked(folder):
                return _train(config, folder, observers, world)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing was written into it: the text was not to be had, say


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Afterwards the process has the threads and the random states that it had."""
    threads = torch.get_num_threads()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def as_config(config: Config | str | Path | Mapping[str, Any]) -> Config:
    if isinstance(config, Config):
        return config
    return Config.from_dict(config) if isinstance(config, Mapping) else Config.from_yaml(config)


def with_full_paths(config: Config, world: World) -> Config:
    """The config that a run is saved with, but for what only this machine decides. Standard input is read.

    Raises E226 and E238 for text that cannot be read so, E220 to E222 for a corpus of the user's own that does not fit.
    """
    check_sources(world, config.data)
    return rooted(config)


def new_folder(stem: str, runs: Path = Path("runs")) -> Path:
    """Make ``runs/<stem>-<month><day>-<hour><minute>``, with a number behind it where that is taken.

    Two processes that ask at once get two folders.
    """
    name = f"{stem}-{time.strftime('%m%d-%H%M')}"
    for number in itertools.count(1):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        with disk.storage_errors(folder), contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("there is always another number")


def newest_run(
    runs: Path = Path("runs"),
    *,
    config: Config | None = None,
    allow_change: Sequence[str] = (),
    with_model: bool = False,
) -> Path | None:
    """The run under ``runs`` that was begun last: of those with these settings, or of those with a model."""
    for folder in newest_first(runs):
        if with_model and not (folder / MODEL).is_dir():
            continue
        if config is None or _has_settings(folder, config, allow_change):
            return folder
    return None


def _has_settings(folder: Path, config: Config, allow_change: Sequence[str]) -> bool:
    """Whether a run was begun with these settings, but for those that it may go on with other values of."""
    try:
        changed = changed_settings(Config.from_yaml(folder / CONFIG), config)
        return all(is_within(name, allow_change) for name in changed)
    except SeqVAEError:  # of another version, or damaged
        return False


def _other_machine(checkpoint: states.Checkpoint, begun: Mapping[str, Any], runtime: Runtime) -> list[str]:
    """What is not as it was where a run goes on elsewhere, and its settings leave device or precision open."""
    found, saved_on = [], states.device_of(checkpoint.training)
    if saved_on != runtime.device.type:
        found.append(f"saved on {saved_on}, resumed on {runtime.device.type}: same batches, other noise")
    if begun.get("precision", runtime.precision) != runtime.precision:
        found.append(f"begun in {begun['precision']}, resumed in {runtime.precision}: `train.precision` keeps to one")
    return found


def _checked_folder(folder: Path) -> Path:
    disk.require_utf8(folder)
    if not is_unused(folder):
        what = "the run folder is not empty, and no run is ever overwritten"
        hint = f"go on with it by `seqvae train --resume {folder}`, or choose another --out"
        raise SeqVAEError("E704", what, where=str(folder), hint=hint)
    return folder


def _train(config: Config, folder: Path, observers: Sequence[Observer], world: World) -> Run:
    check_loggers(config)
    runtime = Runtime.choose(config.train, world)
    config = config.replace(**{"train.threads": runtime.threads})
    with world.ahead(world.rank == 0):
        if world.rank == 0:
            storage.recover(folder)
            storage.recover(folder / CHECKPOINTS)
        checkpoint, notes = states.newest_intact(folder / CHECKPOINTS)
    if checkpoint is not None and checkpoint.progress.finished:
        refuse_changes(folder, config)
        _fan_out(observers)({"event": "note", "text": "this run is finished already"})
        return Run(folder, finished=True)
    tokenizer, saved_by = _tokenizer(config, folder), None if checkpoint is None else ranks_of(checkpoint.training)
    check_dealing(world, config.data, tokenizer, saved_by)
    with world.ahead(world.local_rank == 0 or config.data.shards):
        told = Told(_noting(observers), workers=config.data.workers)
        prepared = prepare(config.data.of_rank(world.rank, world.size), tokenizer, on_progress=told)
    prepared = dealt(world, config.data, prepared)
    data = _data(prepared, world if config.data.shards else World())
    _check_data(folder, data, resumed=checkpoint is not None)
    check_shares(world, config.data, prepared.splits["train"].row_lengths)
    step = "none" if checkpoint is None else str(checkpoint.progress.step)
    settings = config.replace(**{"train.threads": None}).to_yaml()
    world.require_same({"settings": settings, "prepared text": str(data), "newest checkpoint": step})
    torch.manual_seed(config.train.seed)
    model = SeqVAE(config.model, prepared.tokenizer.vocab_size, prepared.classes).to(runtime.device)
    phases = resolve_phases(config.objective, config.train)
    check_resets(phases, model.parts())
    check_phases(phases, model)
    if config.train.pretrained_embeddings is not None:
        pretrained_embeddings = PretrainedEmbeddings(config.train.pretrained_embeddings, model, phases)
        if checkpoint is None:
            notes += pretrained_embeddings.write(prepared.tokenizer)
    if world.rank > 0:
        trainer = _build(model, config, folder, prepared, runtime, _fan_out(()), lambda: 0)
        finished = trainer.fit(checkpoint)
        return Run(folder, finished, None if finished else trainer.stopped_by)
    states.set_aside_newer(folder / CHECKPOINTS, checkpoint)
    if checkpoint is not None:
        keep_changes(folder, config, checkpoint.progress.step)
    else:
        averaged = config.train.average_decay is not None
        states.require_room(folder, model, config.train.keep_checkpoints, averaged=averaged)
        # The config comes first: with it, whatever a crash leaves can be resumed.
        disk.write_bytes(folder / CONFIG, config.to_yaml().encode())
        provenance = _provenance(config, data, runtime) | {"config_sha256": [disk.sha256_file(folder / CONFIG)]}
        disk.write_json(folder / PROVENANCE, provenance)
        prepared.tokenizer.save(folder / TOKENIZER)
    if saved_by not in (None, world.size):
        notes.append(f"saved by {processes(saved_by)}, resumed by {processes(world.size)}: same batches, other noise")
    if checkpoint is not None:
        notes += _other_machine(checkpoint, disk.read_json(folder / PROVENANCE), runtime)
    metrics = MetricsFile(folder / METRICS, keep_bytes=0 if checkpoint is None else checkpoint.log_bytes)
    with contextlib.closing(metrics), _text_log(folder / LOG) as log:
        observe = _fan_out([metrics, log, *observers])
        observe(_start_event(config, folder, prepared, runtime, model))
        for note in (*prepared.notes, *notes):
            observe({"event": "note", "text": note})
        others = ExternalLoggers(
            config, folder, None if checkpoint is None else checkpoint.progress.step, _noting([observe])
        )
        with others.closing():
            trainer = _build(model, config, folder, prepared, runtime, _fan_out([observe, others]), metrics.size)
            finished = trainer.fit(checkpoint)
            if finished and model.latent_dim > 0:
                others.show_codes(lambda: _codes_to_show(trainer, config, folder))
    return Run(folder, finished, None if finished else trainer.stopped_by)


def _codes_to_show(trainer: Trainer, config: Config, folder: Path) -> ShownCodes:
    """By the model that the run ended with, which is loaded only where a logger asks for it."""
    vae = Run(folder, finished=True).load(str(trainer.task.runtime.device))
    return codes_to_show(vae, config, trainer.task.stores["valid"], trainer.progress.step)


def _tokenizer(config: Config, folder: Path) -> TokenizerConfig | Tokenizer:
    """The run's own, once it was begun: it goes on whatever becomes of the file that a setting names."""
    return load_tokenizer(folder / TOKENIZER) if is_saved(folder / TOKENIZER) else config.tokenizer


def _build(
    model: SeqVAE,
    config: Config,
    folder: Path,
    prepared: Prepared,
    runtime: Runtime,
    observe: Observer,
    log_bytes: Callable[[], int],
) -> Trainer:
    def save_model(trainer: Trainer) -> None:
        if runtime.world.rank > 0:
            return
        with evaluating(trainer.model):
            vae = TextVAE(trainer.model, prepared.tokenizer, noiseless=trainer.stage.noiseless)
        progress = trainer.progress
        facts = {"corpus": title(config.data), "updates": progress.step, "seed": config.train.seed}
        facts |= {f"best validation {trainer.stage.monitor}": progress.best}
        pretrained.save(folder / MODEL, vae, facts=facts)

    return Trainer(
        model,
        Task(
            phases=resolve_phases(config.objective, config.train),
            train=config.train,
            data=config.data,
            stores=prepared.splits,
            runtime=runtime,
            checkpoints=folder / CHECKPOINTS,
            observe=observe,
            log_bytes=log_bytes,
            save_model=save_model,
        ),
    )


@contextlib.contextmanager
def _text_log(path: Path) -> Iterator[Observer]:
    """Writes events to the end of a file; what the disk answers is told as an error of that file."""
    with disk.storage_errors(path):
        stream = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - closed below
    log = PlainLog(stream)

    def observe(event: Mapping[str, Any]) -> None:
        with disk.storage_errors(path):
            log(event)

    try:
        yield observe
    finally:
        with contextlib.suppress(OSError):  # Every line is flushed: only one that has failed already fails again.
            stream.close()


def _fan_out(observers: Sequence[Observer]) -> Observer:
    def observe(event: Mapping[str, Any]) -> None:
        for observer in observers:
            observer(event)

    return observe


def _noting(observers: Sequence[Observer]) -> Callable[[str], None]:
    observe = _fan_out(observers)
    return lambda text: observe({"event": "note", "text": text})


def _check_data(folder: Path, data: Mapping[str, Any], *, resumed: bool) -> None:
    """A run goes on only with the text that it was begun with."""
    if resumed and disk.read_json(folder / PROVENANCE).get("data") != data:
        hint = "restore the text, or begin a new run"
        raise SeqVAEError("E340", "the text has changed since the run was begun", where=str(folder), hint=hint)


def _data(prepared: Prepared, dealers: World) -> dict[str, dict[str, Any]]:
    """What was read, by split. Where a text is dealt out to several processes, what all of them read of it."""
    found = {
        name: {"fingerprint": store.fingerprint, **prepared.sources[name]} for name, store in prepared.splits.items()
    }
    if dealers.size > 1:
        found["train"] = {name: dealers.joint(str(value)) for name, value in found["train"].items()}
    return found


def _provenance(config: Config, data: Mapping[str, Any], runtime: Runtime) -> dict[str, Any]:
    vectors = config.train.pretrained_embeddings
    libraries = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "safetensors")}
    return {
        "schema_version": manifests.SCHEMA_VERSION,
        "began": time.strftime(BEGAN),
        "argv": shlex.join(sys.argv),
        "git": _git_commit(),
        "versions": {"seqvae": seqvae.__version__, "python": platform.python_version(), **libraries},
        "platform": platform.platform(),
        "device": str(runtime.device),
        "device_name": torch.cuda.get_device_name(runtime.device)
        if runtime.device.type == "cuda"
        else platform.machine(),
        "precision": runtime.precision,
        "threads": runtime.threads,
        "processes": runtime.world.size,
        "data": data,
        "pretrained_embeddings_sha256": None if vectors is None else disk.sha256_file(vectors.path),
    }


def _git_commit() -> str | None:
    """The commit of the working directory, where it is a repository."""
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _text_name(config: Config) -> str:
    """The training text: a path as short as it can be read from here, or the name of a corpus."""
    if config.data.train is None:
        return str(config.data.corpus)
    path = Path(config.data.train)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _start_event(
    config: Config, folder: Path, prepared: Prepared, runtime: Runtime, model: SeqVAE
) -> Mapping[str, Any]:
    counts = " · ".join(f"{split} {len(store):,}" for split, store in prepared.splits.items())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = "language model" if config.model.latent_dim == 0 else f"VAE · z {config.model.latent_dim}"
    return {
        "event": "start",
        "facts": {
            "run": str(folder),
            "data": f"{_text_name(config)} · {counts} · vocabulary {model.vocab_size:,}",
            "model": f"{config.model.cells} {kind} · {parameters:,} parameters · {runtime.precision} · {runtime.device}"
            f" ({runtime.threads} thread{'s' if runtime.threads > 1 else ''})"
            + (f" · {processes(runtime.world.size)}" if runtime.world.size > 1 else ""),
        },
    }

"""Loggers of other programs, TensorBoard and Weights & Biases: they are told what ``metrics.jsonl`` is told.

A run outlives those that watch it: a logger that fails is dropped with a note, and none can change what is trained.
"""

import contextlib
import functools
import importlib.util
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from seqvae.config import Config
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import subset
from seqvae.evaluation.surroundings import labels_of, texts_of
from seqvae.generation.codes import encode_store
from seqvae.io import disk
from seqvae.textvae import TextVAE
from seqvae.training.history import is_number, read_events
from seqvae.training.layout import METRICS, TENSORBOARD, WANDB
from seqvae.training.loggers import Event

Tell = Callable[[str], None]

MOST_CODES = 5_000
"""Sentences whose codes are shown: what the projector turns smoothly in a browser."""

INIT_S, FINISH_S = 30, 120
"""Seconds that Weights & Biases may take to answer at the start and to send what is left at the end."""

_PLACE = {"event", "step", "phase", "phase_step"}


@dataclass(frozen=True, kw_only=True)
class ShownCodes:
    """Posterior means of sentences, with what is known of each."""

    step: int
    means: Float[np.ndarray, "N Z"]
    columns: Mapping[str, Sequence[str]]
    """``text``, then the labels by their names, one for each sentence; all on one line."""


class Logger(Protocol):
    """What another program is told. ``fresh``: it knows nothing of the run yet."""

    fresh: bool

    def __call__(self, event: Event) -> None: ...

    def show_codes(self, codes: ShownCodes) -> None: ...

    def close(self, *, failed: bool) -> None: ...


def check_loggers(config: Config) -> None:
    """Raises SeqVAEError before anything is done for a run: E252 for a program that is not installed, E253 where
    Weights & Biases has no key to log in with."""
    for name in config.train.loggers:
        if importlib.util.find_spec(name) is None:
            what = f"`train.loggers` names {name}, which is not installed"
            raise SeqVAEError("E252", what, hint=f"pip install 'seqvae[{name}]'; or `--set train.loggers=[]`")
    if "wandb" in config.train.loggers:
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
            hint = "`wandb login`, or set WANDB_API_KEY; WANDB_MODE=offline keeps the run on this machine"
            raise SeqVAEError("E253", "Weights & Biases has no key to log in with", hint=hint)


def scalars(event: Event) -> dict[str, float]:
    """The numbers of an event about training or validation by ``train/rec_nats`` and so on; none of another event."""
    if event["event"] not in ("train", "valid"):
        return {}
    return {f"{event['event']}/{k}": v for k, v in event.items() if k not in _PLACE and is_number(v)}


def codes_to_show(vae: TextVAE, config: Config, store: TokenStore, step: int) -> ShownCodes:
    """The codes of sentences of the validation split ``store``, at most `MOST_CODES`."""
    rows = subset(len(store), MOST_CODES, seed=0)
    known = {"text": texts_of(config.data, "valid", store), **labels_of(config.data, "valid", store)}
    columns = {name: [_one_line(values[row]) for row in rows] for name, values in known.items()}
    return ShownCodes(step=step, means=encode_store(vae.model, store, rows).mean, columns=columns)


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "(empty)"


class ExternalLoggers:
    """The loggers that ``train.loggers`` names; an observer of the run of ``folder``, from update ``step`` on.

    ``step`` is None for a run that begins. A logger that is new to a run that goes on is told what was so far.
    """

    def __init__(self, config: Config, folder: Path, step: int | None, tell: Tell):
        self._tell, self._loggers = tell, {}
        for name in dict.fromkeys(config.train.loggers):
            with self._outlived(name):
                self._loggers[name] = logger = _KINDS[name](config, folder, step, tell)
                for event in read_events(folder / METRICS) if logger.fresh and step is not None else ():
                    logger(event)

    def __call__(self, event: Event) -> None:
        for name, logger in list(self._loggers.items()):
            with self._outlived(name):
                logger(event)

    def show_codes(self, make: Callable[[], ShownCodes]) -> None:
        made = functools.cache(make)
        for name, logger in list(self._loggers.items()):
            with self._outlived(name):
                logger.show_codes(made())

    @contextlib.contextmanager
    def closing(self) -> Iterator["ExternalLoggers"]:
        """Closes them at the end of the block, however it ends."""
        failed = True
        try:
            yield self
            failed = False
        finally:
            for name, logger in list(self._loggers.items()):
                with self._outlived(name):
                    logger.close(failed=failed)

    @contextlib.contextmanager
    def _outlived(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of foreign code that nothing here depends on
            self._loggers.pop(name, None)
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            self._tell(f"{name} is told nothing more ({reason}); the run goes on")


class TensorBoardLogger:
    """Event files in ``tensorboard/`` of the run; what a resumed run does again takes the place of what it had done."""

    def __init__(self, config: Config, folder: Path, step: int | None, tell: Tell):
        from torch.utils.tensorboard import SummaryWriter

        place = folder / TENSORBOARD
        self.fresh = not any(place.glob("events.out.tfevents.*"))
        # Readers drop what earlier files hold from this step on.
        purged = None if self.fresh else 0 if step is None else step + 1
        self._open = functools.partial(SummaryWriter, str(place))
        self._writer, self._told = self._open(purge_step=purged), 0
        if self.fresh:
            self._writer.add_text("config", f"```yaml\n{config.to_yaml()}```", 0)
        tell(f"TensorBoard: `tensorboard --logdir {folder.parent}`")

    def __call__(self, event: Event) -> None:
        numbers = scalars(event)
        if numbers and event["step"] < self._told:  # it diverged, and went back
            self._writer.close()
            self._writer = self._open(purge_step=event["step"])
        self._told = event["step"] if numbers else self._told
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, event["step"])
        if numbers:  # a run that is killed keeps them
            self._writer.flush()

    def show_codes(self, codes: ShownCodes) -> None:
        names, rows = list(codes.columns), list(zip(*codes.columns.values(), strict=True))
        labelled = {"metadata": [list(row) for row in rows], "metadata_header": names}
        alone = {"metadata": [text for (text,) in rows]} if len(names) == 1 else labelled
        self._writer.add_embedding(codes.means, global_step=codes.step, tag="codes", **alone)

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases whose id is kept in the folder; project and mode are those of its own variables.

    Where its server does not answer at the start, the run is kept on this machine.
    """

    def __init__(self, config: Config, folder: Path, step: int | None, tell: Tell):
        import wandb

        kept = folder / WANDB / "run.json"
        self.fresh = not kept.is_file()
        identity = secrets.token_hex(4) if self.fresh else disk.read_json(kept)["id"]
        settings = wandb.Settings(console="off", silent=True, init_timeout=INIT_S, finish_timeout=FINISH_S)
        begin = functools.partial(
            wandb.init,
            project=os.environ.get("WANDB_PROJECT", "seqvae"),
            id=identity,
            name=folder.resolve().name,
            dir=str(folder),
            config=config.model_dump(mode="json"),
            resume="allow",
            settings=settings,
        )
        try:
            self._run = begin()
        except wandb.errors.CommError as error:
            tell(f"Weights & Biases does not answer ({next(iter(str(error).splitlines()), '')})")
            wandb.teardown()  # its service still holds the id
            self._run = begin(mode="offline")
        if self.fresh:
            disk.write_json(kept, {"id": identity})
        place = Path(self._run.dir).parent
        where = f"kept on this machine; `wandb sync {place}` sends it" if self._run.offline else self._run.url
        tell(f"Weights & Biases: {where}")

    def __call__(self, event: Event) -> None:
        if numbers := scalars(event):
            self._run.log(numbers, step=event["step"])
        elif event["event"] == "end":
            self._run.summary.update({"best": event["best"], "best_step": event["best_step"]})

    def show_codes(self, codes: ShownCodes) -> None:
        import wandb

        names = [*codes.columns, *(f"mean_{i}" for i in range(codes.means.shape[1]))]
        known = zip(*codes.columns.values(), strict=True)
        rows = [[*row, *means] for row, means in zip(known, codes.means.tolist(), strict=True)]
        self._run.log({"codes": wandb.Table(columns=names, data=rows)}, step=codes.step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


_KINDS: Mapping[str, Callable[[Config, Path, int | None, Tell], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}

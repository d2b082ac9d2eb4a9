"""``seqvae train``."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import run_verb, say
from seqvae.cli.options import ChangesOption, ConfigOption, load_model, read_sentences, seed_option, tell_waiting
from seqvae.cli.progress import training_display
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.config import Config
    from seqvae.training.run import Run


@run_verb()
def train(
    config: ConfigOption = None,
    changes: ChangesOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder.", show_default="a new one in ./runs")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run; auto: the newest of the config, or begin if there is none.",
            autocompletion=completion.resumable,
        ),
    ] = None,
    seed: Annotated[
        int | None, seed_option("Short for --set train.seed=N.", show_default="train.seed of the config")
    ] = None,
    allow_change: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B", help="A setting that a resumed run may go on with another value of; repeatable."),
    ] = None,
    fail_on_collapse: Annotated[
        bool, typer.Option("--fail-on-collapse", help="Measure the finished model; exit with 5 if z is not used.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON on stdout.")] = False,
) -> None:
    """Train a model, or go on with a run that was stopped.

    A run is a folder: its config, metrics.jsonl, log.txt, checkpoints and model/. Ctrl-C or SIGTERM finishes the step,
    saves, and prints how to go on. `torchrun --nproc-per-node N -m seqvae train ...` trains with N processes.
    """
    changes = [*(changes or ()), *([] if seed is None else [f"train.seed={seed}"])]
    if changes and config is None and resume is None:
        option = "--seed" if seed is not None else "--set"
        raise SeqVAEError("E212", f"{option} changes a config, and none is given", hint="add `--config tiny.yaml`, say")
    with _one_voice():
        if allow_change and resume is None:
            raise SeqVAEError("E212", "--allow-change is for a run that is gone on with", hint="add `--resume RUN`")
        result = _trained(config, changes, out, resume, allow_change or (), as_json=json)
    _report(result)
    if fail_on_collapse:
        _require_use(result.folder)


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of the processes of ``torchrun`` on a machine the first tells what is wrong; the others find the same."""
    try:
        yield
    except SeqVAEError as error:
        if os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        raise SystemExit(error.exit_code) from None


def _trained(
    config: str | None,
    changes: list[str],
    out: Path | None,
    resume: str | None,
    allow_change: Sequence[str],
    *,
    as_json: bool,
) -> "Run":
    from seqvae.config import Config
    from seqvae.training import run as runs
    from seqvae.training.distributed import joined

    settings = None if config is None else Config.from_yaml(config, changes)
    if settings is not None:
        tell_waiting(settings.data.train, settings.data.valid, settings.data.test)
    with joined() as world:
        found = world.told(lambda: _resumed_folder(resume, settings, out, allow_change))
        folder = Path(found) if found else None
        if folder is not None and settings is None and changes and (folder / runs.CONFIG).is_file():
            settings = Config.from_yaml(folder / runs.CONFIG, changes)
        if folder is None and out is None and config is not None:
            settings = runs.with_full_paths(settings, world)  # what it refuses leaves no folder behind
            out = Path(world.told(lambda: str(runs.new_folder(Path(config).stem))))
        with training_display(as_json=as_json) if world.rank == 0 else contextlib.nullcontext(()) as observers:
            return runs.train(settings, out=out, resume=folder, allow_change=allow_change, observers=observers)


def _resumed_folder(resume: str | None, config: "Config | None", out: Path | None, allow_change: Sequence[str]) -> str:
    """The run to go on with, or nothing. ``auto``: --out if given, else the newest run (of those with these settings,
    if any, but for those that may change)."""
    if resume is None:
        return ""
    if resume != "auto":
        if out is not None and out.resolve() != Path(resume).resolve():
            raise SeqVAEError("E213", "--resume and --out name different folders", hint="leave --out away")
        return resume
    from seqvae.training.run import CONFIG, newest_run

    if out is not None:
        return str(out) if (out / CONFIG).exists() else ""
    return str(newest_run(config=config, allow_change=allow_change) or "")


def _report(result: "Run") -> None:
    if os.environ.get("RANK", "0") != "0":
        raise SystemExit
    if result.signal is not None:
        say(f"stopped  by {result.signal.name}; everything is saved")
        say(f"resume   seqvae train --resume {result.folder}")
        raise SystemExit(128 + result.signal)
    say(f"done     {result.folder}")
    say(f"next     seqvae eval --model {result.folder}")


def _require_use(folder: Path) -> None:
    """Raises E506 where the model of a run has collapsed, by what `seqvae eval` would say of its validation split."""
    from seqvae.evaluation.report import EvalConfig
    from seqvae.textvae import evaluate

    vae, found = load_model(folder, "auto")
    store = read_sentences(found, vae, "valid", None)
    verdict = evaluate(vae, store, split="valid", config=EvalConfig(iw_samples=_FEW_SAMPLES)).verdict
    if verdict.collapsed:
        raise SeqVAEError("E506", verdict.text, where=str(folder), hint=verdict.next)
    say(f"latent   {verdict.text}")


_FEW_SAMPLES = 10
"""Of the likelihood, which the verdict does not rest on."""

"""Options that several verbs share, and the model that they act on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli.console import say
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.textvae import TextVAE

ModelOption = Annotated[
    Path | None, typer.Option("--model", metavar="DIR", help="A run or model folder [default: the newest in ./runs].")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of whatever is drawn [default: a new one, shown on stderr].")
]


def chosen_model(path: Path | None) -> Path:
    """The folder that ``--model`` names, or the newest run in ./runs that has a model, named on stderr."""
    if path is not None:
        return path
    from seqvae.training.run import newest_run

    newest = newest_run(with_model=True)
    if newest is None:
        hint = "train one: `seqvae train --config tiny.yaml`, or name a folder with `--model`"
        raise SeqVAEError("E404", "there is no model under ./runs", hint=hint)
    say(f"model    {newest}")
    return newest


def load_model(path: Path | None, device: str) -> "TextVAE":
    from seqvae.io.pretrained import load
    from seqvae.training.runtime import choose_device

    folder = chosen_model(path)
    return load(folder, device=choose_device(device))


def chosen_seed(seed: int | None) -> int:
    """``--seed``, or a new one that is named on stderr so that the result can be had again."""
    if seed is not None:
        return seed
    import secrets

    drawn = secrets.randbelow(1_000_000)
    say(f"seed     {drawn}")
    return drawn

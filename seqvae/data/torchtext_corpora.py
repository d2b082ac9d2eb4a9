"""Corpora that torchtext (the extra ``seqvae[torchtext]``) reads: ``torchtext:WikiText2`` and the like.

torchtext 0.6.0 finds its files in ``.data`` in the working directory, in ``$SEQVAE_DATA/torchtext`` or in the user's
cache, in the layout that it has itself; what is nowhere there it downloads, unverified. Its lines are kept as it gives
them: those of WikiText are paragraphs and headings, not sentences.
"""

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from seqvae.data.cache import user_cache, writing_cache
from seqvae.data.sources import Row, Source
from seqvae.data.spool import SpooledSource
from seqvae.data.tables import to_row
from seqvae.errors import SeqVAEError
from seqvae.io.disk import expanded

PREFIX = "torchtext:"

_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_PARTS = {
    "WikiText2": ("train", "valid", "test"),
    "WikiText103": ("train", "valid", "test"),
    "PennTreebank": ("train", "valid", "test"),
    "SST": ("train", "valid", "test"),
    "IMDB": ("train", "test"),
    "TREC": ("train", "test"),
}
"""The corpora that are texts by themselves, and the splits that torchtext has of them."""
_LABELLED = {"SST", "IMDB", "TREC"}

_log = logging.getLogger("seqvae.data")


def names() -> list[str]:
    return [PREFIX + name for name in _PARTS]


def open_corpus(name: str, *, labels: bool | str) -> dict[str, Source]:
    """The splits of the corpus ``torchtext:NAME``, read when they are first needed.

    Raises E221 for a name that is not among them, E223 for labels of a corpus that has none; when read: E225 where
    torchtext or what it needs is not installed, E308 where the corpus is not to be had.
    """
    corpus = name.removeprefix(PREFIX)
    if corpus not in _PARTS:
        close = get_close_matches(corpus, _PARTS, n=1, cutoff=0.4)
        guess = f"did you mean `{PREFIX}{close[0]}`? " if close else ""
        hint = f"{guess}those that torchtext reads as text are: {', '.join(names())}"
        raise SeqVAEError("E221", f"there is no corpus named {name!r}", where="data.corpus", hint=hint)
    if labels and (corpus not in _LABELLED or isinstance(labels, str)):
        what = f"`data.labels` does not go with {name}: it has " + ("one label" if corpus in _LABELLED else "no labels")
        hint = "set `data.labels=true`" if corpus in _LABELLED else "set `data.labels=false`"
        raise SeqVAEError("E223", what, hint=hint)
    return {
        split: SpooledSource(
            name=f"{name} {split}",
            key={"torchtext": corpus, "split": split, "labels": bool(labels)},
            read=lambda split=split: _rows(corpus, split, bool(labels)),
            has_labels=bool(labels),
        )
        for split in _PARTS[corpus]
    }


def _rows(corpus: str, split: str, labels: bool) -> Iterator[Row]:
    where = f"{PREFIX}{corpus}"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints; stdout is for data
            examples = _examples(corpus, split)
    except ImportError as error:
        package = (error.name or "torchtext").split(".")[0]
        what = f"the corpus needs the package {package}, which is not installed"
        raise SeqVAEError("E225", what, where=where, hint="pip install 'seqvae[torchtext]'") from None
    columns = ["text", *(["label"] if labels else [])]
    for number, example in enumerate(examples, 1):
        yield to_row(f"{where} {split}", number, example, *columns)


def _examples(corpus: str, split: str) -> Iterator[dict[str, str]]:
    """Text, and label where there is one, of every line as torchtext gives it; all of it is read at once."""
    import torchtext.data
    import torchtext.datasets

    reader = getattr(torchtext.datasets, corpus)
    text = torchtext.data.Field(tokenize=lambda line: [line])  # one token a line: nothing of it is lost
    others = {_SPLITS[part]: None for part in _PARTS[corpus] if part != split}
    root = _root(reader.name)
    with _download(reader, root):
        if corpus not in _LABELLED:
            (data,) = reader.splits(text, root=str(root), newline_eos=False, **others)
            return ({"text": line} for line in data.examples[0].text)
        label = torchtext.data.Field(sequential=False)
        (data,) = reader.splits(text, label, root=str(root), **others)
        return ({"text": example.text[0] if example.text else "", "label": example.label} for example in data.examples)


def _root(folder: str) -> Path:
    """Where torchtext is to look: where the corpus lies already, else in the cache."""
    own = os.environ.get("SEQVAE_DATA")
    places = [Path(".data"), *([expanded(own) / "torchtext"] if own else [])]
    return next((place for place in places if (place / folder).is_dir()), user_cache() / "torchtext")


@contextlib.contextmanager
def _download(reader: type, root: Path) -> Iterator[None]:
    """Says what is about to be downloaded; what fails leaves nothing, or torchtext would take it for the whole."""
    target = root / reader.name
    present = target.is_dir()
    if not present:
        _log.info("fetch    %s%s, by torchtext and unverified, from %s", PREFIX, reader.__name__, reader.urls[0])
    try:
        with writing_cache(root), contextlib.redirect_stderr(io.StringIO()):
            yield
    except BaseException as error:
        if not present:
            shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, (SeqVAEError, ImportError)) or not isinstance(error, Exception):
            raise
        first = next(iter(str(error).splitlines()), "")
        what = f"the corpus {PREFIX}{reader.__name__} is not to be had: {type(error).__name__}: {first}"
        place = (Path(".data") / reader.name / reader.dirname).absolute()
        hint = f"put its files into {place}, as torchtext lays them out"
        raise SeqVAEError("E308", what, where=str(target), hint=hint) from error

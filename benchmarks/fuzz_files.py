"""Saved files with bytes changed, with or without a manifest that agrees."""

import contextlib
import copy
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import seqvae
from benchmarks.fuzz_desk import SENTENCES, WORDS, desk, told
from benchmarks.fuzz_inputs import texts
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import load_tokenizer
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig
from seqvae.io import codes, disk, storage
from seqvae.training.state import Checkpoint
from seqvae.types import UNK

Edit = tuple[str, float, bytes]


def edits() -> st.SearchStrategy[list[Edit]]:
    """What may happen to the bytes of a file: at a place (as a share of its length), with some bytes."""
    kinds = st.sampled_from([*["flip"] * 4, "cut", "insert", "overwrite", "overwrite", "zero", "double"])
    content = st.one_of(
        st.binary(min_size=1, max_size=12), st.sampled_from([b"\0" * 64, b"9" * 40, b"[" * 99, b"\xff" * 8])
    )
    return st.lists(st.tuples(kinds, st.floats(0, 1), content), min_size=1, max_size=3)


def edited(content: bytes, changes: list[Edit]) -> bytes:
    for kind, share, extra in changes:
        at = min(int(share * len(content)), max(0, len(content) - 1))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ (1 << extra[0] % 8)]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + extra + content[at:]
        elif kind == "overwrite":
            content = content[:at] + extra + content[at + len(extra) :]
        elif kind == "zero":
            content = content[:at] + bytes(min(len(extra), len(content) - at)) + content[at + len(extra) :]
        else:
            content = content[:at] + content[max(0, at - 64) :]
    return content


_MODEL_FILES = ["config.json", "model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer.model"]


@st.composite
def changed_models(draw) -> tuple[str, str, list[Edit], bool]:
    """(kind of model, file, edits, whether the manifest is made to agree, as an attacker would)."""
    kind = draw(st.sampled_from(["word", "pieces"]))
    file = draw(st.sampled_from(["MANIFEST.json", *(_MODEL_FILES if kind == "pieces" else _MODEL_FILES[:3])]))
    return kind, file, draw(edits()), draw(st.booleans())


def _reseal(folder: Path) -> None:
    """A manifest that agrees with the files as they are, and a tokenizer that names its pieces by their sha256."""
    pieces, name = folder / "tokenizer" / "tokenizer.model", folder / "tokenizer" / "tokenizer.json"
    if pieces.is_file():
        content = json.loads(name.read_bytes())
        name.write_text(json.dumps(content | {"model_sha256": disk.sha256_file(pieces)}), encoding="utf-8")
    with storage.atomic_folder(folder, amend=True):
        pass


def check_model(case: tuple[str, str, list[Edit], bool]) -> str:
    kind, file, changes, agrees = case
    with desk().copy(desk().models[kind]) as folder:
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(edited(before, changes))
        same = (folder / file).read_bytes() == before
        if agrees and file != "MANIFEST.json":
            with contextlib.suppress(ValueError, TypeError):  # the tokenizer's JSON is itself what was changed
                _reseal(folder)
        return _answers(folder, may_load=same or agrees or file == "MANIFEST.json")


def _answers(folder: Path, *, may_load: bool = True) -> str:
    """A folder is refused, or makes a model that answers or says why it cannot."""
    try:
        vae = seqvae.load(folder)
    except SeqVAEError as error:
        return told(error, 4)
    assert may_load, "a changed file was loaded in silence"
    few = DecodeConfig(max_length=4)
    asks: list[Callable[[], Any]] = [lambda: vae.sample(2, seed=0, config=few), lambda: vae.score(["the cat"])]
    if vae.latent_dim:
        asks.append(lambda: vae.decode(vae.encode(["the cat", ""]), config=few))
    for ask in asks:
        try:
            ask()
        except SeqVAEError as error:
            return "loads, " + told(error, 2, 4, 5)
    return "loads"


@st.composite
def descriptions(draw) -> dict[str, Any]:
    """``config.json`` with values of any kind in any place."""
    content = json.loads((desk().models["word"] / "config.json").read_text(encoding="utf-8"))
    values = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=6),
        st.sampled_from([0, 1, 2, 3, 64, 10**9, 10**18, 2**63, 10**40, "gru", "iaf", "vmf", "vamp", "mixture", [], {}]),
        st.sampled_from([{"family": "iaf"}, {"family": "vmf"}, {"family": "vamp"}, {"embedding": 2}, ["x", "y"],
                         [{"name": "semi_amortised"}], [{"name": "beta", "beta": 1}]]),
    )  # fmt: skip
    for _ in range(draw(st.integers(1, 4))):
        place = content
        while True:
            key = draw(st.one_of(st.sampled_from(sorted(place)), st.text(max_size=4)))
            if isinstance(place.get(key), dict) and place[key] and draw(st.integers(0, 3)):
                place = place[key]
                continue
            place[key] = copy.deepcopy(draw(values))  # what is drawn is shared by all cases
            break
    return content


def check_description(content: dict[str, Any]) -> str:
    with desk().copy(desk().models["word"]) as folder:
        (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
        _reseal(folder)
        return _answers(folder)


CHECKPOINT_FILES = ["MANIFEST.json", "state.json", "model.safetensors", "best.safetensors", "training.safetensors"]


def check_checkpoint(case: tuple[str, list[Edit], bool]) -> str:
    file, changes, agrees = case
    with desk().copy(desk().checkpoint) as folder:
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(edited(before, changes))
        same = (folder / file).read_bytes() == before
        if agrees and file != "MANIFEST.json":
            _reseal(folder)
        try:
            Checkpoint.load(folder)
        except SeqVAEError as error:
            return told(error, 4)
        assert same or agrees or file == "MANIFEST.json", "a changed checkpoint was loaded in silence"
        return "loads"


STORE_FILES = ["store.json", "tokens.npy", "offsets.npy", "lines.npy"]


@functools.cache
def _store_folder() -> Path:
    """A prepared split, in the cache since the models of the desk were trained."""
    return next(path.parent for path in (desk().folder / "cache" / "prepared").glob("*/store.json"))


def check_store(case: tuple[str, list[Edit]]) -> str:
    """A store whose manifest nobody asked: it says that it is damaged, or gives rows."""
    file, changes = case
    with desk().copy(_store_folder()) as folder:
        (folder / file).write_bytes(edited((folder / file).read_bytes(), changes))
        try:
            store = TokenStore.open(folder)
        except SeqVAEError as error:
            return told(error, 4)
        assert len(store.lengths) == len(store)
        return "opens"


def check_codes(case: tuple[str, list[Edit]]) -> str:
    """A file of codes of any origin: finite rows of the right size, or the place of what is wrong."""
    suffix, changes = case
    path = desk().folder / f"case{suffix}"
    path.write_bytes(edited(_codes_file(suffix), changes))
    try:
        for block in codes.read_means(path, 3):
            assert block.shape[1] == 3
            assert np.isfinite(block).all()
    except SeqVAEError as error:
        return told(error, 3)
    return "reads"


@functools.cache
def _codes_file(suffix: str) -> bytes:
    path = desk().folder / f"whole{suffix}"
    with codes.writing(path) as writer:
        encoded = desk().vae.encode(SENTENCES)
        writer.write(SENTENCES, encoded.mean, encoded.std)
    return path.read_bytes()


def check_tokenizer_file(case: tuple[str, dict[str, Any]]) -> str:
    """``tokenizer.json`` with other values, by itself."""
    kind, changes = case
    with tempfile.TemporaryDirectory(dir=desk().folder) as place:
        tokenizer = WordTokenizer(WORDS) if kind == "word" else CharTokenizer(list("the ca"))
        tokenizer.save(place)
        path = Path(place) / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")
        try:
            loaded = load_tokenizer(place)
        except SeqVAEError as error:
            return told(error, 4)
        for line in SENTENCES:
            assert all(UNK <= index < loaded.vocab_size for index in loaded.encode(line))
            loaded.decode(loaded.encode(line))
        return "loads"


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_FIELDS = st.sampled_from(
    ["words", "characters", "lowercase", "unknown_word", "normalization", "name", "schema_version", "x"]
)
tokenizer_files = st.tuples(st.sampled_from(["word", "char"]), st.dictionaries(_FIELDS, _JSON, min_size=1, max_size=3))

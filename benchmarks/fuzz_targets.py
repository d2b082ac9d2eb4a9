"""What is fuzzed: for each target how its cases are drawn, and what must hold of every one.

A check returns what came of its case: ``ok``, or the code of the error that a user would read. Whatever else it raises
is a finding: a bare exception, an exit code that is not documented, an answer that is not what it should be.
"""

import contextlib
import functools
import json
import math
import os
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer.main
from hypothesis import strategies as st
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config, shipped_configs
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import load_tokenizer, train_tokenizer
from seqvae.data.word_tokenizer import WordTokenizer, WordTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.io import codes, pretrained, storage
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.registry import strategy_types
from seqvae.setting_docs import explain, setting_names
from seqvae.shipped import shipped
from seqvae.textvae import TextVAE
from seqvae.training.state import Checkpoint
from seqvae.types import BOS, EOS, PAD, UNK
from seqvae.yaml_source import dump_value, dump_yaml

Check = Callable[[Any], str]

WORDS = ["the", "cat", "saw", "a", "dog", "and", "ate"]
SENTENCES = ["the cat saw a dog", "a dog ate", "", "the dog and the cat", "cat"]
MODEL = {"latent_dim": 3, "encoder": {"embedding": 5, "hidden": 6}, "decoder": {"embedding": 7, "hidden": 8}}
TRAIN = {"device": "cpu", "threads": 1, "steps": 2, "log_every": 1}


@dataclass(frozen=True, kw_only=True)
class Target:
    """``cases`` are drawn, ``check`` holds each; ``trains`` where a case costs a short training."""

    name: str
    cases: st.SearchStrategy
    check: Check
    trains: bool = False


# The place where cases are tried: models, texts and files, made once in a process.


class Desk:
    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="seqvae-fuzz-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name)
        os.environ["SEQVAE_CACHE"] = str(self.folder / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        (self.folder / "a.txt").write_text("\n".join(filter(None, SENTENCES * 3)) + "\n", encoding="utf-8")
        (self.folder / "odd.txt").write_bytes(b"the cat\xff\n\n")
        (self.folder / "t.jsonl").write_text('{"text": "the cat", "y": "good"}\n' * 3, encoding="utf-8")
        config = {"data": {"train": "a.txt", "valid": "a.txt", "test": "a.txt"}, "model": MODEL, "train": TRAIN}
        (self.folder / "small.yaml").write_text(dump_yaml(config | {"eval": {"iw_samples": 2}}), encoding="utf-8")
        with contextlib.chdir(self.folder):
            for name, latent_dim in (("vae", 3), ("lm", 0)):
                seqvae.train(Config.from_yaml("small.yaml", [f"model.latent_dim={latent_dim}"]), out=f"runs/{name}")
        self.vae = seqvae.load(self.folder / "runs" / "vae")
        with codes.writing(self.folder / "codes.npz") as writer:
            encoded = self.vae.encode(SENTENCES)
            writer.write(SENTENCES, encoded.mean, encoded.std)
        self.models = {"word": self.folder / "runs" / "vae" / "model", "pieces": self._with_pieces()}
        self.checkpoint = sorted((self.folder / "runs" / "vae" / "checkpoints").iterdir())[-1]

    def _with_pieces(self) -> Path:
        """A model whose tokenizer is a file of SentencePiece."""
        settings = SentencePieceTokenizerConfig(vocab_size=18, byte_fallback=False)
        tokenizer = SentencePieceTokenizer.train(SENTENCES * 9, settings)
        model = SeqVAE(ModelConfig(**MODEL), tokenizer.vocab_size)
        pretrained.save(self.folder / "pieces", TextVAE(model, tokenizer), facts={})
        return self.folder / "pieces"

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Path]:
        """A copy of a folder, gone afterwards."""
        place = Path(tempfile.mkdtemp(dir=self.folder)) / folder.name
        shutil.copytree(folder, place)
        try:
            yield place
        finally:
            shutil.rmtree(place.parent)


@functools.cache
def desk() -> Desk:
    return Desk()


def told(error: SeqVAEError, *exits: int) -> str:
    """The code of an error that is shown as it should be; of one of the ``exits``."""
    assert error.exit_code in exits, f"{error.code} where one of {exits} is documented"
    assert error.render().startswith(f"error[{error.code}]: ")
    return error.code


# Configs and --set.

_YAML_WORDS = ["a: &a [", "*a", "<<: *a", "!!python/object:os.system", "!!binary", "---", "...", "\t", "? ", "|", ">-",
               "{", "}", "[", "]", "'", '"', "#", ": ", "- ", "\ufeff", "\x85", "\u2028", "1e400", "0x", ".nan", "~",
               "null", "true", "-1", "2", "0.5", "word", "9" * 5000, "\x00", "\ud800", "\U0001f600"]  # fmt: skip


_NAMES = st.sampled_from(
    [name for name in setting_names() if not name.startswith(("train.phases.", "objective.strat"))]
)
_USUAL = st.sampled_from(
    ["1", "2", "0.5", "true", "null", "word", "adamw", "beta", "{}", "[]", "{name: adamw}", "[{name: delta}]"]
)


@st.composite
def yaml_texts(draw) -> str:
    """A shipped config with words of YAML and settings strewn into it, or any text."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.text(max_size=200))
    name = draw(st.sampled_from(shipped_configs()))
    lines = (shipped("configs") / name).read_text(encoding="utf-8").splitlines()
    names = [name.rpartition(".")[2] for name in setting_names()]
    words = st.one_of(st.sampled_from(_YAML_WORDS), st.sampled_from(names), st.text(max_size=5))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        line = lines[place]
        column = draw(st.integers(0, len(line)))
        end = draw(st.integers(column, len(line)))
        done = draw(st.sampled_from(["insert", "replace", "delete", *["double"] * 2, *["value"] * 9]))
        if done == "double":
            lines.insert(place, line)
        elif done == "value":
            lines[place] = f"{line.partition(':')[0]}: {draw(st.one_of(_USUAL, words))}"
        else:
            lines[place] = line[:column] + ("" if done == "delete" else draw(words)) + line[end:]
        lines = lines or [""]
    return "\n".join(lines)


def check_yaml(text: str) -> str:
    path = desk().folder / "case.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        config = Config.from_yaml(path)
    except SeqVAEError as error:
        return told(error, 2)
    assert Config.from_dict(config.model_dump(mode="json")) == config
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert Config.from_yaml(path) == config, "what is written is not what was read"
    return "ok"


def _defaults() -> st.SearchStrategy[str]:
    """A setting as it is anyhow."""
    return _NAMES.map(lambda name: f"{name}={dump_value(explain(name)[0].default)}")


@st.composite
def overrides(draw) -> list[str]:
    """Settings by their names, near misses of them, and values of every kind."""
    names = st.one_of(_NAMES, _NAMES, _NAMES, st.text(max_size=8))
    joints = st.sampled_from([*[""] * 40, ".", ".0", ".x", "..", ".99999999999", " "])
    odd = st.sampled_from([*_YAML_WORDS, "[1, 2", "-", "''", " # x"])
    values = st.one_of(_USUAL, _USUAL, odd, st.integers().map(str), st.floats().map(str), st.text(max_size=12))
    equals = st.sampled_from([*["="] * 40, "", "==", " = "])
    argument = st.one_of(_defaults(), st.tuples(names, joints, equals, values).map("".join))
    return draw(st.lists(argument, min_size=1, max_size=3))


def check_overrides(arguments: list[str]) -> str:
    try:
        config = Config.from_dict({}, arguments)
    except SeqVAEError as error:
        return told(error, 2)
    assert Config.from_dict(config.model_dump(mode="json")) == config
    return "ok"


# Command lines.

_IDLE = {"train", "explore", "bench", "doctor", "data fetch"}
"""Verbs that train, serve, measure or go to the network: training has a target of its own."""

_VALUES = ["1", "0", "-1", "2", "1e9", "nan", "inf", "-inf", "0.5", "1e-9", "", "-", "--", "a b", "the cat", "café",
           "\udce9", "a.txt", "odd.txt", "t.jsonl", "nope.txt", "runs/vae", "runs/lm", "runs/vae/model", "runs", ".",
           "codes.npz", "new.npz", "new.jsonl", "new.yaml", "small.yaml", "tiny.yaml", "x" * 300, "9" * 30, "-" * 40,
           "cpu", "cuda:9", "meta", "aggregate", "prior", "test", "valid", "lerp", "euclidean", "train.steps=1",
           "E204", "word", "___ cat ___*", "\U0001f600", "\u202e", "{}", "%s", "$HOME", "\n", "a\tb"]  # fmt: skip


@functools.cache
def _verbs() -> dict[str, list[Any]]:
    """The parameters of each verb."""
    found, groups = {}, [((), typer.main.get_command(app))]
    while groups:
        path, command = groups.pop()
        for name, inner in getattr(command, "commands", {}).items():
            groups.append(((*path, name), inner))
        if not getattr(command, "commands", None):
            found[" ".join(path)] = command.params
    return dict(sorted(found.items()))


_PLAIN = st.text(st.characters(exclude_characters="/\\~\0"), max_size=6)
_ANY = st.one_of(st.sampled_from(_VALUES), _PLAIN)


def _meant(parameter: Any) -> st.SearchStrategy[str]:
    """Values of the kind that a parameter takes."""
    kind = parameter.type_descriptor.annotation
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(typing.get_args(kind))
    if kind is int:
        return st.one_of(st.integers(-1, 12).map(str), st.sampled_from([*["2"] * 3, "9" * 30, str(2**31)]))
    if kind is float:
        return st.one_of(st.floats(0, 2).map(str), st.sampled_from(["nan", "inf", "1e-300", "1e300", "-1"]))
    return _ANY


@st.composite
def command_lines(draw) -> list[str]:
    """A verb with options of its own, mostly of the kind that they take; now and then a word is amiss."""
    verb = draw(st.sampled_from(list(_verbs())))
    if verb in _IDLE:
        return [*verb.split(), "--help"]
    words = []
    for parameter in _verbs()[verb]:
        options = [name for name in parameter.opts if name.startswith("-")]
        value = [] if getattr(parameter, "is_flag", False) else [draw(_meant(parameter))]
        if "--model" in options:
            value = [draw(st.sampled_from([*["runs/vae"] * 5, "runs/lm", "nope"]))]
        if "--device" in options:
            value = [draw(st.sampled_from(["cpu", "cpu", "cpu", "cuda:9", ""]))]
        if not options or draw(st.integers(0, 5)) == 0 or "--model" in options:
            words += [*options[:1], *value]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(words)))
        words[place : place + draw(st.integers(0, 1))] = [
            draw(st.one_of(_ANY, st.sampled_from(["--help", "--json", "--nope"])))
        ]
    return [*verb.split(), *words]


EXITS = {0, 2, 3, 4, 5, 6, 7}


def ran(words: list[str]) -> str:
    """What ``seqvae WORDS`` came to; raises where it is not as documented."""
    result = CliRunner().invoke(app, words, prog_name="seqvae", input="the cat\na dog\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in EXITS, f"exit code {result.exit_code}: {result.stderr}"
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        return "ok"
    assert f"error[E{result.exit_code}" in result.stderr, result.stderr
    return result.stderr.partition("error[")[2][:4]


def check_command_line(words: list[str]) -> str:
    with contextlib.chdir(desk().folder):
        try:
            return ran(words)
        finally:
            for path in desk().folder.glob("new*"):
                path.unlink() if path.is_file() else shutil.rmtree(path)


# Text of every kind.

_CHARACTERS = st.one_of(
    st.characters(),
    st.sampled_from("\0\t\n\r\x0b\x0c\x1c\x85\xa0\u200b\u200d\u2028\u2029\u202e\u2581\u2585\ufeff\ufffd\ud800\udfff"),
    st.sampled_from("e\u0301\u0308İıßǅﬁ\u1100\u1161\U0001f468\U0001f1e9\U000e0061\U0010ffff"),
)
texts = st.one_of(
    st.text(_CHARACTERS, max_size=40),
    st.lists(st.sampled_from([*WORDS, "<pad>", "<bos>", "<eos>", "<unk>", " ", "  ", "\u2581"]), max_size=9).map(
        " ".join
    ),
)


@functools.cache
def _pieces() -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(SENTENCES * 9, SentencePieceTokenizerConfig(vocab_size=275))


def check_text(lines: list[str]) -> str:
    """Each kind of tokenizer over the same lines, and the model on what the words make of them."""
    outcome = "ok"
    for kind in ("word", "char", "pieces"):
        try:
            tokenizer = _pieces() if kind == "pieces" else _trained(kind, lines)
        except SeqVAEError as error:
            outcome = told(error, 3, 4)  # 4: half a character, which no file can hold, is no word
            continue
        for line in lines:
            ids = tokenizer.encode(line)
            assert all(UNK <= index < tokenizer.vocab_size and index not in (PAD, BOS, EOS) for index in ids)
            assert len(tokenizer.tokens(line)) == len(ids)
            written = tokenizer.decode(ids)
            if kind != "word" and not any("\ud800" <= char <= "\udfff" for char in line):
                assert written == line, f"{kind}: {line!r} comes back as {written!r}"
            assert kind != "word" or tokenizer.encode(written) == ids or "<unk>" in written
    codes_found = desk().vae.encode(lines)
    assert np.isfinite(codes_found.mean).all()
    assert len(desk().vae.decode(codes_found, config=DecodeConfig(strategy="greedy", max_length=5))) == len(lines)
    return outcome


def _trained(kind: str, lines: list[str]):
    if kind == "word":
        return train_tokenizer(lines, WordTokenizerConfig())
    known = sorted({char for line in lines for char in line if not "\ud800" <= char <= "\udfff"})
    return CharTokenizer(known or ["a"])


def check_file(content: bytes) -> str:
    """Any bytes as a training text, through `data prepare`."""
    (desk().folder / "case.txt").write_bytes(content)
    with contextlib.chdir(desk().folder):
        return ran(["data", "prepare", "case.txt"])


file_contents = st.one_of(
    st.binary(max_size=300),
    st.lists(texts, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", errors="surrogatepass")),
    st.lists(texts, max_size=6).map(lambda lines: "\n".join(lines).replace("\0", "").encode("utf-8", errors="replace")),
    st.lists(texts, max_size=6).map(lambda lines: "\r\n".join(lines).encode("utf-16", errors="surrogatepass")),
)


# Bytes of saved files.

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
        name.write_text(json.dumps(content | {"model_sha256": storage.sha256_file(pieces)}), encoding="utf-8")
    with storage.atomic_folder(folder, amend=True):
        pass


def check_model(case: tuple[str, str, list[Edit], bool]) -> str:
    kind, file, changes, agrees = case
    with desk().copy(desk().models[kind]) as folder:
        before = (folder / file).read_bytes()
        (folder / file).write_bytes(edited(before, changes))
        same = (folder / file).read_bytes() == before
        if agrees and file != "MANIFEST.json":
            with contextlib.suppress(ValueError):  # the tokenizer's JSON is itself what was changed
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
            place[key] = draw(values)
            break
    return content


def check_description(content: dict[str, Any]) -> str:
    with desk().copy(desk().models["word"]) as folder:
        (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
        _reseal(folder)
        return _answers(folder)


_CHECKPOINT_FILES = ["MANIFEST.json", "state.json", "model.safetensors", "best.safetensors", "training.safetensors"]


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


_STORE_FILES = ["store.json", "tokens.npy", "offsets.npy", "lines.npy"]


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


# Decoding.


@st.composite
def decodings(draw) -> tuple[dict[str, Any], list[list[float]], int]:
    """(parameters, codes, seed): parameters in and out of range, codes near and as far as fp32 goes."""
    numbers = st.one_of(
        st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([1e-9, 1e9, 1e-300, 1e300, 0.0, 1.0, 0.9])
    )
    counts = st.one_of(st.integers(-2, 12), st.sampled_from([10**4, 10**6, 2**31, 2**63, 10**30]))
    given = {
        "strategy": draw(st.sampled_from(["greedy", "sample", "beam"])),
        "temperature": draw(numbers),
        "top_p": draw(numbers),
        "top_k": draw(st.one_of(st.none(), counts)),
        "beam_size": draw(counts),
        "max_length": draw(st.one_of(st.integers(-1, 12), st.sampled_from([2**31, 2**63, 10**30]))),
        "allow_unk": draw(st.booleans()),
    }
    kept = draw(st.sets(st.sampled_from(sorted(given))))
    chosen = {name: value for name, value in given.items() if name in kept}
    chosen.setdefault("max_length", 6)
    size = st.one_of(st.floats(-4, 4, width=32), st.floats(width=32))
    rows = draw(st.lists(st.lists(size, min_size=3, max_size=3), max_size=4))
    return chosen, rows, draw(st.integers(0, 2**63 - 1))


def check_decoding(case: tuple[dict[str, Any], list[list[float]], int]) -> str:
    given, rows, seed = case
    z = torch.tensor(rows).reshape(-1, 3)
    try:
        config = DecodeConfig(**given)
        found = decode(desk().vae.model, z, config, torch.Generator().manual_seed(seed))
    except SeqVAEError as error:
        return told(error, 2, 5)
    assert len(found.tokens) == len(rows)
    for tokens, log_prob, truncated in zip(found.tokens, found.log_probs, found.truncated, strict=True):
        assert len(tokens) <= config.max_length
        assert math.isfinite(log_prob)
        assert log_prob <= 1e-4
        assert truncated == (len(tokens) == config.max_length)
        assert not {PAD, BOS, EOS} & set(tokens)
        assert config.allow_unk or UNK not in tokens
        assert all(index < desk().vae.model.vocab_size for index in tokens)
    return "ok"


# Training.


@st.composite
def trainings(draw) -> tuple[bytes, list[str]]:
    """(text, settings): two updates of any method on any text."""
    method = st.sampled_from(sorted(strategy_types())).map(lambda name: f"{{name: {name}{_needed(name)}}}")
    methods = draw(st.lists(method, max_size=2))
    choices = {
        "model.latent_dim": ["0", "1", "2", "5"],
        "model.posterior.family": ["gaussian", "batchnorm", "delta", "iaf", "vmf"],
        "model.prior.family": ["standard", "mixture", "vamp"],
        "model.encoder.pooling": ["last", "mean", "max"],
        "model.decoder.cell": ["lstm", "gru"],
        "tokenizer.name": ["word", "char"],
        "tokenizer.max_size": ["5", "6", "null"],
        "data.batch_size": ["1", "2", "3"],
        "data.max_length": ["1", "3", "null"],
        "data.too_long": ["drop", "truncate", "error"],
        "data.valid_fraction": ["0.1", "0.5"],
        "train.optimizer.lr": ["1e-3", "1.0", "1e30"],
        "train.accumulate": ["1", "2"],
        "train.clip_norm": ["1e-9", "5.0"],
        "objective.samples": ["1", "2"],
    }
    kept = draw(st.lists(st.sampled_from(sorted(choices)), max_size=5, unique=True))
    settings = [f"{name}={draw(st.sampled_from(choices[name]))}" for name in kept]
    usual = st.lists(st.sampled_from(list(filter(None, SENTENCES))), min_size=1, max_size=12)
    lines = st.one_of(usual, usual, st.lists(texts, min_size=1, max_size=6))
    content = draw(lines.map(lambda found: "\n".join(found).replace("\0", "").encode("utf-8", errors="replace")))
    return content, [f"objective.strategies=[{', '.join(methods)}]", *settings]


def _needed(name: str) -> str:
    fields = strategy_types()[name].Config.model_fields
    return "".join(f", {field}: 1" for field, info in fields.items() if info.is_required())


def check_training(case: tuple[bytes, list[str]]) -> str:
    """Train, evaluate, sample: each ends as documented, and what was trained answers."""
    content, settings = case
    (desk().folder / "case.txt").write_bytes(content)
    changes = [word for setting in settings for word in ("--set", setting)]
    if not any(setting.startswith("data.valid_fraction") for setting in settings):
        changes += ["--set", "data.valid=case.txt"]
    with contextlib.chdir(desk().folder):
        base = {"data": {"train": "case.txt"}, "model": MODEL, "train": TRAIN, "eval": {"iw_samples": 2}}
        Path("base.yaml").write_text(dump_yaml(base), encoding="utf-8")
        shutil.rmtree("case", ignore_errors=True)
        outcome = ran(["train", "--config", "base.yaml", "--out", "case", *changes])
        if outcome == "ok":
            for words in (["sample", "-n", "2"], ["eval", "--split", "valid"], ["validate"]):
                asked = [*words, "case"] if words == ["validate"] else [*words, "--model", "case"]
                outcome += f", {words[0]} {ran(asked)}"
    return outcome


TARGETS = [
    Target(name="configs", cases=yaml_texts(), check=check_yaml),
    Target(name="overrides", cases=overrides(), check=check_overrides),
    Target(name="command lines", cases=command_lines(), check=check_command_line),
    Target(name="texts", cases=st.lists(texts, min_size=1, max_size=4), check=check_text),
    Target(name="text files", cases=file_contents, check=check_file),
    Target(
        name="tokenizer files",
        cases=st.tuples(st.sampled_from(["word", "char"]), st.dictionaries(_FIELDS, _JSON, min_size=1, max_size=3)),
        check=check_tokenizer_file,
    ),
    Target(name="model bytes", cases=changed_models(), check=check_model),
    Target(name="model descriptions", cases=st.deferred(descriptions), check=check_description),
    Target(
        name="checkpoint bytes",
        cases=st.tuples(st.sampled_from(_CHECKPOINT_FILES), edits(), st.booleans()),
        check=check_checkpoint,
    ),
    Target(name="store files", cases=st.tuples(st.sampled_from(_STORE_FILES), edits()), check=check_store),
    Target(name="code files", cases=st.tuples(st.sampled_from(codes.SUFFIXES), edits()), check=check_codes),
    Target(name="decodings", cases=decodings(), check=check_decoding),
    Target(name="trainings", cases=trainings(), check=check_training, trains=True),
]

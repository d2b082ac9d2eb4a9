"""What a person may type or hand in: configs, settings, command lines and texts."""

import contextlib
import functools
import shutil
import typing
from typing import Any

import numpy as np
import typer.main
from hypothesis import strategies as st

from benchmarks.fuzz_desk import SENTENCES, WORDS, desk, ran, told
from seqvae.cli.app import app
from seqvae.config import Config, shipped_configs
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.data.tokenizers import train_tokenizer
from seqvae.data.word_tokenizer import WordTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig
from seqvae.setting_docs import explain, setting_names
from seqvae.shipped import shipped
from seqvae.types import BOS, EOS, PAD, UNK
from seqvae.yaml_source import dump_value

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

"""What is fuzzed: for each target how its cases are drawn, and what must hold of every one.

A check returns what came of its case: ``ok``, or the code of the error that a user would read. Whatever else it raises
is a finding: a bare exception, an exit code that is not documented, an answer that is not what it should be.
"""

import contextlib
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from benchmarks.fuzz_desk import MODEL, SENTENCES, TRAIN, Target, desk, ran, told
from benchmarks.fuzz_files import (
    CHECKPOINT_FILES,
    STORE_FILES,
    changed_models,
    check_checkpoint,
    check_codes,
    check_description,
    check_model,
    check_store,
    check_tokenizer_file,
    descriptions,
    edits,
    tokenizer_files,
)
from benchmarks.fuzz_inputs import (
    check_command_line,
    check_file,
    check_overrides,
    check_text,
    check_yaml,
    command_lines,
    file_contents,
    overrides,
    texts,
    yaml_texts,
)
from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.io import codes
from seqvae.objectives.registry import strategy_types
from seqvae.types import BOS, EOS, PAD, UNK
from seqvae.yaml_source import dump_yaml

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
    Target(name="configs", kind="parser", cases=yaml_texts(), check=check_yaml, guided=True),
    Target(name="overrides", kind="parser", cases=overrides(), check=check_overrides, guided=True),
    Target(name="texts", kind="parser", cases=st.lists(texts, min_size=1, max_size=4), check=check_text),
    Target(name="text files", kind="parser", cases=file_contents, check=check_file),
    Target(name="command lines", kind="command line", cases=command_lines(), check=check_command_line),
    Target(name="tokenizer files", kind="loader", cases=tokenizer_files, check=check_tokenizer_file, guided=True),
    Target(name="model bytes", kind="loader", cases=changed_models(), check=check_model),
    Target(
        name="model descriptions", kind="loader", cases=st.deferred(descriptions), check=check_description, guided=True
    ),
    Target(
        name="checkpoint bytes",
        kind="loader",
        cases=st.tuples(st.sampled_from(CHECKPOINT_FILES), edits(), st.booleans()),
        check=check_checkpoint,
    ),
    Target(
        name="store files", kind="loader", cases=st.tuples(st.sampled_from(STORE_FILES), edits()), check=check_store
    ),
    Target(
        name="code files",
        kind="loader",
        cases=st.tuples(st.sampled_from(codes.SUFFIXES), edits()),
        check=check_codes,
        guided=True,
    ),
    Target(name="decodings", kind="parser", cases=decodings(), check=check_decoding),
    Target(name="trainings", kind="training", cases=trainings(), check=check_training),
]

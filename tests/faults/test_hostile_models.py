"""A model folder of somebody else's is refused, or writes odd text: it runs nothing, reads nothing elsewhere, and takes
no more memory and time than its bytes call for."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_toys import WORDS, sentences, settings
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.io import pretrained, storage
from seqvae.io.tensors import load_tensors, save_tensors
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE

ROOT = Path(seqvae.__file__).parent.parent
FILES = ["config.json", "model.safetensors", "tokenizer/tokenizer.json", "README.md"]

MOST_MB, MOST_CPU_S = 400, 20.0
"""What a folder may take that is refused, whatever it claims: its bytes, a few copies of them, and the libraries."""


def saved(folder: Path, tokenizer) -> Path:
    torch.manual_seed(0)
    model = SeqVAE(ModelConfig(**settings()["model"]), tokenizer.vocab_size)
    pretrained.save(folder, TextVAE(model, tokenizer), facts={})
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> dict[str, Path]:
    """A whole model with each kind of tokenizer."""
    folder = tmp_path_factory.mktemp("shelf")
    pieces = SentencePieceTokenizer.train(sentences(50), SentencePieceTokenizerConfig(vocab_size=272))
    kinds = {"word": WORDS, "char": CharTokenizer(sorted(set("w 0123456789"))), "sentencepiece": pieces}
    return {kind: saved(folder / kind, tokenizer) for kind, tokenizer in kinds.items()}


@pytest.fixture
def model(shelf, tmp_path) -> Path:
    """A copy of a model with words, for a test to spoil."""
    return Path(shutil.copytree(shelf["word"], tmp_path / "shared"))


def reseal(folder: Path, name: str, content: bytes | str) -> None:
    """Another content under a manifest that agrees with it: an attacker writes manifests too."""
    with storage.atomic_folder(folder, amend=True) as temporary:
        (temporary / name).parent.mkdir(exist_ok=True)
        (temporary / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def described(folder: Path, *path: str, **changes) -> None:
    """Change ``config.json`` below ``path``."""
    content = json.loads((folder / "config.json").read_text())
    place = content
    for part in path:
        place = place[part]
    place |= changes
    reseal(folder, "config.json", json.dumps(content))


def refused(folder: Path, *codes: str) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        seqvae.load(folder)
    assert caught.value.code in codes, caught.value
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value


class Canary:
    """A pickle that leaves a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# Code.


def pickles(canary: Path) -> dict[str, bytes]:
    """The ways in which pickles travel."""
    archive = io.BytesIO()
    torch.save({"weights": Canary(canary)}, archive)
    old = io.BytesIO()
    torch.save(Canary(canary), old, _use_new_zipfile_serialization=False)
    plain = pickle.dumps(Canary(canary))
    return {"pickle": plain, "zip": archive.getvalue(), "old": old.getvalue(), "text": pickle.dumps(Canary(canary), 0)}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pickle", "zip", "old", "text"])
def test_a_pickle_under_the_name_of_any_file_is_not_unpickled(model, tmp_path, name, kind):
    canary = tmp_path / "canary"
    reseal(model, name, pickles(canary)[kind])
    if name == "README.md":
        seqvae.load(model)  # nothing reads it
    else:
        refused(model, "E401")
    assert not canary.exists()


def test_the_canary_sings_where_a_pickle_is_read(tmp_path):
    for kind, content in pickles(tmp_path / "canary").items():
        if kind in ("zip", "old"):
            torch.load(io.BytesIO(content), weights_only=False)
        else:
            pickle.loads(content)
        assert (tmp_path / "canary").exists()
        (tmp_path / "canary").unlink()


@pytest.mark.parametrize("name", ["model.py", "__init__.py", "tokenizer/tokenizer.py", "pytorch_model.bin", "conf.pkl"])
def test_other_files_of_the_folder_are_refused_or_never_read(model, tmp_path, name):
    canary = tmp_path / "canary"
    content = pickle.dumps(Canary(canary)) if "py" not in name[-2:] else f"open({str(canary)!r}, 'w')".encode()
    (model / name).write_bytes(content)
    assert name in refused(model, "E401").what
    reseal(model, name, content)
    assert len(seqvae.load(model).sample(2)) == 2
    assert not canary.exists()


def test_a_name_that_looks_like_an_import_is_not_imported(model, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    reseal(model, "tokenizer/tokenizer.json", json.dumps({"schema_version": 1, "name": "evil.Tokenizer", "words": []}))
    refused(model, "E401")
    for path, changes in (
        (("model", "posterior"), {"family": "evil.Posterior"}),
        (("model", "decoder"), {"cell": "evil"}),
        ((), {"refiners": [{"name": "evil"}]}),
        ((), {"_component_": "evil.run", "__class__": "evil"}),
    ):
        described(model, *path, **changes)
        refused(model, "E401")
    assert not canary.exists()


# Paths.


@pytest.mark.parametrize("name", [*FILES, "MANIFEST.json"])
def test_a_link_that_leaves_the_folder_is_not_followed(model, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_bytes((model / name).read_bytes())
    (model / name).unlink()
    (model / name).symlink_to(outside)
    assert "link" in refused(model, "E401").what


@pytest.mark.parametrize("target", ["/etc", "..", ".", "tokenizer-elsewhere"])
def test_a_linked_folder_is_not_followed(model, tmp_path, target):
    shutil.move(model / "tokenizer", model.parent / "tokenizer-elsewhere")
    (model / "tokenizer").symlink_to(model.parent / target if target.startswith("tok") else target)
    assert "link" in refused(model, "E401").what


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
@pytest.mark.parametrize("name", FILES)
def test_a_pipe_that_would_keep_a_reader_waiting_is_refused(model, name):
    (model / name).unlink()
    os.mkfifo(model / name)
    assert "special file" in refused(model, "E401").what


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/hostname", "tokenizer/../../outside", "..\\outside", "C:outside", "", ".", "..", "a\0b",
     "\x1b[2Jescape", "x" * 5000, "a/" * 3000 + "a"],
)  # fmt: skip
def test_a_manifest_names_nothing_outside_of_the_folder(model, name):
    (model.parent / "outside").write_text("secret")
    manifest = json.loads((model / "MANIFEST.json").read_text())
    manifest["files"][name] = manifest["files"]["README.md"]
    (model / "MANIFEST.json").write_text(json.dumps(manifest))
    error = refused(model, "E401", "E402")
    assert "secret" not in str(error)
    assert "\x1b" not in str(error)


# Weights: what a header claims.


def header(content: dict | bytes, data: bytes = b"") -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def one(**tensor) -> bytes:
    return header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | tensor}, bytes(8))


HEADERS: dict[str, Callable[[], bytes]] = {
    "longer than any file": lambda: struct.pack("<Q", 2**64 - 1) + b"{}",
    "longer than the file": lambda: struct.pack("<Q", 2**20) + b"{}",
    "100 MB long": lambda: header(b"{" + b" " * (100 * 2**20) + b"}"),
    "nested": lambda: header(b'{"x":' + b"[" * 2**20 + b"]" * 2**20 + b"}"),
    "of a hundred thousand tensors": lambda: header(
        {f"{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)}
    ),
    "shape without end": lambda: one(shape=[2**40, 2**40]),
    "shape that overflows": lambda: one(shape=[2**63, 4]),
    "negative shape": lambda: one(shape=[-2]),
    "offsets beyond the file": lambda: one(shape=[2**30], data_offsets=[0, 2**32]),
    "offsets backwards": lambda: one(data_offsets=[8, 0]),
    "offsets that overlap": lambda: header(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "xy"}, bytes(8)
    ),
    "a kind that is none": lambda: one(dtype="PY"),
    "not JSON": lambda: header(b"\xff" * 64),
    "metadata without end": lambda: header({"__metadata__": {"x": "y" * (20 * 2**20)}}),
    "empty": lambda: b"",
}


def spoil_header(folder: Path, case: str) -> None:
    reseal(folder, "model.safetensors", HEADERS[case]())


@pytest.mark.parametrize(
    "case", [name for name in HEADERS if name not in ("100 MB long", "of a hundred thousand tensors")]
)
def test_weights_whose_header_lies_are_refused(model, case):
    spoil_header(model, case)
    refused(model, "E401", "E405")


def weights_with(folder: Path, change: Callable[[dict], None]) -> None:
    tensors = load_tensors(folder / "model.safetensors")
    change(tensors)
    save_tensors(folder.parent / "spoilt.safetensors", tensors)
    reseal(folder, "model.safetensors", (folder.parent / "spoilt.safetensors").read_bytes())


NAME = "decoder.lstm.weight_hh_l0"
TENSORS: dict[str, Callable[[dict], None]] = {
    "missing": lambda tensors: tensors.pop(NAME),
    "extra": lambda tensors: tensors.update({"zz.backdoor": torch.zeros(3)}),
    "transposed": lambda tensors: tensors.update({NAME: tensors[NAME].T.contiguous()}),
    "scalar": lambda tensors: tensors.update({NAME: torch.zeros(())}),
    "whole numbers": lambda tensors: tensors.update({NAME: tensors[NAME].long()}),
    "truth values": lambda tensors: tensors.update({NAME: tensors[NAME] > 0}),
    "complex": lambda tensors: tensors.update({NAME: tensors[NAME].to(torch.complex64)}),
    "eight bits": lambda tensors: tensors.update({NAME: tensors[NAME].to(torch.float8_e4m3fn)}),
    "none": lambda tensors: tensors.clear(),
}


@pytest.mark.parametrize("case", TENSORS)
def test_weights_of_another_model_are_refused_by_name(model, case):
    weights_with(model, TENSORS[case])
    what = refused(model, "E405").what
    assert case == "none" or ("zz.backdoor" if case == "extra" else NAME) in what


def test_weights_in_other_floating_kinds_are_read_as_those_of_the_model(model):
    before = seqvae.load(model)
    weights_with(model, lambda tensors: tensors.update({NAME: tensors[NAME].double()}))
    after = seqvae.load(model)
    assert after.sample(3) == before.sample(3)
    assert all(parameter.dtype is torch.float32 for parameter in after.model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_never_give_an_answer_in_silence(model, value):
    weights_with(model, lambda tensors: [tensor.fill_(value) for tensor in tensors.values()])
    vae = seqvae.load(model)
    for ask in (lambda: vae.encode(["w1"]), lambda: vae.sample(2), lambda: vae.score(["w1"])):
        with pytest.raises(SeqVAEError, match=r"NaN|finite"):
            ask()


# The description.

LIES = {
    "an autoencoder without end": (("model",), {"latent_dim": 10**12}),
    "more than 64 bits": (("model",), {"latent_dim": 10**30}),
    "wide": (("model", "encoder"), {"hidden": 10**9}),
    "deep": (("model", "decoder"), {"layers": 10**9}),
    "conditional without labels": (("model",), {"conditional": {"embedding": 5}}),
    "many transforms": (("model",), {"posterior": {"family": "iaf", "steps": 10**9}}),
    "wide transforms": (("model",), {"posterior": {"family": "iaf", "steps": 64, "hidden": 10**9}}),
    "a sphere of many dimensions": (("model",), {"posterior": {"family": "vmf"}, "latent_dim": 10**7}),
    "many components": (("model",), {"prior": {"family": "mixture", "components": 10**9}}),
    "many pseudo-inputs": (("model",), {"prior": {"family": "vamp", "components": 10**5, "length": 10**4}}),
    "a vocabulary without end": ((), {"vocab_size": 10**15}),
    "no vocabulary": ((), {"vocab_size": -1}),
    "a method that trains": ((), {"refiners": [{"name": "adversarial"}]}),
    "a method without end": ((), {"refiners": [{"name": "semi_amortised", "steps": 10**9}]}),
    "a method many times": ((), {"refiners": [{"name": "semi_amortised"}] * 500}),
    "an unknown setting": (("model",), {"exec": "print()"}),
    "a newer layout": ((), {"schema_version": 10**9, "seqvae_version": "\x1b[31m9.9"}),
}


@pytest.mark.parametrize("case", LIES)
def test_a_description_that_lies_is_refused(model, case):
    path, changes = LIES[case]
    described(model, *path, **changes)
    assert "\x1b" not in str(refused(model, "E401", "E403", "E405"))


def zip_bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(10 * 2**20))
    return content.getvalue()


DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "a zip bomb": zip_bomb,
    "a YAML bomb": lambda: b"a: &a [x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(999)),
    "nested": lambda: b"[" * 10**6,
    "nested objects": lambda: b'{"model":' * 10**5,
    "a number of many digits": lambda: b'{"schema_version": ' + b"9" * 10**6 + b"}",
    "NaN": lambda: b'{"schema_version": NaN}',
    "infinity": lambda: b'{"vocab_size": -Infinity}',
    "UTF-16": lambda: '{"schema_version": 1}'.encode("utf-16"),
    "half a character": lambda: b'{"schema_version": "\\ud800"}',
    "empty": lambda: b"",
    "five million objects": lambda: b"[" + b"{}," * 5_000_000 + b"{}]",
}


@pytest.mark.parametrize("name", ["config.json", "tokenizer/tokenizer.json", "MANIFEST.json"])
@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_document_that_would_blow_up_is_refused(model, name, case):
    if name == "MANIFEST.json":
        (model / name).write_bytes(DOCUMENTS[case]())
    else:
        reseal(model, name, DOCUMENTS[case]())
    refused(model, "E401")


@pytest.mark.parametrize("case", [name for name in DOCUMENTS if name not in ("empty", "five million objects")])
def test_such_a_config_is_refused_too(tmp_path, case):
    (tmp_path / "config.yaml").write_bytes(DOCUMENTS[case]())
    with pytest.raises(SeqVAEError) as caught:
        Config.from_yaml(tmp_path)
    assert caught.value.exit_code == 2


# Tokenizers.


def tokenizer_with(folder: Path, **changes) -> None:
    content = json.loads((folder / "tokenizer/tokenizer.json").read_text())
    reseal(folder, "tokenizer/tokenizer.json", json.dumps(content | changes))


HOSTILE = {
    "word": [
        {"words": ["w0", "w0"]}, {"words": ["a b"]}, {"words": [""]}, {"words": ["\ud800"]}, {"words": [["w"]]},
        {"words": {"w0": 4}}, {"unknown_word": "w0"}, {"name": "char"}, {"name": None}, {"code": "import os"},
        {"schema_version": True}, {"schema_version": 1e3}, {"lowercase": "no"},
    ],
    "char": [
        {"characters": ["ab"]}, {"characters": ["w", "w"]}, {"characters": [""]}, {"characters": ["\udfff"]},
        {"normalization": "evil"}, {"characters": None}, {"name": "word"},
    ],
    "sentencepiece": [
        {"model_sha256": "0" * 64}, {"space_before": 1}, {"name": "word"}, {"model": "../../secret"},
        {"model_sha256": None},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes"), [(kind, each) for kind, them in HOSTILE.items() for each in them], ids=str
)
def test_a_hostile_tokenizer_is_refused(shelf, tmp_path, kind, changes):
    folder = Path(shutil.copytree(shelf[kind], tmp_path / "shared"))
    tokenizer_with(folder, **changes)
    refused(folder, "E401")


def pieces_with(folder: Path, content: bytes) -> None:
    reseal(folder, "tokenizer/tokenizer.model", content)
    tokenizer_with(folder, model_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("case", ["empty", "pickle", "half", "text", "large", "without pieces"])
def test_hostile_pieces_are_refused(shelf, tmp_path, case):
    folder = Path(shutil.copytree(shelf["sentencepiece"], tmp_path / "shared"))
    whole, canary = (folder / "tokenizer/tokenizer.model").read_bytes(), tmp_path / "canary"
    contents = {
        "empty": b"",
        "pickle": pickle.dumps(Canary(canary)),
        "half": whole[: len(whole) // 2],
        "text": b"w0\nw1\n",
        "large": whole + bytes(33 * 2**20),
        "without pieces": whole[len(whole) - 200 :],
    }
    pieces_with(folder, contents[case])
    refused(folder, "E401", "E405")
    assert not canary.exists()


def test_words_that_steer_a_terminal_do_not_reach_it(tmp_path):
    words = ["\x1b[2J", "\x9b31m", "a\x07b", "\x7f", "\u200b", "c\x08"]
    folder = saved(tmp_path / "shared", type(WORDS)(words))
    for options in ((), ("--json",)):
        shown = CliRunner().invoke(app, ["sample", "-n", "20", "--seed", "1", "--model", str(folder), *options])
        assert shown.exit_code == 0, shown.stderr
        assert not set("\x1b\x9b\x07\x7f\x08") & set(shown.stdout + shown.stderr)


# Bounds, and what a user sees.


def test_what_is_refused_takes_little_memory_and_time(shelf, tmp_path):
    """In a process of its own; among the cases are those that cost most to write here."""
    folders = {}

    def another(case: str) -> Path:
        folders[case] = Path(shutil.copytree(shelf["word"], tmp_path / str(len(folders))))
        return folders[case]

    for case in HEADERS:
        spoil_header(another(f"header: {case}"), case)
    for case, (path, changes) in LIES.items():
        described(another(f"description: {case}"), *path, **changes)
    for case in ("five million objects", "nested", "a number of many digits"):
        reseal(another(f"document: {case}"), "tokenizer/tokenizer.json", DOCUMENTS[case]())
    with storage.atomic_folder(another("a sparse file"), amend=True) as temporary:
        (temporary / "model.safetensors").write_bytes(struct.pack("<Q", 2**33))
        os.truncate(temporary / "model.safetensors", 2**27)
    command = [sys.executable, Path(__file__).with_name("load_each.py"), shelf["word"], *folders.values()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for case, told in zip(folders, json.loads(done.stdout), strict=True):
        assert told["code"] in ("E401", "E403", "E405"), (case, told)
        assert told["rise_mb"] < MOST_MB, (case, told)
        assert told["cpu_s"] < MOST_CPU_S, (case, told)


@pytest.mark.parametrize("verb", ["sample -n 1", "eval --input a.txt", "interpolate a b", "encode a", "validate"])
def test_each_verb_says_so_with_exit_code_4(model, verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("w1 w2\n")
    reseal(model, "model.safetensors", pickle.dumps(Canary(tmp_path / "canary")))
    words = [*verb.split(), *([] if verb == "validate" else ["--model"]), str(model)]
    result = CliRunner().invoke(app, words, prog_name="seqvae")
    assert result.exit_code == 4, result.output
    assert "model.safetensors" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "canary").exists()

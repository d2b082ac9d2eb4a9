"""What is written is whole or absent, and damage is found before use."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seqvae.errors import SeqVAEError
from seqvae.io import disk, storage
from seqvae.io.disk import jsonable, read_json, write_bytes, write_json
from seqvae.io.manifests import MANIFEST, verify
from seqvae.io.storage import atomic_folder, recover, remove_folder
from seqvae.io.tensors import load_tensors, save_tensors

DEAD = 2**22 + 1  # above any process id


def make_folder(target: Path, word: str = "one") -> Path:
    with atomic_folder(target) as folder:
        write_json(folder / "state.json", {"word": word})
        save_tensors(folder / "model.safetensors", {"w": torch.arange(7.0), "b": torch.zeros(3, 5)})
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "words.txt").write_text("a\nb\n", encoding="utf-8")
    return target


def code_of(call, *arguments) -> str:
    with pytest.raises(SeqVAEError) as caught:
        call(*arguments)
    return caught.value.code


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Atomicity.


def test_a_folder_appears_whole_with_its_manifest(tmp_path):
    seen = []
    with atomic_folder(tmp_path / "deep" / "model") as folder:
        (folder / "a").write_bytes(b"12345")
        seen = [path.name for path in folder.parent.iterdir()]
    assert seen == [f".tmp-model-{os.getpid()}"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    manifest = read_json(tmp_path / "deep" / "model" / MANIFEST)
    assert manifest["schema_version"] == 1
    assert manifest["files"]["a"]["size"] == 5
    verify(tmp_path / "deep" / "model")


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_a_failure_while_filling_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    make_folder(tmp_path / "model")
    before = content(tmp_path)

    def fill():
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "half").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        fill()
    assert content(tmp_path) == before


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failing_rename_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch, failing_call):
    make_folder(tmp_path / "model")
    before, rename, calls = content(tmp_path), os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == failing_call:
            raise OSError(28, "No space left on device", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    assert code_of(make_folder, tmp_path / "model", "two") == "E701"
    assert content(tmp_path) == before


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    make_folder(tmp_path / "model")
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "new").write_bytes(b"n")
    assert sorted(content(tmp_path)) == [f"model/{MANIFEST}", "model/new"]


def test_amending_keeps_what_is_there(tmp_path):
    make_folder(tmp_path / "model")
    with atomic_folder(tmp_path / "model", amend=True) as folder:
        write_json(folder / "eval.json", {"elbo_nats": 3.5})
    verify(tmp_path / "model")
    assert read_json(tmp_path / "model" / "eval.json") == {"elbo_nats": 3.5}
    assert read_json(tmp_path / "model" / "state.json") == {"word": "one"}


# Several processes at one folder.


@contextlib.contextmanager
def another_process():
    """What is done inside is done under another process id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: DEAD)
        yield


@pytest.fixture
def meanwhile(monkeypatch):
    """``meanwhile(step, do)`` lets another process ``do`` something just before the first call of a step."""

    def interpose(owner, name: str, do, call: int = 1) -> None:
        operation, calls = getattr(owner, name), []

        def step(*arguments):
            calls.append(arguments)
            if len(calls) == call:
                with another_process():
                    do()
            return operation(*arguments)

        monkeypatch.setattr(owner, name, step)

    return interpose


def amend(target: Path, name: str) -> None:
    with atomic_folder(target, amend=True) as folder:
        write_json(folder / name, {})


@pytest.mark.parametrize("step", [(storage, "_copy_files"), (storage, "_flush_tree"), (os, "rename")])
@pytest.mark.parametrize("other", [amend, make_folder])
def test_what_another_process_has_written_is_not_amended_away(tmp_path, meanwhile, step, other):
    target = make_folder(tmp_path / "model")
    found = []

    def others():
        other(target, "theirs.json" if other is amend else "two")
        found.append(content(target))

    # The manifest is written by a rename too, but by os.replace; the first os.rename sets the folder aside.
    meanwhile(*step, others)
    with pytest.raises(storage.ChangedMeanwhile):
        amend(target, "ours.json")
    assert (content(target), [path.name for path in tmp_path.iterdir()]) == (found[0], ["model"])
    amend(target, "ours.json")
    verify(target)


def test_a_folder_that_is_being_replaced_is_amended_later(tmp_path, meanwhile):
    target = make_folder(tmp_path / "model")
    aside = tmp_path / "aside"
    target.rename(aside)
    with pytest.raises(storage.ChangedMeanwhile):
        amend(target, "ours.json")
    aside.rename(target)
    meanwhile(storage, "_set_aside", lambda: target.rename(aside))
    with pytest.raises(storage.ChangedMeanwhile):
        amend(target, "ours.json")
    assert [path.name for path in tmp_path.iterdir()] == ["aside"]


def test_of_two_that_replace_a_folder_at_once_the_last_one_stays(tmp_path, meanwhile):
    """The other one has it aside, or puts a new one in place, between any two of our steps."""
    target = make_folder(tmp_path / "model")
    for call in (1, 2):
        meanwhile(os, "rename", lambda: make_folder(target, "theirs"), call)
        make_folder(target, "ours")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert read_json(target / "state.json") == {"word": "ours"}
        verify(target)
    aside = tmp_path / "aside"
    meanwhile(disk, "delete", lambda: target.rename(aside), call=2)  # the first call makes room for the new one
    make_folder(target, "last")
    assert read_json(target / "state.json") == {"word": "last"}
    assert aside.exists()


def test_a_folder_that_is_never_let_be_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_PAUSE_S", 0)
    target = make_folder(tmp_path / "model")

    def give_up():
        for _ in storage.tries(target):
            continue

    assert code_of(give_up) == "E703"
    (target / MANIFEST).unlink()
    assert code_of(give_up) == "E402"


WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from seqvae.io import storage
who, target = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.read(1)
for number in range(10):
    for _ in storage.tries(target):
        with suppress(storage.ChangedMeanwhile):
            with storage.atomic_folder(target, amend=who != "save") as folder:
                (folder / f"{who}-{number}").write_bytes(b"x")
            break
"""


@pytest.mark.parametrize("others", [("a", "b"), ("a", "save")])
def test_two_processes_may_write_to_a_folder_at_once(tmp_path, others):
    target = make_folder(tmp_path / "model")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, who, target], stdin=pipe, stdout=pipe, stderr=pipe) for who in others]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"x")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    verify(target)
    if "save" not in others:
        assert {f"{who}-{number}" for who in others for number in range(10)} < set(content(target))


# Crashes.


@pytest.mark.parametrize("kill_at", ["fill", "manifest", "between", "before_delete"])
def test_a_kill_at_any_moment_leaves_a_whole_folder_after_recovery(tmp_path, kill_at):
    """A process that is gone at once, as after SIGKILL: no handler, no clean-up."""
    script = f"""
import os, sys
from seqvae.io import disk, storage
def gone(*_): os._exit(9)
def write(word):
    with storage.atomic_folder(sys.argv[1]) as folder:
        disk.write_json(folder / "state.json", word)
        if word == "two" and {kill_at!r} == "fill": gone()
write("one")
rename = os.rename
def second_rename(source, target):
    if ".tmp-" in os.fspath(source) and target.name == "model": gone()
    rename(source, target)
if {kill_at!r} == "manifest": storage._flush_tree = gone
if {kill_at!r} == "between": os.rename = second_rename
if {kill_at!r} == "before_delete":
    os.rename = lambda a, b: (rename(a, b), setattr(disk, "delete", gone))
write("two")
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model"], cwd=Path.cwd(), check=False)
    assert done.returncode == 9
    assert recover(tmp_path) != []
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    verify(tmp_path / "model")
    assert read_json(tmp_path / "model" / "state.json") == ("two" if kill_at == "before_delete" else "one")


def test_recovery_leaves_what_a_live_process_writes(tmp_path):
    (tmp_path / f".tmp-a-{os.getppid()}").mkdir()
    with atomic_folder(tmp_path / "b") as folder:
        (folder / "x").write_bytes(b"x")
        assert recover(tmp_path) == []
    (tmp_path / ".tmp-notes").mkdir()  # not ours: it has no process id
    assert recover(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".tmp-a-{os.getppid()}", ".tmp-notes", "b"]


def test_recovery_sweeps_an_orphan_of_the_same_process_id(tmp_path):
    """In a container every run is process 1: the id of a dead run is also one's own."""
    for name in (f".tmp-a-{os.getpid()}", f".tmp-my-model-{DEAD}"):
        (tmp_path / name).mkdir()
    (tmp_path / f".tmp-file.json-{DEAD}").write_text("{", encoding="utf-8")
    assert len(recover(tmp_path)) == 3
    assert list(tmp_path.iterdir()) == []


def test_recovery_of_a_missing_folder_does_nothing(tmp_path):
    assert recover(tmp_path / "none") == []


def test_a_removed_folder_is_gone(tmp_path):
    remove_folder(make_folder(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_or_left_alone(tmp_path, monkeypatch):
    write_bytes(tmp_path / "f", b"old")

    def failing(source, target):
        raise OSError(13, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", failing)
    assert code_of(write_bytes, tmp_path / "f", b"new") == "E702"
    assert content(tmp_path) == {"f": b"old"}


# Damage.


def test_a_flipped_bit_in_any_file_is_found_and_named(tmp_path):
    folder = make_folder(tmp_path / "model")
    for name, intact in content(folder).items():
        for position in (0, len(intact) // 2, len(intact) - 1):
            damaged = bytearray(intact)
            damaged[position] ^= 1
            (folder / name).write_bytes(damaged)
            with pytest.raises(SeqVAEError) as caught:
                verify(folder)
            assert caught.value.code in ("E401", "E402", "E403")
            if name != MANIFEST:
                assert caught.value.code == "E401"
                assert name in caught.value.what
        (folder / name).write_bytes(intact)
    verify(folder)


def test_truncated_missing_and_extra_files_are_found_and_named(tmp_path):
    folder = make_folder(tmp_path / "model")
    for name, intact in content(folder).items():
        (folder / name).write_bytes(intact[: len(intact) // 2])
        assert code_of(verify, folder) == "E401"
        (folder / name).unlink()
        with pytest.raises(SeqVAEError, match=Path(name).name) as caught:
            verify(folder)
        assert caught.value.code == "E402"
        (folder / name).write_bytes(intact)
    (folder / "tokenizer" / "extra.pkl").write_bytes(b"x")
    with pytest.raises(SeqVAEError, match=r"tokenizer/extra\.pkl"):
        verify(folder)


def test_hidden_files_of_other_tools_are_no_damage(tmp_path):
    folder = make_folder(tmp_path / "model")
    (folder / ".gitattributes").write_text("* -text\n", encoding="utf-8")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x", encoding="utf-8")
    verify(folder)


def test_a_link_is_refused_wherever_it_leads(tmp_path):
    folder = make_folder(tmp_path / "model")
    secret = tmp_path / "secret"
    secret.write_bytes((folder / "state.json").read_bytes())
    (folder / "state.json").unlink()
    (folder / "state.json").symlink_to(secret)
    with pytest.raises(SeqVAEError, match="link") as caught:
        verify(folder)
    assert caught.value.code == "E401"
    (folder / "state.json").unlink()
    (folder / "state.json").write_bytes(secret.read_bytes())
    verify(folder)
    (folder / "more").symlink_to(tmp_path, target_is_directory=True)
    assert code_of(verify, folder) == "E401"


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "C:secret", ""])
def test_a_manifest_cannot_name_a_file_outside(tmp_path, name):
    folder = make_folder(tmp_path / "model")
    manifest = read_json(folder / MANIFEST)
    manifest["files"][name] = {"size": 1, "sha256": "0"}
    write_json(folder / MANIFEST, manifest)
    assert code_of(verify, folder) == "E401"


def test_a_folder_from_a_newer_version_says_so(tmp_path):
    folder = make_folder(tmp_path / "model")
    write_json(folder / MANIFEST, {"schema_version": 2, "layers": {}})
    with pytest.raises(SeqVAEError, match="newer") as caught:
        verify(folder)
    assert caught.value.code == "E403"
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("manifest", ["[]", "{}", '{"schema_version": 1}', '{"schema_version": 1, "files": {"a": 3}}'])
def test_a_nonsense_manifest_is_damage(tmp_path, manifest):
    folder = make_folder(tmp_path / "model")
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    assert code_of(verify, folder) == "E401"


def test_no_folder_and_no_manifest_are_told_apart_from_damage(tmp_path):
    (tmp_path / "empty").mkdir()
    assert code_of(verify, tmp_path / "none") == "E402"
    assert code_of(verify, tmp_path / "empty") == "E402"


# Tensors.


def test_tensors_come_back_exactly_with_their_types(tmp_path):
    tensors = {
        "f": torch.randn(3, 5),
        "half": torch.randn(7).bfloat16(),
        "double": torch.randn(2, dtype=torch.float64),
        "bytes": torch.arange(11, dtype=torch.uint8),
        "scalar": torch.tensor(-4),
        "empty": torch.zeros(0, 3),
        "flag": torch.tensor([True, False]),
    }
    save_tensors(tmp_path / "t", tensors)
    back = load_tensors(tmp_path / "t")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_equal_tensors_give_equal_bytes_whatever_their_order_layout_or_sharing(tmp_path):
    tied = torch.randn(4, 6)
    save_tensors(tmp_path / "a", {"x": tied, "y": tied, "t": tied.t(), "row": tied[1]})
    copy = tied.clone()
    separate = {"row": copy[1].clone(), "t": copy.t().contiguous(), "y": copy.clone(), "x": copy}
    save_tensors(tmp_path / "b", separate)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b"__metadata__" not in (tmp_path / "a").read_bytes()


def test_loaded_tensors_do_not_follow_the_file(tmp_path):
    save_tensors(tmp_path / "t", {"x": torch.ones(1000)})
    loaded = load_tensors(tmp_path / "t")
    raw = bytearray((tmp_path / "t").read_bytes())
    raw[-4000:] = bytes(4000)
    with open(tmp_path / "t", "r+b") as file:
        file.write(raw)
    assert torch.equal(loaded["x"], torch.ones(1000))


def test_a_damaged_tensor_file_is_named(tmp_path):
    save_tensors(tmp_path / "t.safetensors", {"x": torch.randn(9, 4)})
    intact = (tmp_path / "t.safetensors").read_bytes()
    header = int.from_bytes(intact[:8], "little")
    for damaged in (
        b"",
        b"abc",
        intact[:-1],
        intact[: 8 + header // 2],
        intact + b"\0",
        (2**60).to_bytes(8, "little") + intact[8:],
        intact[:8] + b"\xff" * header + intact[8 + header :],
        b"\x80\x04\x95",  # how a pickle begins
    ):
        (tmp_path / "t.safetensors").write_bytes(damaged)
        with pytest.raises(SeqVAEError, match=r"t\.safetensors") as caught:
            load_tensors(tmp_path / "t.safetensors")
        assert caught.value.code == "E401"
    assert code_of(load_tensors, tmp_path / "none") == "E402"


# JSON.


def test_json_holds_what_a_run_knows(tmp_path):
    value = {"é日": np.float32(0.5), "n": np.int64(3), "nan": float("nan"), "inf": [-np.inf, 1.0], "path": Path("a/b")}
    value |= {"array": np.arange(3), "tensor": torch.tensor([1.5]), "none": None, "yes": True, "set": {2, 1}, 4: (1, 2)}
    write_json(tmp_path / "x.json", value)
    expected = {"é日": 0.5, "n": 3, "nan": None, "inf": [None, 1.0], "path": str(Path("a/b")), "array": [0, 1, 2]}
    expected |= {"tensor": [1.5], "none": None, "yes": True, "set": [1, 2], "4": [1, 2]}
    assert read_json(tmp_path / "x.json") == expected
    assert "é日" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.dumps(jsonable(value), allow_nan=False)


def test_bad_json_is_located(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"a": 1,\n "b": }')
    with pytest.raises(SeqVAEError) as caught:
        read_json(tmp_path / "x.json")
    assert caught.value.code == "E401"
    assert str(caught.value.where) == f"{tmp_path / 'x.json'}:2:7"


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"[" * 100_000, b"{'a': 1}", b'{"a": ' + b"7" * 5_000 + b"}"])
def test_what_is_not_json_is_damage(tmp_path, raw):
    (tmp_path / "x.json").write_bytes(raw)
    assert code_of(read_json, tmp_path / "x.json") == "E401"


# The disk.


def test_a_full_disk_is_told_and_the_old_content_stays(tmp_path):
    """A limit on the size of files answers as a full disk does, in a process of its own."""
    make_folder(tmp_path / "model")
    write_bytes(tmp_path / "notes", b"old")
    before = content(tmp_path)
    script = """
import resource, sys, torch
from pathlib import Path
from seqvae.errors import SeqVAEError
from seqvae.io import disk, storage
from seqvae.io.tensors import save_tensors
root = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
def folder():
    with storage.atomic_folder(root / "model") as new:
        save_tensors(new / "model.safetensors", {"w": torch.zeros(5000)})
def loose_file():
    with storage.atomic_folder(root / "model") as new:
        (new / "words.txt").write_bytes(bytes(5000))
for attempt in (folder, loose_file, lambda: disk.write_bytes(root / "notes", bytes(5000))):
    try:
        attempt()
    except SeqVAEError as error:
        print(error.code, error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=Path.cwd(), capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == ["E701 7"] * 3 + [""], done.stderr
    assert content(tmp_path) == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert code_of(make_folder, tmp_path / "closed" / "model") == "E702"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *(("ENOSPC", "E701"), ("EDQUOT", "E701"), ("EACCES", "E702"), ("EROFS", "E702")),
        *(("EIO", "E703"), ("ENOTDIR", "E703"), ("EEXIST", "E703")),
    ],
)
def test_each_answer_of_the_disk_has_its_code(number, code):
    import errno

    def failing():
        with disk.storage_errors("somewhere"):
            raise OSError(getattr(errno, number), "reason", "the/file")

    with pytest.raises(SeqVAEError, match="reason") as caught:
        failing()
    assert (caught.value.code, caught.value.where) == (code, "the/file")


def test_a_missing_file_is_no_fault_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), disk.storage_errors("somewhere"):
        (tmp_path / "none").read_bytes()


@pytest.mark.parametrize("name", [".", "..", "here/.."])
def test_a_folder_that_has_no_name_of_its_own_is_never_replaced(tmp_path, monkeypatch, name):
    (tmp_path / "below" / "here").mkdir(parents=True)
    (tmp_path / "below" / "mine").write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "below")
    assert code_of(write_bytes, name, b"x") == "E703"
    assert code_of(make_folder, Path(name)) == "E703"
    assert content(tmp_path) == {"below/mine": b"mine"}


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path):
    name = tmp_path / "caf\udce9" / "t.safetensors"
    for ask in (lambda: save_tensors(name, {"x": torch.ones(2)}), lambda: load_tensors(name)):
        assert code_of(ask) == "E703"
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_half_a_character(tmp_path):
    write_json(tmp_path / "a.json", {"command": "seqvae train --out caf\udce9"})
    assert read_json(tmp_path / "a.json") == {"command": "seqvae train --out caf\udce9"}

"""What a disk can do to a run or a model: damage is found before use and named, a disk that takes no more costs nothing
that was there before."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from training_toys import Events, settings, write_corpus
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage
from seqvae.training.state import Checkpoint, newest_intact

ROOT = Path(seqvae.__file__).parent.parent

CHECKPOINT = ["MANIFEST.json", "best.safetensors", "model.safetensors", "state.json", "training.safetensors"]
MODEL = ["MANIFEST.json", "README.md", "config.json", "model.safetensors", "tokenizer/tokenizer.json"]


def flip(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[min(int(len(content) * share), len(content) - 1)] ^= 0x10
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "flipped at the beginning": lambda path: flip(path, 0.0),
    "flipped in the middle": lambda path: flip(path, 0.5),
    "flipped at the end": lambda path: flip(path, 1.0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": Path.unlink,
}


def damages(names: list[str]) -> list[tuple[str, str]]:
    """Every damage to every file; the last byte of a manifest is a line break, which nothing depends on."""
    harmless = ("MANIFEST.json", "one byte short")
    return [(name, damage) for name in names for damage in DAMAGE if (name, damage) != harmless]


class PowerCut(BaseException):
    pass


def cut_at(step: int):
    def observe(event):
        if event["event"] == "train" and event["step"] >= step:
            raise PowerCut

    return observe


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    train = {"save_every": 4, "validate_every": 4, "steps": 14}
    path = folder / "toy.yaml"
    path.write_text(Config.from_dict(settings(data=write_corpus(folder), train=train)).to_yaml(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(config) -> Iterator[tuple[Path, Path]]:
    """The same run twice: to its end, and as a power cut left it after update 10, with two checkpoints."""
    folder = config.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQVAE_CACHE", str(folder / "cache"))
        assert seqvae.train(config, out=folder / "whole").finished
        with pytest.raises(PowerCut):
            seqvae.train(config, out=folder / "cut", observers=[cut_at(10)])
        yield folder / "whole", folder / "cut"


@pytest.fixture
def cut(made, tmp_path, monkeypatch) -> Path:
    """A copy of the run that was cut off, for a test to spoil."""
    monkeypatch.setenv("SEQVAE_CACHE", str(made[0].parent / "cache"))
    return Path(shutil.copytree(made[1], tmp_path / "run"))


def end_of(run: Path) -> dict[str, bytes]:
    """What a run comes to, by bytes."""
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    names = [f"{last.relative_to(run)}/{name}.safetensors" for name in ("model", "best", "training")]
    return {name: (run / name).read_bytes() for name in [*names, "model/model.safetensors"]}


def verb(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)), prog_name="seqvae")
    assert "internal error" not in result.output, result.output
    assert "Traceback" not in result.output
    return result.exit_code, result.output


# Damage, file by file.


@pytest.mark.parametrize(("name", "damage"), damages(CHECKPOINT))
def test_a_damaged_file_of_a_checkpoint_is_found_before_use(made, tmp_path, name, damage):
    newest = sorted((made[1] / "checkpoints").iterdir())[-1]
    folder = Path(shutil.copytree(newest, tmp_path / newest.name))
    DAMAGE[damage](folder / name)
    with pytest.raises(SeqVAEError) as caught:
        Checkpoint.load(folder)
    assert caught.value.exit_code == 4
    assert name in str(caught.value)
    checkpoint, notes = newest_intact(tmp_path)
    assert checkpoint is None
    assert newest.name in notes[0]


def test_the_files_that_are_damaged_here_are_all_there_are(made):
    for folder, names in ((sorted((made[1] / "checkpoints").iterdir())[-1], CHECKPOINT), (made[0] / "model", MODEL)):
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == names


@pytest.mark.parametrize(("name", "damage"), damages([name for name in MODEL if name != "README.md"]))
def test_a_damaged_file_of_a_model_is_found_before_use(made, tmp_path, name, damage):
    folder = Path(shutil.copytree(made[0] / "model", tmp_path / "model"))
    DAMAGE[damage](folder / name)
    with pytest.raises(SeqVAEError) as caught:
        seqvae.load(folder)
    assert caught.value.exit_code == 4
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "damage"), list(zip(CHECKPOINT, ["longer", "emptied", "zeroed", "truncated", "missing"], strict=True))
)
def test_resume_falls_back_to_the_newest_whole_checkpoint_and_says_so(made, cut, name, damage):
    older, newest = sorted((cut / "checkpoints").iterdir())
    DAMAGE[damage](newest / name)
    code, told = verb("train", "--resume", cut)
    assert code == 0, told
    assert f"checkpoint {newest.name} is not usable" in told
    assert "trying the one before it" in told
    assert (cut / "checkpoints" / f"damaged-{newest.name}").exists()
    assert older.name != newest.name
    assert end_of(cut) == end_of(made[0])


def test_a_state_that_makes_no_sense_under_a_manifest_that_agrees_is_refused(made, cut):
    newest = sorted((cut / "checkpoints").iterdir())[-1]
    for state in ("[]", "{}", '{"schema_version": 1, "log_bytes": -1, "progress": {}}', '{"progress": {"step": "x"}}'):
        with storage.atomic_folder(newest, amend=True) as temporary:
            (temporary / "state.json").write_text(state)
        with pytest.raises(SeqVAEError, match=r"state\.json") as caught:
            Checkpoint.load(newest)
        assert caught.value.code == "E401"
    code, told = verb("train", "--resume", cut)
    assert (code, newest.name in told) == (0, True)
    assert end_of(cut) == end_of(made[0])


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "tokenizer/tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_run_whose_own_files_are_damaged_is_refused_or_goes_on_as_it_was(made, cut, name, damage):
    DAMAGE[damage](cut / name)
    code, told = verb("train", "--resume", cut)
    assert code in (0, 2, 3, 4), told
    if code == 0:
        assert end_of(cut) == end_of(made[0])
    else:
        assert "error[E" in told


def test_a_config_that_is_no_longer_that_of_the_run_is_refused(made, cut):
    whole = (cut / "config.yaml").read_text(encoding="utf-8")
    for text in (whole[: len(whole) // 2], whole.replace("seed: 0", "seed: 1"), whole + "\n"):
        assert text != whole
        (cut / "config.yaml").write_text(text, encoding="utf-8")
        code, told = verb("train", "--resume", cut)
        assert (code, "error[E211]: config.yaml is not as it was" in told) == (2, True), told
    (cut / "config.yaml").write_text(whole, encoding="utf-8")
    assert verb("train", "--resume", cut)[0] == 0
    assert end_of(cut) == end_of(made[0])


def test_a_setting_may_change_on_the_way_where_that_is_asked_for(made, cut, tmp_path):
    change = ("--set", "train.optimizer.lr=0.005", "--set", "train.save_every=3")
    code, told = verb("train", "--resume", cut, *change, "--allow-change", "train.save_every")
    assert (code, "E211" in told) == (2, True)
    assert "`--allow-change train.optimizer.lr` goes on with the new values" in told
    both = ("--allow-change", "train.save_every", "--allow-change", "train.optimizer.lr")
    code, told = verb("train", "--resume", cut, *change, *both)
    assert code == 0, told
    assert Config.from_yaml(cut / "config.yaml").train.optimizer.lr == 0.005
    provenance = disk.read_json(cut / "provenance.json")
    changed = {"step": 8, "settings": ["train.optimizer.lr", "train.save_every"]}
    assert provenance["changes"] == [changed]
    assert provenance["config_sha256"][-1] == disk.sha256_file(cut / "config.yaml")
    lines = [json.loads(line) for line in (cut / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {line["step"]: line["lr"] for line in lines if line["event"] == "train"}
    assert rates == {step: 0.01 if step <= 8 else 0.005 for step in range(1, 15)}
    assert end_of(cut) != end_of(made[0])


def test_a_phase_may_be_made_longer_while_it_is_at_work(config, tmp_path):
    """And ends as one that was as long from the start."""

    def begun(folder, last, **more):
        phases = [{"name": "first", "steps": 5}, {"name": "last", "steps": last, "reset": ["decoder"]}]
        given = Config.from_yaml(config).replace(**{"train.steps": None, "train.phases": phases})
        return seqvae.train(given, **({"out": folder} | more))

    begun(whole := tmp_path / "whole", 9)
    with pytest.raises(PowerCut):
        begun(short := tmp_path / "short", 7, observers=[cut_at(10)])
    longer = {"out": None, "resume": short}
    with pytest.raises(SeqVAEError, match=r"other settings: train\.phases\.1\.steps") as caught:
        begun(short, 9, **longer)
    assert "`--allow-change train.phases.1.steps` goes on" in caught.value.hint
    assert begun(short, 9, **longer, allow_change=["train.phases.1.steps"]).finished
    assert end_of(short) == end_of(whole)
    assert disk.read_json(short / "provenance.json")["changes"][0]["settings"] == ["train.phases.1.steps"]


def test_a_kill_amid_a_change_of_settings_leaves_a_run_that_goes_on(made, cut, monkeypatch):
    def killed(path, content):
        raise PowerCut

    config = Config.from_yaml(cut / "config.yaml").replace(**{"train.clip_norm": 2.5})
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_bytes", killed)
        with pytest.raises(PowerCut):
            seqvae.train(config, resume=cut, allow_change=["train.clip_norm"])
    assert seqvae.train(resume=cut).finished
    assert end_of(cut) == end_of(made[0]), "as if nothing had been asked for"


@pytest.mark.parametrize(
    "name", ["data.batch_size", "train", "train.seed", "model.latent_dim", "train.optimizer", "train.phases", "x"]
)
def test_what_a_checkpoint_depends_on_cannot_change_on_the_way(cut, name):
    with pytest.raises(SeqVAEError, match=f"`{name}` cannot change") as caught:
        seqvae.train(resume=cut, allow_change=[name])
    assert (caught.value.code, caught.value.exit_code) == ("E219", 2)
    assert "train.optimizer.lr" in caught.value.hint


def test_a_run_that_kept_no_checksum_of_its_config_goes_on(made, cut):
    provenance = disk.read_json(cut / "provenance.json")
    del provenance["config_sha256"]
    disk.write_json(cut / "provenance.json", provenance)
    assert verb("train", "--resume", cut)[0] == 0
    assert end_of(cut) == end_of(made[0])


# A disk that takes no more.

OPERATIONS = ("fsync", "mkdir", "rename", "replace", "ftruncate")


@contextmanager
def refusing_disk(number: int, code: int) -> Iterator[list[str]]:
    """From the ``number``-th operation on, the disk answers ``code`` to each that would change it."""
    left, met = [number], []

    def refusing(name, operation):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] <= 0:
                met.append(name)
                raise OSError(code, os.strerror(code), str(args[0]))
            return operation(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, refusing(name, getattr(os, name)))
        yield met


ANSWERS = {"ENOSPC": "E701", "EDQUOT": "E701", "EROFS": "E702", "EIO": "E703"}


@pytest.mark.parametrize("number", [1, 2, 5, 12, 23, 31])
def test_a_disk_that_takes_no_more_stops_the_run_and_costs_nothing_that_was_saved(made, cut, number):
    answer = list(ANSWERS)[number % len(ANSWERS)]
    before = newest_intact(cut / "checkpoints")[0].progress.step
    with refusing_disk(number, getattr(errno, answer)) as met, pytest.raises(SeqVAEError) as caught:
        seqvae.train(resume=cut)
    assert met
    assert (caught.value.code, caught.value.exit_code) == (ANSWERS[answer], 7)
    assert caught.value.hint
    assert newest_intact(cut / "checkpoints")[0].progress.step >= before
    events = Events()
    assert seqvae.train(resume=cut, observers=[events]).finished
    assert not [event for event in events.of("note") if "not usable" in event["text"]]
    assert end_of(cut) == end_of(made[0])
    left = [path.name for path in (*cut.iterdir(), *(cut / "checkpoints").iterdir()) if path.name.startswith(".")]
    assert not left


@pytest.mark.parametrize("answer", ["EDQUOT", "EROFS"])
def test_a_run_that_cannot_begin_leaves_nothing_behind(config, made, tmp_path, monkeypatch, answer):
    monkeypatch.setenv("SEQVAE_CACHE", str(made[0].parent / "cache"))
    with refusing_disk(1, getattr(errno, answer)):
        code, told = verb("train", "--config", config, "--out", tmp_path / "new")
    assert code == 7
    assert f"error[{ANSWERS[answer]}]" in told
    assert not (tmp_path / "new" / "config.yaml").exists()
    assert verb("train", "--config", config, "--out", tmp_path / "new")[0] == 0


def limited(*words: object, most_bytes: int, cwd: Path) -> subprocess.CompletedProcess:
    """A process whose files the kernel refuses to let grow beyond a size, as it does where a quota is used up."""
    script = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes},) * 2)\n"
    script += "from seqvae.cli.app import main\nmain()"
    command = [sys.executable, "-c", script, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=180)


@pytest.mark.skipif(os.name == "nt", reason="no limits on the size of files on this system")
def test_a_quota_of_the_kernel_stops_the_run_with_exit_code_7(made, cut):
    largest = max(path.stat().st_size for path in (cut / "checkpoints").rglob("*.safetensors"))
    done = limited("train", "--resume", cut, most_bytes=largest // 2, cwd=cut.parent)
    assert done.returncode == 7, done.stderr
    assert "error[E701]" in done.stderr
    assert "what was there before is intact" in done.stderr
    assert seqvae.train(resume=cut).finished
    assert end_of(cut) == end_of(made[0])


@contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[Path]:
    """A disk of its own in memory, where this user may make one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("no `mount` on this system")
    if done.returncode:
        pytest.skip("this user may not mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_room_on_it_lets_it_go_on(made, cut, tmp_path):
    size = sum(path.stat().st_size for path in cut.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", f"size={(size // 4096 + 40) * 4096}") as disk:
        run = Path(shutil.copytree(cut, disk / "run"))
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free // 4096 * 4096 - 8192))
        code, told = verb("train", "--resume", run)
        assert (code, "error[E701]" in told) == (7, True), told
        assert newest_intact(run / "checkpoints")[0] is not None
        filler.unlink()
        code, told = verb("train", "--resume", run)
        assert code == 0, told
        assert end_of(run) == end_of(made[0])


def test_a_disk_that_is_mounted_read_only_refuses_a_run_at_its_start(config, cut, tmp_path):
    with small_disk(tmp_path / "disk", "size=20m") as disk:
        run = Path(shutil.copytree(cut, disk / "run"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for words in (("--resume", run), ("--config", config, "--out", disk / "new")):
            code, told = verb("train", *words)
            assert (code, "error[E702]" in told) == (7, True), told
        assert verb("sample", "-n", "1", "--seed", "1", "--model", run)[0] == 0, "reading needs no permission to write"


def test_a_disk_without_room_for_the_checkpoints_refuses_a_run_at_its_start(config, made, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(made[0].parent / "cache"))
    usage, (checkpoint, *_) = shutil.disk_usage, sorted((made[0] / "checkpoints").iterdir())
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(folder)._replace(free=size // 2))
    code, told = verb("train", "--config", config, "--out", tmp_path / "new")
    assert (code, "error[E701]" in told) == (7, True), told
    assert "train.keep_checkpoints" in told
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(folder)._replace(free=9 * size))
    assert verb("train", "--config", config, "--out", tmp_path / "new")[0] == 0


def test_a_path_that_cannot_be_a_folder_is_refused_at_the_start(config, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        code, told = verb("train", "--config", config, "--out", out)
        assert code == 7, told
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_live_run_in_the_folder_is_refused_with_exit_code_7(cut):
    told = []

    def second(event):
        if event["event"] == "train" and not told:
            told.append(verb("train", "--resume", cut))

    assert seqvae.train(resume=cut, observers=[second]).finished
    code, text = told[0]
    assert (code, "error[E705]" in text) == (7, True)
    assert f"process {os.getpid()} on " in text


def test_what_cannot_be_kept_beside_a_model_is_said_and_does_not_cost_the_model(made, cut):
    """`eval` has its numbers by then, and shows them."""
    before = {path: path.read_bytes() for path in (cut / "model").rglob("*") if path.is_file()}
    words = ("eval", "--model", cut, "--split", "valid", "--iw-samples", "3", "--json")
    with refusing_disk(4, errno.ENOSPC) as met:
        code, told = verb(*words)
    assert met
    assert code == 0
    assert "the numbers were not kept" in told
    assert {path: path.read_bytes() for path in (cut / "model").rglob("*") if path.is_file()} == before
    assert verb(*words)[0] == 0
    manifests.verify(cut / "model")
    assert json.loads((cut / "model" / "eval.json").read_text()).keys() == {"valid"}

"""A run that is killed, interrupted or damaged goes on, and ends bit by bit as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_toys import Events, settings, write_corpus

import seqvae
from seqvae.cli.options import read_sentences
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests
from seqvae.training.loggers import MetricsFile
from seqvae.training.run import newest_run
from seqvae.training.runtime import StopSignals
from seqvae.training.state import newest_intact

ROOT = Path(seqvae.__file__).parent.parent
TIMEOUT_S = 180

TRAIN = {
    "two phases": {
        "save_every": 3,
        "validate_every": 5,
        "phases": [
            {"name": "first", "strategies": [{"name": "beta", "beta": 0.1}], "steps": 13},
            {
                "name": "second",
                "reset": ["decoder"],
                "strategies": [{"name": "kl_annealing", "epochs": 2}, {"name": "word_dropout", "rate": 0.3}],
                "optimizer": {"name": "adamw", "lr": 0.02, "weight_decay": 0.01},
                "schedule": {"name": "cosine", "warmup_steps": 4},
                "steps": 12,
            },
        ],
    },
    "plateau": {
        "epochs": 6,
        "validate_every": 3,
        "accumulate": 2,
        "log_every": 3,
        "optimizer": {"name": "sgd", "lr": 2.0, "momentum": 0.5},
        "schedule": {"name": "plateau", "patience": 1, "start_epoch": 1, "max_decays": 4},
    },
}
FREE_BITS = {"strategies": [{"name": "free_bits", "nats_per_dim": 0.1}], "samples": 2}


class World:
    """A corpus, a config for each kind of run, and each run as it is when nothing happens to it."""

    def __init__(self, folder: Path):
        self.folder, paths = folder, write_corpus(folder)
        self.config, self.whole = {}, {}
        for kind, train in TRAIN.items():
            objective = FREE_BITS if kind == "plateau" else {}
            config = Config.from_dict(settings(data=paths, train=train, objective=objective))
            self.config[kind] = folder / f"{kind.replace(' ', '-')}.yaml"
            self.config[kind].write_text(config.to_yaml(), encoding="utf-8")
            self.whole[kind] = folder / f"whole-{kind}"
            assert seqvae.train(self.config[kind], out=self.whole[kind]).finished

    def cut(self, kind: str, step: int) -> Path:
        """A run whose process went down at a step, whatever it had saved before."""
        folder = self.folder / f"cut-{kind}-{step}"
        if not folder.exists():
            with pytest.raises(PowerCut):
                seqvae.train(self.config[kind], out=folder, observers=[PowerCut.at(step)])
        return folder


class PowerCut(BaseException):
    @classmethod
    def at(cls, step):
        def observe(event):
            if event["event"] == "train" and event["step"] >= step:
                raise cls

        return observe


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQVAE_CACHE", cache)
        yield World(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def _one_cache(monkeypatch, cache):
    monkeypatch.setenv("SEQVAE_CACHE", cache)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def metrics(folder: Path) -> list[dict]:
    """metrics.jsonl without the pace."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in event.items() if key != "tokens_per_s"} for event in events]


def assert_same_run(found: Path, expected: Path) -> None:
    assert metrics(found) == metrics(expected)
    names = ["model/model.safetensors", "model/config.json", "model/README.md", "config.yaml"]
    last = [sorted((folder / "checkpoints").iterdir())[-1].relative_to(folder) for folder in (found, expected)]
    assert last[0] == last[1]
    names += [f"{last[0]}/{name}.safetensors" for name in ("model", "best", "training")]
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    states = [json.loads((folder / last[0] / "state.json").read_text())["progress"] for folder in (found, expected)]
    assert states[0] == states[1]
    assert states[0]["finished"]
    manifests.verify(found / "model")
    left = [path.name for path in (*found.iterdir(), *(found / "checkpoints").iterdir()) if path.name.startswith(".")]
    assert not left, "what killed processes leave behind is swept"


def test_the_runs_have_in_them_what_could_go_wrong(world):
    state = newest_intact(world.whole["plateau"] / "checkpoints")[0].progress
    assert state.decays >= 2
    assert state.best_step < state.step
    state = newest_intact(world.whole["two phases"] / "checkpoints")[0].progress
    assert (state.phase, state.phase_step, state.step) == (1, 12, 25)


# Real processes.


def started(*arguments, cwd: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "seqvae", "train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(process: subprocess.Popen, condition, pause_s: float = 0.0005) -> bool:
    """Whether it came true while the process lived."""
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(pause_s)
    return False


def reached(folder: Path, step: int):
    def condition() -> bool:
        path = folder / "metrics.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return any(json.loads(line)["step"] >= step for line in lines[-2:] if line.endswith(b"}"))

    return condition


def saving(folder: Path):
    return lambda: any((folder / "checkpoints").glob(".tmp-*")) or any(folder.glob(".tmp-model-*"))


def kill_and_resume(world: World, kind: str, folder: Path, moments) -> list[bool]:
    """SIGKILL at each of the moments (conditions on the folder), then the rest; which kills hit a living process."""
    # The rest runs in this process: to begin another one takes longer than the training.
    arguments, hit = ["--config", world.config[kind], "--out", folder], []
    for moment in moments:
        process = started(*arguments, cwd=folder.parent)
        hit.append(wait_until(process, moment))
        process.kill()
        process.communicate()
        if (folder / "config.yaml").exists():
            arguments = ["--resume", folder]
    assert seqvae.train(world.config[kind], **{arguments[-2].removeprefix("--"): folder}).finished
    return hit


def test_resume_after_sigkill_is_bit_identical(world, tmp_path):
    folder = tmp_path / "run"
    step = random.Random(5).randrange(4, 12)
    assert any(kill_and_resume(world, "two phases", folder, [reached(folder, step), saving(folder)]))
    assert_same_run(folder, world.whole["two phases"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", TRAIN)
def test_resume_after_many_sigkills_is_bit_identical(world, tmp_path, kind, seed):
    folder, chance = tmp_path / "run", random.Random(seed)
    steps = sorted(chance.randrange(1, 20) for _ in range(2))
    moments = [reached(folder, steps[0]), saving(folder), reached(folder, steps[1]), saving(folder)]
    assert any(kill_and_resume(world, kind, folder, moments))
    assert_same_run(folder, world.whole[kind])


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", "plateau"), *(pytest.param("cuda", kind, marks=GPU) for kind in TRAIN)]
)
def test_a_run_of_deterministic_kernels_resumes_to_the_same_bits(world, tmp_path, device, kind):
    config = Config.from_yaml(world.config[kind], [f"train.device={device}", "train.deterministic=true"])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert seqvae.train(config, out=whole).finished
    with pytest.raises(PowerCut):
        seqvae.train(config, out=cut, observers=[PowerCut.at(9)])
    assert seqvae.train(resume=cut).finished
    assert_same_run(cut, whole)


def stopped(process: subprocess.Popen, number: signal.Signals, condition) -> str:
    """Send a signal once the condition is true; the command that the process prints to go on."""
    assert wait_until(process, condition), process.communicate()[1]
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 128 + number, errors
    assert f"stopped  by {number.name}; everything is saved" in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("resume   seqvae train")]
    return line.removeprefix("resume   seqvae train ")


def test_sigint_and_sigterm_save_and_print_the_command_that_goes_on(world, tmp_path):
    folder = tmp_path / "run"
    process = started("--config", world.config["plateau"], "--out", folder, cwd=tmp_path)
    command = stopped(process, signal.SIGINT, reached(folder, 3))
    checkpoint, _ = newest_intact(folder / "checkpoints")
    assert checkpoint.progress.step >= 3
    assert not checkpoint.progress.finished
    process = started(*command.split(), cwd=tmp_path)
    command = stopped(process, signal.SIGTERM, reached(folder, checkpoint.progress.step + 3))
    assert command == f"--resume {folder}"
    assert seqvae.train(resume=folder).finished
    assert_same_run(folder, world.whole["plateau"])


def test_a_second_signal_ends_at_once_and_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stop = StopSignals()
    with stop.installed():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_resume_auto_goes_on_with_the_newest_run_and_does_nothing_to_a_finished_one(world, tmp_path):
    run = Path(shutil.copytree(world.cut("plateau", 6), tmp_path / "runs" / "toy-0101-0000"))
    older = Path(shutil.copytree(world.whole["two phases"], tmp_path / "runs" / "toy-0101-0001"))
    provenance = json.loads((older / "provenance.json").read_text(encoding="utf-8"))
    disk.write_json(older / "provenance.json", provenance | {"began": "2025-01-31T12:00:00+0100"})
    process = started("--resume", "auto", cwd=tmp_path)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert "resume   at update" in errors
    assert_same_run(run, world.whole["plateau"])


def test_two_processes_do_not_train_into_one_run(world, tmp_path):
    folder = Path(shutil.copytree(world.cut("plateau", 6), tmp_path / "run"))
    holder = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("hold.py"), folder], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "training\n"
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        error = refused("E705", resume=folder)
        assert f"process {holder.pid} on " in error.what
        assert error.exit_code == 7
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    finally:
        holder.kill()
        holder.communicate()
    assert (folder / "train.lock").exists(), "the process was killed, and could tidy nothing"
    assert seqvae.train(resume=folder).finished
    assert not (folder / "train.lock").exists()
    assert_same_run(folder, world.whole["plateau"])


def test_two_threads_do_not_train_into_one_run(world, tmp_path):
    errors = []

    def second(event):
        if event["event"] == "start":
            errors.append(refused("E705", config=world.config["plateau"], resume=tmp_path / "run"))

    assert seqvae.train(world.config["plateau"], out=tmp_path / "run", observers=[second]).finished
    assert f"process {os.getpid()} on " in errors[0].what


# Processes that die at a chosen operation on the disk.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def injected(world: World, kind: str, folder: Path, numbers) -> list[str | None]:
    command = [sys.executable, Path(__file__).with_name("inject.py"), world.config[kind], folder, *map(str, numbers)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_fork
@pytest.mark.parametrize(
    ("kind", "numbers"),
    # The first few operations make the folder and its config; then a save takes about twenty.
    [("two phases", [2, 3, 9, 24, 57]), ("plateau", [1, 4, 31, 12, 45])],
)
def test_a_process_may_die_at_any_operation_on_the_disk(world, tmp_path, kind, numbers):
    died = injected(world, kind, tmp_path / "run", numbers)
    assert all(operation is not None for operation in died[:-1])
    assert died[-1] is None
    assert_same_run(tmp_path / "run", world.whole[kind])


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", TRAIN)
def test_a_process_may_die_at_many_operations_on_the_disk(world, tmp_path, kind, seed):
    chance = random.Random(seed)
    died = injected(world, kind, tmp_path / "run", [chance.randrange(1, 70) for _ in range(12)])
    assert sum(operation is not None for operation in died) > 3
    assert_same_run(tmp_path / "run", world.whole[kind])


# Damage, found when a run goes on.


@pytest.fixture(params=list(TRAIN))
def cut(world, tmp_path, request):
    """A copy of a run that went down, and what it would have become."""
    kind = request.param
    return Path(shutil.copytree(world.cut(kind, 17), tmp_path / "run")), world.whole[kind]


def resumed(folder: Path, **given) -> list[str]:
    """Go on with a run to its end; the notes that were shown."""
    events = Events()
    assert seqvae.train(resume=folder, observers=[events], **given).finished
    return [event["text"] for event in events.of("note") if "step" not in event]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": flip,
    "a truncated file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a missing file": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "MANIFEST.json"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_is_used(world, tmp_path, damage, name):
    folder = Path(shutil.copytree(world.cut("two phases", 17), tmp_path / "run"))
    older, newest = sorted((folder / "checkpoints").iterdir())
    DAMAGE[damage](newest / name)
    (note,) = resumed(folder)
    assert newest.name in note
    assert "trying the one before it" in note
    assert older.name != newest.name
    assert_same_run(folder, world.whole["two phases"])


def test_a_run_without_a_whole_checkpoint_starts_over(cut):
    folder, whole = cut
    for checkpoint in (folder / "checkpoints").iterdir():
        flip(checkpoint / "best.safetensors")
    assert len(resumed(folder)) == 2
    assert_same_run(folder, whole)


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_run_that_fell_back_keeps_what_it_saves_from_then_on(world, tmp_path, damaged):
    folder = Path(shutil.copytree(world.cut("two phases", 17), tmp_path / "run"))
    for checkpoint in sorted((folder / "checkpoints").iterdir())[-damaged:]:
        flip(checkpoint / "model.safetensors")
    stopping = []

    def stop(event):
        if event["event"] == "train" and not stopping:
            stopping.append(event["step"])
            os.kill(os.getpid(), signal.SIGTERM)

    assert seqvae.train(resume=folder, observers=[stop]).signal is signal.SIGTERM
    (step,) = stopping
    assert (step == 1) == (damaged == 2)
    assert newest_intact(folder / "checkpoints")[0].progress.step == step
    events = Events()
    assert seqvae.train(resume=folder, observers=[events]).finished
    assert events.of("train")[0]["step"] == step + 1
    assert events.of("note") == []
    assert_same_run(folder, world.whole["two phases"])


def test_a_run_without_checkpoints_starts_over(cut):
    folder, whole = cut
    shutil.rmtree(folder / "checkpoints")
    assert resumed(folder) == []
    assert_same_run(folder, whole)


def test_a_run_that_went_down_goes_on(cut):
    folder, whole = cut
    assert resumed(folder) == []
    assert_same_run(folder, whole)


@pytest.mark.parametrize("kind", TRAIN)
def test_a_finished_run_is_left_as_it_is(world, kind):
    folder = world.whole[kind]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    assert seqvae.train(resume=folder).finished
    assert seqvae.train(world.config[kind], resume=folder).finished
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
    } == before


# What is refused.


def refused(code: str, **given) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        seqvae.train(**given)
    assert (caught.value.code, caught.value.exit_code) == (code, int(code[1])), caught.value
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("train.optimizer.lr", 0.5),
        ("model.latent_dim", 4),
        ("data.batch_size", 6),
        ("train.seed", 1),
        ("train.threads", 2),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(world, setting, value):
    folder = world.cut("plateau", 17)
    config = Config.from_yaml(folder / "config.yaml").replace(**{setting: value})
    error = refused("E211", config=config, resume=folder)
    assert setting in error.what
    assert "lr" not in error.what or "lr" in setting


def test_settings_that_agree_are_accepted(world, tmp_path):
    folder = Path(shutil.copytree(world.cut("plateau", 17), tmp_path / "run"))
    assert seqvae.train(world.config["plateau"], resume=folder).finished


def test_a_run_on_relative_paths_works_from_every_directory(tmp_path, monkeypatch):
    begun, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    for folder in (begun, elsewhere):
        folder.mkdir()
    paths = {split: Path(path).name for split, path in write_corpus(begun).items()}
    config = Config.from_dict(settings(data=paths | {"test": "valid.txt"}, train={"save_every": 2, "steps": 9}))
    monkeypatch.chdir(begun)
    events = Events()
    with pytest.raises(PowerCut):
        seqvae.train(config, out="run", observers=[events, PowerCut.at(5)])
    assert events.of("start")[0]["facts"]["data"].startswith("train.txt ·")
    saved = Config.from_yaml(begun / "run" / "config.yaml").data
    assert (saved.train, saved.valid, saved.test) == tuple(
        str(begun / f"{name}.txt") for name in ("train", "valid", "valid")
    )
    monkeypatch.chdir(elsewhere)
    assert "data.train" in refused("E211", config=config, resume=begun / "run").what
    assert seqvae.train(resume=begun / "run").finished
    assert not list(elsewhere.iterdir())
    store = read_sentences(begun / "run" / "model", seqvae.load(begun / "run"), "test", None)
    assert len(store) == 13
    monkeypatch.chdir(begun)
    assert seqvae.train(config, resume="run").finished
    assert newest_run(Path(), config=config) == Path("run")


def test_a_run_does_not_go_on_with_other_text(world, tmp_path):
    paths = {}
    for split, path in write_corpus(world.folder).items():
        paths[split] = shutil.copy(path, tmp_path / f"{split}.txt")
    config = Config.from_dict(settings(data=paths, train={"save_every": 2, "steps": 9}))
    with pytest.raises(PowerCut):
        seqvae.train(config, out=tmp_path / "run", observers=[PowerCut.at(5)])
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with open(tmp_path / "train.txt", "a", encoding="utf-8") as file:
        file.write("w1 w2 w3\n")
    assert "text has changed" in refused("E340", resume=tmp_path / "run").what
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_a_full_disk_is_told_of_the_file_that_is_written(world, tmp_path, monkeypatch, name):
    folder = Path(shutil.copytree(world.cut("plateau", 17), tmp_path / "run"))

    def begun(metrics, path, **_):
        metrics._path, metrics._file = path, open("/dev/full", "wb")  # noqa: SIM115 - closed by close()

    if name == "log.txt":
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/full")
    else:
        monkeypatch.setattr(MetricsFile, "__init__", begun)
    error = refused("E701", resume=folder)
    assert error.where == str(folder / name)


def test_no_run_is_overwritten(world, tmp_path):
    folder = Path(shutil.copytree(world.cut("plateau", 17), tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    error = refused("E704", config=world.config["plateau"], out=folder)
    assert f"seqvae train --resume {folder}" in error.hint
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("mine")
    refused("E704", config=world.config["plateau"], out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_holds_no_run_cannot_be_resumed(world, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    for folder in (tmp_path / "notes", tmp_path / "nowhere"):
        assert "no run to resume" in refused("E404", resume=folder).what
    refused("E404", config=world.config["plateau"], resume=tmp_path / "notes")
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_was_left_before_it_had_a_config_can_be_used(world, tmp_path):
    for number, key in enumerate(("out", "resume")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / ".tmp-config.yaml-999999999").write_text("train: ")
        assert seqvae.train(world.config["plateau"], **{key: folder}).finished
        assert_same_run(folder, world.whole["plateau"])

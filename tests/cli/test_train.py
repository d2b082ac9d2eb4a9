"""train as a user meets it: a run folder, events, going on, and mistakes before any folder is made."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import seqvae
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.training import run as runs

ROOT = Path(__file__).resolve().parents[2]
FEW = ("--set", "train.steps=4", "--set", "train.log_every=2")


def folders() -> list[str]:
    return sorted(path.name for path in Path("runs").glob("*"))


def begun(result) -> Path:
    """The folder of the run that a verb told about."""
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("done     ")]
    return Path(line.removeprefix("done     "))


def test_a_run_is_a_folder_that_names_itself_and_what_to_do_next(desk):
    result = desk("train", "--config", "small.yaml", *FEW)
    folder = begun(result)
    assert re.fullmatch(r"runs/small-\d{4}-\d{4}", folder.as_posix())
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "provenance.json", "metrics.jsonl", "log.txt", "tokenizer", "checkpoints", "model")
    }
    assert result.stdout == ""
    told = result.stderr.splitlines()
    assert [line.split()[0] for line in told] == ["run", "data", "model", "step", "4", "best", "done", "next"]
    assert told[0] == f"run      {folder}"
    assert told[1] == "data     train.txt · train 200 · valid 30 · test 25 · vocabulary 19"
    assert told[-1] == f"next     seqvae eval --model {folder}"
    assert "\x1b" not in result.stderr
    assert (folder / "log.txt").read_text(encoding="utf-8").splitlines() == told[:-2]


def test_json_is_an_event_a_line_on_stdout(desk):
    result = desk("train", "--config", "small.yaml", "--json", *FEW)
    events = [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "phase", "train", "train", "valid", "end"]
    assert events[0]["facts"]["run"] == str(begun(result))
    assert events[2]["step"] == 2
    assert events[2].keys() >= {"rec_nats", "kl_nats", "elbo_nats", "kl_weight", "lr", "tokens_per_s"}


def test_own_text_is_named_in_place_of_the_corpus_of_the_config(desk):
    tiny = ["model.encoder.hidden=5", "model.decoder.hidden=7", "data.valid_fraction=0.1", "train.steps=1"]
    changes = [part for change in ["data.train=train.txt", *tiny] for part in ("--set", change)]
    result = desk("train", "--config", "tiny", *changes)
    assert "data     train.txt · train 180 · valid 20 · vocabulary 19\n" in result.stderr
    assert "| corpus | own text |" in (begun(result) / "model/README.md").read_text(encoding="utf-8")


def test_runs_begun_in_the_same_minute_have_folders_of_their_own(desk, monkeypatch):
    monkeypatch.setattr(runs.time, "strftime", lambda pattern: "0102-0304")
    found = [begun(desk("train", "--config", "small.yaml", "--set", f"train.steps={n}")) for n in (1, 2, 3)]
    assert [path.name for path in found] == ["small-0102-0304", "small-0102-0304-2", "small-0102-0304-3"]


def test_runs_begun_at_the_same_instant_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(runs.time, "strftime", lambda pattern: "0102-0304")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: runs.new_folder("x", tmp_path / "runs"), range(40)))
    assert len(set(found)) == 40


def test_out_names_the_folder_and_never_overwrites(desk):
    arguments = ("train", "--config", "small.yaml", "--out", "here/mine", *FEW)
    assert begun(desk(*arguments)) == Path("here/mine")
    before = {path: path.read_bytes() for path in Path("here/mine").rglob("*") if path.is_file()}
    result = desk(*arguments)
    assert (result.exit_code, result.stdout) == (7, "")
    assert "error[E704]" in result.stderr
    assert "seqvae train --resume here/mine" in result.stderr
    assert {path: path.read_bytes() for path in Path("here/mine").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], "E210", "seqvae train --config tiny.yaml"),
        (["--resume", "auto"], "E210", "seqvae train --config tiny.yaml"),
        (["--set", "train.steps=1"], "E212", "add `--config tiny.yaml`"),
        (["--seed", 3], "E212", "--seed changes a config"),
        (["--config", "smal.yaml"], "E202", "did you mean `small.yaml`?"),
        (["--config", "tinny.yaml"], "E202", "did you mean `tiny.yaml`?"),
        (["--config", "small.yaml", "--set", "train.stpes=1"], "E204", "did you mean `steps`?"),
        (["--config", "small.yaml", "--set", "train.steps=many"], "E205", "many"),
        (["--config", "small.yaml", "--set", "train.device=cuda:99"], "E207", "cuda:99"),
        (["--config", "small.yaml", "--set", "data.train=nope.txt"], "E301", "nope.txt"),
        (["--config", "small.yaml", "--set", "data.valid=null"], "E220", "data.valid_fraction"),
        (["--resume", "runs/nope"], "E404", "there is no run to resume"),
        (["--resume", "runs/nope", "--set", "train.steps=1"], "E404", "there is no run to resume"),
        (["--resume", "runs/nope", "--out", "runs/other"], "E213", "different folders"),
        (["--config", "small.yaml", "--set", "data.train=-", "--set", "data.valid=-"], "E226", "can be read once"),
    ],
)
def test_a_mistake_is_told_before_any_folder_is_made(desk, arguments, code, told):
    result = desk("train", *arguments)
    assert (result.exit_code, result.stdout) == (int(code[1]), "")
    assert f"error[{code}]" in result.stderr
    assert told in result.stderr
    assert folders() == []


def test_seed_is_short_for_the_setting(desk):
    saved = []
    for number, option in enumerate(
        [("--seed", 7), ("--set", "train.seed=7"), ("--set", "train.seed=1", "--seed", 7), ()]
    ):
        folder = begun(desk("train", "--config", "small.yaml", "--out", f"runs/{number}", *FEW, *option))
        saved.append(
            (seqvae.Config.from_yaml(folder / "config.yaml"), (folder / "model/model.safetensors").read_bytes())
        )
    assert [config.train.seed for config, _ in saved] == [7, 7, 7, 0]
    assert saved[0] == saved[1] == saved[2]
    assert saved[3][1] != saved[0][1]
    assert desk("train", "--resume", "runs/0", "--seed", 7).exit_code == 0
    assert "train.seed" in desk("train", "--resume", "runs/0", "--seed", 8).stderr


def stopped_run(after: int, *settings: str) -> Path:
    """A run of small.yaml that a signal stopped after so many updates."""

    def stop(event):
        if event["event"] == "train" and event["step"] == after:
            os.kill(os.getpid(), signal.SIGTERM)

    run = seqvae.train(seqvae.Config.from_yaml("small.yaml", settings), out=runs.new_folder("small"), observers=[stop])
    assert (run.finished, run.signal) == (False, signal.SIGTERM)
    return run.folder


def test_settings_that_may_change_are_for_a_run_that_is_gone_on_with(desk):
    result = desk("train", "--config", "small.yaml", "--allow-change", "train.optimizer.lr")
    assert (result.exit_code, folders()) == (2, [])
    assert "error[E212]" in result.stderr


def test_auto_goes_on_with_the_newest_run_of_these_settings_else_begins_one(desk):
    auto = ("train", "--config", "small.yaml", "--resume", "auto")
    stopped = stopped_run(after=15)
    other = begun(desk(*auto, *FEW))
    assert other != stopped
    resumed = desk(*auto)
    assert begun(resumed) == stopped
    assert "resume   at update 15\n" in resumed.stderr
    again = desk(*auto)
    assert begun(again) == stopped
    assert again.stderr.startswith("note     this run is finished already\n")
    assert len(folders()) == 2
    assert begun(desk(*auto, "--set", "train.seed=1", *FEW)) not in (stopped, other)


def test_auto_with_a_setting_that_may_change_goes_on_with_the_run_that_had_another(desk):
    stopped = stopped_run(after=15)
    change = ("--set", "train.epochs=2", "--allow-change", "train.epochs")
    assert begun(desk("train", "--config", "small.yaml", "--resume", "auto", *change)) == stopped
    assert seqvae.Config.from_yaml(stopped / "config.yaml").train.epochs == 2


def test_auto_without_a_config_goes_on_with_the_newest_run(desk):
    stopped = stopped_run(after=5)
    assert begun(desk("train", "--resume", "auto")) == stopped


def test_auto_with_a_folder_begins_there_and_then_goes_on_there(desk):
    arguments = ("train", "--config", "small.yaml", "--out", "mine", "--resume", "auto", *FEW)
    assert begun(desk(*arguments)) == Path("mine")
    assert "finished already" in desk(*arguments).stderr


def test_a_named_run_goes_on_without_a_config_and_not_with_other_settings(desk):
    stopped = stopped_run(after=10)
    result = desk("train", "--resume", stopped, "--set", "train.seed=7")
    assert result.exit_code == 2
    assert "error[E211]: the run was begun with other settings: train.seed" in result.stderr
    result = desk("train", "--resume", stopped, "--config", "small.yaml", "--out", Path.cwd() / stopped)
    assert "resume   at update 10\n" in result.stderr
    assert begun(result) == stopped


def test_a_finished_run_is_not_told_to_have_taken_other_settings(desk):
    folder = begun(desk("train", "--config", "small.yaml", *FEW))
    change = ("--set", "train.epochs=9", "--allow-change", "train.epochs")
    result = desk("train", "--resume", folder, *change)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E211]: the run is finished, and was trained with other settings: train.epochs" in result.stderr
    assert "begin a new run" in result.stderr
    alike = ("--set", "eval.iw_samples=3", "--set", "train.threads=2", "--allow-change", "train.threads")
    assert "finished already" in desk("train", "--resume", folder, *alike, "--allow-change", "eval").stderr


def test_a_run_goes_on_without_the_tokenizer_that_it_was_begun_with(desk):
    """Its folder holds a copy of it, from the first update on."""
    WordTokenizer(["the", "cat", "saw", "some", "tea"]).save("given")
    settings = ["tokenizer.name=saved", "tokenizer.folder=given"]
    stopped = stopped_run(5, *settings)
    assert seqvae.Config.from_yaml(stopped / "config.yaml").tokenizer.folder == Path("given").resolve()
    shutil.rmtree("given")
    assert begun(desk("train", "--resume", stopped)) == stopped
    assert seqvae.load(stopped).tokenizer.words == ["the", "cat", "saw", "some", "tea"]


def test_ctrl_c_saves_and_prints_the_command_that_goes_on(desk, tmp_path):
    """In a process of its own: the exit code is what a shell sees."""
    command = [sys.executable, "-m", "seqvae", "train", "--config", "small.yaml", "--json", "--out", "mine"]
    command += ["--set", "train.epochs=100000", "--set", "train.log_every=1", "--set", "data.equal_length=true"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "train":
                break
        process.send_signal(signal.SIGINT)
        rest, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("stopped  by SIGINT; everything is saved\nresume   seqvae train --resume mine\n")
    assert all(json.loads(each)["event"] in ("train", "valid") for each in rest.splitlines())


def test_a_run_folder_whose_name_is_not_utf8_is_refused(verb, workplace, tmp_path):
    result = verb("train", "--config", workplace / "small.yaml", "--out", tmp_path / "caf\udce9")
    assert (result.exit_code, result.stdout) == (7, "")
    assert "error[E703]: the path is not UTF-8" in result.stderr
    assert list(tmp_path.iterdir()) == []

"""The doctor sees what is wrong, says the next step, and fails only where something fails."""

import errno
import json
import os
import re
import tomllib
from pathlib import Path

import torch
from typer.testing import CliRunner

from seqvae import health
from seqvae.cli.app import app


def doctor(*words: str):
    return CliRunner().invoke(app, ["doctor", *words], prog_name="seqvae")


def test_a_whole_installation_passes_and_every_check_is_a_line(monkeypatch):
    monkeypatch.setattr(health, "MATMUL_S", 0.01)
    monkeypatch.setattr(health.arithmetic, "__defaults__", (0.01,))
    result = doctor("--json")
    assert result.exit_code == 0, result.stdout
    report = json.loads(result.stdout)
    assert report["ok"] is True
    names = [check["name"] for check in report["checks"]]
    assert names[:6] == ["seqvae", "python", "torch", "libraries", "extras", "devices"]
    assert names[-1] == "run folder"
    assert "determinism" in names
    assert all(check["next"] for check in report["checks"] if check["status"] != "ok")


def test_a_failed_check_is_told_with_its_next_step_and_exit_code_2(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(
        health, "examine", lambda folder: iter([health.cache(tmp_path / "file" / "cache"), health.python()])
    )
    result = doctor()
    assert result.exit_code == 2
    assert result.stdout.startswith("failed   cache ")
    assert "next: set SEQVAE_CACHE" in result.stdout
    assert "error[E268]: 1 of 2 checks failed: cache" in result.stderr


def test_spinning_threads_on_a_busy_machine_are_warned_of():
    busy = {"cores": 2, "load": 6.0, "chosen": 2}
    assert "unset OMP_WAIT_POLICY" in health.threads({"OMP_WAIT_POLICY": "active"}, **busy).next
    assert "unset" not in health.threads({"OMP_WAIT_POLICY": "PASSIVE"}, **busy).next
    idle = {"cores": 2, "load": 0.1, "chosen": 2}
    assert health.threads({"OMP_WAIT_POLICY": "ACTIVE"}, **idle).status == "ok"
    assert "train.threads=2" in health.threads({}, cores=2, load=0.0, chosen=9).next


def test_a_misspelt_variable_and_a_folder_that_is_not_there_are_warned_of(tmp_path):
    assert "SEQVAE_CACHE" in health.variables({"SEQVAE_CASHE": "x"}).next
    assert health.variables({"SEQVAE_DATA": str(tmp_path / "nope")}).status == "warning"
    assert health.variables({"SEQVAE_DATA": str(tmp_path)}).status == "ok"


def test_little_room_is_a_warning_and_none_a_failure(tmp_path):
    assert [health.room(tmp_path, free).status for free in (1e12, 1e9, 1e6)] == ["ok", "warning", "failed"]


def test_a_missing_library_fails():
    assert health.libraries(("numpy", "no-such-package")).status == "failed"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert {"torch", *health.NEEDED} == needed  # torch has a line of its own
    assert set(health.EXTRAS.values()) == project["optional-dependencies"].keys() - {"dev", "docs"}
    assert health.libraries(("numpy",)).status == "ok"


def test_a_gpu_that_pytorch_does_not_see_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    (tmp_path / "nvidiactl").touch()
    assert health.devices(tmp_path / "nvidiactl").status == "warning"
    assert health.devices(tmp_path / "none").status == "ok"


def test_what_was_written_where_runs_are_kept_is_read_back_and_swept(tmp_path):
    finding = health.writing(tmp_path, size=1000)
    assert finding.status == "ok", finding
    assert str(tmp_path) in finding.found
    assert "read back the same" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_cannot_be_written_fails_with_the_next_step(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert health.writing(tmp_path / "file").status == "failed"

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    finding = health.writing(tmp_path)
    assert finding.status == "failed"
    assert "no room left" in finding.found
    assert finding.next


def test_a_run_folder_that_is_not_there_yet_is_tried_above_it(tmp_path):
    assert health.existing(tmp_path / "runs" / "later") == tmp_path
    assert health.existing(tmp_path) == tmp_path
    assert health.existing(Path()) == Path()


def test_a_disk_that_changes_what_it_is_given_or_has_no_locks_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "is_held", lambda folder: False)
    assert health.writing(tmp_path, size=1000).status == "warning"
    monkeypatch.setattr(health.manifests, "verify", lambda folder: (folder / "weights").write_bytes(b"other"))
    finding = health.writing(tmp_path, size=1000)
    assert finding.status == "failed"
    assert "changed" in finding.found


def test_trainings_that_differ_are_warned_of(monkeypatch):
    before = torch.get_rng_state()
    assert health.determinism(updates=1).status == "ok"
    assert torch.equal(torch.get_rng_state(), before)
    bits = iter([[b"one"], [b"two"]])
    monkeypatch.setattr(health, "_trained_bits", lambda *_: next(bits))
    finding = health.determinism()
    assert finding.status == "warning"
    assert finding.next


def test_the_doctor_says_what_to_paste_into_a_report(monkeypatch, tmp_path):
    folders = []
    monkeypatch.setattr(health, "examine", lambda folder: folders.append(folder) or iter([health.python()]))
    result = doctor(str(tmp_path))
    assert (result.exit_code, folders) == (0, [tmp_path])
    assert "paste the lines above" in result.stderr
    assert "paste" not in doctor("--json").stderr

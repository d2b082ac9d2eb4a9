"""On a terminal, into a pipe, into a file: data alone on stdout, and nothing that a terminal would need elsewhere."""

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.cli.progress import _while_it_lasts

ROOT = Path(__file__).resolve().parents[2]
SEQVAE = f"{shlex.quote(sys.executable)} -m seqvae"


def in_terminal(command: str, cwd: Path, **environment: str) -> tuple[int, str]:
    """Runs a shell command in a terminal of 80 columns; what it shows, control sequences and all."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")
    with subprocess.Popen(
        command,
        shell=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | environment,
        stdin=inside,
        stdout=inside,
        stderr=inside,
    ) as process:
        os.close(inside)
        shown = b""
        while True:
            try:
                piece = os.read(outside, 1 << 16)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not piece:
                break
            shown += piece
    os.close(outside)
    return process.returncode, shown.decode()


def settled(shown: str) -> list[str]:
    """The lines that a terminal shows in the end: it knows line ends, the cursor going up, and erased lines."""
    lines, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", shown):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith("\x1b"):
            lines[row] = lines[row].ljust(column)[:column] + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines if line.strip()]


def test_training_on_a_terminal_keeps_its_rows_above_a_bar_and_stdout_pure(desk, tmp_path):
    command = f"{SEQVAE} train --config small.yaml --json --out mine > events.jsonl"
    code, shown = in_terminal(command, tmp_path)
    assert code == 0, shown
    events = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert events.count("valid") == 3
    lines = settled(shown)
    log = (tmp_path / "mine/log.txt").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.endswith((" best", " valid"))]
    assert [row.split()[:5] for row in rows] == [row.split()[:5] for row in log if row.endswith((" best", " valid"))]
    for place in ("0/30", "30/30"):
        assert place in shown, "the bar"
    assert not [line for line in lines if "/30" in line], "the bar is gone at the end"
    assert [line.split()[0] for line in lines][-3:] == ["best", "done", "next"]
    assert max(map(len, lines)) <= 80
    assert "{" not in "".join(lines)


def test_a_bar_of_an_evaluation_leaves_nothing_behind_and_no_colour_is_none(verb, workplace, tmp_path):
    report = tmp_path / "report.json"
    code, shown = in_terminal(f"{SEQVAE} eval --json > {shlex.quote(str(report))}", workplace, NO_COLOR="1")
    assert code == 0, shown
    assert json.loads(report.read_text(encoding="utf-8"))["sentences"] == 25
    assert "evaluating" in shown
    assert settled(shown) == ["model    runs/vae"]
    assert re.findall(r"\x1b\[[0-9;]*3[0-7]m", shown) == []


def test_a_terminal_that_answers_no_more_is_dropped_after_the_first_failure(capsys):
    seen = []

    def observer(event):
        seen.append(event["step"])
        if event["step"] == 2:
            raise OSError(errno.EIO, "Input/output error")

    observe = _while_it_lasts(observer, "the terminal")
    for step in (1, 2, 3):
        observe({"event": "train", "step": step})
    assert seen == [1, 2]
    told = "note     nothing more is shown on the terminal (Input/output error); the run goes on\n"
    assert capsys.readouterr().err == told

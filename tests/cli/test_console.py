"""What every verb shares: data alone on stdout, mistakes as words and exit codes, in any terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.cli.console import aligned

ROOT = Path(__file__).resolve().parents[2]


def verb(body: str, *, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    """Runs ``body`` as a verb in a process of its own."""
    code = "from seqvae.cli.console import *\nfrom seqvae.errors import SeqVAEError\nwith run_verb():\n"
    code += "\n".join("    " + line for line in body.splitlines())
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )


def test_data_goes_to_stdout_and_narration_to_stderr():
    done = verb("say('reading [bold]x[/bold] :cat: [1/2]')\nemit_lines(['one', 'två'])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntvå\n", "reading [bold]x[/bold] :cat: [1/2]\n")


def test_json_is_one_value_without_nan():
    done = verb("import numpy as np\nemit_json({'x': float('nan'), 'y': np.float32(0.5), 'é': [float('inf')]})")
    assert json.loads(done.stdout, parse_constant=pytest.fail) == {"x": None, "y": 0.5, "é": [None]}
    assert "é" in done.stdout


def test_a_text_is_one_line_whatever_a_model_writes():
    done = verb(r"emit_lines(['a\nb\rc', '\x1b[31mred\x9b', 'a\tb', '中\u2028文'])")
    assert done.stdout == "a\ufffdb\ufffdc\n\ufffd[31mred\ufffd\na\tb\n中\u2028文\n"


@pytest.mark.parametrize(("code", "exit_code"), [("E204", 2), ("E302", 3), ("E401", 4), ("E501", 5), ("E601", 6)])
def test_a_mistake_is_words_on_stderr_and_an_exit_code(code, exit_code):
    done = verb(f"raise SeqVAEError({code!r}, 'wrong', where='my.txt:3', hint='mend it')")
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert done.stderr == f"error[{code}]: wrong\n  --> my.txt:3\nhelp: mend it\n"


def test_a_long_mistake_is_not_wrapped():
    done = verb("raise SeqVAEError('E204', 'x ' * 300)", COLUMNS="40")
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_ours_is_told_without_a_traceback_until_asked_for():
    done = verb("emit_lines(['partial'])\n{}['key']")
    assert (done.returncode, done.stdout) == (1, "partial\n")
    assert "internal error: KeyError" in done.stderr
    assert "SEQVAE_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in verb("{}['key']", SEQVAE_DEBUG="1").stderr


@pytest.mark.parametrize(
    "body",
    [
        "raise MemoryError",
        "import torch\nraise torch.OutOfMemoryError('tried to allocate 3 GiB\\nmore')",
        'import torch\nraise RuntimeError("DefaultCPUAllocator: can\'t allocate memory: tried to allocate 3 GiB")',
    ],
)
def test_a_full_memory_is_told_with_the_settings_that_need_less(body):
    done = verb(body)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("error[E601]: out of memory")
    assert ("tried to allocate 3 GiB" in done.stderr) == ("torch" in body)
    for setting in ("data.batch_size", "data.batch_tokens", "eval.batch_tokens"):
        assert setting in done.stderr


def test_an_interrupt_exits_130():
    done = verb("raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_an_interrupt_while_modules_are_imported_exits_130():
    program = """
import sys
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from seqvae.__main__ import main
main()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_exit_keeps_its_code():
    assert verb("raise SystemExit(5)").returncode == 5


def test_a_reader_that_leaves_early_ends_the_verb_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    done = verb("emit_lines(str(n) for n in range(100_000))", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_stdout_is_a_storage_error():
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = verb("emit_lines(['a'])", stdout=full.fileno())
    assert done.returncode == 7
    assert done.stderr.startswith("error[E701]")
    assert "Exception ignored" not in done.stderr


def test_text_is_utf_8_whatever_the_locale_says():
    done = verb(
        "say('\\xe5')\nemit_lines(['\\u65e5\\u672c'])", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "日本\n", "å\n")


def test_colour_is_never_needed():
    done = verb("narration().print('[red]word[/red]')", NO_COLOR="1", FORCE_COLOR="1")
    assert "31m" not in done.stderr
    assert "word" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the stream")
@pytest.mark.parametrize(("verb", "closed"), [("explain E204", ">&-"), ("explain E204", "2>&-"), ("score -", "<&-")])
def test_a_closed_stream_is_no_fault(tmp_path, verb, closed):
    command, paths = f'"{sys.executable}" -m seqvae {verb} {closed}', os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=paths, capture_output=True, encoding="utf-8", check=False
    )
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 4)  # 4: there is no model to score with


def test_columns_stand_under_each_other_whatever_their_script():
    assert aligned([("run", "state"), ("日本", "done"), ("a", "x")]) == ["run   state", "日本  done", "a     x"]

"""Help answers at once and says what there is; a slip of the pen is met with the nearest word."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import seqvae
from seqvae.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = typer.main.get_command(app).commands
GROUPS = {name: group.commands for name, group in COMMANDS.items() if hasattr(group, "commands")}
VERBS = {name: command for name, command in COMMANDS.items() if name not in GROUPS}
VERBS |= {f"{group} {name}": command for group, inside in GROUPS.items() for name, command in inside.items()}
"""Every verb by its words: ``train``, ``config list``."""


def test_no_help_imports_anything_heavy():
    """What was imported is looked at after every page of help in one process."""
    code = f"""
import sys
from typer.testing import CliRunner
from seqvae.cli.app import app
for arguments in [[], *(words.split() for words in {[*VERBS, *GROUPS]!r})]:
    assert CliRunner().invoke(app, [*arguments, "--help"]).exit_code == 0
print([name for name in ("torch", "numpy", "datasets", "pooch", "sklearn", "safetensors") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_each_of_its_options(desk, verb):
    result = desk(*verb.split(), "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: seqvae {verb} ")
    assert max(map(len, result.stdout.splitlines())) <= 80
    for parameter in VERBS[verb].params:
        assert parameter.help, f"{verb} {parameter.name}"
        for name in parameter.opts:
            assert (name if name.startswith("-") else parameter.metavar) in result.stdout
    assert desk(*verb.split(), "-h").stdout == result.stdout


@pytest.mark.parametrize(
    ("verb", "defaults"),
    [
        ("train", ["a new one in ./runs"]),
        ("eval", ["the newest run in ./runs", "test", "eval.iw_samples of the run, 500", "auto"]),
        ("sample", ["10", "prior", "a new one, named on stderr", "the model's training text", "200"]),
        ("interpolate", ["the newest run in ./runs", "8", "slerp"]),
        ("reconstruct", ["the newest run in ./runs", "200", "auto"]),
    ],
)
def test_help_names_the_defaults(desk, verb, defaults):
    words = " ".join(desk(verb, "--help").stdout.split())
    for default in defaults:
        assert f"[default: {default}" in words or f"[default: ({default}" in words


def test_the_first_page_names_every_verb_and_the_three_commands(desk):
    page = desk("--help").stdout
    for verb in COMMANDS:
        assert f"\n  {verb} " in page
    for command in ("seqvae train --config", "seqvae interpolate", "seqvae sample -n 10"):
        assert command in page
    alone = desk()
    assert (alone.exit_code, alone.output.strip()) == (2, page.strip())


@pytest.mark.parametrize("group", [name for name in GROUPS if not COMMANDS[name].invoke_without_command])
def test_a_group_alone_names_its_verbs_and_meets_a_slip_with_the_nearest_one(desk, group):
    alone = desk(group)
    assert (alone.exit_code, alone.stdout) == (2, "")
    for verb in GROUPS[group]:
        assert f"\n  {verb} " in alone.stderr
        slip = desk(group, verb + "x")
        assert slip.exit_code == 2
        assert f"did you mean `{verb}`?" in slip.stderr


def test_a_group_that_lists_when_alone_meets_a_slip_with_the_nearest_verb(desk):
    assert desk("methods").exit_code == 0
    slip = desk("methods", "shwo")
    assert slip.exit_code == 2
    assert "did you mean `show`?" in slip.stderr


@pytest.mark.parametrize(("slip", "meant"), [("trian", "train"), ("evaluate", "eval"), ("smaple", "sample")])
def test_a_slip_in_a_verb_is_met_with_the_nearest_one(desk, slip, meant):
    result = desk(slip)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"did you mean `{meant}`?" in result.stderr


def test_a_slip_in_an_option_is_met_with_the_nearest_one(desk):
    result = desk("train", "--confg", "tiny.yaml")
    assert result.exit_code == 2
    assert "did you mean `--config`?" in result.stderr


def test_the_version_is_one_line_in_every_way_to_start(desk):
    assert desk("--version").stdout == f"seqvae {seqvae.__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "seqvae", "--version"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"seqvae {seqvae.__version__}\n", "")


def test_python_m_calls_itself_by_its_name():
    done = subprocess.run(
        [sys.executable, "-m", "seqvae", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Usage: seqvae [OPTIONS]")

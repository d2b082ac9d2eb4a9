"""At Tab the shell offers the names that may stand there, at once: asked as bash asks, through its own script."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.cli import completion
from seqvae.config import shipped_configs
from seqvae.method_docs import method_docs
from seqvae.setting_docs import explain, settable_names

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(completion.__file__).with_name(completion.SETTINGS)


@pytest.fixture
def offered(desk, monkeypatch):
    """What is offered for the last word of a command, in a folder with text, a config and two runs."""
    for run in ("runs/first", "runs/second", "elsewhere/third"):
        Path(run).mkdir(parents=True)
        for name in ("config.yaml", "provenance.json"):
            Path(run, name).write_text("{}", encoding="utf-8")

    def ask(command: str) -> list[str]:
        words = command.split(" ")
        monkeypatch.setenv("_SEQVAE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", command)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        result = desk()
        assert result.stderr == ""
        return [line for line in result.stdout.splitlines() if line]

    return ask


def test_verbs_and_options_are_offered(offered):
    assert offered("seqvae tra") == ["train", "traverse"]
    assert offered("seqvae runs ") == ["list", "compare", "rm"]
    assert offered("seqvae train --con") == ["--config"]


@pytest.mark.parametrize("verb", ["train --config", "train -c", "config show", "data check --config", "bench --config"])
def test_configs_are_those_that_come_with_seqvae_and_those_of_the_folder(offered, verb):
    assert offered(f"seqvae {verb} ") == ["small.yaml", *shipped_configs()]
    assert offered(f"seqvae {verb} recipes/free_bits_s") == ["recipes/free_bits_sentence.yaml"]


def test_a_run_is_a_config_too_and_a_path_stays_as_it_is_typed(offered, tmp_path):
    assert offered("seqvae train --config runs/") == ["runs/first", "runs/second"]
    assert offered("seqvae train --config ./sm") == ["./small.yaml"]
    assert offered(f"seqvae train --config {tmp_path}/sm") == [f"{tmp_path}/small.yaml"]


@pytest.mark.parametrize(
    "verb",
    [
        *("sample --model", "eval --language-model", "diagnose --model", "explore --model"),
        *("compare", "compare runs/second", "runs compare", "plot", "report", "validate"),
    ],
)
def test_runs_are_offered_wherever_one_is_named(offered, verb):
    assert offered(f"seqvae {verb} ") == ["runs/first", "runs/second"]
    assert offered(f"seqvae {verb} runs/s") == ["runs/second"]
    assert offered(f"seqvae {verb} elsewhere/") == ["elsewhere/third"]


def test_resume_offers_auto_and_rm_bare_names(offered):
    assert offered("seqvae train --resume ") == ["auto", "runs/first", "runs/second"]
    assert offered("seqvae runs rm ") == ["runs/first", "runs/second", "first", "second"]
    assert offered("seqvae runs rm fi") == ["first"]


def test_settings_are_offered_as_they_are_set(offered):
    assert offered("seqvae train --config tiny.yaml --set model.enc") == [
        f"model.encoder.{name}="
        for name in ("bidirectional", "cell", "dropout", "dropout_over", "embedding", "hidden", "layers", "pooling")
    ]
    assert offered("seqvae config explain eval.see") == ["eval.seed"]
    assert offered("seqvae train --set train.seed=") == []


def test_corpora_and_methods_are_offered(offered):
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/train.txt").write_text("a\n", encoding="utf-8")
    assert offered("seqvae data fetch ") == [*completion.corpora()]
    assert "mine" in completion.corpora()
    assert offered("seqvae data fetch pt") == ["ptb"]
    assert offered("seqvae train --set data.corpus=ti") == ["data.corpus=tiny"]
    assert offered("seqvae methods show free_bits") == ["free_bits", "free_bits_sentence"]


def test_what_is_not_known_is_left_to_the_shell_without_a_word(offered):
    for command in ("seqvae sample --model nowhere/", "seqvae train --nope x", "seqvae runs lst x"):
        assert offered(command) == []


def test_the_list_of_settings_is_that_of_the_settings_classes():
    names = sorted(settable_names())
    if os.environ.get("SEQVAE_WRITE_SNAPSHOTS") == "1":
        LIST.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    assert completion.setting_names() == names, "write it anew: run this test with SEQVAE_WRITE_SNAPSHOTS=1"
    for name in names:
        assert explain(name), name


def test_the_methods_offered_are_those_that_can_be_shown():
    docs = method_docs()
    assert set(completion.methods()) <= docs.keys()
    kinds = {"method", "posterior", "prior", "recipe"}
    assert {name for name, doc in docs.items() if doc.kind in kinds} <= set(completion.methods())


def test_nothing_heavy_is_imported_while_somebody_waits():
    code = """
import sys
from seqvae.cli import completion as c
found = [c.configs(""), c.runs(""), c.resumable(""), c.settings(""), c.settings("data.corpus="), c.methods()]
print(all(found[0::2]), [name for name in ("torch", "datasets", "pooch", "pydantic", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True []\n", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="asks a real bash")
def test_bash_itself_completes_by_the_script_that_is_installed(desk, tmp_path):
    """The script of `seqvae --show-completion bash`, sourced; then what Tab does."""
    program = tmp_path / "seqvae"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m seqvae "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = """
source <(seqvae --show-completion bash)
COMP_WORDS=(seqvae train --config sm) COMP_CWORD=3
$(complete -p seqvae | sed 's/.*-F \\([^ ]*\\).*/\\1/') seqvae
printf '%s\\n' "${COMPREPLY[@]}"
"""
    environment |= {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "small.yaml\n", done.stderr

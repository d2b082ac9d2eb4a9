"""What the documents tell a reader to type works, word for word, on small stand-ins.

Commands are the lines that begin with ``$`` in a ``console`` block (the rest is output), the lines of ``sh`` blocks,
and indented lines that begin with a known program.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import run as launcher
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks import logs, smiles
from seqvae.cli.app import app
from seqvae.config import Config, shipped_configs
from seqvae.setting_docs import explain

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "data/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
PROGRAMS = ("seqvae", "torchrun", "python", "pip", "make", "git")
FILTERS = ("cut", "head", "paste", "sort", "tail", "wc")
SLOW = tuple(document for document in DOCUMENTS if document.startswith("docs/"))
"""Pages beyond the README, which train several times between them: their commands run with the slow tests."""
OWN = ("my.yaml", "my-molecules.yaml")
"""What a page lets `init` write, for minutes of training."""
WRITERS = ("benchmarks.logs", "benchmarks.smiles", "seqvae.data.grammar")
"""Programs that write a text and build on nothing."""
THREE = ("seqvae train --config ptb.yaml", "seqvae sample -n 10")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def fences(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block, without its indentation."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(language, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)) for indent, language, body in found]


def commands(text: str) -> list[str]:
    """What a reader is told to type, in order."""
    found = []
    for language, body in fences(text):
        lines = re.sub(r"\\\n\s*", " ", body).splitlines()
        if language == "console":
            found += [line[2:] for line in lines if line.startswith("$ ")]
        elif language in ("sh", "bash"):
            found += [line for line in lines if line.strip() and not line.startswith("#")]
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return found + re.findall(rf"^ {{4}}((?:{'|'.join(PROGRAMS)}) .*)$", prose, re.MULTILINE)


def stages(command: str) -> list[list[str]]:
    """The words of each program of a pipe, without what is set before it; of the last, with where it is redirected."""
    found: list[list[str]] = [[]]
    for word in shlex.split(command, comments=True):
        if word == "|":
            found.append([])
        elif found[-1] or "=" not in word:
            found[-1].append(word)
    return found


def words(command: str) -> list[str]:
    """The words of a command, without what is set before it, piped from it or redirected."""
    first, *_ = stages(command)
    ends = [place for place, word in enumerate(first) if word in (">", "2>", "&&")]
    return first[: min(ends, default=len(first))]


@pytest.fixture
def reader(away, small_tiny, monkeypatch) -> Path:
    """A reader's folder: text of their own, and the shipped configs made small under their own names.

    ``--config tiny.yaml`` finds the one in the working directory first, so a command is run as it is written.
    """
    small = [f"model.{part}.{size}=8" for part in ("encoder", "decoder") for size in ("embedding", "hidden")]
    small += ["train.steps=2", "train.device=cpu", "train.threads=1", "data.batch_size=4"]
    small += ["eval.iw_samples=2", "eval.reconstructions=5", "eval.mi_sentences=20"]
    for name in (*shipped_configs(), "benchmarks/configs/logs.yaml", "benchmarks/configs/smiles.yaml"):
        (away / name).parent.mkdir(exist_ok=True, parents=True)
        source = name if name in shipped_configs() else ROOT / name
        (away / name).write_text(Config.from_yaml(source, small).to_yaml(), encoding="utf-8")
    (away / "benchmarks/results").mkdir()
    text, labels = ((small_tiny / f"train.{name}").read_text(encoding="utf-8") for name in ("txt", "sentiment.labels"))
    for name in ("my.txt", "my-valid.txt", "my-test.txt"):
        (away / name).write_text(text, encoding="utf-8")
    for path in small_tiny.glob("train.*.labels"):
        (away / path.name.replace("train", "my")).write_bytes(path.read_bytes())
    rows = zip(["sentence", *text.splitlines()], ["feeling", *labels.splitlines()], strict=True)
    (away / "my.csv").write_text("".join(f"{sentence},{label}\n" for sentence, label in rows), encoding="utf-8")
    logs.write(away / "data/logs", 600, seed=0, anomalies=0.05)
    smiles.write(away / "data/smiles", 300, seed=0)
    (away / "my-molecules.txt").write_bytes((away / "data/smiles/train.txt").read_bytes())
    return away


@pytest.mark.parametrize(
    "document", [pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else []) for each in DOCUMENTS]
)
def test_the_commands_of_a_document_work_in_their_order(document, reader):
    for command in commands(read(document)):
        program, *arguments = words(command)
        assert program in PROGRAMS + FILTERS, f"{document} tells to type {command!r}, which this test cannot judge"
        if program == "seqvae" or program in FILTERS:
            _run(command)
        elif program == "torchrun":
            _run(_of_torchrun(arguments))
        elif program == "make":
            targets = re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)
            assert set(arguments) <= set(targets), command
        elif program == "pip" or arguments[:2] == ["-m", "pip"]:
            _check_extras(command)


def _run(command: str) -> None:
    """A pipe of verbs and filters, each fed with all that the one before it wrote."""
    flow = None
    for stage in stages(command):
        program, *arguments = stage
        target = arguments.pop() if ">" in arguments[-2:-1] else None
        arguments = arguments[:-1] if target else arguments
        if program == "seqvae":
            result = CliRunner().invoke(app, _short(arguments), prog_name="seqvae", input=flow)
            assert result.exit_code == 0, f"{command}\n{result.stderr}"
            flow = result.stdout_bytes
        else:
            assert program in FILTERS, f"{command}: {program} is no filter that this test knows"
            flow = subprocess.run([program, *arguments], input=flow, capture_output=True, check=True).stdout
        if target:
            Path(target).write_bytes(flow)


def _short(arguments: list[str]) -> list[str]:
    """The training of a config that ``init`` wrote, in two updates."""
    if "train" in arguments and set(OWN) & set(arguments):
        return [*arguments, "--set", "train.steps=2", "--set", "train.device=cpu"]
    return arguments


def _of_torchrun(arguments: list[str]) -> str:
    """The verb that torchrun would start in each process, once torchrun has understood the rest; here one runs it."""
    given = launcher.parse_args(arguments)
    assert given.module, f"{arguments} names no module"
    assert given.training_script == "seqvae", arguments
    return shlex.join(["seqvae", *given.training_script_args])


def _check_extras(command: str) -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    for named in re.findall(r"\[([a-z,]+)\]", command):
        assert set(named.split(",")) <= extras.keys(), command


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_programs_of_a_document_run(document, reader):
    """``python -m ...``; what measures, after the verbs that it builds on."""
    found = [command for command in commands(read(document)) if words(command)[:2] == ["python", "-m"]]
    measuring = [command for command in found if words(command)[2] not in WRITERS]
    for command in commands(read(document)) if measuring else ():
        if words(command)[0] == "seqvae":
            CliRunner().invoke(app, _short(words(command)[1:]), prog_name="seqvae")
    for command in found:
        _, *arguments = words(re.sub("1000000|50000|12000", "1000", command))
        arguments += ["--iw-samples", "2"] if command in measuring and "benchmarks" in arguments[1] else []
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each != "CONTRIBUTING.md"])
def test_the_python_of_a_document_runs(document, reader):
    """Each block after those before it."""
    known = {}
    for language, body in fences(read(document)):
        if language == "python":
            (reader / "block.py").write_text(body, encoding="utf-8")
            known |= runpy.run_path(str(reader / "block.py"), init_globals=known)


def files_shown(text: str) -> dict[str, str]:
    """The files that a text shows whole: their paths, each named before its block."""
    found = re.findall(r"`([\w./-]+)`[^`]*?:\n\n( *)```\w+\n(.*?)^\2```$", text, re.MULTILINE | re.DOTALL)
    return {path: re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for path, indent, body in found}


FOLLOWED = """
import seqvae.objectives
seqvae.objectives.__path__.append("seqvae/objectives")
import runpy, seqvae.config, seqvae.shipped
from pathlib import Path
seqvae.config.shipped = seqvae.shipped.shipped = lambda relative: Path.cwd() / relative
from typer.testing import CliRunner
from seqvae.cli.app import app
found = runpy.run_path("tests/unit/test_kl_cap.py")
for name in [name for name in found if name.startswith("test_")]:
    found[name]()
settings = ["--set", "train.steps=2", "--set", "train.device=cpu", "--set", "data.batch_size=4"]
for arguments in (
    ["train", "--config", "recipes/kl_cap.yaml", "--out", "run", *settings],
    ["methods", "show", "kl_cap"],
    ["config", "explain", "objective.strategies.kl_cap"],
):
    result = CliRunner().invoke(app, arguments, prog_name="seqvae")
    assert result.exit_code == 0, result.stderr
    print(result.stdout)
"""


def test_the_worked_example_of_a_method_works_as_it_is_shown(away):
    """In a process of its own, with the new files beside the package's: they are all that a method needs."""
    shown = files_shown(read("CONTRIBUTING.md"))
    assert set(shown) == {"seqvae/objectives/kl_cap.py", "tests/unit/test_kl_cap.py", "configs/recipes/kl_cap.yaml"}
    for path, content in shown.items():
        (away / path).parent.mkdir(parents=True, exist_ok=True)
        (away / path).write_text(content, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED], cwd=away, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Author et al. 2020" in done.stdout
    assert "seqvae train --config recipes/kl_cap.yaml" in done.stdout
    assert "cannot go with" in done.stdout
    assert "largest weight of the KL" in done.stdout


def test_the_readme_begins_with_two_commands_and_then_the_three():
    found = commands(read("README.md"))
    assert [words(command) for command in found[:2]] == [["make", "demo"], ["make", "test"]]
    verbs = [command for command in found if words(command)[0] == "seqvae"]
    assert set(THREE) <= set(verbs)
    assert [words(command)[1] for command in verbs[:3]] == ["train", "interpolate", "sample"]


def test_nothing_in_the_readme_waits_to_be_filled_in():
    assert re.findall(r"@@\w*|TODO|FIXME|XXX", read("README.md")) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_links_of_a_document_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", read(document))
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def _options(group: Any) -> set[str]:
    """Every option of every verb."""
    own = {option for parameter in group.params for option in parameter.opts}
    return own.union(*map(_options, getattr(group, "commands", {}).values()))


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each.startswith("docs/")])
def test_settings_verbs_and_options_that_a_page_names_exist(document):
    """In the text itself; commands of their own are run by another test."""
    verbs = get_command(app)
    prose = re.sub(r"^( *)```.*?^\1```$", "", read(document), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", prose):
        file = code.startswith("train.") and code.endswith((".txt", ".labels"))
        if not file and (named := re.fullmatch(rf"((?:{'|'.join(Config.model_fields)})(?:\.\w+)+)(?:[=:].*)?", code)):
            assert explain(named[1]), code
        if verb := re.match(r"seqvae (\w+)(?: (\w+))?", code):
            group = verbs.commands[verb[1]]
            assert verb[2] is None or verb[2] in getattr(group, "commands", [verb[2]]), code
        if not code.startswith(("python", "torchrun", "tensorboard")):
            assert set(re.findall(r"(?<!\S)--[a-z][\w-]*", code)) <= _options(verbs), code


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_shipped_files_that_a_document_names_are_there(document):
    named = set(re.findall(r"\b(?:configs/)?(recipes/[\w-]+\.yaml)", read(document)))
    named |= set(re.findall(r"--config ([\w/-]+\.yaml)", read(document)))
    own = {name for name in named if name.startswith("benchmarks/") and (ROOT / name).is_file()}
    assert named - own - {*shipped_configs(), *OWN, "recipes/kl_cap.yaml"} == set()


def test_the_reader_of_documents_finds_commands_of_every_kind():
    text = """
```console
$ seqvae eval --model \\
      runs/x
model    runs/x
$ A=1 seqvae sample -n 3 | head
```

    make test     # lint and tests
    some other text

   ```sh
   # a remark
   pip install ".[plots]"
   ```
"""
    found = commands(text)
    assert stages(found[1]) == [["seqvae", "sample", "-n", "3"], ["head"]]
    assert [words(each) for each in found] == [
        ["seqvae", "eval", "--model", "runs/x"],
        ["seqvae", "sample", "-n", "3"],
        ["pip", "install", ".[plots]"],
        ["make", "test"],
    ]


def test_what_torchrun_starts_is_read_by_its_own_rules():
    assert (
        _of_torchrun(["--nproc-per-node", "2", "-m", "seqvae", "train", "--out", "a b"]) == "seqvae train --out 'a b'"
    )
    with pytest.raises(SystemExit):
        _of_torchrun(["--no-such-option", "2", "-m", "seqvae", "train"])
    for wrong in (["seqvae", "train"], ["-m", "seqvay", "train"]):
        with pytest.raises(AssertionError):
            _of_torchrun(wrong)

"""The package as a user gets it: what the wheel carries, what an installation finds, what the files promise."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import seqvae
from seqvae.config import shipped_configs
from seqvae.shipped import shipped

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=ROOT)
    return next(out.glob("seqvae-*.whl"))


def test_the_wheel_carries_the_configs_and_the_tiny_corpus(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in shipped_configs():
        assert f"seqvae/_shipped/configs/{name}" in names
    for path in shipped("data/tiny").iterdir():
        assert f"seqvae/_shipped/data/tiny/{path.name}" in names
    assert {"seqvae/py.typed", "seqvae/cli/app.py", f"seqvae-{PROJECT['version']}.dist-info/licenses/LICENSE"} <= names
    strays = {name for name in names if name.split("/")[0] not in ("seqvae", f"seqvae-{PROJECT['version']}.dist-info")}
    assert strays == set()


def test_the_wheel_carries_every_file_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    found = (path.relative_to(ROOT) for path in (ROOT / "seqvae").rglob("*") if path.is_file())
    files = {path.as_posix() for path in found if "__pycache__" not in path.parts and path.name[0] != "."}
    web = {"seqvae/web/static/index.html", "seqvae/web/static/js/app.js", "seqvae/web/static/css/base.css"}
    assert web | {"seqvae/error_catalogue.yaml", "seqvae/cli/settings.txt", "seqvae/pages/run.html.j2"} <= files
    assert files <= names


def test_an_installed_wheel_finds_what_it_carries_from_any_directory(wheel, tmp_path):
    """Unpacked as an installer would, first on the path, and away from the checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "elsewhere").mkdir()
    code = """
import seqvae
from seqvae.config import Config, find_config
from seqvae.shipped import shipped
Config.from_yaml("tiny.yaml")
print(seqvae.__file__, find_config("tiny"), shipped("data/tiny"), sep="\\n")
"""
    lines = run(
        sys.executable, "-c", code, cwd=tmp_path / "elsewhere", PYTHONPATH=str(tmp_path / "site")
    ).stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert Path(line).is_relative_to(tmp_path / "site")
        assert Path(line).exists()


def test_the_wheel_has_the_console_script_and_the_extras(wheel):
    archive = zipfile.ZipFile(wheel)
    info = f"seqvae-{PROJECT['version']}.dist-info"
    assert "seqvae = seqvae.__main__:main" in archive.read(f"{info}/entry_points.txt").decode()
    metadata = archive.read(f"{info}/METADATA").decode()
    for extra in ("plots", "explore", "umap", "tensorboard", "wandb", "onnx", "torchtext", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata


def test_a_checkout_finds_its_own_files():
    assert shipped("configs") == ROOT / "configs"
    assert (shipped("data/tiny") / "train.txt").is_file()


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == seqvae.__version__


def test_every_dependency_is_pinned_for_the_tests_and_meets_its_own_floor():
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in wanted:
        name, floor = re.fullmatch(r"([A-Za-z0-9_-]+)[>=]=([0-9.]+)", requirement).groups()
        pin = pins[name.lower()]
        assert tuple(map(int, re.findall(r"\d+", pin))) >= tuple(map(int, floor.split("."))), requirement
    assert "+" not in "".join(pins.values())
    assert pins["torch"] == "2.13.0"


@pytest.mark.parametrize("path", ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run"])
def test_installing_names_no_server(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.findall(r"https?://|--(?:extra-)?index-url|--find-links", text) == []


def test_public_names_are_found_when_asked_for():
    assert {"load", "train", "evaluate", "Config", "SeqVAE", "TextVAE", "SeqVAEError"} <= set(dir(seqvae))
    for name in seqvae.__all__:
        assert getattr(seqvae, name) is not None
    with pytest.raises(AttributeError, match="laod"):
        seqvae.laod  # noqa: B018

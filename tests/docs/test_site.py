"""The documentation site: its navigation has every page, its links lead somewhere, nothing comes from outside."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import seqvae
from seqvae.config import Config
from seqvae.error_catalogue import catalogue
from seqvae.method_docs import method_docs
from seqvae.setting_docs import explain

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hook():
    """What is made when the site is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "site"))
        yield runpy.run_path(str(DOCS / "site/hook.py"))
        sys.modules.pop("reference", None)


@pytest.fixture(scope="module")
def made(hook) -> dict[str, str]:
    """The text of every generated page."""
    return {page: make() for page, make in hook["PAGES"].items()}


def pages_in(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in pages_in(each)]


def own_pages() -> list[str]:
    return sorted(path.name for path in DOCS.glob("*.md"))


def test_the_navigation_lists_every_page_once(hook):
    listed = pages_in(SETTINGS["nav"])
    assert sorted(listed) == sorted({*own_pages(), *hook["SHOWN"], *hook["PAGES"]})


@pytest.mark.parametrize("page", own_pages())
def test_the_links_of_a_page_lead_to_pages_of_the_site(page, hook):
    known = {*own_pages(), *hook["SHOWN"], *hook["PAGES"]}
    turned = hook["site_links"]((DOCS / page).read_text(encoding="utf-8"), page)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", turned):
        assert target in known or (DOCS / target).is_file(), target


def test_links_are_turned_by_the_place_of_the_file(hook):
    turn = hook["site_links"]
    assert turn("[a](../SECURITY.md#x)", "runs.md") == "[a](security.md#x)"
    assert turn("[a](../benchmarks/results/tiny.md)", "runs.md") == "[a](results/tiny.md)"
    assert turn("[a](../docs/cures.md)", "notebooks/first-steps.md") == "[a](../cures.md)"
    assert turn("[a](methods.md) [b](#c)", "runs.md") == "[a](methods.md) [b](#c)"
    assert turn("[a](https://example.org/b.md)", "runs.md") == "[a](https://example.org/b.md)"
    assert turn("[a](../pyproject.toml)", "runs.md") == "[a](../pyproject.toml)"  # a strict build complains


def test_a_numbered_list_of_any_page_is_indented_as_the_site_wants_it(hook):
    text = "1. one\n   and\n2. two\n\n   ```sh\n   a\n     b\n   ```\n3. three\n\ntext\n   as it is"
    deep = "1. one\n    and\n2. two\n\n    ```sh\n    a\n      b\n    ```\n\n3. three\n\ntext\n   as it is"
    assert hook["deeper"](text) == deep


def test_the_reference_names_every_public_name_verb_setting_method_and_code(made):
    python = made["reference/python.md"]
    assert [name for name in seqvae.__all__ if f"heading: seqvae.{name}\n" not in python] == []
    commands = made["reference/commands.md"]
    assert {"## seqvae train", "## seqvae config explain", "## seqvae explore"} <= set(commands.splitlines())
    assert "| `--resume RUN` |" in commands
    settings = made["reference/settings.md"]
    for section in Config.model_fields:
        assert f"## {section}\n" in settings
        for name in explain(section)[0].settings:
            assert f"`{name}`" in settings or f"## {section}.{name}\n" in settings, name
    assert [name for name in method_docs() if f"### {name}\n" not in made["reference/methods.md"]] == []
    assert [code for code in catalogue() if f"### {code}: " not in made["reference/errors.md"]] == []


def test_what_the_page_on_python_shows_exists(hook):
    from importlib import import_module

    shown = hook["reference"].PYTHON
    for name in (each for names in shown.values() for each in names):
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute), name


def test_text_without_markup_is_shown_as_it_is(hook):
    escaped, table = hook["reference"].escaped, hook["reference"].table
    assert escaped("a_b <unk> `c_d <x>` [e]") == r"a\_b &lt;unk&gt; `c_d <x>` \[e\]"
    assert table(("x", "y"), [("a|b", "c\nd")]) == ["| x | y |", "|---|---|", r"| a\|b | c d |", ""]


def numbers_of(line: str) -> list[str]:
    return re.findall(r"\d+\.\d+", line)


@pytest.mark.parametrize(
    ("page", "mark"), [("cures.md", "| `"), ("results.md", "| **ours**"), ("results.md", "| `tiny.yaml`")]
)
def test_numbers_that_are_quoted_stand_on_the_page_they_come_from(page, mark):
    folder = ROOT / "benchmarks/results"
    results = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.md")}
    lines = [line for line in (DOCS / page).read_text(encoding="utf-8").splitlines() if line.startswith(mark)]
    assert lines
    for line in lines:
        if page == "cures.md":
            cells = [cell for cell in line.strip("| ").split(" | ") if numbers_of(cell)]
            sources = [row for row in results["collapse.md"].splitlines() if row.startswith(line[: line.index("|", 2)])]
            assert any(all(f"| {cell} |" in row for cell in cells) for row in sources), line
        else:
            named = re.search(r"\(\.\./benchmarks/results/(.+?\.md)\)", line)
            source = results["tiny.md" if named is None else named[1]]
            assert [number for number in numbers_of(line) if number not in source] == []


def test_pictures_are_small_and_all_are_used():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    pictures = sorted((DOCS / "images").iterdir())
    assert [path.name for path in pictures if f"images/{path.name}" not in text] == []
    assert sum(path.stat().st_size for path in pictures) < 1_000_000


def test_the_examples_of_docstrings_become_blocks():
    pytest.importorskip("griffe", reason="the extra [docs] is not installed")
    block = runpy.run_path(str(DOCS / "site/doctests.py"))["_EXAMPLE"]
    assert block.search("Text.\n\n>>> f(1)\n2\n\nMore.")[0] == ">>> f(1)\n2"


def test_the_scripts_of_the_site_are_python():
    for path in (DOCS / "site").glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


@pytest.mark.slow
def test_the_site_is_built_strictly_and_loads_nothing_from_outside(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra [docs] is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > 25
    loaded = r"""<(?:script|img|iframe|source)[^>]+src=["']?(https?:)?//|<link[^>]+(?:stylesheet|preconnect)[^>]+//"""
    for path in built:
        assert re.findall(loaded, path.read_text(encoding="utf-8")) == [], path
    for path in (tmp_path / "site").rglob("*.css"):
        assert "url(http" not in path.read_text(encoding="utf-8"), path
    assert (tmp_path / "site/search/search_index.json").stat().st_size > 100_000

"""Every error code is explained, once, and no code is explained that nothing raises."""

import ast
import functools
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.error_catalogue import EXIT_CODES, FILE, catalogue, entry
from seqvae.errors import SeqVAEError
from seqvae.setting_docs import setting_names

PACKAGE = Path(seqvae.__file__).parent


@functools.cache
def raised() -> dict[str, list[str]]:
    """Each code that stands in the source as a string of its own: where it does."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"E\d{3}", node.value):
                found.setdefault(node.value, []).append(f"{path.relative_to(PACKAGE.parent)}:{node.lineno}")
    return found


def test_every_code_that_can_be_raised_is_explained():
    missing = {code: places for code, places in raised().items() if code not in catalogue()}
    entries = "\n".join(
        f'{code}:  # raised at {", ".join(places)}\n  title: ...\n  cause: ...\n  cure: ...\n  example: "seqvae ..."'
        for code, places in sorted(missing.items())
    )
    assert not missing, f"add to {FILE}, in the order of the codes:\n{entries}"


def test_no_code_is_explained_that_nothing_raises():
    stale = sorted(catalogue().keys() - raised().keys())
    assert not stale, f"nothing raises these any more: take them out of {FILE}: {', '.join(stale)}"


def test_the_codes_stand_in_order_and_tell_their_exit_code():
    assert list(catalogue()) == sorted(catalogue())
    for each in catalogue().values():
        assert each.exit_code in EXIT_CODES
        assert SeqVAEError(each.code, "x").exit_code == each.exit_code


@pytest.mark.parametrize("code", catalogue())
def test_an_entry_is_whole_and_short(code):
    each = entry(code)
    assert len(each.title) <= 70
    assert not each.title.endswith(".")
    for text in (each.cause, each.cure):
        assert re.match(r"[A-Z`]", text), text
        assert text.endswith((".", "?")), text
        assert len(text) < 500
    assert each.example.strip()


def test_the_settings_and_options_that_an_entry_names_exist():
    """Names of files such as ``train.labels`` apart."""
    known = set(setting_names())
    for each in catalogue().values():
        named = re.findall(r"`((?:data|tokenizer|model|objective|train|eval)\.[a-z_.]+)", each.cause + each.cure)
        assert {name for name in named if not name.endswith((".labels", ".txt"))} - known == set(), each.code


@pytest.mark.parametrize("asked", ["E204", "e204", "204", " E204 "])
def test_a_code_is_found_as_it_is_typed(asked):
    assert entry(asked).code == "E204"


def test_explain_shows_cause_cure_and_example():
    shown = CliRunner().invoke(app, ["explain", "E204"], prog_name="seqvae").stdout
    one = entry("E204")
    assert shown.startswith(f"E204  {one.title}  (exit code 2: usage or config)\n")
    assert " ".join(one.cause.split()) in " ".join(shown.split())
    assert " ".join(one.cure.split()) in " ".join(shown.split())
    assert f"    {one.example}\n" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_explain_alone_lists_every_code():
    lines = CliRunner().invoke(app, ["explain"], prog_name="seqvae").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue())

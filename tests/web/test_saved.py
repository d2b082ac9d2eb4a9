"""The page as one file: it opens without a server, fetches nothing, and answers what it was saved with."""

import re
import socket

import pytest
from explored import ATTACK, SENTENCES
from typer.testing import CliRunner

from seqvae.cli.app import app
from seqvae.web import saved
from seqvae.web.page import assets, bundle, single_page


@pytest.fixture(scope="module")
def file(explorer, tmp_path_factory):
    """Saved with few answers, so that it takes a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, few in (("SENTENCES", 9), ("WALKED", 2), ("UNITS", 2), ("ENDS", 3)):
            patch.setattr(saved, name, few)
        path = tmp_path_factory.mktemp("saved") / "page.html"
        path.write_text(single_page(saved.saved_answers(explorer)), encoding="utf-8")
    return path


def test_a_saved_page_opens_from_the_disk_and_needs_nothing_else(visit, file, explorer):
    page = visit(where=file.as_uri())
    assert page.locator("#found").inner_text() == f"{SENTENCES} sentences"
    assert page.locator("#back").inner_text()
    page.locator("#tab-path").click()
    page.wait_for_selector("#step")
    first = page.locator("#step").inner_text()
    page.locator("#page-path input[type=range]").fill("20")
    start, end = (page.get_by_role("combobox", name=name).input_value() for name in ("From", "To"))
    expected = [text or "(an empty sentence)" for _, text in explorer.vae.interpolate(start, end, 21)]
    assert (first, page.locator("#step").inner_text()) == (expected[0], expected[20])
    page.locator("#tab-units").click()
    page.wait_for_selector("input[data-dim]")
    page.locator("input[data-dim]").first.fill("3")
    page.wait_for_function("document.querySelector('#moved').textContent !== ''")
    dim, start = (page.locator(where).first for where in ("input[data-dim]", "#page-units select"))
    walk = saved._answer(explorer, "walk", {"text": start.input_value(), "dim": int(dim.get_attribute("data-dim"))})
    assert [float(dim.get_attribute(end)) for end in ("min", "max")] == [walk["t"][0], walk["t"][-1]]
    for t, text in zip(walk["t"], walk["texts"], strict=True):
        dim.fill(str(t))
        assert page.locator("#moved").inner_text() == (text or "(an empty sentence)")
    page.locator("#tab-sample").click()
    page.wait_for_selector("#page-sample .pick")
    page.locator("#tab-run").click()
    assert page.locator("#page-run .verdict-text").first.inner_text()
    for colour in ("length", "nll", "dim-1"):
        page.select_option("#colour", colour)
        page.wait_for_selector("#legend .ramp")


def test_markup_in_a_saved_page_is_shown_and_not_run(visit, file):
    page = visit(where=file.as_uri())
    page.fill("#search", "<script>")
    page.press("#search", "Enter")
    page.wait_for_selector("#page-selection .pick")
    assert page.locator("#page-selection .pick .text").inner_text() == ATTACK
    assert page.title() == "small · seqvae explore"


def test_a_saved_page_names_no_file_and_no_site(file):
    text = file.read_text(encoding="utf-8")
    assert "static/" not in text.split('id="saved"')[0]
    assert not re.search(r'(src|href)="(?!data:)', text.split('id="saved"')[0])
    assert "default-src 'none'" in text
    assert "unsafe-" not in text
    assert text.count("<script") == 2
    assert "connect-src" not in text


def test_the_modules_join_without_a_clash_of_names():
    names = re.findall(r"^(?:const|let|class|function|async function) (\w+)", bundle(), re.MULTILINE)
    assert len(names) > 60
    assert len(names) == len(set(names))
    assert "import {" not in bundle()
    assert "export " not in bundle()
    scripts = {path for path in assets() if path.endswith(".js")}
    assert all(assets()[path].decode().splitlines()[0] in bundle() for path in scripts), "a file that nothing imports"


def test_the_command_writes_one_file_and_serves_nothing(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("SEQVAE_CACHE", str(place / "cache"))
    monkeypatch.setattr(socket.socket, "bind", lambda *_: pytest.fail("it serves"))
    for name in ("SENTENCES", "WALKED", "UNITS", "ENDS"):
        monkeypatch.setattr(saved, name, 2)
    done = CliRunner().invoke(app, ["explore", "--model", "runs/small", "--sentences", "50", "--export", "page.html"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert "corpus   50 of 240 sentences of the train text" in done.stderr
    assert "page     page.html, " in done.stderr
    assert (place / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (place / "page.html").unlink()

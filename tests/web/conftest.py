"""A small model that was trained on text with markup in it, the explorer of it, and a browser to look at it."""

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from explored import write_corpus

import seqvae

pytest.importorskip("starlette", reason="the extra [explore] is not installed")


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with the text and runs/small. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("explored")
    write_corpus(folder)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("SEQVAE_CACHE", str(folder / "cache"))
        seqvae.train(seqvae.Config.from_yaml("small.yaml"), out="runs/small")
    return folder


@pytest.fixture(scope="session")
def explorer(place):
    """What `seqvae explore` makes of it."""
    from seqvae.cli.explore import _corpus
    from seqvae.cli.options import load_model, run_config
    from seqvae.web.atlas import Atlas
    from seqvae.web.explorer import Explorer

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.setenv("SEQVAE_CACHE", str(place / "cache"))
        vae, folder = load_model(Path("runs/small"), "cpu")
        corpus = _corpus(vae, folder, "train", None, at_most=10_000, words=None)
        return Explorer(vae, Atlas(vae, corpus), folder=folder, config=run_config(folder))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def address(explorer) -> Iterator[str]:
    """The explorer on a port of this machine; gone before other tests turn the clock that its thread waits by."""
    uvicorn = pytest.importorskip("uvicorn")
    from seqvae.web.server import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(explorer), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no Chromium on the path: `apt-get install chromium` (Debian) makes these tests run")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: `pip install playwright`"
    )
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address) -> Iterator[Callable]:
    """Opens the page, with a view in its link, and waits until it is there. No page may complain, or ask elsewhere."""
    contexts, complaints = [], []

    def open_page(view: str = "", *, where: str = address, width: int = 1280, height: int = 800, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda asked: _is_local(asked.url, where) or complaints.append(asked.url))
        page.goto(where + (f"#{view}" if view else ""))
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _is_local(url: str, where: str) -> bool:
    return url.startswith((where, "blob:", "data:"))

"""The pictures of the explorer in docs/images, taken in a Chromium from the run of the tutorial.

    python docs/site/pictures.py runs/my

The figures there are what the commands on the pages draw, copied: ``seqvae plot`` writes the same bytes each time.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "images"
A = "my neighbors will take the trips by the sea in a bad mood"
B = "my sad sister discusses the confusing project after lunch"
FLAGS = ["--no-sandbox", "--disable-gpu"]


def main(run: str) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "seqvae", "explore", "--model", run, "--port", str(port), "--no-browser"]
    server = subprocess.Popen(command)
    try:
        _wait_for(port)
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 760})
            _take(page, port, "explore-path", {"tab": "path"}, _walk)
            _take(page, port, "explore-units", {"tab": "units", "colour": "length", "base": B}, _move)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.2)


def _take(page: Page, port: int, name: str, view: dict[str, str], act: Callable[[Page], None]) -> None:
    page.goto("about:blank")
    page.goto(f"http://127.0.0.1:{port}/#{urlencode(view)}")
    page.set_default_timeout(120_000)
    page.wait_for_selector("html[data-ready]")
    act(page)
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"{name}.png")


def _walk(page: Page) -> None:
    page.select_option("#colour", label="tense")
    page.get_by_role("textbox", name="From").fill(A)
    page.get_by_role("textbox", name="To").fill(B)
    page.get_by_role("button", name="Walk").click()
    page.wait_for_selector("#step")
    page.locator("#page-path input[type=range]").fill("10")


def _move(page: Page) -> None:
    page.wait_for_selector("input[data-dim]")
    page.locator("input[data-dim]").first.fill("2.5")


if __name__ == "__main__":
    main(*sys.argv[1:])

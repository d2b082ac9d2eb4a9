"""`seqvae explore` as it is typed: what it says, where it serves, and what it refuses."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seqvae.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(place) -> Iterator:
    """Starts the command in a process of its own; gives the process and the address that it printed."""
    running = []

    def start(*arguments: str) -> tuple[subprocess.Popen, str]:
        command = [sys.executable, "-m", "seqvae", "explore", "--model", "runs/small", "--no-browser", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "SEQVAE_CACHE": str(place / "cache")}
        process = subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True)
        running.append(process)
        for line in process.stderr:
            if found := re.match(r"explore  (http\S+)$", line):
                process.stderr.readline()
                return process, found[1]
        raise AssertionError(f"it ended with {process.wait()}")

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_page_is_served_until_ctrl_c(started):
    process, address = started("--port", "0", "--sentences", "40")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert status_of(address) == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""


def test_a_page_for_others_needs_the_token_that_is_printed(started):
    _, address = started("--host", "0.0.0.0", "--expose", "--port", "0", "--sentences", "40")
    plain, token = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/\?token=(\S{20,})", address).groups()
    assert status_of(f"http://127.0.0.1:{plain}/") == 401
    assert status_of(f"http://127.0.0.1:{plain}/?token={token}") == 200


def status_of(address: str) -> int:
    """Of a page, as soon as the server is there; cookies are kept on the way."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    for _ in range(200):
        try:
            return opener.open(address).status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError("it never answered")


def typed(place, monkeypatch, *arguments: str):
    monkeypatch.chdir(place)
    return CliRunner().invoke(app, ["explore", "--model", "runs/small", *arguments], prog_name="seqvae")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_an_address_that_others_reach_is_refused_without_a_word_of_consent(place, monkeypatch, host):
    refused = typed(place, monkeypatch, "--host", host)
    assert refused.exit_code == 2
    assert f"error[E257]: {host} can be reached from other machines" in refused.stderr
    assert "--expose" in refused.stderr


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.setattr("seqvae.cli.explore.load_model", lambda *_: pytest.fail("it loads"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = typed(place, monkeypatch, "--port", str(taken.getsockname()[1]))
    assert refused.exit_code == 2
    assert "error[E258]: cannot serve on 127.0.0.1" in refused.stderr
    assert "--port 0" in refused.stderr


def test_without_the_extra_it_says_what_to_install(place, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else find(name, *rest)
    )
    refused = typed(place, monkeypatch)
    assert refused.exit_code == 2
    assert "error[E256]: the explorer needs uvicorn, which is not installed" in refused.stderr
    assert "pip install 'seqvae[explore]'" in refused.stderr

"""A server on this machine that stands in for the public address of a corpus."""

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from seqvae.data.catalogue import CORPORA

SPLITS = ("train", "valid", "test")


class Server:
    """What it sends is in ``files``, each cut at ``cut_at`` bytes; what it was asked for in ``asked``."""

    def __init__(self):
        self.files, self.asked = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                content = outer.files.get(self.path.removeprefix("/data/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: outer.cut_at])

            def log_message(self, *arguments):
                pass

        self.cut_at = None
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/data/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@contextmanager
def serving_ptb(monkeypatch: pytest.MonkeyPatch, lines: int = 1) -> Iterator[Server]:
    """``ptb`` is fetched from a server that has so many lines of each split, and whose files are the published ones."""
    server = Server()
    server.files = {f"ptb.{split}.txt": f"<unk> of {split}\n".encode() * lines for split in SPLITS}
    pinned = hashes({name.removeprefix("ptb."): content for name, content in server.files.items()})
    change(monkeypatch, "ptb", files=pinned, url=server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # pooch waits a second before it tries again
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def change(monkeypatch: pytest.MonkeyPatch, name: str, **values) -> None:
    """Changes what the catalogue says of a corpus."""
    monkeypatch.setitem(CORPORA, name, replace(CORPORA[name], **values))


def hashes(content: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}

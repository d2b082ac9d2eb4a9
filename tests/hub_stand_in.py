"""A stand-in for the Hugging Face Hub: a server on this machine that speaks what huggingface_hub asks of it.

Repositories with commits and branches, files by commit (large ones over Git LFS), private and gated repositories,
tokens that may read or write. ``asked`` holds what was asked, so that a test sees what was not.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

WRITER, READER = "hf_of_ann_who_writes", "hf_of_bob_who_reads"
TOKENS = {WRITER: "ann", READER: "bob"}


@dataclass
class Repository:
    """Commits by their sha, each with its files, and the branches that name them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        content = json.dumps([len(self.commits), sorted((name, len(data)) for name, data in files.items())])
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha], self.branches[branch] = dict(files), sha
        self.messages.append(message)
        return sha

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)]


class Refusal(Exception):
    """An answer of the Hub that is none of 200: status, ``X-Error-Code`` and ``X-Error-Message``."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message
        self.content: dict[str, str] = {"error": message}


class HubStandIn:
    """The state of the server, and the server."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.broken: int | None = None
        """With a number, whatever is asked is answered with this status."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def seen_by(self, name: str, user: str | None) -> Repository:
        repository = self.repositories.get(name)
        if repository is None or (repository.private and user != name.partition("/")[0]):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        return repository


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None: ...

    def do_HEAD(self) -> None:
        self.serve("HEAD")

    def do_GET(self) -> None:
        self.serve("GET")

    def do_POST(self) -> None:
        self.serve("POST")

    def do_PUT(self) -> None:
        self.serve("PUT")

    def serve(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((method, path))
        try:
            if self.hub.broken:
                raise Refusal(self.hub.broken, message="the Hub is being repaired")
            status, content, headers = self.answer(method, path)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            status, content = refusal.status, json.dumps(refusal.content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)

    def answer(self, method: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        user = self.user()
        if method in ("GET", "HEAD") and "/resolve/" in path:
            return self.file(path, user)
        if method == "PUT":
            self.hub.blobs[path.rpartition("/")[2]] = self.body
            return 200, b"", {}
        return 200, json.dumps(self.api(path.removeprefix("/").split("/"), user)).encode(), {}

    def user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def file(self, path: str, user: str | None) -> tuple[int, bytes, dict[str, str]]:
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self.hub.seen_by(name, user)
        if repository.gated:
            raise Refusal(403, "GatedRepo", "Access is restricted")
        sha = self.revision(repository, revision)
        if file not in repository.commits[sha]:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = repository.commits[sha][file]
        return 200, content, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}

    def revision(self, repository: Repository, revision: str) -> str:
        sha = repository.branches.get(revision, revision)
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        return sha

    def api(self, parts: list[str], user: str | None) -> Any:
        sent = json.loads(self.body) if self.body and "commit" not in parts else {}
        if parts[:3] == ["api", "repos", "create"]:
            return self.create(sent, user)
        if parts == ["api", "validate-yaml"]:
            return {"errors": [], "warnings": []}
        if parts[2:] == ["info", "lfs", "objects", "batch"] or parts[-4:] == ["info", "lfs", "objects", "batch"]:
            objects = [each | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{each['oid']}"}}}
                       for each in sent["objects"]]  # fmt: skip
            return {"transfer": "basic", "objects": objects}
        if parts[:2] != ["api", "models"]:
            raise Refusal(404)
        _, _, owner, short, verb, *rest = [*parts, "revision", "main"][: max(len(parts), 6)]
        name = f"{owner}/{short}"
        repository = self.hub.seen_by(name, user)
        revision = "/".join(rest)
        if verb == "revision":
            sha = self.revision(repository, revision)
            return {"id": name, "sha": sha, "siblings": [{"rfilename": file} for file in repository.files(sha)]}
        if verb == "tree":
            files = repository.files(self.revision(repository, revision))
            return [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files.items()]
        if user != owner:
            raise Refusal(403, message="you may not write here")
        if verb == "branch":
            if revision in repository.branches:
                raise Refusal(409, message="Reference already exists")
            repository.branches[revision] = repository.branches["main"]
            return {}
        if verb == "preupload":
            modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular"
                     for file in sent["files"]}  # fmt: skip
            return {
                "files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
            }
        assert verb == "commit", parts
        return self.commit(repository, name, revision)

    def create(self, sent: dict[str, Any], user: str | None) -> Any:
        name = f"{sent['organization']}/{sent['name']}"
        if user is None:
            raise Refusal(401, message="Invalid username or password.")
        if user != sent["organization"]:
            raise Refusal(403, message="You don't have the rights to create a model under this namespace")
        if name in self.hub.repositories:
            conflict = Refusal(409, message="You already created this model repo")
            conflict.content["url"] = f"{self.hub.address}/{name}"
            raise conflict
        made = self.hub.repositories[name] = Repository(private="private" in (sent.get("visibility"), *sent))
        made.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, message="initial commit")
        return {"url": f"{self.hub.address}/{name}"}

    def commit(self, repository: Repository, name: str, branch: str) -> Any:
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        files = dict(repository.files(branch))
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        sha = repository.commit(files, branch, header["value"]["summary"])
        return {"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": sha, "success": True}


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubStandIn]:
    """A running stand-in which huggingface_hub takes for the Hub, with Ann's token and an empty cache in ``folder``."""
    from huggingface_hub import constants

    hub = HubStandIn()
    template = "/{repo_id}/resolve/{revision}/{filename}"
    settings = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + template,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(folder / "huggingface"),
        "HF_TOKEN_PATH": str(folder / "no-token"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    try:
        yield hub
    finally:
        hub.close()

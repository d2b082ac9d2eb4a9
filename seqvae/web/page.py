"""The files of the page, as the package carries them, and the same page as one file that needs no server."""

import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from typing import Any

ENTRY = "js/app.js"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_STYLE = re.compile(r'<link rel="stylesheet" href="static/([\w/-]+\.css)">\n?')
_SCRIPT = re.compile(r'<script type="module" src="static/[\w/-]+\.js"></script>')


@cache
def assets() -> dict[str, bytes]:
    """Every file below ``static`` by its path; what is not among them is never served."""
    root = resources.files("seqvae.web") / "static"
    found = {"index.html": (root / "index.html").read_bytes()}
    for folder in ("css", "js"):
        for file in (root / folder).iterdir():
            if file.name.endswith((".css", ".js")):
                found[f"{folder}/{file.name}"] = file.read_bytes()
    return found


def single_page(saved: dict[str, Any]) -> str:
    """The page as one file: styles, scripts and ``saved``, what a server would have answered, stand inside.

    Its policy lets it fetch nothing, and run only the script that it was written with.
    """
    html = assets()["index.html"].decode()
    style = "\n".join(assets()[path].decode() for path in _STYLE.findall(html))
    script = bundle()
    policy = (
        f"default-src 'none'; script-src '{_sha256(script)}'; style-src '{_sha256(style)}'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n'
    # In a script of data, `<` is the one character that could end it.
    data = json.dumps(saved, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    html = _STYLE.sub("", html)
    html = html.replace("</head>", f"{head}</head>", 1)
    body = f'<script type="application/json" id="saved">{data}</script>\n<script type="module">{script}</script>'
    return _SCRIPT.sub(lambda _: body, html, count=1)


def bundle() -> str:
    """All modules as one, each behind those that it imports; no two of them may give the same name to something."""
    ordered: list[str] = []

    def visit(path: str) -> None:
        if path not in ordered:
            for _, name in _IMPORT.findall(assets()[path].decode()):
                visit(f"js/{name}")
            ordered.append(path)

    visit(ENTRY)
    parts = [re.sub(r"^export ", "", _IMPORT.sub("", assets()[path].decode()), flags=re.MULTILINE) for path in ordered]
    return "\n".join(parts)


def encoded(values: Any) -> str:
    """Numbers as the page reads them from a file: base64 of little-endian fp32."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _sha256(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()

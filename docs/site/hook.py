"""What the site has beside ``docs/*.md``: pages that lie elsewhere in the repository, and the generated reference.

Every page goes on rendering where it lies: its links are those between files of the repository, and are turned into
those of the site when it is built.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import reference

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"


def elsewhere() -> dict[str, str]:
    """Page of the site: the file of the repository that it shows."""
    pages = {
        "corpora.md": "data/README.md",
        "security.md": "SECURITY.md",
        "contributing.md": "CONTRIBUTING.md",
        "changelog.md": "CHANGELOG.md",
    }
    for path in sorted(RESULTS.rglob("*.md")):
        pages[f"results/{path.relative_to(RESULTS).as_posix()}"] = path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{path.stem}.md"] = f"notebooks/{path.name}"
    return pages


SHOWN = elsewhere()
PAGES = reference.PAGES
PLACES = {path: page for page, path in SHOWN.items()} | {"benchmarks/results": "results.md", "README.md": "index.md"}


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File  # where the site is built it is installed

    for page, path in SHOWN.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        content = reference.notebook_page(text, path) if path.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=content))
    for path in sorted(RESULTS.rglob("*.svg")):
        place = f"results/{path.relative_to(RESULTS).as_posix()}"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for page, make in PAGES.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri.startswith("results/"):
        page.meta["hide"] = ["toc"]  # their tables are wide
    if page.file.src_uri in PAGES:
        page.meta["search"] = {"boost": 0.5}  # they name everything: a search shows what explains it first
    return deeper(site_links(markdown, page.file.src_uri))


def deeper(markdown: str) -> str:
    """Numbered lists as the site wants them: what belongs to an item indented by four spaces, not three, and an item
    that follows a paragraph of the one before set off by a blank line."""
    lines, inside, loose = [], False, False
    for line in markdown.split("\n"):
        indented, item = line.startswith("   "), bool(re.match(r"\d\. ", line))
        if item and loose and lines[-1]:
            lines.append("")
        inside = item or (inside and (indented or not line))
        loose = inside and not item and (loose or not line)
        lines.append(f" {line}" if inside and indented else line)
    return "\n".join(lines)


def site_links(markdown: str, page: str) -> str:
    """The text with its links to files of the repository turned into links to pages."""
    here = posixpath.dirname(SHOWN.get(page, f"docs/{page}"))

    def turned(link: re.Match) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        path = posixpath.normpath(posixpath.join(here, target))
        found = PLACES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if found is None:
            return link[0]  # a strict build complains
        return f"]({posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor})"

    return re.sub(r"\]\((?!\w+:)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", turned, markdown)

"""Every message to a user, word for word: what each mistake of `mistakes` prints, and with which exit code.

To add a mistake: one line in a list of ``mistakes.py``, then

    SEQVAE_WRITE_SNAPSHOTS=1 python -m pytest tests/cli/test_messages.py

which writes ``messages/<name>.txt`` anew; read the difference (``git diff tests/cli/messages``) before it is committed,
for that is what a user will read. Paths, lists that grow and what differs between machines are written as ``<here>``,
``<configs>`` and so on, so that a snapshot is the same everywhere.
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mistakes import MISTAKES, Mistake
from typer.testing import Result

import seqvae
from seqvae.config import shipped_configs
from seqvae.shipped import shipped

MESSAGES = Path(__file__).parent / "messages"
WRITE = "SEQVAE_WRITE_SNAPSHOTS"


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_is_answered_as_it_was(mistake, desk, request):
    shown = answer(mistake, desk, request)
    path = MESSAGES / f"{mistake.name}.txt"
    if os.environ.get(WRITE) == "1":
        path.write_text(shown, encoding="utf-8")
    assert path.is_file(), f"no snapshot yet: run this test with {WRITE}=1 and read what it writes to {path}"
    assert shown == path.read_text(encoding="utf-8"), f"if the new message is better, run with {WRITE}=1"


def answer(mistake: Mistake, desk: Callable[..., Result], request: pytest.FixtureRequest) -> str:
    """What the mistake prints, as its snapshot is written; the folder must be as it was before."""
    folder = Path.cwd()
    if mistake.model is not None:
        shutil.copytree(request.getfixturevalue("workplace") / "runs", folder / "runs")
        mistake.model(folder)
    for name, content in mistake.files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = contents(folder)
    result = desk(*words(mistake.command), stdin=mistake.stdin)
    if result.exit_code:
        assert {*before} ^ {*contents(folder)} <= set(mistake.leaves), "something half-written is left behind"
        assert all(contents(folder)[path] == before[path] for path in before if path not in mistake.leaves)
    typed = shlex.join(["seqvae", *words(mistake.command)])
    written = result.stdout
    if mistake.model is not None and written:  # what a model writes is no message, and not the same everywhere
        written = f"<{written.count(chr(10))} lines>\n"
    parts = (f"$ {typed}", f"exit code {result.exit_code}", "--- stdout", written, "--- stderr", result.stderr)
    return "".join(part if part.endswith("\n") or not part else f"{part}\n" for part in map(neutral, parts))


def words(command: str) -> list[str]:
    return shlex.split(command)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def neutral(text: str) -> str:
    """``text`` without what differs between machines, releases and weeks."""
    text = text.replace(str(Path.cwd()), "<here>").replace(os.environ["SEQVAE_CACHE"], "<cache>")
    text = text.replace(str(shipped("configs")), "<configs>").replace(", ".join(shipped_configs()), "<every config>")
    text = text.replace(str(Path.cwd().parent), "<above>")
    text = re.sub(r"(auto takes the best of what is here:) .*", r"\1 <devices>", text)
    text = re.sub(r"(?m)^(seed     )\d+$", r"\1<number>", text)
    return text.replace(seqvae.__version__, "<version>")


def test_every_snapshot_is_of_a_mistake_that_is_still_made():
    stale = {path.stem for path in MESSAGES.iterdir()} - {mistake.name for mistake in MISTAKES}
    assert stale == set(), "delete these files"


def test_no_two_mistakes_share_a_name():
    names = [mistake.name for mistake in MISTAKES]
    assert sorted(set(names)) == sorted(names)


def test_a_snapshot_shows_no_traceback_and_no_path_of_a_machine():
    for path in MESSAGES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "Traceback" not in text, path.name
        assert not re.search(r"/(tmp|home|Users|private)/|[A-Z]:\\", text), path.name

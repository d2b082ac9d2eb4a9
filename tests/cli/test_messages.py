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
import typer.main
from mistakes import MISTAKES, Mistake
from typer.testing import Result

import seqvae
from seqvae.cli.app import app
from seqvae.config import shipped_configs
from seqvae.error_catalogue import catalogue
from seqvae.errors import SeqVAEError
from seqvae.io.pretrained import kept_evaluation
from seqvae.shipped import shipped

VERBS = list(typer.main.get_command(app).commands)
ROOT = Path(__file__).resolve().parents[2]
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
        shutil.copytree(request.getfixturevalue("trained"), folder / "runs")
        mistake.model(folder)
    for name, content in mistake.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
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
    text = text.replace(str(Path.cwd().parent), "<above>").replace(", ".join(VERBS), "<every verb>")
    text = re.sub(r"(auto takes the best of what is here:) .*", r"\1 <devices>", text)
    text = re.sub(r"(?m)^(seed     )\d+$", r"\1<number>", text)
    return text.replace(seqvae.__version__, "<version>")


def test_every_snapshot_is_of_a_mistake_that_is_still_made():
    stale = {path.stem for path in MESSAGES.iterdir()} - {mistake.name for mistake in MISTAKES}
    assert stale == set(), "delete these files"


TESTED_ELSEWHERE = {
    "tests/unit/test_distributed.py": "E236 E237 E238 E239 E503 E504 E505",
    "tests/unit/test_plots.py": "E273",
    "tests/web/test_answers.py": "E430 E431",
    "tests/web/test_command.py": "E256 E257 E258",
    "tests/cli/test_messages.py": "E247 E294",
    "tests/cli/test_console.py": "E601",
    "tests/cli/test_evaluate.py": "E214 E293",
    "tests/faults/test_kill_and_resume.py": "E340 E701 E705",
    "tests/faults/test_memory.py": "E602 E603",
    "tests/faults/test_storage_faults.py": "E219",
    "tests/faults/test_diverging_runs.py": "E506",
    "tests/unit/test_aggregate.py": "E245 E246",
    "tests/unit/test_attributes.py": "E296 E299",
    "tests/unit/test_codes.py": "E342 E343 E344 E345",
    "tests/unit/test_corpora.py": "E308 E309",
    "tests/unit/test_decoding.py": "E234 E530",
    "tests/unit/test_grammar.py": "E360 E361",
    "tests/unit/test_external_loggers.py": "E252 E253",
    "tests/unit/test_health.py": "E268",
    "tests/unit/test_kl_shapes.py": "E270",
    "tests/unit/test_labels.py": "E327",
    "tests/unit/test_sharing.py": "E433 E434 E435 E436 E438 E439 E440",
    "tests/unit/test_sources.py": "E328",
    "tests/unit/test_likelihood.py": "E230",
    "tests/unit/test_onnx.py": "E441 E442 E444",
    "tests/unit/test_paths.py": "E235",
    "tests/unit/test_pretrained.py": "E405 E406",
    "tests/unit/test_pretrained_embeddings.py": "E227 E228 E229",
    "tests/unit/test_prepare.py": "E350 E351",
    "tests/unit/test_report.py": "E330 E531",
    "tests/unit/test_samples.py": "E290",
    "tests/unit/test_semi_amortised.py": "E272",
    "tests/unit/test_sentencepiece_tokenizer.py": "E314 E315 E316 E411",
    "tests/unit/test_storage.py": "E702 E703",
    "tests/unit/test_surroundings.py": "E291 E292",
    "tests/unit/test_textvae.py": "E240 E242 E244 E287",
    "tests/unit/test_tokenizers.py": "E410",
    "tests/unit/test_torchtext_corpora.py": "E225",
    "tests/unit/test_torchtext_vocab.py": "E412 E413",
    "tests/unit/test_training.py": "E501",
    "tests/unit/test_training_phases.py": "E502",
    "tests/unit/test_vectors.py": "E331 E332 E333 E334",
    "tests/unit/test_vmf.py": "E280",
    "tests/unit/test_conditional.py": "E281 E282 E283 E284 E285 E286",
    "tests/cli/test_encode.py": "E247",
    "tests/cli/test_compare.py": "E295",
}
"""Codes without a snapshot, by the tests that bring them about: they need another caller, machine or moment."""


def test_every_error_code_is_brought_about_by_a_mistake_or_by_a_test_that_is_named():
    shown = set(re.findall(r"error\[(E\d{3})\]", "".join(path.read_text("utf-8") for path in MESSAGES.iterdir())))
    elsewhere = {code for codes in TESTED_ELSEWHERE.values() for code in codes.split()}
    missing = sorted(catalogue().keys() - shown - elsewhere)
    assert not missing, f"add a line to mistakes.py, or name the test in TESTED_ELSEWHERE: {', '.join(missing)}"
    for path, codes in TESTED_ELSEWHERE.items():
        text = (ROOT / path).read_text(encoding="utf-8").partition("TESTED_ELSEWHERE = {")
        text = text[0] + text[2].partition("}")[2]  # of this file without the list itself
        assert [code for code in codes.split() if code not in text] == [], f"{path} does not speak of these"


def test_no_two_mistakes_share_a_name():
    names = [mistake.name for mistake in MISTAKES]
    assert sorted(set(names)) == sorted(names)


def test_a_snapshot_shows_no_traceback_and_no_path_of_a_machine():
    for path in MESSAGES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "Traceback" not in text, path.name
        assert not re.search(r"/(tmp|home|Users|private)/|[A-Z]:\\", text), path.name


# Mistakes that cannot be typed into a snapshot.


def test_an_argument_that_is_not_utf8_is_refused_by_its_byte(verb):
    result = verb("score", "caf\udce9", "--model", "runs/vae")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E247]" in result.stderr
    assert "byte 0xE9" in result.stderr


def test_a_split_that_was_not_measured_is_named_with_the_command_that_does(verb):
    with pytest.raises(SeqVAEError, match="the valid split has not been measured") as caught:
        kept_evaluation("runs/lm", "valid")
    assert caught.value.code == "E294"
    assert caught.value.hint == "measure it: `seqvae eval --model runs/lm --split valid`"

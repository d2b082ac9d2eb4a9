"""``seqvae data``: the texts to train on."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from seqvae.cli import completion
from seqvae.cli.console import aligned, emit_json, emit_lines, run_verb, say
from seqvae.cli.options import ChangesOption, ConfigOption, JsonOption, TextColumnOption, refuse_shards, tell_waiting
from seqvae.cli.progress import download_bar, preparing_display
from seqvae.cli.usage import verbs
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.config import Config
    from seqvae.data.check import Finding
    from seqvae.data.store import Prepared

app = verbs("data", "The texts to train on: corpora by name, preparing, checking.")


@app.callback()
def _group() -> None:
    """The texts to train on: corpora by name, preparing, checking."""


@app.command("list")
@run_verb()
def list_corpora(json: JsonOption = False) -> None:
    """List the corpora that can be named.

    What each is, its licence, and where it lies; `data.corpus` names one. A folder `data/NAME` or `$SEQVAE_DATA/NAME`
    with train.txt, valid.txt and test.txt in it (or .txt.gz) is a corpus too. So is `torchtext:NAME`, with the extra
    seqvae[torchtext].
    """
    from seqvae.data import catalogue, torchtext_corpora

    found = [_corpus(name) for name in catalogue.names()]
    if json:
        emit_json([*found, *({"name": name, "needs": "seqvae[torchtext]"} for name in torchtext_corpora.names())])
        return
    for each in found:
        emit_lines([each["name"], f"  {each['what']}", f"  licence  {each['licence']}"])
        labels = f"labels   data.labels={' or '.join(each['labels'])}" if each["labels"] else None
        where = f"here     {each['folder']}"
        if each["folder"] is None:
            where = f"not here: `seqvae data fetch {each['name']}` downloads {each['megabytes']} MB"
        emit_lines(f"  {line}" for line in (labels, where) if line)
    emit_lines([f"with seqvae[torchtext]: {', '.join(torchtext_corpora.names())}"])


def _corpus(name: str) -> dict[str, object]:
    from seqvae.data import catalogue

    files, known = catalogue.find(name), catalogue.CORPORA.get(name)
    folder = None if files is None else next(iter(files.values())).parent
    beside = [] if folder is None else [path.name.split(".")[1:-1] for path in folder.glob("train*.labels")]
    labels = sorted(".".join(word) or "true" for word in beside)
    what, licence = "a folder of your own", "not known to seqvae"
    if name == catalogue.BUILT_IN:
        what, licence = "20,000 sentences drawn from a grammar of our own; comes with seqvae", "Apache-2.0"
    elif known is not None:
        what, licence = known.what, known.licence
    return {
        "name": name,
        "what": what,
        "licence": licence,
        "splits": [] if files is None else list(files),
        "labels": labels or (["true"] if known is not None and known.labelled else []),
        "megabytes": None if known is None else known.megabytes,
        "folder": None if folder is None else str(folder.absolute()),
    }


@app.command()
@run_verb()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A corpus of `seqvae data list`.", autocompletion=completion.corpora)
    ],
    json: JsonOption = False,
) -> None:
    """Download a corpus into the cache and verify it. Its licence is shown first."""
    from seqvae.data import catalogue

    if catalogue.find(name) is None:
        if name not in catalogue.CORPORA:
            raise catalogue.unknown(name)
        with download_bar() as progress:
            catalogue.fetch(name, progress=progress)
    found = _corpus(name)
    if json:
        emit_json(found)
    else:
        emit_lines([str(found["folder"])])
        say(f"next     seqvae train --config CONFIG --set data.corpus={name}")


@app.command()
@run_verb()
def prepare(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Training text, or - for standard input.")
    ] = None,
    column: TextColumnOption = None,
    config: ConfigOption = None,
    changes: ChangesOption = None,
    json: JsonOption = False,
) -> None:
    """Turn texts into tokens on disk, as training does.

    Those of a config, or a file. Says what was made, and where it is kept; training finds it there. A large text is
    shared out to a process for each core, or as many as `data.workers` says.
    """
    from seqvae.data.store import prepare as prepare_data

    settings = _settings([] if file is None else [file], config, changes, column)
    data = settings.data
    refuse_shards(data)
    whole = data.train is None or data.valid is not None or data.valid_fraction is not None
    with preparing_display(data.workers) as on_progress:
        prepared = prepare_data(data, settings.tokenizer, splits=None if whole else ["train"], on_progress=on_progress)
    for note in prepared.notes:
        say(f"note     {note}")
    made = _made(prepared)
    if json:
        emit_json(made)
        return
    rows = [("split", "sentences", "tokens", "unknown", "folder")]
    for split, each in made["splits"].items():
        counts = (f"{each['sentences']:,}", f"{each['tokens']:,}", f"{each['unknown_rate']:.2%}")
        rows.append((split, *counts, each["folder"]))
    emit_lines(aligned(rows))
    emit_lines([f"vocabulary  {made['vocabulary']:,} ({made['tokenizer']})"])
    if made["classes"]:
        emit_lines([f"classes     {', '.join(made['classes'][:10])}" + (", ..." if len(made["classes"]) > 10 else "")])


def _made(prepared: "Prepared") -> dict[str, object]:
    from seqvae.data.cache import user_cache

    splits = {}
    for split, store in prepared.splits.items():
        counts = asdict(store.stats)
        folder = str(user_cache() / "prepared" / store.fingerprint)
        counts = {"sentences": counts.pop("rows"), **counts, "unknown_rate": store.stats.unknown_rate}
        splits[split] = counts | {"folder": folder}
    tokenizer = prepared.tokenizer
    return {
        "splits": splits,
        "tokenizer": tokenizer.name,
        "vocabulary": tokenizer.vocab_size,
        "classes": prepared.classes,
        "notes": prepared.notes,
    }


@app.command()
@run_verb()
def check(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Texts, the training text first; - for stdin.")
    ] = None,
    column: TextColumnOption = None,
    config: ConfigOption = None,
    changes: ChangesOption = None,
    json: JsonOption = False,
) -> None:
    """Look through texts for what is wrong with them.

    Those of a config, or files. Each finding is ok, warning or failed: encoding, line ends, blank lines, lengths,
    unknown tokens, repetitions, labels, and what the texts share. Nothing stops at the first bad line. The vocabulary
    is that of the first text. Exit code 3 where something failed.
    """
    from seqvae.data import check as checks

    settings = _settings((files or [])[:1], config, changes, column)
    sources = _sources(files or [], settings)
    findings = []
    last = None
    for finding in checks.check(sources, settings.tokenizer, settings.data):
        findings.append(finding)
        if not json:
            title = [] if finding.split == last else [finding.split]
            emit_lines([*title, *_shown(finding)])
            last = finding.split
    failed = checks.failures(findings)
    if json:
        emit_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    if failed:
        count = "1 check" if failed == 1 else f"{failed} checks"
        hint = "mend what is marked `failed` above, then check again"
        raise SeqVAEError("E329", f"{count} failed", hint=hint)


def _sources(files: list[str], settings: "Config") -> dict:
    """The texts to check by name: files by their own, splits of a config or a `--set` by theirs."""
    from seqvae.data.corpora import opened, resolve

    data = settings.data
    if not files or (len(files) == 1 and data.valid_fraction is not None):
        return resolve(data, required=["train"])
    others = {"valid": data.valid, "test": data.test}
    named = {file: file for file in files} | {split: origin for split, origin in others.items() if origin is not None}
    return opened(named, data)


def _shown(finding: "Finding") -> Iterable[str]:
    yield f"  {finding.status:<8} {finding.about:<12} {finding.text}"
    yield from (f"{'':24}{line}".rstrip() for line in finding.lines)
    if finding.hint:
        yield f"{'':11}help: {finding.hint}"


def _settings(files: list[str], config: str | None, changes: list[str] | None, column: str | None) -> "Config":
    """The config, in which a file that is given takes the place of all its texts, but for those of ``changes``."""
    from seqvae.config import Config
    from seqvae.yaml_source import dump_value

    if not files and config is None:
        hint = "name a text file, or a config with `--config C`"
        raise SeqVAEError("E220", "there is no train text", hint=hint)
    changes = [*(changes or []), *([] if column is None else [f"data.text_column={dump_value(column)}"])]
    if files:
        changes = ["data.valid=null", "data.test=null", *changes, f"data.train={dump_value(files[0])}"]
    settings = Config.from_dict({}, changes) if config is None else Config.from_yaml(config, changes)
    tell_waiting(settings.data.train, settings.data.valid, settings.data.test)
    return settings

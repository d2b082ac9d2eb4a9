"""How long it takes to prepare a large text, and to begin training on it; what memory that takes.

    python -m benchmarks.prepare --lines 10000000 --folder /tmp/large --out benchmarks/results/prepare.md

The lines are drawn with replacement from a pool of sentences of seqvae's own grammar: the grammar itself writes too
slowly to wait for. Every measurement is a process of its own, with a cache of its own or, for training, a full one.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import seqvae
from benchmarks.report import command, table
from seqvae.data.corpora import DataConfig
from seqvae.data.grammar import Grammar
from seqvae.data.store import prepare
from seqvae.data.tokenizers import SentencePieceTokenizerConfig, WordTokenizerConfig

TOKENIZERS = {
    "words": WordTokenizerConfig(),
    "pieces": SentencePieceTokenizerConfig(vocab_size=500),
}
PIECES_SHARE = 10
"""Pieces are measured on one line in so many."""
MODULE = "benchmarks.prepare"
VALID_LINES = 2_000
STEPS = 300
_WRITTEN_AT_ONCE = 100_000
_MB = 1e6

_PREPARED = ("tokens are", "lines", "tokens", "processes", "seconds", "lines/s", "processor seconds", "peak MB")
_PREPARED += ("peak MB of a worker",)
_TRAINED = ("lines", "seconds", "own MB", "mapped MB", "peak MB")

Found = Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    if arguments.measure:
        print(json.dumps(_measure(json.loads(arguments.measure))))
        return
    folder, lines = arguments.folder, arguments.lines
    folder.mkdir(parents=True, exist_ok=True)
    texts = {count: folder / f"{count}.txt" for count in (lines, lines // PIECES_SHARE)}
    wrote = time.perf_counter()
    _write(texts, folder / "valid.txt", arguments.pool)
    wrote = time.perf_counter() - wrote
    prepared, trained = [], []
    for kind, count in (("words", lines), ("pieces", lines // PIECES_SHARE)):
        for workers in (1, arguments.workers):
            found = _apart(
                {"kind": kind, "text": str(texts[count]), "workers": workers, "cache": str(folder / "cache-new")}
            )
            prepared.append({"kind": kind, "lines": count, "workers": workers, **found})
            shutil.rmtree(folder / "cache-new")
            _say(prepared[-1])
    for count, text in sorted(texts.items()):
        asked = {"kind": "words", "text": str(text), "valid": str(folder / "valid.txt"), "cache": str(folder / "cache")}
        _apart({**asked, "workers": arguments.workers})
        trained.append({"lines": count, **_apart({**asked, "train": str(folder / f"run-{count}")})})
        _say(trained[-1])
        shutil.rmtree(folder / f"run-{count}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(_page(arguments, argv, wrote, prepared, trained), encoding="utf-8", newline="\n")
    shutil.rmtree(folder / "cache")
    for path in (*texts.values(), folder / "valid.txt"):
        path.unlink()


def _write(texts: Mapping[int, Path], valid: Path, pool: int) -> None:
    """Each text with its number of lines, and a small one to validate on."""
    sentences = np.array([sentence.text for sentence in Grammar.default().sample(pool, seed=1)], dtype=object)
    draw = np.random.default_rng(1)
    for count, path in {**texts, VALID_LINES: valid}.items():
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for begin in range(0, count, _WRITTEN_AT_ONCE):
                some = draw.integers(0, len(sentences), min(_WRITTEN_AT_ONCE, count - begin))
                file.write("\n".join(sentences[some]) + "\n")


def _apart(asked: Found) -> dict[str, Any]:
    """What a process of its own finds when it is asked to measure."""
    ask = [sys.executable, "-m", MODULE, "--measure", json.dumps(asked)]
    done = subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(asked: Found) -> dict[str, Any]:
    return _train(asked) if "train" in asked else _prepare(asked)


def _prepare(asked: Found) -> dict[str, Any]:
    valid = {"valid": asked["valid"]} if "valid" in asked else {}
    data = DataConfig(train=asked["text"], workers=asked["workers"], **valid)
    splits = ["train", *valid]
    began, spent = time.perf_counter(), _processor_s()
    made = prepare(data, TOKENIZERS[asked["kind"]], cache=Path(asked["cache"]), splits=splits)
    seconds, spent = time.perf_counter() - began, _processor_s() - spent
    store = made.splits["train"]
    manifest = json.loads((Path(asked["cache"]) / "prepared" / store.fingerprint / "MANIFEST.json").read_text())
    return {
        "seconds": seconds,
        "processor_s": spent,
        "tokens": store.stats.tokens,
        "vocabulary": made.tokenizer.vocab_size,
        "peak_mb": _peak_mb(resource.RUSAGE_SELF),
        "worker_peak_mb": _peak_mb(resource.RUSAGE_CHILDREN) if asked["workers"] > 1 else None,
        "files": manifest["files"],
        "notes": made.notes,
    }


def _train(asked: Found) -> dict[str, Any]:
    """A run of some updates on text that lies prepared in the cache."""
    began, first = time.perf_counter(), []

    def observe(event: Mapping[str, Any]) -> None:
        if event["event"] == "train" and not first:
            first.append(time.perf_counter() - began)

    os.environ["SEQVAE_CACHE"] = asked["cache"]
    changes = [f"data.train={asked['text']}", f"data.valid={asked['valid']}", "train.log_every=1"]
    config = seqvae.Config.from_yaml("tiny.yaml", [*changes, f"train.steps={STEPS}", "train.threads=1"])
    seqvae.train(config, out=asked["train"], observers=[observe])
    memory = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if "kB" in line)
    own, mapped = (int(memory[name].split()[0]) * 1024 / _MB for name in ("RssAnon", "RssFile"))
    return {"first_step_s": first[0], "own_mb": own, "mapped_mb": mapped, "peak_mb": _peak_mb(resource.RUSAGE_SELF)}


def _peak_mb(who: int) -> float:
    """The greatest resident memory so far, of this process or of any that it started and waited for."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / _MB


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _page(
    arguments: argparse.Namespace,
    argv: Sequence[str] | None,
    wrote: float,
    prepared: Sequence[Found],
    trained: Sequence[Found],
) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "sentencepiece"))
    load = "" if not hasattr(os, "getloadavg") else f"; load of the machine at the end: {os.getloadavg()[2]:.1f}"
    given = command(["python", "-m", MODULE, *(sys.argv[1:] if argv is None else argv)])
    same = all(one["files"] == other["files"] for one, other in zip(prepared[::2], prepared[1::2], strict=True))
    notes = dict.fromkeys(f"- {each['kind']}: {note}" for each in prepared for note in each["notes"])
    sections = [
        "# Preparing a large text, and beginning to train on it",
        f"Measured by `{given}`.\n"
        f"Hardware: {platform.machine()}, {os.cpu_count()} cores{load}. seqvae {seqvae.__version__}, "
        f"python {platform.python_version()}, {versions}.",
        f"The text: {arguments.lines:,} lines drawn with replacement from {arguments.pool:,} sentences of the grammar "
        f"of `seqvae.data.grammar`, written in {wrote:.0f} s (not counted below).",
        "## Preparing",
        "From nothing: sha256 of the file, vocabulary, tokens on disk, their checksums. Memory: the greatest resident "
        "memory of a process, in MB; at most, since Linux hands the peak of a process down to those that it starts.",
        table(_PREPARED, [_prepared_row(each) for each in prepared]),
        f"The files of every number of processes are {'the same' if same else '**not the same**'}, byte by byte.",
        "\n".join(notes),
        "## Beginning to train",
        f"The text lies prepared in the cache; `tiny.yaml` for {STEPS} updates. Seconds from the call of "
        "`seqvae.train` to the end of the first update, and at the end of all the resident memory in MB: what is the "
        "process's own, and what is mapped from files (libraries and the pages of the text that were read; the "
        "operating system takes these back as it needs them).",
        table(_TRAINED, [_trained_row(each) for each in trained]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _prepared_row(each: Found) -> tuple[str, ...]:
    worker = "" if each["worker_peak_mb"] is None else f"{each['worker_peak_mb']:.0f}"
    rate = each["lines"] / each["seconds"]
    counts = (f"{each['lines']:,}", f"{each['tokens']:,}", str(each["workers"]))
    times = (f"{each['seconds']:.1f}", f"{rate:,.0f}", f"{each['processor_s']:.1f}")
    return (each["kind"], *counts, *times, f"{each['peak_mb']:.0f}", worker)


def _trained_row(each: Found) -> tuple[str, ...]:
    memory = (f"{each[name]:.0f}" for name in ("own_mb", "mapped_mb", "peak_mb"))
    return (f"{each['lines']:,}", f"{each['first_step_s']:.1f}", *memory)


def _say(found: Found) -> None:
    print({name: value for name, value in found.items() if name != "files"}, file=sys.stderr, flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--pool", type=int, default=500_000, help="sentences that the lines are drawn from")
    parser.add_argument("--workers", type=int, default=2, help="processes, beside one")
    parser.add_argument("--folder", type=Path, default=Path("runs/prepare"), help="where to work; some GB")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prepare.md"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

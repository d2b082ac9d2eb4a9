"""Many kinds of text through the same commands: words, pieces and characters, two scripts, molecules, logs.

    python -m benchmarks.breadth --out benchmarks/results/breadth.md

Each row trains a small model (``benchmarks/configs/NAME.yaml``), measures it, draws from it and walks between two
texts, all by the ``seqvae`` command as a user would. What is done is kept under ``--work``: a row that is whole is not
done again, and a training that was stopped goes on. ``--only NAME`` does one row, ``--steps 20`` tries a row out. The
corpora are looked for, or fetched, by name; molecules and logs are made by ``benchmarks.smiles`` and
``benchmarks.logs``.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import logs, smiles
from benchmarks.breadth_page import page
from benchmarks.report import command
from benchmarks.smiles_check import problem
from seqvae.data.corpora import DataConfig, resolve

CONFIGS = Path("benchmarks/configs")
SPLITS = ("train", "valid", "test")
GENERATED_ROWS, SEED = 50_000, 0
DRAWN = 1_000
"""Samples whose validity is counted."""


@dataclass(frozen=True)
class Trial:
    """A row under way: where its files lie, and the commands that were run."""

    name: str
    work: Path
    steps: int | None
    commands: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        return self.work / self.name / "run"

    @property
    def data(self) -> Path:
        return self.work / self.name / "data"

    def seqvae(self, *words: str) -> list[str]:
        """Run a command of seqvae; the lines that it writes on stdout. What it says on stderr is shown."""
        self.commands.append("seqvae " + command(words))
        print(f"{self.name}: {self.commands[-1]}", flush=True)
        done = subprocess.run([sys.executable, "-m", "seqvae", *words], stdout=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: exit code {done.returncode}")
        return done.stdout.decode().removesuffix("\n").split("\n")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of text."""

    name: str
    """Of the row and of its config."""
    title: str
    ends: tuple[str, str]
    """Two texts to walk between, written for this page: no corpus is quoted."""
    make: Callable[[Path], None] | None = None
    """Makes train.txt, valid.txt and test.txt in a folder, for what is no corpus by name."""
    generator: str | None = None
    """The module that makes the text, to be shown."""
    extra: Callable[[Trial], dict[str, Any]] = lambda trial: {}
    """What else is measured: {label: value}."""


def shortened_imdb(folder: Path) -> None:
    """The whole training text, and the first 1,000 reviews of the two others: a hundred words each take their time."""
    sources = resolve(DataConfig(corpus="imdb"), required=SPLITS)
    folder.mkdir(parents=True)
    for split, count in zip(SPLITS, (None, 1_000, 1_000), strict=True):
        with (folder / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{text}\n" for _, text in islice(sources[split].lines(), count))


def validity(trial: Trial) -> dict[str, Any]:
    """The share of prior samples that are sound SMILES, why the others are not, and how many are new."""
    drawn = trial.seqvae("sample", "-n", str(DRAWN), "--seed", "1", "--model", str(trial.run))
    known = set((trial.data / "train.txt").read_text(encoding="utf-8").splitlines())
    problems = [problem(text) for text in drawn]
    valid = [text for text, found in zip(drawn, problems, strict=True) if found is None]
    new = [text for text in valid if text not in known]
    reasons = Counter(_reason(found) for found in problems if found is not None)
    return {
        f"valid of {DRAWN:,} prior samples": f"{len(valid) / DRAWN:.1%}",
        "of the valid ones different": f"{len(set(valid)) / max(1, len(valid)):.1%}",
        "of the valid ones not in the training text": f"{len(new) / max(1, len(valid)):.1%}",
        "why the others are not": ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5)) or "-",
    }


def _reason(found: str) -> str:
    """Without the number of the atom and the like."""
    for kind in ("bonds", "aromatic", "cannot be read"):
        if kind in found:
            return {"bonds": "too many bonds at an atom"}.get(kind, kind)
    return "a ring is not closed" if found.startswith("ring") else found


def anomalies(trial: Trial) -> dict[str, Any]:
    """How well the score of a line tells planted anomalies from normal lines: area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    test = trial.data / "test.txt"
    lines = trial.seqvae("score", "--input", str(test), "--by", "iw", "--iw-samples", "10", "--model", str(trial.run))
    rows = [line.split("\t") for line in lines]
    by_line, by_token = ([float(row[column]) for row in rows] for column in (0, 1))
    kinds = test.with_name("test.kind.labels").read_text(encoding="utf-8").splitlines()
    planted = [kind != "normal" for kind in kinds]
    found = {
        "anomalies": f"{sum(planted)} of {len(planted):,} lines",
        "area under the ROC curve, nats of the line": f"{roc_auc_score(planted, by_line):.3f}",
        "the same, nats per token": f"{roc_auc_score(planted, by_token):.3f}",
    }
    for kind in sorted(set(kinds) - {"normal"}):
        kept = [index for index, each in enumerate(kinds) if each in (kind, "normal")]
        area = roc_auc_score([planted[index] for index in kept], [by_token[index] for index in kept])
        found[f"nats per token, {kind.replace('_', ' ')} alone ({kinds.count(kind)})"] = f"{area:.3f}"
    return found


ROWS = [
    Row(
        name="yelp_words",
        title="yelp_short, words",
        ends=("the staff was very friendly .", "i would not eat here again ."),
    ),
    Row(
        name="flickr30k_pieces",
        title="flickr30k_captions, SentencePiece (8,000)",
        ends=("a dog is running through the snow .", "two women are talking in a kitchen ."),
    ),
    Row(name="tatoeba_zh_characters", title="tatoeba_zh, characters", ends=("我每天早上喝茶。", "你昨天为什么没有来?")),
    Row(
        name="tatoeba_zh_pieces",
        title="tatoeba_zh, SentencePiece (4,000)",
        ends=("我每天早上喝茶。", "你昨天为什么没有来?"),
    ),
    Row(
        name="imdb_100",
        title="imdb cut to 100 words",
        ends=("this is one of the best films that i have seen", "what a waste of time , the plot makes no sense"),
        make=shortened_imdb,
    ),
    Row(
        name="smiles",
        title="SMILES-like strings, characters",
        ends=("CCOC(=O)c1ccccc1", "NCC1CCCCC1O"),
        make=lambda folder: smiles.write(folder, GENERATED_ROWS, SEED),
        generator="benchmarks.smiles",
        extra=validity,
    ),
    Row(
        name="logs",
        title="log lines, SentencePiece (512)",
        ends=("INFO worker: job 1a2b taken from queue mail", "WARN monitor: memory of shard-3 at 81%"),
        make=lambda folder: logs.write(folder, GENERATED_ROWS, SEED, anomalies=0.015),
        generator="benchmarks.logs",
        extra=anomalies,
    ),
]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    chosen = [row for row in ROWS if arguments.only is None or row.name in arguments.only]
    for row in chosen:
        _do(row, arguments)
    kept = {row.name: _kept(row, arguments.work) for row in ROWS}
    whole = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in kept.items() if path.exists()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page(whole, __spec__.name, argv), encoding="utf-8")
    print(f"{len(whole)} of {len(ROWS)} rows in {arguments.out}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[row.name for row in ROWS], help="do these rows")
    parser.add_argument("--work", type=Path, default=Path("runs/breadth"), help="what is done is kept here")
    parser.add_argument("--steps", type=int, help="updates, in place of those of the configs: to try the script out")
    parser.add_argument("--iw-samples", type=int, default=20, help="k of the importance-weighted bound")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/breadth.md"))
    return parser.parse_args(argv)


def _kept(row: Row, work: Path) -> Path:
    return work / row.name / "row.json"


def _do(row: Row, arguments: argparse.Namespace) -> None:
    """Train, measure, draw and walk; nothing that is kept already."""
    kept = _kept(row, arguments.work)
    if kept.exists():
        if json.loads(kept.read_text(encoding="utf-8"))["steps"] != arguments.steps:
            raise SystemExit(f"{kept} was made with another --steps: choose another --work")
        print(f"{row.name}: kept in {kept}")
        return
    trial = Trial(row.name, arguments.work, arguments.steps)
    seconds = _train(row, trial)
    model = ("--model", str(trial.run))
    report = json.loads("".join(trial.seqvae("eval", *model, "--iw-samples", str(arguments.iw_samples), "--json")))
    samples = trial.seqvae("sample", "-n", "5", "--seed", "0", *model)
    path = trial.seqvae("interpolate", *row.ends, "--steps", "5", *model)
    found = {
        "title": row.title,
        "steps": arguments.steps,
        "train_seconds": seconds,
        "commands": trial.commands,
        "facts": _facts(trial.run),
        "report": report,
        "samples": samples,
        "ends": row.ends,
        "path": path,
        "extra": row.extra(trial),
    }
    kept.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")


def _train(row: Row, trial: Trial) -> float:
    """Train, or go on; the seconds of all sessions together."""
    settings: dict[str, Any] = {}
    if row.make is not None:
        if not trial.data.exists():  # whole or not at all
            begun = trial.data.with_name("data.begun")
            shutil.rmtree(begun, ignore_errors=True)
            row.make(begun)
            begun.rename(trial.data)
        settings |= {f"data.{split}": trial.data / f"{split}.txt" for split in SPLITS}
    if trial.steps is not None:
        settings |= {"train.steps": trial.steps, "train.validate_every": trial.steps}
    changes = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    before = trial.work / row.name / "seconds.json"
    spent = json.loads(before.read_text()) if before.exists() else 0.0
    began = time.monotonic()
    trial.run.parent.mkdir(parents=True, exist_ok=True)
    begin = ["--config", str(CONFIGS / f"{row.name}.yaml"), *changes, "--out", str(trial.run)]
    try:
        trial.seqvae("train", *(["--resume", str(trial.run)] if (trial.run / "config.yaml").exists() else begin))
    finally:
        spent += time.monotonic() - began
        before.write_text(json.dumps(spent))
    trial.commands[:] = ["seqvae train " + command(begin)]
    if row.generator is not None:
        made = f"python -m {row.generator} --out {trial.data} --rows {GENERATED_ROWS} --seed {SEED}"
        trial.commands.insert(0, made)
    return spent


def _facts(run: Path) -> Mapping[str, Any]:
    """What a run says of itself."""
    begun = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    described = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "vocabulary": described["vocab_size"],
        "updates": max(event.get("step", 0) for event in events),
        **{name: begun[name] for name in ("git", "versions", "device_name", "threads", "precision")},
    }


if __name__ == "__main__":
    main()

"""What a model writes: samples and paths measured beside real text, and twenty of each as they come.

    seqvae train --config tiny.yaml --out runs/tiny
    seqvae train --config tiny-lm.yaml --out runs/tiny-lm
    python -m benchmarks.generation --model runs/tiny --language-model runs/tiny-lm \\
        --out benchmarks/results/tiny-generation.md

Nothing on the page is selected: samples are the first twenty of seed 0, sentences the first twenty of the test text,
or those of ``--sentences FILE`` where a text may not be quoted (``benchmarks/newspaper.txt`` for Penn Treebank).
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import seqvae
from benchmarks.report import provenance, table
from seqvae.config import Config
from seqvae.data.corpora import resolve
from seqvae.data.store import prepare
from seqvae.evaluation.fluency import LanguageModel
from seqvae.evaluation.sections import sections
from seqvae.evaluation.suite import evaluate_fully
from seqvae.evaluation.surroundings import surroundings_of

SHOWN = 20


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    config = Config.from_yaml(arguments.model / "config.yaml")
    vae, judge = seqvae.load(arguments.model), seqvae.load(arguments.language_model)
    if arguments.sentences is None:
        texts = [text for _, text in resolve(config.data)["test"].lines()]
    else:
        texts = arguments.sentences.read_text(encoding="utf-8").splitlines()
    if len(texts) < SHOWN:
        raise SystemExit(f"{SHOWN} sentences are wanted, and there are {len(texts)}")
    store = prepare(config.data, vae.tokenizer, splits=["test"]).splits["test"]
    around = surroundings_of(
        config.data,
        vae.tokenizer,
        store,
        data=config.data,
        split="test",
        language_model=LanguageModel(judge.model, judge.tokenizer),
    )
    settings = config.eval.model_copy(update={"iw_samples": 1, "samples": arguments.samples or config.eval.samples})
    report = evaluate_fully(
        vae.model, vae.tokenizer, store, split="test", around=around, config=settings, noiseless=vae.noiseless
    )
    parts = [f"# {arguments.title}", provenance(arguments.model, __spec__.name, argv)]
    for section in sections(report):
        parts += [f"## {section.title[0].upper()}{section.title[1:]}", table(section.columns, section.rows)]
    parts += _examples(vae, texts[:SHOWN])
    arguments.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a run folder")
    parser.add_argument("--language-model", type=Path, required=True, help="a run of a model without a code")
    parser.add_argument("--sentences", metavar="FILE", type=Path, help="reconstructed and gone between, one a line")
    parser.add_argument("--samples", metavar="N", type=int, help="that are measured (default: eval.samples of the run)")
    parser.add_argument("--title", default="What the model of tiny.yaml writes")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    return parser.parse_args(argv)


def _examples(vae: seqvae.TextVAE, texts: Sequence[str]) -> list[str]:
    pairs = list(zip(texts, [*texts[1:], texts[0]], strict=True))
    middles = [vae.interpolate(one, other, steps=3)[1][1] for one, other in pairs]
    path = vae.interpolate(*pairs[0])
    return [
        f"## {SHOWN} samples from the prior (temperature 1, seed 0)",
        _block(vae.sample(SHOWN, seed=0)),
        f"## {SHOWN} reconstructions (posterior mean, greedy)",
        _block(line for pair in zip(texts, vae.reconstruct(texts), strict=True) for line in (pair[0], f"-> {pair[1]}")),
        f"## {SHOWN} midpoints (slerp, greedy), each between one of them and the next",
        _block(middles),
        "## The first of these paths",
        _block(f"{place:.2f}  {text}" for place, text in path),
    ]


def _block(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


if __name__ == "__main__":
    main()

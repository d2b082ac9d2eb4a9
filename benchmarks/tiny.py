"""How good the model of ``tiny.yaml`` is, against a language model of its size and against the truth.

    seqvae train --config tiny.yaml --out runs/tiny
    seqvae train --config tiny-lm.yaml --out runs/tiny-lm
    python -m benchmarks.tiny --model runs/tiny --language-model runs/tiny-lm --out benchmarks/results/tiny.md

The corpus comes from a grammar whose exact likelihood is known, so the distance to the truth can be measured.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import seqvae
from benchmarks.report import provenance, table
from seqvae.config import Config
from seqvae.data.corpora import resolve
from seqvae.data.grammar import Grammar
from seqvae.data.store import TokenStore, prepare
from seqvae.evaluation.likelihood import Likelihoods, elbo_and_iw
from seqvae.evaluation.probes import bag_of_words, probe
from seqvae.evaluation.report import EvalConfig, EvalReport
from seqvae.evaluation.surroundings import labels_of
from seqvae.generation.codes import encode_store

PAIRS = 200
"""Pairs of test sentences whose midpoint is decoded."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    config = Config.from_yaml(arguments.model / "config.yaml")
    vae, lm = seqvae.load(arguments.model), seqvae.load(arguments.language_model)
    texts = [text for _, text in resolve(config.data)["test"].lines()]
    grammar = Grammar.default()
    truth = -np.array([grammar.log_prob(text) for text in texts])
    store = prepare(config.data, vae.tokenizer, splits=["test"]).splits["test"]
    report = seqvae.evaluate(vae, store, split="test", config=EvalConfig(iw_samples=1))
    each = elbo_and_iw(vae.model, store, samples=arguments.iw_samples)
    lm_nll = elbo_and_iw(lm.model, TokenStore.from_texts(texts, lm.tokenizer)).iw
    samples = vae.sample(500, seed=0)
    sections = [
        "# The model of tiny.yaml, measured",
        provenance(arguments.model, __spec__.name, argv),
        "## Likelihood, nats per sentence (test, 2,000 sentences)",
        table(("", "nats", "± se of the difference to the grammar"), _likelihood_rows(truth, lm_nll, each)),
        f"IW-NLL stands {each.iw.mean() / lm_nll.mean() - 1:+.2%} from the language model's NLL.",
        "## Use of the code",
        table(("", ""), _latent_rows(report)),
        f"> {report.verdict.text}",
        "## Share of sentences that the grammar parses",
        table(("", "parsed"), _parsed_rows(vae, lm, grammar, texts, samples)),
        "## What the posterior mean knows: linear probes of the factors (test accuracy)",
        table(("factor", "probe", "majority", "bag of words"), _probe_rows(vae, config)),
        "Where a factor is no better than its majority, the code holds other things: sentence VAEs tend to spend it on "
        "the first words and the length (Bosc and Vincent 2020).",
        "## Ten samples (seed 0)",
        "\n".join(f"    {text}" for text in samples[:10]),
        "## From one test sentence to another",
        "\n".join(f"    {t:.2f}  {text}" for t, text in vae.interpolate(texts[0], texts[1])),
    ]
    arguments.out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--language-model", type=Path, required=True)
    parser.add_argument("--iw-samples", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tiny.md"))
    return parser.parse_args(argv)


def _likelihood_rows(truth: np.ndarray, lm_nll: np.ndarray, each: Likelihoods) -> list[tuple]:
    def row(name: str, values: np.ndarray) -> tuple[str, str, str]:
        gap = values - truth
        error = gap.std(ddof=1) / np.sqrt(len(gap))
        return name, f"{values.mean():.3f}", f"{gap.mean():+.3f} ± {error:.3f}"

    return [
        ("grammar (the truth)", f"{truth.mean():.3f}", "-"),
        row("language model, NLL", lm_nll),
        row(f"VAE, IW-NLL (k = {each.samples})", each.iw),
        row("VAE, -ELBO", each.elbo),
    ]


def _latent_rows(report: EvalReport) -> list[tuple[str, str]]:
    return [
        ("KL (one sample of z)", f"{report.kl_nats:.2f}"),
        ("MI", f"{report.mi_nats:.2f} ± {report.mi_se:.2f} (ceiling {report.mi_ceiling_nats:.2f})"),
        ("active units", f"{report.active_units} of {report.latent_dim}"),
        ("swap gap", f"{report.swap_gap_nats:.2f} ± {report.swap_gap_se:.2f}"),
        ("reconstruction BLEU", f"{report.bleu:.1f}"),
        ("token accuracy", f"{report.token_accuracy:.3f}"),
    ]


def _parsed_rows(
    vae: seqvae.TextVAE, lm: seqvae.TextVAE, grammar: Grammar, texts: list[str], samples: list[str]
) -> list[tuple[str, str]]:
    means = vae.encode(texts[: 2 * PAIRS]).mean
    midpoints = vae.decode((means[:PAIRS] + means[PAIRS : 2 * PAIRS]) / 2)

    def share(sentences: list[str]) -> str:
        return f"{np.mean([grammar.parses(text) for text in sentences]):.1%}"

    return [
        ("500 samples from the prior", share(samples)),
        ("500 samples of the language model", share(lm.sample(500, seed=0))),
        (f"midpoints (lerp, greedy) of {PAIRS} pairs of test sentences", share(midpoints)),
        (f"reconstructions of {PAIRS} test sentences", share(vae.reconstruct(texts[:PAIRS]))),
    ]


def _probe_rows(vae: seqvae.TextVAE, config: Config) -> list[tuple[str, str, str, str]]:
    stores = prepare(config.data, vae.tokenizer, splits=["train", "test"]).splits
    labels = {split: labels_of(config.data, split, stores[split]) for split in stores}
    features = {
        split: (encode_store(vae.model, store).mean, bag_of_words(store, vae.tokenizer.vocab_size))
        for split, store in stores.items()
    }
    rows = []
    for factor in Grammar.default().factors:
        found = probe(features["train"], labels["train"][factor], features["test"], labels["test"][factor])
        rows.append((factor, f"{found.accuracy:.1%}", f"{found.majority:.1%}", f"{found.bag_of_words:.1%}"))
    return rows


if __name__ == "__main__":
    main()

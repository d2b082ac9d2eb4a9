"""A run told whole: its command, learning curve, test numbers checked by identities, and unselected examples.

seqvae train --config ptb.yaml --out runs/ptb
python -m benchmarks.one_run --model runs/ptb --iw-samples 100 --out benchmarks/results/ptb-run.md
"""

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import seqvae
from benchmarks.report import command, provenance, table
from seqvae.config import Config
from seqvae.data.store import prepare
from seqvae.evaluation.report import EvalReport

SENTENCES = (Path(__file__).parent / "newspaper.txt").read_text(encoding="utf-8").splitlines()[:10]
"""Written for this, as news are: the corpus itself may not be quoted."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parse(argv)
    config = Config.from_yaml(arguments.model / "config.yaml")
    vae = seqvae.load(arguments.model)
    if vae.noiseless or vae.latent_dim == 0:
        raise SystemExit("this page tells of a VAE, and the model is a language model or an autoencoder")
    store = prepare(config.data, vae.tokenizer, splits=["test"]).splits["test"]
    settings = config.eval.model_copy(update={"iw_samples": arguments.iw_samples})
    report = seqvae.evaluate(vae, store, split="test", config=settings)
    sections = [
        f"# {arguments.title}",
        provenance(arguments.model, __spec__.name, argv),
        f"The command of the run: `seqvae {_trained_by(arguments.model)}`.",
        "## Learning curve (validation, one sample of z, nats per sentence)",
        _curve(arguments.model),
        f"## Test ({report.sentences:,} sentences, {report.tokens:,} predicted tokens)",
        table(("", ""), _numbers(report)),
        f"> {report.verdict.text}",
        "## Identities",
        table(("identity", "found", "holds"), _identities(report)),
        _examples(vae),
    ]
    arguments.out.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    print(arguments.out.read_text(encoding="utf-8"))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a run folder")
    parser.add_argument("--iw-samples", type=int, default=500)
    parser.add_argument("--title", default="Penn Treebank, one run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ptb-run.md"))
    return parser.parse_args(argv)


def _trained_by(run: Path) -> str:
    """What followed the name of the program."""
    begun = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    return command(shlex.split(begun["argv"])[1:])


_CURVE = ("elbo_nats", "rec_nats", "kl_nats", "ppl_elbo")


def _curve(run: Path) -> str:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    names: dict[int, str] = {event["phase"]: event["name"] for event in events if event["event"] == "phase"}
    rows = [
        (
            names[event["phase"]],
            event["step"],
            f"{event['epoch']:.0f}",
            *("-" if event[name] is None else f"{event[name]:.2f}" for name in _CURVE),
            event["active_units"],
        )
        for event in events
        if event["event"] == "valid"
    ]
    return table(("phase", "step", "epoch", "-ELBO", "rec", "KL", "PPL (ELBO)", "active units"), rows)


def _numbers(report: EvalReport) -> list[tuple[str, str]]:
    return [
        ("-ELBO", f"{report.elbo_nats:.2f} ± {report.elbo_se:.2f}"),
        ("rec", f"{report.rec_nats:.2f}"),
        ("KL", f"{report.kl_nats:.2f}"),
        (f"IW-NLL (k = {report.iw_samples})", f"{report.iw_nats:.2f} ± {report.iw_se:.2f}"),
        ("PPL (IW)", f"{report.ppl_iw:.2f}"),
        ("PPL (ELBO)", f"{report.ppl_elbo:.2f}"),
        ("MI", f"{report.mi_nats:.2f} ± {report.mi_se:.2f} (ceiling {report.mi_ceiling_nats:.2f})"),
        ("active units", f"{report.active_units} of {report.latent_dim}"),
        ("swap gap", f"{report.swap_gap_nats:.2f} ± {report.swap_gap_se:.2f}"),
        ("token accuracy", f"{report.token_accuracy:.3f}"),
        ("reconstruction BLEU", f"{report.bleu:.2f} ({report.reconstructions:,} sentences, {report.bleu_signature})"),
        ("exact match", f"{report.exact_match:.4f}"),
        ("unknown words", f"{report.unknown_rate:.2%}"),
    ]


def _identities(report: EvalReport) -> list[tuple[str, str, str]]:
    per_sentence = report.tokens / report.sentences
    bound = min(report.kl_nats, report.mi_ceiling_nats)
    checks = [
        ("21.917 predicted tokens a sentence", f"{per_sentence:.3f}", round(per_sentence, 3) == 21.917),
        ("IW-NLL ≤ -ELBO", f"{report.iw_nats:.3f} ≤ {report.elbo_nats:.3f}", report.iw_nats <= report.elbo_nats),
        (
            "MI ≤ min(KL, ln N), up to noise (3 se)",
            f"{report.mi_nats:.3f} ≤ {bound:.3f}",
            report.mi_nats <= bound + 3 * report.mi_se,
        ),
    ]
    return [(name, found, "yes" if holds else "**no**") for name, found, holds in checks]


def _examples(vae: seqvae.TextVAE) -> str:
    """Ten of each as they come (seed 0), from sentences of our own: the corpus may not be quoted here."""
    back = vae.reconstruct(SENTENCES)
    pairs = zip(SENTENCES, SENTENCES[1:] + SENTENCES[:1], strict=True)
    middles = [vae.interpolate(a, b, steps=3)[1][1] for a, b in pairs]
    parts = ["## Ten samples from the prior (ancestral, temperature 1, seed 0)"]
    parts += ["\n".join(f"    {text}" for text in vae.sample(10, seed=0))]
    parts += ["## Ten reconstructions (posterior mean, greedy) of sentences written for this page"]
    parts += ["\n\n".join(f"    {text}\n    -> {other}" for text, other in zip(SENTENCES, back, strict=True))]
    parts += ["## Ten midpoints (slerp, greedy), each between one of them and the next"]
    parts += ["\n".join(f"    {text}" for text in middles)]
    parts += ["## One path of eight steps"]
    parts += ["\n".join(f"    {t:.2f}  {text}" for t, text in vae.interpolate(SENTENCES[0], SENTENCES[4]))]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()

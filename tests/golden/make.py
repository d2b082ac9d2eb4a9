"""Make a golden model: a small trained model, and what it must keep doing in every later version.

    python tests/golden/make.py 0.1-words --set tokenizer.max_size=300

A release that changes what is saved adds a folder beside those that are there; none is ever made anew.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import seqvae

HERE = Path(__file__).parent
TEXTS = (
    "i happily discussed the ideas in the morning",
    "we will forget your awful emails at noon",
    "the cheerful guest is not tired of the trips",
    "",
    "zebra quartz",
)
"""Of the corpus, empty, and of words that it does not have."""
SMALL = (
    "model.latent_dim=8",
    "model.encoder.embedding=12",
    "model.encoder.hidden=20",
    "model.decoder.embedding=20",
    "model.decoder.hidden=48",
    "data.batch_size=32",
    "data.max_length=24",
    "train.epochs=5",
    "train.seed=1",
    "train.threads=1",
    "train.device=cpu",
    "train.precision=fp32",
)


def behaviour(vae: seqvae.TextVAE) -> dict[str, object]:
    """What is held: codes, texts decoded from them greedily and by beam, and the bounds of the likelihood in nats."""
    from seqvae.generation.decoding import DecodeConfig

    codes, scores = vae.encode(TEXTS), vae.score(TEXTS, samples=4, seed=3)
    greedy = DecodeConfig(strategy="greedy", max_length=30)
    beam = DecodeConfig(strategy="beam", beam_size=3, max_length=30)
    return {
        "texts": TEXTS,
        "tokens": [vae.tokenizer.encode(text) for text in TEXTS],
        "mean": codes.mean.tolist(),
        "std": codes.std.tolist(),
        "decoded": vae.decode(codes, config=greedy),
        "beam": vae.decode(codes, config=beam),
        "path": vae.interpolate(TEXTS[0], TEXTS[1], steps=5, config=greedy),
        "rec_nats": scores.rec.tolist(),
        "kl_nats": scores.kl.tolist(),
        "elbo_nats": scores.elbo.tolist(),
        "iw_nats": scores.iw.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the folder: the version, and what is special about the model")
    parser.add_argument("--set", dest="changes", metavar="A.B=C", action="append", default=[], help="a further setting")
    arguments = parser.parse_args()
    folder = HERE / arguments.name
    config = seqvae.Config.from_yaml("tiny.yaml", [*SMALL, *arguments.changes])
    with tempfile.TemporaryDirectory() as place:
        run = seqvae.train(config, out=Path(place) / "run")
        shutil.copytree(run.folder / "model", folder / "model")
    text = json.dumps(behaviour(seqvae.load(folder / "model")), ensure_ascii=False, indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

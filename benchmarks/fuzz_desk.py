"""Where the cases of the fuzzer are tried: models, texts and files, made once in a process; how an end is judged."""

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer.main
import typer.testing
from hypothesis import strategies as st
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.io import codes, pretrained
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE
from seqvae.yaml_source import dump_yaml

Check = Callable[[Any], str]

WORDS = ["the", "cat", "saw", "a", "dog", "and", "ate"]
SENTENCES = ["the cat saw a dog", "a dog ate", "", "the dog and the cat", "cat"]
MODEL = {"latent_dim": 3, "encoder": {"embedding": 5, "hidden": 6}, "decoder": {"embedding": 7, "hidden": 8}}
TRAIN = {"device": "cpu", "threads": 1, "steps": 2, "log_every": 1}


@dataclass(frozen=True, kw_only=True)
class Target:
    """``cases`` are drawn, ``check`` holds each; ``guided`` where few cases get past the first look by chance."""

    name: str
    kind: Literal["parser", "command line", "loader", "training"]
    cases: st.SearchStrategy
    check: Check
    guided: bool = False


# The place where cases are tried: models, texts and files, made once in a process.


class Desk:
    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="seqvae-fuzz-", ignore_cleanup_errors=True)
        self.folder = Path(self._place.name)
        os.environ["SEQVAE_CACHE"] = str(self.folder / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        (self.folder / "a.txt").write_text("\n".join(filter(None, SENTENCES * 3)) + "\n", encoding="utf-8")
        (self.folder / "odd.txt").write_bytes(b"the cat\xff\n\n")
        (self.folder / "t.jsonl").write_text('{"text": "the cat", "y": "good"}\n' * 3, encoding="utf-8")
        config = {"data": {"train": "a.txt", "valid": "a.txt", "test": "a.txt"}, "model": MODEL, "train": TRAIN}
        (self.folder / "small.yaml").write_text(dump_yaml(config | {"eval": {"iw_samples": 2}}), encoding="utf-8")
        with contextlib.chdir(self.folder):
            for name, latent_dim in (("vae", 3), ("lm", 0)):
                seqvae.train(Config.from_yaml("small.yaml", [f"model.latent_dim={latent_dim}"]), out=f"runs/{name}")
        self.vae = seqvae.load(self.folder / "runs" / "vae")
        with codes.writing(self.folder / "codes.npz") as writer:
            encoded = self.vae.encode(SENTENCES)
            writer.write(SENTENCES, encoded.mean, encoded.std)
        self.models = {"word": self.folder / "runs" / "vae" / "model", "pieces": self._with_pieces()}
        self.checkpoint = sorted((self.folder / "runs" / "vae" / "checkpoints").iterdir())[-1]

    def _with_pieces(self) -> Path:
        """A model whose tokenizer is a file of SentencePiece."""
        settings = SentencePieceTokenizerConfig(vocab_size=18, byte_fallback=False)
        tokenizer = SentencePieceTokenizer.train(SENTENCES * 9, settings)
        model = SeqVAE(ModelConfig(**MODEL), tokenizer.vocab_size)
        pretrained.save(self.folder / "pieces", TextVAE(model, tokenizer), facts={})
        return self.folder / "pieces"

    @contextlib.contextmanager
    def copy(self, folder: Path) -> Iterator[Path]:
        """A copy of a folder, gone afterwards."""
        place = Path(tempfile.mkdtemp(dir=self.folder)) / folder.name
        shutil.copytree(folder, place)
        try:
            yield place
        finally:
            shutil.rmtree(place.parent)


@functools.cache
def desk() -> Desk:
    return Desk()


def told(error: SeqVAEError, *exits: int) -> str:
    """The code of an error that is shown as it should be; of one of the ``exits``."""
    assert error.exit_code in exits, f"{error.code} where one of {exits} is documented"
    assert error.render().startswith(f"error[{error.code}]: ")
    return error.code


EXITS = {0, 2, 3, 4, 5, 6, 7}

# The runner makes all verbs anew for every line, which is most of its time.
typer.testing._get_command = functools.cache(typer.main.get_command)


def ran(words: list[str]) -> str:
    """What ``seqvae WORDS`` came to; raises where it is not as documented."""
    result = CliRunner().invoke(app, words, prog_name="seqvae", input="the cat\na dog\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in EXITS, f"exit code {result.exit_code}: {result.stderr}"
    assert "Traceback" not in result.output
    if result.exit_code == 0:
        return "ok"
    assert f"error[E{result.exit_code}" in result.stderr, result.stderr
    return result.stderr.partition("error[")[2][:4]

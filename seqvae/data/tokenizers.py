"""From text to token ids and back.

Every tokenizer has the four special ids of `seqvae.types` (0 to 3); text never produces PAD, BOS or EOS, whatever
is written in it. A tokenizer is saved in a folder of its own and loaded without running any code.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Protocol, SupportsInt, runtime_checkable

from pydantic import Field

from seqvae.data.char_tokenizer import CharTokenizer, CharTokenizerConfig
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.data.tokenizer_file import FILE_NAME, damaged, read_file
from seqvae.data.word_tokenizer import WordTokenizer, WordTokenizerConfig

TokenizerConfig = Annotated[
    WordTokenizerConfig | CharTokenizerConfig | SentencePieceTokenizerConfig, Field(discriminator="name")
]
"""The configs of all tokenizers, told apart by ``name``: the section ``tokenizer``."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; ``vocab_size`` counts the four special ids."""

    name: str
    unit: str
    """What one token is, in the singular: word, character, piece."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Ids of one sentence, without BOS and EOS; what is not known gives UNK."""

    def tokens(self, text: str) -> list[str]:
        """The tokens of one sentence as a person reads them, one for each id of `encode`."""

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The sentence of these ids; PAD, BOS and EOS are skipped and UNK is shown as ``<unk>``."""

    def fingerprint(self) -> str:
        """Hex sha256 of all that decides how text is encoded."""

    def save(self, folder: Path | str) -> None:
        """Writes the tokenizer into ``folder`` (``model/tokenizer``), which is made if need be."""


_KINDS = {kind.name: kind for kind in (WordTokenizer, CharTokenizer, SentencePieceTokenizer)}


def train_tokenizer(lines: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """A tokenizer made from the training text (one sentence a line)."""
    return _KINDS[config.name].train(lines, config)


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer saved in ``folder`` (``model/tokenizer``), of whatever kind.

    Raises E402, E401, E403 for a file that is missing, damaged or too new.
    """
    name = read_file(folder).get("name")
    if not isinstance(name, str) or name not in _KINDS:
        raise damaged(Path(folder) / FILE_NAME, f"no such kind of tokenizer: {name!r}")
    return _KINDS[name].load(folder)

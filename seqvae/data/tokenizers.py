"""From text to token ids and back.

Every tokenizer has the four special ids of `seqvae.types` (0 to 3); text never produces PAD, BOS or EOS, whatever
is written in it. A tokenizer is saved in a folder of its own and loaded without running any code.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Protocol, SupportsInt, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from seqvae.data.char_tokenizer import CharTokenizer, CharTokenizerConfig
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.data.tokenizer_file import FILE_NAME, damaged, read_file
from seqvae.data.word_tokenizer import WordTokenizer, WordTokenizerConfig
from seqvae.io.disk import expanded


class SavedTokenizerConfig(BaseModel):
    """A tokenizer that exists already: of another model, say, or made in Python and saved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["saved"] = Field("saved", description="The kind of tokenizer.")
    folder: Path = Field(description="Where it was saved: a folder with `tokenizer.json`, a model folder or a run.")


TokenizerConfig = Annotated[
    WordTokenizerConfig | CharTokenizerConfig | SentencePieceTokenizerConfig | SavedTokenizerConfig,
    Field(discriminator="name"),
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

    @property
    def vocabulary(self) -> list[str]:
        """Every token by its id, as `tokens` writes it; the four special ones come first."""

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


KINDS = {kind.name: kind for kind in (WordTokenizer, CharTokenizer, SentencePieceTokenizer)}


def train_tokenizer(lines: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """A tokenizer made from the training text (one sentence a line), or the one that ``config`` names."""
    return given_tokenizer(config) or KINDS[config.name].train(lines, config)


def given_tokenizer(config: TokenizerConfig) -> Tokenizer | None:
    """The tokenizer that ``config`` names, ready made; None where it has to be made from the training text.

    Raises E411 for a SentencePiece model that cannot be used, else what `load_tokenizer` raises.
    """
    if isinstance(config, SavedTokenizerConfig):
        folder = expanded(config.folder)
        places = [folder, folder / "tokenizer", folder / "model" / "tokenizer"]
        return load_tokenizer(next((place for place in places if is_saved(place)), folder))
    if isinstance(config, SentencePieceTokenizerConfig) and config.model_file is not None:
        return SentencePieceTokenizer.from_model(config)
    return None


def is_saved(folder: Path) -> bool:
    """Whether a tokenizer was saved in ``folder``."""
    return (folder / FILE_NAME).is_file()


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer saved in ``folder`` (``model/tokenizer``), of whatever kind.

    Raises E402, E401, E403 for a file that is missing, damaged or too new.
    """
    name = read_file(folder).get("name")
    if not isinstance(name, str) or name not in KINDS:
        raise damaged(Path(folder) / FILE_NAME, f"no such kind of tokenizer: {name!r}")
    return KINDS[name].load(folder)

"""A first config for a text of the user's own: what the text looks like, the sizes that follow from it, and why.

The sizes are those of a model that trains in a few minutes on two cores of a laptop and keeps its code in use; they are
a place to start from, and the config says so beside each of them.
"""

import math
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from seqvae.data.lines import is_blank
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizerConfig, size_that_fits
from seqvae.data.sources import Source, TextSource
from seqvae.errors import Location, SeqVAEError
from seqvae.yaml_source import dump_value

UNKNOWN_WORD = "<unk>"
"""What corpora write for a word that they left out."""

SAMPLE_SENTENCES = 200_000
"""Sentences that words and lengths are counted over; all are counted by number."""

BUDGET_S = 180.0
"""Seconds that training may take, by the estimate below."""
FLOPS_PER_S = 40e9
"""Multiplications and additions a second that two laptop cores do in products as small as these (measured on one core
of an AMD EPYC server: 34 to 48 billion, by sizes)."""

_LARGEST_VOCABULARY = 4_000
_UNKNOWN_AT_MOST = 0.07
"""Share of the words that may be left out of a vocabulary of words; beyond it the text is cut into pieces."""
_LINES_FOR_PIECES = 1_000
"""With fewer, SentencePiece finds too few pieces that occur twice."""
_LINES_TRIED = 10_000
"""Most lines that pieces are learned from to see how many there can be."""
_TOO_FEW = "most words occur once, and the lines are too few to learn pieces of words from"
_LONGEST = 0.99
"""Share of the sentences that ``max_length`` keeps."""
_PIECE_CHARACTERS = 2.0
"""Characters of an average piece: what lengths are estimated with before there are any pieces."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a text looks like. ``words`` are what stands between white space; lists of lengths are by sentence."""

    name: str
    sentences: int
    blank: int
    word_lengths: Sequence[int]
    character_lengths: Sequence[int]
    words: Counter[str]
    characters: Counter[str]
    spaceless: float
    """Share of the characters that belong to scripts without white space between words."""
    examples: tuple[str, str] | None
    """Two different sentences of usual length."""
    labels: tuple[bool | str, Path] | None
    """A label file beside the text, and what `data.labels` is to read it."""

    @property
    def mean_words(self) -> float:
        return sum(self.word_lengths) / len(self.word_lengths)

    @property
    def mean_characters(self) -> float:
        return sum(self.character_lengths) / len(self.character_lengths)


@dataclass(frozen=True, kw_only=True)
class Starter:
    """The settings chosen for a text, and the reason for the tokenizer."""

    tokenizer: Literal["word", "char", "sentencepiece"]
    why: str
    min_freq: int
    vocabulary: int
    """Tokens, the four special ones included; estimated for pieces."""
    unknown: float
    """Share of the training text's tokens outside the vocabulary."""
    writes_unknown: bool
    """Whether the text itself has a word for unknown words."""
    max_length: int
    mean_tokens: float
    latent: int
    encoder: int
    embedding: int
    hidden: int
    batch: int
    valid_fraction: float
    epochs: int
    steps: int | None
    """A limit on the updates, where less than three epochs fit into the time."""
    seconds: float
    """What training takes, estimated."""

    @property
    def tied(self) -> bool:
        return self.embedding == self.hidden


def profile(source: Source) -> Profile:
    """Reads the whole text once. Raises what reading raises, and E307 for a single sentence."""
    sentences = blank = 0
    word_lengths, character_lengths = [], []
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    shown: list[str] = []
    for row in source.rows():
        if is_blank(row.text):
            blank += 1
            continue
        sentences += 1
        if sentences > SAMPLE_SENTENCES:
            continue
        parts = row.text.split()
        word_lengths.append(len(parts))
        character_lengths.append(len(row.text))
        words.update(parts)
        characters.update(row.text)
        if len(shown) < 1000:
            shown.append(row.text)
    if sentences < 2:
        hint = "a model needs some hundreds of sentences at least, one on each line"
        raise SeqVAEError("E307", "the file has one sentence: none can be held out for validation",
                          where=Location(source.name), hint=hint)  # fmt: skip
    letters = {char: count for char, count in characters.items() if not char.isspace()}
    spaceless = sum(count for char, count in letters.items() if _is_spaceless(char)) / max(1, sum(letters.values()))
    return Profile(
        name=source.name,
        sentences=sentences,
        blank=blank,
        word_lengths=word_lengths,
        character_lengths=character_lengths,
        words=words,
        characters=characters,
        spaceless=spaceless,
        examples=_two_usual(shown),
        labels=_labels_beside(source),
    )


def _is_spaceless(char: str) -> bool:
    name = unicodedata.name(char, "")
    return name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"))


def _two_usual(shown: list[str]) -> tuple[str, str] | None:
    """Two sentences of about the median length that differ, neither beginning with a dash."""
    usable = sorted({text.strip() for text in shown} - {""}, key=lambda text: (len(text), text))
    plain = [text for text in usable if not re.search(r"[^\w .,?]", text)]  # nothing that a shell would want quoted
    usable = plain if len(plain) > 1 else [text for text in usable if not text.startswith("-")]
    if len(usable) < 2:
        return None
    middle = len(usable) // 2
    return usable[middle - 1], usable[middle]


def _labels_beside(source: Source) -> tuple[bool | str, Path] | None:
    if not isinstance(source, TextSource):
        return None
    for setting in (True, *source.kinds_of_labels()):
        file = TextSource.of(source.path, setting).labels
        if file.is_file():
            return setting, file
    return None


def choose(text: Profile, source: Source) -> Starter:
    """Sizes for a text. Larger texts get a larger code; a large vocabulary gets a decoder that shares its weights.

    As many pieces are chosen as can be learned from the part of the text that is not held out.
    """
    chosen = _sized(text, _tokens(text))
    if chosen.tokenizer != "sentencepiece":
        return chosen
    kept, _ = source.split(chosen.valid_fraction)
    lines = list(islice(kept.texts(), _LINES_TRIED))
    found = size_that_fits(lines, SentencePieceTokenizerConfig(vocab_size=chosen.vocabulary))
    return _sized(text, _characters(text, _TOO_FEW) if found is None else _pieces(text, chosen.why, found))


_Tokens = tuple[Literal["word", "char", "sentencepiece"], str, int, int, float, Sequence[int]]
"""(tokenizer, reason, min_freq, vocabulary, unknown rate, lengths of the sentences in tokens)"""


def _sized(text: Profile, tokens: _Tokens) -> Starter:
    kind, why, min_freq, vocabulary, unknown, lengths = tokens
    # A line has at most as many pieces as characters; how many fewer is not known before they are learned.
    max_length = _percentile(text.character_lengths if kind == "sentencepiece" else lengths, _LONGEST)
    mean = sum(min(length, max_length) for length in lengths) / len(lengths)
    n = text.sentences
    latent, encoder = (8, 64) if n < 2_000 else (16, 96) if n < 200_000 else (32, 128)
    embedding, hidden = (128, 128) if vocabulary > 1_000 else (64, 192 if n >= 2_000 else 128)
    fraction = min(0.1 if n < 2_000 else 0.05, 2_000 / n)
    fraction = max(round(fraction, 4), 1e-4)
    batch = 16 if n < 1_000 else 32 if n < 5_000 else 64
    # Multiplications and additions of a token, forward and backward: a pair for each weight, thrice.
    weights = 4 * (64 + encoder) * encoder + 4 * (embedding + latent + hidden) * hidden + hidden * vocabulary
    step_s = 6 * weights * batch * (mean + 1) / FLOPS_PER_S
    epoch_steps = max(1, math.ceil(n * (1 - fraction) / batch))
    fits = int(BUDGET_S / (step_s * epoch_steps))
    epochs = max(3, min(fits, 60, max(8, 400_000 // n)))
    steps = max(100, int(BUDGET_S / step_s)) if fits < 3 else None
    return Starter(
        tokenizer=kind,
        why=why,
        min_freq=min_freq,
        vocabulary=vocabulary,
        unknown=unknown,
        writes_unknown=kind == "word" and UNKNOWN_WORD in text.words,
        max_length=max_length,
        mean_tokens=mean,
        latent=latent,
        encoder=encoder,
        embedding=embedding,
        hidden=hidden,
        batch=batch,
        valid_fraction=fraction,
        epochs=epochs,
        steps=steps,
        seconds=step_s * (steps or epochs * epoch_steps),
    )


def _tokens(text: Profile) -> _Tokens:
    if text.spaceless > 0.3:
        return _characters(text, "the script puts no white space between words")
    if text.mean_words < 1.5:
        return _characters(text, "the lines have no white space: formulas, codes or names rather than sentences")
    min_freq, vocabulary, unknown = _cut(text.words, _LARGEST_VOCABULARY)
    if max(text.words.values()) == 1:  # no word that is known here is one of another text
        unknown = 1.0
    if unknown <= _UNKNOWN_AT_MOST:
        why = f"{vocabulary - 4:,} of the {len(text.words):,} different words cover {1 - unknown:.1%} of the text"
        return "word", why, min_freq, vocabulary, unknown, text.word_lengths
    if text.sentences < _LINES_FOR_PIECES:
        return _characters(text, _TOO_FEW)
    pieces = max(200, min(_LARGEST_VOCABULARY - 500, len(text.words) // 2))
    why = f"{len(text.words):,} different words are too many to know: {unknown:.0%} of the text would be unknown"
    return _pieces(text, why, 260 + min(len(text.characters), 200) + pieces)


def _pieces(text: Profile, why: str, vocabulary: int) -> _Tokens:
    lengths = [max(words, math.ceil(characters / _PIECE_CHARACTERS)) for words, characters in
               zip(text.word_lengths, text.character_lengths, strict=True)]  # fmt: skip
    return "sentencepiece", why, 1, vocabulary, 0.0, lengths


def _characters(text: Profile, why: str) -> _Tokens:
    min_freq, vocabulary, unknown = _cut(text.characters, _LARGEST_VOCABULARY)
    return "char", why, min_freq, vocabulary, unknown, text.character_lengths


def _cut(counts: Counter[str], largest: int) -> tuple[int, int, float]:
    """(least frequency, tokens kept and the four special ones, share left out): once is too rare to learn from."""
    ordered = sorted(counts.values(), reverse=True)
    often = sum(count > 1 for count in ordered) or len(ordered)
    kept = min(often, largest - 4)
    total = sum(ordered)
    return (2 if often < len(ordered) else 1), kept + 4, 1 - sum(ordered[:kept]) / total


def _percentile(lengths: Sequence[int], share: float) -> int:
    ordered = sorted(lengths)
    return max(1, ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)])


def config_text(text: Profile, chosen: Starter, *, out: str, train: str, text_column: str | None = None) -> str:
    """The YAML of the config ``out``, a comment on each choice; ``train`` is the path of the text."""
    median_words, median_chars = _percentile(text.word_lengths, 0.5), _percentile(text.character_lengths, 0.5)
    unit = {"word": "words", "char": "characters", "sentencepiece": "pieces"}[chosen.tokenizer]
    free = round(6.4 / chosen.latent, 3)
    lines = [
        f"# A VAE for {train}: {text.sentences:,} lines,",
        f"# the one of middle length of {median_words} words or {median_chars} characters.",
        f"#   seqvae train --config {shlex.quote(out)}",
        "# Written by `seqvae init`. `seqvae config explain SETTING` says what a setting means.",
        "",
        "data:",
        f"  train: {dump_value(train)}",
        *([f"  text_column: {dump_value(text_column)}"] if text_column else []),
        f"  valid_fraction: {chosen.valid_fraction:g}    # held out to choose the best weights by: "
        f"{max(1, round(chosen.valid_fraction * text.sentences)):,} lines",
        f"  max_length: {chosen.max_length}    # {unit}; holds 99 of 100 lines or more; longer ones are dropped",
        f"  batch_size: {chosen.batch}    # lines",
    ]
    if text.labels is not None:
        setting, path = text.labels
        lines += [f"  # labels: {dump_value(setting)}    # {path.name} lies beside the text; nothing below needs it"]
    lines += ["", "tokenizer:", f"  name: {chosen.tokenizer}    # {chosen.why}", *_tokenizer_lines(chosen)]
    share = "; embedding = hidden, so that both ends of the decoder share their weights" if chosen.tied else ""
    lines += [
        "",
        "model:",
        f"  latent_dim: {chosen.latent}    # more for longer or more varied lines, once these are used",
        f"  encoder: {{embedding: 64, hidden: {chosen.encoder}, pooling: max}}",
        f"  decoder:    # for a text of this size{share}",
        f"    embedding: {chosen.embedding}",
        f"    hidden: {chosen.hidden}",
        f"    dropout_in: {_dropout(text)}",
        f"    dropout_out: {_dropout(text)}",
        *(["    tie_weights: true"] if chosen.tied else []),
        "",
        "objective:",
        "  strategies:    # what keeps the decoder from ignoring the code",
        f"    - {{name: kl_annealing, shape: linear, start: 0.0, {_annealing(chosen)}}}    # at first free",
        f"    - {{name: free_bits, nats_per_dim: {free}}}    # {free * chosen.latent:.1f} nats stay so",
        "",
        "train:",
        f"  epochs: {chosen.epochs}    # {_time(chosen)}",
    ]
    if chosen.steps is not None:
        every = max(1, chosen.steps // 5)
        lines += [
            f"  steps: {chosen.steps}    # updates at most; without this line training takes longer and ends better",
            f"  validate_every: {every}    # updates",
        ]
    lines += [
        "  optimizer: {name: adamw, lr: 4.0e-3}",
        "  schedule: {name: cosine, warmup_steps: 50, floor: 0.02}",
        "",
    ]
    return "\n".join(lines)


def _tokenizer_lines(chosen: Starter) -> list[str]:
    if chosen.tokenizer == "sentencepiece":
        return [f"  vocab_size: {chosen.vocabulary}    # pieces; more of them make lines shorter and training slower"]
    unit = "words" if chosen.tokenizer == "word" else "characters"
    written = (
        ["  unknown_word: '<unk>'    # what the text itself writes for a rare word"] if chosen.writes_unknown else []
    )
    return [
        *written,
        f"  min_freq: {chosen.min_freq}    # times that one of the {unit} must occur to be known",
        f"  max_size: {chosen.vocabulary}    # {unit}; {chosen.unknown:.1%} of the text is none of them",
    ]


def _dropout(text: Profile) -> float:
    """A small text is soon known by heart."""
    return 0.3 if text.sentences < 2_000 else 0.1 if text.sentences < 20_000 else 0.0


def _annealing(chosen: Starter) -> str:
    if chosen.steps is not None:
        return f"steps: {max(1, chosen.steps // 3)}"
    return f"epochs: {max(1, round(chosen.epochs / 3, 1)):g}"


def _time(chosen: Starter) -> str:
    """How long training takes, and how that was estimated."""
    took = f"{chosen.seconds:.0f} seconds" if chosen.seconds < 90 else f"{chosen.seconds / 60:.0f} minutes"
    return (
        f"about {took}, at {FLOPS_PER_S / 1e9:.0f} billion operations a second (two laptop cores) and "
        f"{chosen.mean_tokens:.1f} tokens a line"
    )

"""Word tokenizers from what torchtext made: a ``Vocab``, old (to 0.8) or new (from 0.9), or a ``Field``.

torchtext itself is not imported: its objects are known by their methods.
"""

from collections.abc import Collection, Sequence
from typing import Any

from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import SeqVAEError

USUAL_SPECIALS = ("<pad>", "<bos>", "<sos>", "<s>", "<eos>", "</s>")
"""Tokens that a ``Vocab`` holds for its own use, by the names that are usual; which they are, it does not say."""

_PROBE = " One, two\tthree's\n\u00a0(four)  five "
"""A text that whatever splits at other places than white space, or drops something, splits differently."""


def from_vocab(vocab: Any, *, lowercase: bool = False, specials: Collection[str] = USUAL_SPECIALS) -> WordTokenizer:
    """A tokenizer that knows the words of a torchtext ``Vocab``, in their order.

    ``specials`` are those of its tokens that stand for padding, begin and end: they are no words here, so that text
    cannot produce them. Its token for unknown words (the default index; where there is none, ``<unk>`` if it holds
    one) is read as the unknown token. ``lowercase``: whether the text was lowered before the vocabulary saw it.
    Raises E412 for what is no vocabulary of words.

    >>> class Vocab:
    ...     itos, unk_index = ["<unk>", "<pad>", "the", "market"], 0
    >>> from_vocab(Vocab()).encode("the market <pad> <unk> fell")
    [4, 5, 3, 3, 3]
    """
    itos = _itos(vocab)
    return _tokenizer(itos, _unknown(vocab, itos), specials, lowercase)


def from_field(field: Any) -> WordTokenizer:
    """A tokenizer that reads text as a torchtext 0.6 ``Field`` does, with the vocabulary that it has built.

    What concerns batches alone (``fix_length``, ``batch_first``, ``postprocessing`` and so on) has no meaning here.
    Raises E412 for a field without a vocabulary of words, E413 for one that does more with a text than split it at
    white space and lower it.
    """
    if not (getattr(field, "sequential", False) and getattr(field, "use_vocab", False)):
        raise _no_vocabulary("the field is not sequential, or has no vocabulary", "give the field of the text")
    if getattr(field, "vocab", None) is None:
        raise _no_vocabulary("the field has no vocabulary yet", "call `field.build_vocab(dataset)` first")
    _require_plain(field)
    specials = {getattr(field, name, None) for name in ("pad_token", "init_token", "eos_token")} - {None}
    return _tokenizer(_itos(field.vocab), getattr(field, "unk_token", None), specials, bool(field.lower))


def _require_plain(field: Any) -> None:
    """Refuses a field that does with a text what a `WordTokenizer` cannot do."""
    hint = "apply it to the text itself, one sentence a line with spaces between the tokens, and use a plain Field"
    for name in ("preprocessing", "stop_words"):
        if getattr(field, name, None) is not None:
            raise SeqVAEError("E413", f"the field has `{name}`, which a word tokenizer cannot do", hint=hint)
    split = list(field.tokenize(_PROBE))
    if split != _PROBE.split():
        what = f"the field does not split at white space alone: it makes {split!r} of {_PROBE!r}"
        if split == list(_PROBE):
            hint = "for characters, train with `tokenizer.name=char`"
        raise SeqVAEError("E413", what, hint=hint)


def _itos(vocab: Any) -> list[str]:
    """The tokens of a vocabulary by index: a method in the new style, a list in the old."""
    tokens = vocab.get_itos() if callable(getattr(vocab, "get_itos", None)) else getattr(vocab, "itos", None)
    if not isinstance(tokens, Sequence) or isinstance(tokens, str):
        what = f"a {type(vocab).__name__} has neither `get_itos()` nor a list `itos`"
        raise _no_vocabulary(what, "give a torchtext `Vocab`; for a plain list of words: `WordTokenizer(words)`")
    wrong = [token for token in tokens if not isinstance(token, str)]
    if wrong:
        raise _no_vocabulary(f"{wrong[0]!r} among the tokens is not text", "give the vocabulary of the text")
    return list(tokens)


def _unknown(vocab: Any, itos: list[str]) -> str | None:
    """The token that the vocabulary gives for what it does not know."""
    default = getattr(vocab, "get_default_index", None)
    index = default() if callable(default) else getattr(vocab, "unk_index", None)
    if index is None:
        return "<unk>" if "<unk>" in itos else None
    if not isinstance(index, int) or not 0 <= index < len(itos):
        raise _no_vocabulary(f"its index for unknown words is {index!r}, of {len(itos)} tokens", "build it again")
    return itos[index]


def _tokenizer(itos: list[str], unknown: str | None, specials: Collection[str], lowercase: bool) -> WordTokenizer:
    words = [token for token in itos if token not in specials and token != unknown]
    if not words:
        raise _no_vocabulary("it holds no words", "build it from the training text first")
    try:
        return WordTokenizer(words, lowercase=lowercase, unknown_word=unknown)
    except SeqVAEError as error:
        raise _no_vocabulary(error.what, "seqvae's words stand between white space") from None


def _no_vocabulary(what: str, hint: str) -> SeqVAEError:
    return SeqVAEError("E412", f"no vocabulary of words can be read here: {what}", hint=hint)

"""Word vectors from a file: text as word2vec, GloVe and fastText write it, or safetensors.

Text, plain or gzip: a word and its numbers on each line, with spaces or tabs between them; where the first line is two
whole numbers, it is word2vec's header (vectors, numbers in each). Safetensors: a tensor ``embeddings [N D]`` and its N
words as a JSON list in the metadata, so that neither can lose the other::

    save_file({"embeddings": array}, "vectors.safetensors", metadata={"words": json.dumps(words)})

Files of millions of lines are streamed: only the vectors of the words asked for are kept.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from seqvae.data.lines import file_lines, reading
from seqvae.errors import Location, SeqVAEError

if TYPE_CHECKING:
    from safetensors import safe_open

TENSOR, WORDS = "embeddings", "words"
"""What a safetensors file calls the vectors, and the key of its metadata with their words."""

_SAFETENSORS = ".safetensors"
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WordVectors:
    """The vectors that a file has for some words, by the number of each word."""

    vectors: dict[int, Float32[np.ndarray, " D"]]
    repeated: int
    """Times that one of the words came again; its first vector counts."""
    notes: list[str]


def vector_size(path: Path) -> int:
    """Numbers in each vector of the file. Raises as `read_vectors` does."""
    if path.suffix == _SAFETENSORS:
        with _tensors(path) as file:
            return _check_tensors(path, file)[1]
    return _text_size(path)[1]


def read_vectors(path: Path, words: Mapping[str, int]) -> WordVectors:
    """The vectors of ``words``, each by its number; a word is found only as it is written, in its own case.

    Raises SeqVAEError: E331 a line with another count of numbers, E332 what is not a finite number, E333 a file with
    none of the words, E334 a file without vectors, and E301 to E306 for what cannot be read as text.
    """
    found = (_read_tensors if path.suffix == _SAFETENSORS else _read_text)(path, words)
    if not found.vectors:
        listed = ", ".join(repr(word) for word in list(words)[:3])
        hint = "is the vocabulary in another case or of another language, or are its tokens no words?"
        raise SeqVAEError("E333", f"no vector for any token of the vocabulary ({listed}, ...)", where=path, hint=hint)
    return found


# Text.


def _text_size(path: Path) -> tuple[int | None, int]:
    """(vectors, numbers in each); the first is known only from a header."""
    for number, text in _lines(path):
        fields = _fields(text)
        if number == 1 and len(fields) == 2 and fields[0].isdecimal() and fields[1].isdecimal():
            if int(fields[1]) > 0:
                return int(fields[0]), int(fields[1])
        elif len(fields) > 1 and _numbers(fields[1:]) is not None:
            return None, len(fields) - 1
        what = "no vectors: here should be a word and its numbers"
        raise _no_vectors(what, Location(path, number, text=text))
    raise _no_vectors("the file is empty", Location(path))


def _read_text(path: Path, words: Mapping[str, int]) -> WordVectors:
    announced, size = _text_size(path)
    vectors: dict[int, Float32[np.ndarray, " D"]] = {}
    count = repeated = 0
    for number, text in _lines(path):
        if number == 1 and announced is not None:
            continue
        count += 1
        # Most lines are of no interest: they are counted, and split no further than after the word.
        regular = text.count(" ") == size and "  " not in text
        word, _, rest = text.partition(" ") if regular else _irregular(path, number, text, size)
        row = words.get(word)
        if row is None:
            continue
        if row in vectors:
            repeated += 1
            continue
        vector = _numbers(rest.split(" "))
        if vector is None or not np.isfinite(vector).all():
            what = f"the vector of {word!r} has something in it that is not a finite number"
            raise SeqVAEError("E332", what, where=Location(path, number, text=text), hint="remove or mend the line")
        vectors[row] = vector
    notes = []
    if announced is not None and announced != count:
        notes.append(f"the first line of {path.name} speaks of {announced:,} vectors; it has {count:,}")
    return WordVectors(vectors=vectors, repeated=repeated, notes=notes)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with single tabs as spaces and without the space at their end."""
    try:
        for number, text in file_lines(path, str(path)):
            text = text.replace("\t", " ").rstrip(" ")
            if text:
                yield number, text
    except SeqVAEError as error:
        if error.code in ("E303", "E304"):
            error.hint = "the vectors must be text in UTF-8: a binary word2vec or fastText file cannot be read"
        raise


def _fields(text: str) -> list[str]:
    """What stands between spaces, and nothing else: a word may hold other white space, such as a no-break space."""
    return [field for field in text.split(" ") if field]


def _irregular(path: Path, number: int, text: str, size: int) -> tuple[str, str, str]:
    """As ``text.partition(" ")``, for a line with more or fewer spaces than numbers.

    Some published vectors (GloVe 840B) are of words with spaces inside: what stands after such a space is no number.
    """
    fields = _fields(text)
    if len(fields) == size + 1 or (len(fields) > size + 1 and _numbers(fields[1:2]) is None):
        return " ".join(fields[:-size]), " ", " ".join(fields[-size:])
    what = f"{len(fields) - 1} numbers; the vectors of this file have {size}"
    hint = "remove or mend the line; the last line of an incomplete download is cut short"
    raise SeqVAEError("E331", what, where=Location(path, number, text=text), hint=hint)


def _numbers(fields: list[str]) -> Float32[np.ndarray, " D"] | None:
    try:
        with np.errstate(over="ignore"):
            return np.array([float(field) for field in fields]).astype(np.float32)
    except ValueError:
        return None


# Safetensors.


@contextmanager
def _tensors(path: Path) -> Iterator["safe_open"]:
    from safetensors import SafetensorError, safe_open

    with reading(path, str(path)):
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except SafetensorError as error:
            raise _no_vectors(f"this is no safetensors file: {error}", Location(path)) from None


def _check_tensors(path: Path, file: "safe_open") -> tuple[int, int]:
    """(N, D) of the vectors."""
    names = sorted(file.keys())
    if TENSOR not in names:
        raise _no_vectors(f"no tensor `{TENSOR}`; there is {', '.join(names[:5]) or 'none'}", Location(path))
    part = file.get_slice(TENSOR)
    shape, kind = part.get_shape(), part.get_dtype()
    if len(shape) != 2 or 0 in shape or not kind.startswith(("F", "BF")):
        what = f"`{TENSOR}` is {kind} of shape {shape}, not floating-point numbers [N D]"
        raise _no_vectors(what, Location(path))
    return shape[0], shape[1]


def _read_tensors(path: Path, words: Mapping[str, int]) -> WordVectors:
    vectors: dict[int, Float32[np.ndarray, " D"]] = {}
    repeated = 0
    with _tensors(path) as file:
        count, _ = _check_tensors(path, file)
        listed, part = _listed_words(path, file, count), file.get_slice(TENSOR)
        for start in range(0, count, _ROWS_AT_ONCE):
            block = part[start : min(start + _ROWS_AT_ONCE, count)]
            for index, word in enumerate(listed[start : start + _ROWS_AT_ONCE]):
                row = words.get(word)
                if row is None:
                    continue
                if row in vectors:
                    repeated += 1
                    continue
                vectors[row] = block[index].float().numpy().copy()
                if not np.isfinite(vectors[row]).all():
                    what = f"the vector of {word!r} (row {start + index} of `{TENSOR}`) has NaN or infinity in it"
                    raise SeqVAEError("E332", what, where=Location(path), hint="remove or mend it")
    return WordVectors(vectors=vectors, repeated=repeated, notes=[])


def _listed_words(path: Path, file: "safe_open", count: int) -> list[str]:
    try:
        words = json.loads((file.metadata() or {}).get(WORDS, "null"))
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _no_vectors(f"its metadata has no JSON list of strings `{WORDS}`", Location(path))
    if len(words) != count:
        raise _no_vectors(f"{len(words):,} words for {count:,} vectors", Location(path))
    return words


def _no_vectors(what: str, where: Location) -> SeqVAEError:
    hint = "give word vectors as text, `word 0.1 0.2 ...` on each line, or a .safetensors file with "
    hint += f"`{TENSOR} [N D]` and, in its metadata, `{WORDS}`: a JSON list of N strings"
    return SeqVAEError("E334", what, where=where, hint=hint)

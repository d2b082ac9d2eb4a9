"""The process that tokenizes for another one: blocks of text come in on standard input, their tokens go out.

It is started by `seqvae.data.workers` and is told all that it needs: nothing is inherited, and no script of the user's
is imported again. It ends when its input does, so that it never outlives who started it, however that one ended. What
passes between the two are plain bytes in frames, no pickled objects.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import BinaryIO

import numpy as np

from seqvae.data.row_encoder import Encoded, RowEncoder, StoreStats
from seqvae.data.tokenizers import load_tokenizer


def serve() -> None:
    """Answers until there are no more questions."""
    answers = os.fdopen(os.dup(1), "wb")
    with suppress(OSError):  # whatever prints must not write between the frames; without a stderr it writes nowhere
        os.dup2(2, 1)
    with suppress(BrokenPipeError):
        _serve(sys.stdin.buffer, answers)
    os._exit(0)  # what is buffered for a pipe that is gone cannot be flushed


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    begin = read_frame(questions)
    if begin is None:
        return
    settings = json.loads(begin[0])
    encoder = RowEncoder(tokenizer=load_tokenizer(settings.pop("tokenizer")), **settings)
    write_frame(answers, [encoder.tokenizer.fingerprint().encode()])
    while (question := read_frame(questions)) is not None:
        write_frame(answers, pack(encoder.encode(unpack_texts(question))))


def pack_texts(texts: list[str]) -> list[bytes]:
    """A frame of texts that have no line end in them."""
    return ["\n".join(texts).encode("utf-8", "surrogatepass")] if texts else []


def unpack_texts(frame: Sequence[bytes]) -> list[str]:
    return frame[0].decode("utf-8", "surrogatepass").split("\n") if frame else []


def pack(encoded: Encoded) -> list[bytes]:
    """A frame of what `RowEncoder.encode` gave."""
    told = {"type": encoded.tokens.dtype.str, "stats": asdict(encoded.stats), "refused": encoded.refused}
    arrays = (encoded.tokens, encoded.lengths, encoded.kept)
    return [json.dumps(told).encode(), *(array.tobytes() for array in arrays)]


def unpack(frame: Sequence[bytes]) -> Encoded:
    told = json.loads(frame[0])
    return Encoded(
        tokens=np.frombuffer(frame[1], told["type"]),
        lengths=np.frombuffer(frame[2], np.int64),
        kept=np.frombuffer(frame[3], bool),
        stats=StoreStats(**told["stats"]),
        refused=None if told["refused"] is None else tuple(told["refused"]),
    )


def write_frame(stream: BinaryIO, parts: Sequence[bytes]) -> None:
    """Writes parts so that `read_frame` finds them: their number, their sizes, themselves."""
    stream.write(np.array([len(parts), *map(len, parts)], "<u8").tobytes())
    for part in parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: BinaryIO) -> list[bytes] | None:
    """The parts of the next frame; None where the stream has ended, also in the middle of one."""
    try:
        (count,) = np.frombuffer(_exactly(stream, 8), "<u8").tolist()
        sizes = np.frombuffer(_exactly(stream, 8 * count), "<u8").tolist()
        return [_exactly(stream, size) for size in sizes]
    except EOFError:
        return None


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content

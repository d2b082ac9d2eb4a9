"""Tokenizing in several processes, in order and in memory that does not grow with the text.

What comes out is the same for any number of processes. They are started once a text has proved to be large, so small
ones do not wait for them. Each is a fresh interpreter (`seqvae.data.worker`) behind a pair of pipes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

from seqvae.data.row_encoder import Encoded, RowEncoder
from seqvae.data.sources import Block
from seqvae.data.tokenizers import KINDS
from seqvae.data.worker import pack_texts, read_frame, unpack, write_frame
from seqvae.errors import SeqVAEError

LARGE_CHARACTERS = 1 << 24
"""Text up to here is tokenized in this process, in a second or a few; what follows is shared out."""

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from seqvae.data.worker import serve; serve()"
_AHEAD = 4
"""Blocks that wait for each process or lie done before their turn."""

_ALONE = "set `data.workers=1`: all is then done in one process"


def processes(workers: int | None) -> int:
    """How many may work at a large text: ``workers``, or where that is None the cores that this process may use."""
    if workers is not None:
        return workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encoded(blocks: Iterator[Block], encoder: RowEncoder, workers: int | None) -> Iterator[tuple[Block, Encoded]]:
    """Each block with its ids, in order, by as many processes as ``workers`` says (None: one for each core).

    Raises what ``blocks`` raises once all before it was given; E350 where a process ends early, E351 where none can be
    started. Close the iterator to end the processes before it is through.
    """
    workers = _possible(encoder, workers)
    characters = 0
    for block in blocks:
        yield block, encoder.encode(block.texts)
        characters += sum(map(len, block.texts))
        if workers > 1 and characters > LARGE_CHARACTERS:
            break
    else:
        return
    with Workers(encoder, workers) as pool:
        yield from pool.encoded(blocks)


def _possible(encoder: RowEncoder, workers: int | None) -> int:
    """How many processes: one where the tokenizer is not of ours, or where there is no interpreter to start."""
    if type(encoder.tokenizer) not in KINDS.values() or not sys.executable or getattr(sys, "frozen", False):
        return 1
    return processes(workers)


class Workers:
    """Processes that tokenize; leaving the ``with`` block ends them, whatever they are at."""

    def __init__(self, encoder: RowEncoder, count: int):
        self._encoder, self._count = encoder, count
        self._workers: list[_Worker] = []
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        # A thread for each process waits at its pipes: the same code serves every operating system.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="seqvae-prepare")

    def __enter__(self) -> Self:
        try:
            with tempfile.TemporaryDirectory(prefix="seqvae-") as folder:
                self._encoder.tokenizer.save(folder)
                self._workers += [_Worker() for _ in range(self._count)]
                for worker in self._workers:
                    worker.begin(self._encoder, folder)
        except BaseException:
            self._end()
            raise
        for worker in self._workers:
            self._idle.put(worker)
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    def encoded(self, blocks: Iterator[Block]) -> Iterator[tuple[Block, Encoded]]:
        """See the function of this name."""
        waiting: deque[tuple[Block, Future[Encoded]]] = deque()
        failure: SeqVAEError | None = None
        more = True
        while more or waiting:
            try:
                block = next(blocks, None) if more else None
            except SeqVAEError as error:
                # What stands before it comes first: of several bad lines the first one is told.
                block, failure = None, error
            more = block is not None
            if block is not None:
                waiting.append((block, self._threads.submit(self._encode, block.texts)))
            if waiting and (not more or len(waiting) > _AHEAD * self._count):
                first, answer = waiting.popleft()
                yield first, answer.result()
        if failure is not None:
            raise failure

    def _encode(self, texts: list[str]) -> Encoded:
        worker = self._idle.get()
        try:
            return worker.encode(texts)
        finally:
            self._idle.put(worker)

    def _end(self) -> None:
        for worker in self._workers:
            worker.end()  # which also wakes the thread that waits for it
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()


class _Worker:
    """One process, and this end of its pipes."""

    def __init__(self) -> None:
        # Ctrl-C goes to every process of a group: in one of its own, the worker leaves it to this process to end it.
        if os.name == "nt":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        else:
            apart = {"process_group": 0}
        # -P: what lies in the working directory is not taken for a module before the path is that of this process.
        path = [place for place in sys.path if isinstance(place, str)]
        command = [sys.executable, "-P", "-c", _START, json.dumps(path)]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **apart)
        except OSError as error:
            what = f"no process can be started to tokenize: {error.strerror or error}"
            raise SeqVAEError("E351", what, where=sys.executable, hint=_ALONE) from None

    def begin(self, encoder: RowEncoder, folder: str) -> None:
        """Tells it how to tokenize; the tokenizer lies in ``folder``. Returns once it has read it."""
        settings = {"max_length": encoder.max_length, "too_long": encoder.too_long, "most_tokens": encoder.most_tokens}
        answer = self._ask([json.dumps(settings | {"tokenizer": folder}).encode()])
        assert answer == [encoder.tokenizer.fingerprint().encode()], "a tokenizer comes back as it was saved"

    def encode(self, texts: list[str]) -> Encoded:
        found = unpack(self._ask(pack_texts(texts)))
        assert len(found.kept) == len(texts), "a text has no line end in it"
        return found

    def _ask(self, question: list[bytes]) -> list[bytes]:
        with suppress(BrokenPipeError, OSError):
            write_frame(self._process.stdin, question)
        answer = read_frame(self._process.stdout)
        if answer is None:
            raise self._gone()
        return answer

    def _gone(self) -> SeqVAEError:
        status = self._process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        hint = "it may have run out of memory (what it said stands above); "
        return SeqVAEError("E350", f"a process that tokenizes {how} before its work was done", hint=hint + _ALONE)

    def end(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()

"""What every verb shares: narration on stderr, data on stdout, errors as text and exit codes.

Exit codes: 0 done, 1 a fault of seqvae, 2 to 7 by the first digit of the error's code, 130 interrupted.
"""

import contextlib
import functools
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console

from seqvae.errors import SeqVAEError, is_out_of_memory
from seqvae.io.disk import jsonable, storage_errors

DEBUG = "SEQVAE_DEBUG"
"""Environment variable: with ``1``, faults and user errors show their traceback."""

INTERNAL, INTERRUPTED = 1, 130

_UNSEEN = {code: f"\\u{code:04x}" for code in range(127, 160)}
"""Control characters that JSON leaves as they are, and that steer a terminal."""

_CONTROL = {code: "\N{REPLACEMENT CHARACTER}" for code in [*range(32), *range(127, 160)] if chr(code) != "\t"}


class _Narration(Console):
    """A console that falls silent where its reader has left; rich would end the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


@functools.cache
def narration() -> Console:
    """The console on stderr for whatever is not data; colour only on a terminal and without ``NO_COLOR``."""
    return _Narration(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def say(text: str) -> None:
    """One line of narration, word for word: neither markup nor emoji names are read in it.

    No verb fails because nobody can read what it says beside its data.
    """
    with contextlib.suppress(OSError):
        narration().print(text, markup=False)


def emit_json(value: Any) -> None:
    """Prints one JSON object (or list) on stdout; NaN and infinities are null, NumPy values are unpacked."""
    sys.stdout.write(_json(value, indent=2) + "\n")
    sys.stdout.flush()


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its columns under each other as a terminal shows them: a wide character takes two cells."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]


def emit_lines(lines: Iterable[str]) -> None:
    """Prints lines on stdout, each as soon as it is there, so that a pipe sees them grow.

    A model that writes bytes or characters may write any: a line stays one line, and does not steer the terminal.
    """
    for line in lines:
        sys.stdout.write(line.translate(_CONTROL) + "\n")
        sys.stdout.flush()


def emit_json_lines(values: Iterable[Any]) -> None:
    """Prints one JSON object a line on stdout, each as soon as it is there; NaN and infinities are null."""
    for value in values:
        sys.stdout.write(_json(value) + "\n")
        sys.stdout.flush()


def emit_json_list(values: Iterable[Any]) -> None:
    """Prints one JSON list on stdout, an item a line, each as soon as it is there; it never is in memory as a whole."""
    before = "["
    for value in values:
        sys.stdout.write(f"{before}\n  {_json(value)}")
        sys.stdout.flush()
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent).translate(_UNSEEN)


def emit_texts(texts: Iterable[str], *, as_json: bool) -> None:
    """Prints one text a line, or a JSON list of objects that hold them."""
    if as_json:
        emit_json_list({"text": text} for text in texts)
    else:
        emit_lines(texts)


@contextlib.contextmanager
def run_verb() -> Iterator[None]:
    """Runs a verb: what goes wrong in the block becomes text on stderr and an exit code, never a bare traceback."""
    _use_utf8(sys.stdin, sys.stdout, sys.stderr)
    try:
        with storage_errors("standard output"), _told():
            yield
            sys.stdout.flush()
    except SeqVAEError as error:
        _show_traceback()
        _write_error(error.render())
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        _write_error("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # The reader (`| head`) has what it wanted.
        raise SystemExit(0) from None
    except Exception as error:
        if is_out_of_memory(error):
            _show_traceback()
            refusal = _out_of_memory(error)
            _write_error(refusal.render())
            raise SystemExit(refusal.exit_code) from None
        first_line = next(iter(str(error).splitlines()), "")
        _show_traceback()
        _write_error(
            f"internal error: {type(error).__name__}: {first_line}\n"
            f"help: this is a fault of seqvae; run again with {DEBUG}=1 to see where, and please report it"
        )
        raise SystemExit(INTERNAL) from None
    finally:
        _settle(sys.stdout)
        _settle(sys.stderr)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the library logs (a download and its licence, say) becomes narration."""
    logger, handler = logging.getLogger("seqvae"), logging.Handler(logging.INFO)
    handler.emit = lambda record: say(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _out_of_memory(error: Exception) -> SeqVAEError:
    first_line = next(iter(str(error).splitlines()), "").rpartition("DefaultCPUAllocator: ")[2]
    hint = "work on less at once: in training a lower `train.micro_tokens`, `data.batch_size` or `data.batch_tokens`, "
    hint += "in `eval` a lower `eval.batch_tokens`; or take a smaller model"
    return SeqVAEError("E601", "out of memory" + (f": {first_line}" if first_line else ""), hint=hint)


def _settle(stream: TextIO) -> None:
    """Drops what a stream would not take, or Python's last flush would complain about it and change the exit code."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _show_traceback() -> None:
    if os.environ.get(DEBUG, "") not in ("", "0"):
        traceback.print_exc()


def _write_error(text: str) -> None:
    """Plain text, not wrapped and not coloured: a caret must stay under its word, and a program may read it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def open_closed_streams() -> None:
    """Where a program is started with a closed stream, ``>&-``, Python has none: nothing is read, or told, there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def _use_utf8(*streams: TextIO | None) -> None:
    """Text is UTF-8 whatever the locale says. A byte that is not, in an argument or a name, is shown as an escape."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="strict" if stream is sys.stdin else "backslashreplace")

"""How the text of a run is shared out among its processes, and what cannot be."""

from dataclasses import replace

import torch
from pydantic import BaseModel

from seqvae.data.batching import Lengths
from seqvae.data.corpora import DataConfig
from seqvae.data.sources import STDIN
from seqvae.data.store import Prepared
from seqvae.data.tokenizers import Tokenizer, TokenizerConfig, given_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.training.distributed import World


def check_sources(world: World, data: DataConfig) -> None:
    """Raises E238 where the processes would have to share standard input."""
    if world.size > 1 and STDIN in (data.train, data.valid, data.test):
        hint = "write the text to a file, and name that"
        raise SeqVAEError("E238", f"{world.size} processes cannot all read standard input", hint=hint)


def check_shares(world: World, data: DataConfig, lengths: Lengths) -> None:
    """Raises E237 where most batches would leave some of the processes without a sentence."""
    sentences = data.batch_size if data.batch_tokens is None else int(data.batch_tokens / lengths.mean())
    sentences = min(sentences, len(lengths))
    if sentences < world.size:
        hint = "set a larger `data.batch_size` or `data.batch_tokens`, which are those of all processes together; or "
        hint += "start fewer processes"
        what = f"{processes(world.size)} cannot share out batches of {sentences} sentence{'s' if sentences > 1 else ''}"
        raise SeqVAEError("E237", what, hint=hint)


def check_dealing(world: World, data: DataConfig, tokenizer: TokenizerConfig | Tokenizer, begun_by: int | None) -> None:
    """Raises E238 where a text cannot be dealt out by `data.shards`. ``begun_by``: processes of a run that goes on."""
    if not data.shards:
        return
    if begun_by not in (None, world.size):
        what = f"the text was dealt out to {processes(begun_by)}, and cannot be read by {processes(world.size)}"
        raise SeqVAEError("E238", what, hint="go on with as many processes as the run was begun with")
    if data.batch_size % world.size:
        what = f"{processes(world.size)} cannot have equal shares of `data.batch_size: {data.batch_size}`"
        raise SeqVAEError("E238", what, hint="with `data.shards` it is a multiple of the number of processes")
    if isinstance(tokenizer, BaseModel) and given_tokenizer(tokenizer) is None:
        what = "each process would make a vocabulary of its own from its share of the text"
        hint = "make one from a part of the text, and name it: `tokenizer: {name: saved, folder: ...}`"
        raise SeqVAEError("E238", what, hint=hint)


def dealt(world: World, data: DataConfig, prepared: Prepared) -> Prepared:
    """What each process has of a text that is dealt out: as many rows as the one that got the fewest.

    All processes then make the same number of updates.
    """
    if not data.shards:
        return prepared
    store = prepared.splits["train"]
    counts = torch.cat(world.gather(torch.tensor([len(store)])))
    least, left = int(counts.min()), int((counts - counts.min()).sum())
    notes = [f"train: {least:,} sentences for each of {processes(world.size)}, {left:,} left out"] if left else []
    splits = prepared.splits | {"train": store.head(least)}
    return replace(prepared, splits=splits, notes=[*prepared.notes, *notes])


def processes(number: int) -> str:
    return f"{number} process{'es' if number > 1 else ''}"

"""Small batches and models whose sizes are all distinct, so that a wrong axis shows."""

import torch

from seqvae.models.decoder import DecoderConfig
from seqvae.models.encoder import EncoderConfig
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.types import BOS, EOS, PAD, Batch

VOCAB, LATENT = 11, 3
LENGTHS = (7, 2, 5, 9, 3)
"""With BOS and EOS: an empty sentence (2) and a longest one (9) among them."""


def batch_of(lengths=LENGTHS, *, seed=0, width=None, filler=PAD, vocab=VOCAB) -> Batch:
    """Random sentences; the same words whatever ``width`` and whatever the ``filler`` behind their ends."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(4, vocab, (len(lengths), 64), generator=generator)
    tokens = torch.full((len(lengths), width or max(lengths)), filler)
    for row, length in enumerate(lengths):
        tokens[row, 0], tokens[row, length - 1] = BOS, EOS
        tokens[row, 1 : length - 1] = words[row, : length - 2]
    return Batch(tokens=tokens, lengths=torch.tensor(lengths), rows=torch.arange(len(lengths)))


def rows_of(batch: Batch, rows, *, width=None) -> Batch:
    """Some sentences of a batch in the order given, padded to their longest (or to ``width``)."""
    index = torch.as_tensor(rows)
    lengths = batch.lengths[index]
    size = int(lengths.max()) if width is None else width
    tokens = torch.full((len(index), max(size, batch.tokens.shape[1])), PAD)
    tokens[:, : batch.tokens.shape[1]] = batch.tokens[index]
    return Batch(tokens=tokens[:, :size], lengths=lengths, rows=batch.rows[index])


def company(batch: Batch) -> dict[str, tuple[list[int], Batch]]:
    """The sentences of a batch in other company: (rows of ``batch``, the batch that they are in)."""
    everything = list(range(len(batch)))
    found = {f"row {row} alone": ([row], rows_of(batch, [row])) for row in everything}
    found["reversed"] = (everything[::-1], rows_of(batch, everything[::-1]))
    found["two of them"] = ([3, 1], rows_of(batch, [3, 1]))
    found["more padding"] = (everything, rows_of(batch, everything, width=23))
    return found


def spread(model: torch.nn.Module, scale: float = 0.6, seed: int = 0) -> torch.nn.Module:
    """Large random weights, so that every input matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-scale, scale, generator=generator)
    return model


def tiny_vae(latent_dim=LATENT, *, seed=0, encoder=None, decoder=None, **settings) -> SeqVAE:
    """A model in evaluation mode with large random weights; two decoder layers unless said otherwise."""
    config = ModelConfig(
        latent_dim=latent_dim,
        encoder=EncoderConfig(**({"embedding": 5, "hidden": 6} | (encoder or {}))),
        decoder=DecoderConfig(**({"embedding": 7, "hidden": 8, "layers": 2, "output_bias": True} | (decoder or {}))),
        **settings,
    )
    return spread(SeqVAE(config, VOCAB), seed=seed).eval()

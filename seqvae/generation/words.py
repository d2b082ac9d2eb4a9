"""The words that a code makes more likely, or less, than the codes of other sentences do."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.evaluation.passes import evaluating
from seqvae.types import BOS

_TOGETHER = 1 << 22
"""Probabilities held at once: codes times places times words."""


def expected_words(
    model: nn.Module,
    tokens: Sequence[int],
    z: Float[Tensor, "N Z"],
    *,
    labels: Int[Tensor, " N"] | None = None,
) -> Float[np.ndarray, "N V"]:
    """How often each token of the vocabulary is expected in a sentence, under each of ``N`` codes.

    sum_t p(w | x_<t, z) over the places t of the sentence ``tokens`` and its end: the words before each place are the
    same for every code, so that two rows differ by what their codes say and by nothing else.
    """
    prefix, found = torch.tensor([[BOS, *tokens]], device=model.device), []
    together = max(1, _TOGETHER // (prefix.shape[1] * model.vocab_size))
    with evaluating(model):
        codes = model.decoder_input(z.to(model.device), None if labels is None else labels.to(model.device))
        for some in codes.split(together):
            logits = model.decoder.logits(model.decoder(prefix.expand(len(some), -1), some))
            found.append(torch.softmax(logits, -1).sum(1).cpu())
    return torch.cat(found).numpy()

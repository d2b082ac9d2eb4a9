"""How unlikely each sentence is under a model, in nats: to find what does not belong."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError, require_choice
from seqvae.evaluation.likelihood import autoencoder_rec, elbo_and_iw, refuse_non_finite
from seqvae.notebook import Table, html

By = Literal["elbo", "iw", "rec"]

SAMPLES = 10
"""Samples of z for each sentence. With so few, -ELBO orders sentences more like the bound of 500 than IW-NLL does."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One number for each sentence, in the order of the sentences; nats per sentence, higher is less likely.

    ``nats`` is the score, measured ``by`` one of ``elbo`` (-ELBO = rec + kl), ``iw`` (IW-NLL) and ``rec``
    (-log p(x|z)); all three come from the same samples of z. A language model has no code: its three are one, the
    exact negative log-likelihood. A plain autoencoder has ``rec`` alone, at the posterior mean; the others are None.
    """

    nats: Float[np.ndarray, " R"]
    by: By
    tokens: Int[np.ndarray, " R"]
    """Predicted tokens: EOS counted, BOS not."""
    rec: Float[np.ndarray, " R"]
    kl: Float[np.ndarray, " R"] | None
    elbo: Float[np.ndarray, " R"] | None
    iw: Float[np.ndarray, " R"] | None
    samples: int | None
    """Samples of z behind each number; None where nothing is drawn."""

    def __len__(self) -> int:
        return len(self.nats)

    def _repr_html_(self) -> str:
        rows = list(zip(self.nats.tolist(), self.nats_per_token.tolist(), self.tokens.tolist(), strict=True))
        return html(Table(title=f"by {self.by}", columns=("nats", "nats per token", "tokens"), rows=rows))

    @property
    def nats_per_token(self) -> Float[np.ndarray, " R"]:
        """The score by predicted token: comparable between sentences of different lengths."""
        return self.nats / self.tokens


def score_sentences(
    model: nn.Module,
    store: TokenStore,
    *,
    by: By | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    first_row: int = 0,
    noiseless: bool = False,
    batch_tokens: int = 16_384,
) -> Scores:
    """Score every sentence by the numbers of `elbo_and_iw`; ``by`` defaults to ``elbo``, of an autoencoder to ``rec``.

    Errors: E248 for a likelihood of an autoencoder, E230 for less than one sample, E531 for what is not finite.
    """
    if by is not None:
        require_choice("by", by, get_args(By))
    if noiseless:
        if by not in (None, "rec"):
            what = f"a plain autoencoder has no likelihood, so no score by `{by}`"
            raise SeqVAEError("E248", what, hint="score by `rec`: what the sentence costs the decoder, given its code")
        rec, tokens = autoencoder_rec(model, store, batch_tokens=batch_tokens)
        refuse_non_finite(rec, first_row=first_row)
        return Scores(nats=rec, by="rec", tokens=tokens, rec=rec, kl=None, elbo=None, iw=None, samples=None)
    by = by or "elbo"
    each = elbo_and_iw(model, store, samples=samples, seed=seed, first_row=first_row, batch_tokens=batch_tokens)
    refuse_non_finite(each.iw, first_row=first_row)
    nats = {"elbo": each.elbo, "iw": each.iw, "rec": each.rec}[by]
    drawn = each.samples if model.latent_dim > 0 else None
    return Scores(
        nats=nats, by=by, tokens=each.tokens, rec=each.rec, kl=each.kl, elbo=each.elbo, iw=each.iw, samples=drawn
    )

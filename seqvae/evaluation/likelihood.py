"""Likelihood of a split: -ELBO and the importance-weighted bound, sentence by sentence, in nats."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import RunningMoments
from seqvae.evaluation.passes import Draw, batches, draw_by_row, evaluating, one_code, row_seed
from seqvae.types import Batch, Posterior

OnProgress = Callable[[int, int], None]
"""Called with (sentences done, sentences in all)."""

Gather = Callable[[Tensor], list[Tensor]]
"""What every process gives, in the order of their ranks, for a tensor of the same shape on each."""

_SAMPLES_TOGETHER = 16
"""Samples decoded side by side: sentences share the work on their tokens, and the noise held stays small."""

_NOISE_ELEMENTS = 1 << 15
"""Most elements of noise held for one sentence; a large number of samples is drawn in blocks of this size."""


@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """Every sentence of a split, in the order of the store; nats per sentence.

    ``elbo`` is -ELBO and equals ``rec + kl``; it and ``iw`` come from the same log-weights, so ``iw <= elbo`` holds
    sentence by sentence (Jensen). ``kl`` is therefore the Monte-Carlo mean of log q(z|x) - log p(z) over those samples;
    ``kl_analytic`` is the closed form, None where q and the prior have none. For a language model ``rec`` is exact,
    ``elbo`` and ``iw`` equal it, and the KL is None.
    """

    rec: Float[np.ndarray, " R"]
    elbo: Float[np.ndarray, " R"]
    iw: Float[np.ndarray, " R"]
    kl: Float[np.ndarray, " R"] | None
    kl_analytic: Float[np.ndarray, " R"] | None
    kl_dims: Float[np.ndarray, " Z"] | None
    """Mean analytic KL of each dimension; None for a family whose KL does not split."""
    tokens: Int[np.ndarray, " R"]
    """Predicted tokens: EOS counted, BOS not."""
    samples: int


def elbo_and_iw(
    model: nn.Module,
    store: TokenStore,
    *,
    samples: int = 500,
    seed: int = 0,
    first_row: int = 0,
    batch_tokens: int = 16_384,
    bf16: bool = False,
    on_progress: OnProgress | None = None,
    rank: int = 0,
    world: int = 1,
) -> Likelihoods:
    """-ELBO and IW-NLL of every sentence from ``samples`` samples of q(z|x), in memory bounded by ``batch_tokens``.

    -ELBO = -mean_s log w_s and IW-NLL = -log mean_s w_s with log w_s = log p(x|z_s) + log p(z_s) - log q(z_s|x)
    (Burda et al. 2016). A sentence is encoded once; its noise depends on (seed, row) only. ``first_row`` is the row of
    the first sentence, where the store is a piece of a longer text. ``bf16``: the decoder's products are rounded to it
    (and those by which a VampPrior reads its pseudo-inputs; posteriors, densities and sums never are), which is faster
    where the hardware has such products. With ``rank`` and ``world`` the sentences of the other ranks are left at zero.
    """
    if samples < 1:
        raise SeqVAEError("E230", f"the bound needs at least 1 sample, not {samples}", hint="use --iw-samples 500")
    columns = {name: np.zeros(len(store)) for name in ("rec", "kl", "iw", "kl_analytic")}
    tokens, kl_dims, latent, done = np.zeros(len(store), dtype=np.int64), None, model.latent_dim > 0, 0
    closed = latent
    budget = batch_tokens // min(samples, _SAMPLES_TOGETHER) if latent else batch_tokens
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=max(1, budget), rank=rank, world=world):
            q = model.encode(batch)
            together = max(1, batch_tokens // batch.tokens.numel())
            draws = None if q is None else drawn_together(q, samples, rows + first_row, seed, together)
            with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=bf16):
                found, dims, counts = _weigh(model, batch, q, draws)
            for name, values in found.items():
                columns[name][rows] = values.numpy()
            tokens[rows], closed = counts.cpu().numpy(), closed and "kl_analytic" in found
            if dims is not None:
                total = dims.cpu().double().sum(0).numpy()
                kl_dims = total if kl_dims is None else kl_dims + total
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(store))
    elbo = columns["rec"] + columns["kl"]
    return Likelihoods(
        rec=columns["rec"],
        elbo=elbo,
        iw=np.minimum(columns["iw"], elbo),  # Jensen; only the last bit of a rounding error can differ
        kl=columns["kl"] if latent else None,
        kl_analytic=columns["kl_analytic"] if closed else None,
        kl_dims=None if kl_dims is None else kl_dims / len(store),
        tokens=tokens,
        samples=samples if latent else 1,
    )


def drawn_together(q: Posterior, samples: int, rows: Int[np.ndarray, " B"], seed: int, together: int) -> Iterator[Draw]:
    """The samples of each sentence, so many at once; at most `_NOISE_ELEMENTS` of each are drawn in a block.

    The size of a block depends on Z alone and its noise on (seed, row, block), never on the company of a sentence.
    """
    size = max(1, _NOISE_ELEMENTS // q.mean.shape[1])
    for start in range(0, samples, size):
        block = draw_by_row(q, min(size, samples - start), rows, seed if start == 0 else row_seed(seed, start))
        yield from block.split(together)


def _weigh(
    model: nn.Module,
    batch: Batch,
    q: Posterior | None,
    draws: Iterator[Draw] | None,
) -> tuple[dict[str, Float[Tensor, " B"]], Float[Tensor, "B Z"] | None, Int[Tensor, " B"]]:
    """One batch: rec, kl, iw and analytic kl (if any) by sentence in fp64, kl by dimension, and predicted tokens."""
    if draws is None:
        terms = model.terms(batch)
        rec = terms.rec[0].cpu().double()
        zero = torch.zeros_like(rec)
        return {"rec": rec, "kl": zero, "iw": rec, "kl_analytic": zero}, None, terms.tokens
    rec = kl = torch.zeros(len(batch), dtype=torch.float64)
    log_sum, samples = torch.full_like(rec, -math.inf), 0
    for draw in draws:
        terms = model.terms(batch, q=q, z=draw.z, log_q=draw.log_q)
        nll = terms.rec.cpu().double()
        ratio = terms.log_q.cpu().double() - terms.log_p.cpu().double()
        rec, kl, samples = rec + nll.sum(0), kl + ratio.sum(0), samples + len(nll)
        log_sum = torch.logaddexp(log_sum, torch.logsumexp(-nll - ratio, dim=0))
    iw = math.log(samples) - log_sum
    found = {"rec": rec / samples, "kl": kl / samples, "iw": iw}
    if not terms.kl_estimated:
        found["kl_analytic"] = terms.kl.cpu().double()
    return found, terms.kl_dims, terms.tokens


def quick_metrics(
    model: nn.Module,
    store: TokenStore,
    *,
    seed: int = 0,
    batch_tokens: int = 16_384,
    noiseless: bool = False,
    rank: int = 0,
    world: int = 1,
    gather: Gather = lambda values: [values],
) -> dict[str, float | int | None]:
    """One pass with one sample, for validation during training: nats per sentence, the KL analytic where it can be.

    ``noiseless`` decodes the posterior mean (an autoencoder); KL, ELBO and PPL are then None, as is every latent
    quantity of a language model. Of ``world`` processes each goes through its share, and all get the same numbers.
    """
    sums, moments = torch.zeros(4, dtype=torch.float64), RunningMoments(model.latent_dim)
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens, rank=rank, world=world):
            q = model.encode(batch)
            if q is None:
                terms = model.terms(batch)
            else:
                draw = one_code(q, rows, seed, noiseless=noiseless)
                terms = model.terms(batch, q=q, z=draw.z, log_q=draw.log_q)
                moments.add(q)
            found = (terms.rec.cpu().double().sum(), terms.kl.cpu().double().sum(), terms.tokens.sum().cpu())
            sums += torch.stack([*found, torch.tensor(len(rows))])
    shares = gather(torch.cat([sums, moments.packed()]))
    rec, kl, *counts = torch.stack([share[:4] for share in shares]).sum(0).tolist()
    tokens, sentences = map(int, counts)
    moments = RunningMoments.merged([share[4:] for share in shares])
    rec, kl = rec / sentences, kl / sentences
    elbo = None if noiseless else rec + kl
    return {
        "elbo_nats": elbo,
        "rec_nats": rec,
        "kl_nats": None if noiseless or model.latent_dim == 0 else kl,
        "active_units": moments.active_units(),
        "ppl_elbo": None if elbo is None else perplexity(elbo * sentences, tokens),
        "tokens": tokens,
        "sentences": sentences,
    }


def autoencoder_rec(
    model: nn.Module, store: TokenStore, *, batch_tokens: int = 16_384
) -> tuple[Float[np.ndarray, " R"], Int[np.ndarray, " R"]]:
    """-log p(x|z) at the posterior mean, and the predicted tokens, of every sentence: all an autoencoder has."""
    rec, tokens = np.zeros(len(store)), np.zeros(len(store), dtype=np.int64)
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            q = model.encode(batch)
            terms = model.terms(batch, q=q, z=q.mean[None])
            rec[rows], tokens[rows] = terms.rec[0].cpu().double().numpy(), terms.tokens.cpu().numpy()
    return rec, tokens


def log_probs_at(model: nn.Module, store: TokenStore, z: Float[Tensor, "M Z"]) -> Float[np.ndarray, "N M"]:
    """log p(x|z) in nats of each of N sentences given each of M codes, whosever they are."""
    found = np.zeros((len(store), len(z)))
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=16_384 // max(1, len(z))):
            codes = z.to(model.device)[:, None].expand(-1, len(batch), -1)
            found[rows] = -model.terms(batch, q=model.encode(batch), z=codes).rec.T.cpu().double().numpy()
    return found


def refuse_non_finite(nll: Float[np.ndarray, " R"], *, first_row: int = 0) -> None:
    """Raises E531 where a sentence has no finite likelihood."""
    bad = np.flatnonzero(~np.isfinite(nll))
    if len(bad):
        what = f"the likelihood of {len(bad):,} of {len(nll):,} sentences is not finite, first in row "
        hint = "the model diverged: train again with a lower `train.optimizer.lr`, or use an earlier checkpoint"
        raise SeqVAEError("E531", f"{what}{first_row + bad[0]}", hint=hint)


def perplexity(total_nats: float, tokens: int) -> float | None:
    """exp(nats / predicted tokens), EOS counted and BOS not; None where that is no finite number."""
    try:
        return math.exp(total_nats / tokens)
    except OverflowError:
        return None

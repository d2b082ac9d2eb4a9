"""The token that comes next: the output layer over a few rows at a time, and what is chosen from it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.models.cross_entropy import chunks
from seqvae.types import BOS, PAD, UNK

_BLOCK = 128
"""Tokens that are looked at together: first the block is found in which a token is, then the token."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Logits of some rows, -inf where a token may not be written. The memory is used again for the next rows.

    Rows are filled up to whole blocks, with tokens of probability 0.
    """

    logits: Float[Tensor, "n W"]
    exps: Float[Tensor, "n W"]
    """exp(logits - peak)."""
    tops: Float[Tensor, "n blocks"]
    """The largest logit of each block."""
    peak: Float[Tensor, "n 1"]
    """The largest of all."""
    log_total: Float[Tensor, "n 1"]
    """Log of the sum of exp(logits - peak) over all tokens, those counted that may not be written."""

    def log_probs(self, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        """log p under the model as it is, in nats, of tokens with these logits."""
        return logits - self.peak - self.log_total


class NextToken:
    """What comes after each of at most ``rows`` rows. <pad> and <bos> are never written, <unk> only if allowed."""

    def __init__(self, decoder: nn.Module, rows: int, *, allow_unk: bool):
        weight = decoder.output_weight
        self.decoder = decoder
        self.forbidden = torch.tensor([PAD, BOS] if allow_unk else [PAD, BOS, UNK], device=weight.device)
        self.vocab = len(weight)
        together = next(chunks(rows, self.vocab, weight.device)).stop
        self._scratch = weight.new_full((2, together, self.vocab + -self.vocab % _BLOCK), -math.inf)

    def likeliest(self, outputs: Float[Tensor, "N H"], k: int) -> tuple[Float[Tensor, "N K"], Int[Tensor, "N K"]]:
        """(log p, tokens) of the k likeliest tokens of each row, best first; fewer where there are no k tokens."""
        found = []
        for _, part in self._parts(outputs):
            # The k likeliest tokens are in the k blocks with the largest tops.
            blocks = part.tops.topk(min(k, part.tops.shape[1])).indices
            logits, place = _of_blocks(part.logits, blocks).flatten(1).topk(min(k, self.vocab))
            tokens = blocks.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK
            found.append((part.log_probs(logits), tokens.clamp_(max=self.vocab - 1)))
        return _joined(found)

    def drawn(
        self,
        outputs: Float[Tensor, "N H"],
        uniform: Float[Tensor, " N"],
        *,
        temperature: float,
        top_k: int | None,
        top_p: float,
    ) -> tuple[Float[Tensor, "N 1"], Int[Tensor, "N 1"]]:
        """(log p, token) of one token for each row, drawn with its uniform number from [0, 1).

        Probabilities that are used as they are keep the precision that they come in; their sums are wide.
        """
        found = []
        for rows, part in self._parts(outputs):
            if temperature == 1 and top_k is None and top_p == 1:
                probs = part.exps
            else:
                shifted = (part.logits - part.peak).to(uniform.dtype) / temperature
                probs = reshaped(shifted, top_k=top_k, top_p=top_p)
            token = draw(probs, uniform[rows]).clamp_(max=self.vocab - 1)  # where all is NaN
            found.append((part.log_probs(part.logits.gather(1, token)), token))
        return _joined(found)

    def _parts(self, outputs: Float[Tensor, "N H"]) -> Iterator[tuple[slice, Part]]:
        for rows in chunks(len(outputs), self.vocab, outputs.device):
            logits, exps = self._scratch[:, : rows.stop - rows.start]
            self.decoder.logits(outputs[rows], out=logits[:, : self.vocab])
            never = logits[:, self.forbidden]
            logits.index_fill_(1, self.forbidden, -math.inf)
            tops = logits.unflatten(1, (-1, _BLOCK)).amax(-1)
            peak = tops.amax(-1, keepdim=True)
            torch.sub(logits, peak, out=exps).exp_()
            log_total = torch.logaddexp(exps.sum(-1, keepdim=True).log(), (never - peak).logsumexp(-1, keepdim=True))
            yield rows, Part(logits=logits, exps=exps, tops=tops, peak=peak, log_total=log_total)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """(log p, token) of all rows from those of their parts."""
    log_probs, tokens = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(tokens)


def _of_blocks(values: Float[Tensor, "N W"], blocks: Int[Tensor, "N K"]) -> Float[Tensor, "N K block"]:
    """The values of these blocks of each row."""
    return values.unflatten(1, (-1, _BLOCK)).gather(1, blocks[..., None].expand(-1, -1, _BLOCK))


def reshaped(shifted: Float[Tensor, "N V"], *, top_k: int | None, top_p: float) -> Float[Tensor, "N V"]:
    """Probabilities after top-k and top-p, of logits that were divided by the temperature.

    Top-p keeps the smallest set of likeliest tokens whose probability reaches it (Holtzman et al. 2020), after top-k
    and temperature. The maximum has been taken off before the division, so that no temperature overflows.
    """
    if top_k is not None and top_k < shifted.shape[1]:
        best = shifted.topk(top_k, dim=-1)
        shifted = torch.full_like(shifted, -math.inf).scatter(1, best.indices, best.values)
    probs = torch.softmax(shifted, -1)
    if top_p == 1:
        return probs
    ordered, index = torch.sort(probs, dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    return torch.zeros_like(probs).scatter(1, index, ordered.masked_fill(before >= top_p, 0.0))


def draw(probs: Float[Tensor, "N V"], uniform: Float[Tensor, " N"]) -> Int[Tensor, "N 1"]:
    """Inverse-CDF draws from probabilities that need not sum to 1: first the block of tokens, then the token in it."""
    if probs.shape[1] % _BLOCK:
        probs = nn.functional.pad(probs, (0, -probs.shape[1] % _BLOCK))
    sums = probs.unflatten(1, (-1, _BLOCK)).sum(-1, dtype=uniform.dtype)
    block, rest = _reached(sums, uniform[:, None] * sums.sum(-1, keepdim=True))
    inside = _of_blocks(probs, block)[:, 0].to(uniform.dtype)
    drawn = block * _BLOCK + _reached(inside, rest)[0]
    if probs.device.type != "cpu":
        # A parallel sum may dip by a rounding error and so point at a token of probability 0.
        drawn = torch.where(probs.gather(1, drawn) > 0, drawn, probs.argmax(-1, keepdim=True))
    return drawn


def _reached(parts: Float[Tensor, "N M"], target: Float[Tensor, "N 1"]) -> tuple[Int[Tensor, "N 1"], Tensor]:
    """The part in which the running sum passes the target, and what the target lies above the parts before it."""
    cdf = parts.cumsum(-1)
    total = cdf[:, -1:]
    # Below the total, so that rounding cannot point past the last part that has any probability.
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cdf, target, right=True).clamp_(max=parts.shape[1] - 1)
    return place, (target - (cdf.gather(1, place) - parts.gather(1, place))).clamp_(min=0.0)

"""The token that comes next: the output layer over a few rows at a time, and what is chosen from it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.models.cross_entropy import chunks, fill_logits, pieces
from seqvae.types import BOS, PAD, UNK

_BLOCK = 128
"""Tokens that are looked at together: first the block is found in which a token is, then the token."""

TILE_WORDS = {"cpu": 2048}
"""Words whose logits are read while they are in the cache, by device type; all of them where none is named."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Logits of some rows, -inf where a token may not be written. The memory is used again for the next rows.

    Rows are filled up to whole blocks, with tokens of probability 0.
    """

    logits: Float[Tensor, "n W"]
    tops: Float[Tensor, "n blocks"]
    """The largest logit of each block."""
    sums: Float[Tensor, "n blocks"]
    """Of exp(logits - peak) over each block."""
    peak: Float[Tensor, "n 1"]
    """The largest logit of all."""
    log_total: Float[Tensor, "n 1"]
    """Log of the sum of exp(logits - peak) over all tokens, those counted that may not be written."""

    def log_probs(self, logits: Float[Tensor, "n K"]) -> Float[Tensor, "n K"]:
        """log p under the model as it is, in nats, of tokens with these logits."""
        return logits - self.peak - self.log_total

    def exps_of(self, blocks: Int[Tensor, "n K"]) -> Float[Tensor, "n K block"]:
        """exp(logits - peak) of the tokens of these blocks."""
        return (_of_blocks(self.logits, blocks) - self.peak[..., None]).exp_()


class NextToken:
    """What comes after each of at most ``rows`` rows. <pad> and <bos> are never written, <unk> only if allowed."""

    def __init__(self, weight: Float[Tensor, "V H"], bias: Float[Tensor, " V"] | None, rows: int, *, allow_unk: bool):
        self.weight, self.bias, self.vocab = weight, bias, len(weight)
        self.tiles = list(pieces(self.vocab, TILE_WORDS.get(weight.device.type, self.vocab)))
        self.forbidden = torch.tensor([PAD, BOS] if allow_unk else [PAD, BOS, UNK], device=weight.device)
        together = next(chunks(rows, weight)).stop
        self._logits = weight.new_full((together, _filled(self.vocab)), -math.inf)
        self._exps = weight.new_empty(together * _filled(self.tiles[0].stop))

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
                token = draw(part.sums, part.exps_of, uniform[rows])
            else:
                shifted = (part.logits - part.peak).to(uniform.dtype) / temperature
                token = draw_from(reshaped(shifted, top_k=top_k, top_p=top_p), uniform[rows])
            token = token.clamp_(max=self.vocab - 1)  # where all is NaN
            found.append((part.log_probs(part.logits.gather(1, token)), token))
        return _joined(found)

    def _parts(self, outputs: Float[Tensor, "N H"]) -> Iterator[tuple[slice, Part]]:
        """Some rows at a time, and of them a tile of words at a time, read while it is in the cache."""
        for rows in chunks(len(outputs), self.weight):
            logits = self._logits[: rows.stop - rows.start]
            tops, sums, peaks = [], [], []
            for words in self.tiles:
                tile = logits[:, words.start : _filled(words.stop)]
                bias = None if self.bias is None else self.bias[words]
                fill_logits(tile[:, : words.stop - words.start], outputs[rows], self.weight[words], bias)
                if words.start == 0:
                    never = tile[:, self.forbidden]
                    tile.index_fill_(1, self.forbidden, -math.inf)
                tops.append(tile.unflatten(1, (-1, _BLOCK)).amax(-1))
                peaks.append(tops[-1].amax(-1, keepdim=True))
                exps = torch.sub(tile, peaks[-1], out=self._exps[: tile.numel()].view(tile.shape)).exp_()
                sums.append(exps.unflatten(1, (-1, _BLOCK)).sum(-1))
            peak = torch.cat(peaks, 1).amax(1, keepdim=True)
            total = torch.cat([some * (own - peak).exp_() for some, own in zip(sums, peaks, strict=True)], 1)
            never_total = (never - peak).logsumexp(-1, keepdim=True)
            log_total = torch.logaddexp(total.sum(-1, keepdim=True).log_(), never_total)
            yield rows, Part(logits=logits, tops=torch.cat(tops, 1), sums=total, peak=peak, log_total=log_total)


def _filled(words: int) -> int:
    """Up to whole blocks."""
    return words + -words % _BLOCK


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


def draw_from(probs: Float[Tensor, "N V"], uniform: Float[Tensor, " N"]) -> Int[Tensor, "N 1"]:
    """Inverse-CDF draws from probabilities that need not sum to 1."""
    probs = nn.functional.pad(probs, (0, -probs.shape[1] % _BLOCK))
    sums = probs.unflatten(1, (-1, _BLOCK)).sum(-1, dtype=uniform.dtype)
    return draw(sums, lambda blocks: _of_blocks(probs, blocks), uniform)


def draw(
    sums: Float[Tensor, "N blocks"],
    probs_of: Callable[[Int[Tensor, "N 1"]], Float[Tensor, "N 1 block"]],
    uniform: Float[Tensor, " N"],
) -> Int[Tensor, "N 1"]:
    """Inverse-CDF draws, given the sum of each block: first the block of tokens, then the token in it."""
    sums = sums.to(uniform.dtype)
    block, rest = _reached(sums, uniform[:, None] * sums.sum(-1, keepdim=True))
    return block * _BLOCK + _reached(probs_of(block)[:, 0].to(uniform.dtype), rest)[0]


def _reached(parts: Float[Tensor, "N M"], target: Float[Tensor, "N 1"]) -> tuple[Int[Tensor, "N 1"], Tensor]:
    """The part in which the running sum passes the target, and what the target lies above the parts before it."""
    cdf = parts.cumsum(-1)
    total = cdf[:, -1:]
    # Below the total, so that rounding cannot point past the last part that has any probability.
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cdf, target, right=True).clamp_(max=parts.shape[1] - 1)
    if parts.device.type != "cpu":
        # A parallel sum may dip by a rounding error and so point at a part of probability 0.
        place = torch.where(parts.gather(1, place) > 0, place, parts.argmax(-1, keepdim=True))
    return place, (target - (cdf.gather(1, place) - parts.gather(1, place))).clamp_(min=0.0)

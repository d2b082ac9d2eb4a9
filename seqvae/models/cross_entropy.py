"""Linear output layer and cross-entropy in one, in chunks: the logits never exist whole.

Where the loss weighs all tokens alike (a sum or mean of NLLs), the gradient is formed in the forward pass, while a
chunk's logits are there, and backward only scales it. Where the weights come later (importance weights, say), the
chunks are computed again in backward, under the weights that came. Products run in bf16 under autocast, sums in fp32.

On a CPU a chunk is computed in tiles, some of the words at a time: their logits are still in the cache when they are
read again, and the log-sum over all words is put together from those of the tiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 26}
"""Logits held at once, by device type: 32 MB of fp32 on a CPU, 256 MB on a GPU."""

TILE_WORDS = {"cpu": 2048}
"""Words of a tile, by device type; all of them where none is named. Fewer are faster on one thread, not on several."""

TILE_ROWS = 1024
"""Rows of a tile at most, where no chunk is held."""


def chunks(rows: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Rows whose logits are held at once: pieces of the same size, but the last."""
    return _pieces(rows, max(1, CHUNK_ELEMENTS.get(device.type, 1 << 24) // vocab))


def _pieces(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


@dataclass(frozen=True)
class _Tile:
    """Logits of some rows for some of the words, which what follows overwrites."""

    words: slice
    logits: Float[Tensor, "n w"]

    def places(self, targets: Int[Tensor, " n"]) -> tuple[Int[Tensor, "n 1"], Tensor]:
        """The columns of these words (of another one for a word of another tile), and which of them are here."""
        places = targets - self.words.start
        inside = (places >= 0) & (places < self.logits.shape[1])
        return places.clamp(0, self.logits.shape[1] - 1)[:, None], inside


class OutputLayer:
    """The products of an output layer, a tile at a time, in memory that is used again; for use without gradients."""

    def __init__(self, weight: Tensor, bias: Tensor | None, product_type: torch.dtype, sum_type: torch.dtype):
        self.weight, self.bias, self.sum_type = weight.to(product_type), bias, sum_type
        self.vocab, self.device = len(weight), weight.device
        self.words = list(_pieces(self.vocab, TILE_WORDS.get(self.device.type, self.vocab)))
        self._scratch = weight.new_empty(0, dtype=sum_type)

    def logits(self, hidden: Float[Tensor, "n H"], words: slice, out: Float[Tensor, "n w"]) -> Float[Tensor, "n w"]:
        """Those of some of the words, in ``out``."""
        weight, bias = self.weight[words], None if self.bias is None else self.bias[words]
        if weight.dtype != self.sum_type:
            out.copy_(hidden @ weight.T)
            return out if bias is None else out.add_(bias)
        if bias is None:
            return torch.mm(hidden, weight.T, out=out)
        return torch.addmm(bias, hidden, weight.T, out=out)

    def tiles(self, hidden: Float[Tensor, "n H"], *, held: bool) -> Iterator[_Tile]:
        """All words for these rows. ``held``: tiles stay as they are until the next rows, else until the next tile."""
        n, at = len(hidden), 0
        wanted = n * (self.vocab if held else self.words[0].stop)
        if len(self._scratch) < wanted:
            self._scratch = self._scratch.new_empty(wanted)
        for words in self.words:
            size = words.stop - words.start
            yield _Tile(words, self.logits(hidden, words, self._scratch[at : at + n * size].view(n, size)))
            at += n * size if held else 0

    def chunks(self, rows: int, *, held: bool) -> Iterator[slice]:
        """Rows at once: as many as may be held, or else as make a tile."""
        if held or len(self.words) == 1:
            return chunks(rows, self.vocab, self.device)
        return _pieces(rows, TILE_ROWS)


def _product_type(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _Gradients:
    """Sums of the gradients of hidden, weight and bias over the tiles."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, low_hidden: Tensor, low_weight: Tensor):
        self.low_hidden, self.low_weight = low_hidden, low_weight
        self.hidden, self.weight = torch.zeros_like(hidden), torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, tile: _Tile, scale: Tensor, targets: Tensor, upstream: Tensor) -> None:
        """d nll / d logits = softmax - onehot(target), times ``upstream`` by token.

        ``tile`` holds exponentials that ``scale`` makes the softmax times ``upstream``; they are overwritten.
        """
        grad, words = tile.logits.mul_(scale[:, None]), tile.words
        places, inside = tile.places(targets)
        grad.scatter_add_(1, places, torch.where(inside, -upstream, 0.0)[:, None])
        if self.bias is not None:
            self.bias[words] += grad.sum(0)
        grad = grad.to(self.low_weight.dtype)
        _add_product(self.hidden[rows], grad, self.low_weight[words])
        _add_product(self.weight[words], grad.T, self.low_hidden[rows])


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, ignored, dtype, graded):
        counted = targets != ignored
        nll = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        lse, ones = torch.empty_like(nll), counted.to(nll.dtype)
        wanted = graded and any(ctx.needs_input_grad[:3])
        layer, low_hidden = OutputLayer(weight, bias, dtype, nll.dtype), hidden.to(dtype)
        gradients = _Gradients(hidden, weight, bias, low_hidden, layer.weight) if wanted else None
        for rows in layer.chunks(len(hidden), held=wanted):
            total, picked, tiles = torch.full_like(nll[rows], -torch.inf), torch.zeros_like(nll[rows]), []
            for tile in layer.tiles(low_hidden[rows], held=wanted):
                places, inside = tile.places(targets[rows])
                picked = torch.where(inside, tile.logits.gather(1, places).squeeze(1), picked)
                top = tile.logits.amax(-1)
                exps = tile.logits.sub_(top[:, None]).exp_()
                total = torch.logaddexp(total, exps.sum(-1).log_().add_(top))
                if gradients is not None:
                    tiles.append((tile, top))
            lse[rows] = total
            nll[rows] = total - picked
            for tile, top in tiles:
                scale = ones[rows] * (top - total).exp_()
                gradients.add(rows, tile, scale, targets[rows], ones[rows])
        ctx.save_for_backward(hidden, weight, bias, targets, counted, lse)
        ctx.gradients, ctx.dtype = gradients, dtype
        return torch.where(counted, nll, 0.0)

    @staticmethod
    def backward(ctx, upstream):
        if torch.is_grad_enabled():  # create_graph=True: what is saved here would give a wrong second derivative
            raise RuntimeError("the chunked cross-entropy has no second derivative")
        hidden, weight, bias, targets, counted, lse = ctx.saved_tensors
        upstream = torch.where(counted, upstream, 0.0)
        found, ctx.gradients = ctx.gradients, None
        if found is not None:
            scale, alike = _common(upstream, counted)
            # On a GPU the answer is not waited for: where the promise was broken, the gradient is NaN.
            if upstream.is_cuda or alike:
                scale = torch.where(alike, scale, torch.nan)
                return (
                    found.hidden.mul_(scale),
                    found.weight.mul_(scale),
                    None if bias is None else found.bias.mul_(scale),
                    *(None,) * 4,
                )
        layer, low_hidden = OutputLayer(weight, bias, ctx.dtype, lse.dtype), hidden.to(ctx.dtype)
        found = _Gradients(hidden, weight, bias, low_hidden, layer.weight)
        for rows in layer.chunks(len(hidden), held=False):
            for tile in layer.tiles(low_hidden[rows], held=False):
                tile.logits.sub_(lse[rows, None]).exp_()
                found.add(rows, tile, upstream[rows], targets[rows], upstream[rows])
        return found.hidden, found.weight, found.bias, *(None,) * 4


def _common(upstream: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of every counted token, and whether they all have it."""
    low, high = upstream.amin(), upstream.amax()
    common = torch.where(low < 0, low, high)
    return common, (upstream == torch.where(counted, common, 0.0)).all()


def token_nll(
    hidden: Float[Tensor, "M H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " M"],
    *,
    ignored: int,
    alike: bool = True,
) -> Float[Tensor, " M"]:
    """-log softmax(hidden @ weight.T + bias)[target] in nats for each of M tokens; 0 where the target is ``ignored``.

    fp32 whatever the type of the products (fp64 for fp64 input). ``alike``: the loss will weigh all tokens alike. Say
    False where it will not: less is computed twice. (A loss that breaks the promise has the right gradient on a CPU, at
    a price; on a GPU, where finding out would stop the stream, it is NaN.)
    """
    # Inside `apply` gradients are always off, and a parameter always says that it needs one.
    graded = alike and torch.is_grad_enabled()
    return _TokenNLL.apply(hidden, weight, bias, targets, ignored, _product_type(hidden), graded)


@torch.no_grad()
def token_argmax(
    hidden: Float[Tensor, "M H"], weight: Float[Tensor, "V H"], bias: Float[Tensor, " V"] | None
) -> Int[Tensor, " M"]:
    """The likeliest token at each of M positions."""
    best = torch.empty(len(hidden), dtype=torch.long, device=hidden.device)
    layer = OutputLayer(weight, bias, hidden.dtype, torch.promote_types(hidden.dtype, torch.float32))
    for rows in layer.chunks(len(hidden), held=False):
        tops = []
        for tile in layer.tiles(hidden[rows], held=False):
            top, place = tile.logits.max(-1)
            tops.append((top, place + tile.words.start))
        values, words = (torch.stack(each) for each in zip(*tops, strict=True))
        best[rows] = words.gather(0, values.argmax(0)[None]).squeeze(0)
    return best

"""Linear output layer and cross-entropy in one, in chunks: the logits never exist whole.

Where the loss weighs all tokens alike (a sum or mean of NLLs), the gradient is formed in the forward pass, while a
chunk's logits are there, and backward only scales it. Where the weights come later (importance weights, say), the
chunks are computed again in backward, under the weights that came. Products run in bf16 under autocast, sums in fp32.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_BYTES = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Logits held at once, by device type: 32 MB on a CPU, 256 MB on a GPU."""

BLOCK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Logits that are turned into probabilities at once, by device type; a whole chunk where none is named."""

READ_BACK = frozenset({"cpu", "mps"})
"""Types of device that are asked whether all tokens did have one weight; others the host would have to wait for."""


def chunks(rows: int, like: Float[Tensor, "V H"]) -> Iterator[slice]:
    """Rows whose logits are held at once, of the type and on the device of these weights."""
    return pieces(rows, max(1, CHUNK_BYTES.get(like.device.type, 1 << 26) // (len(like) * like.itemsize)))


def pieces(count: int, size: int) -> Iterator[slice]:
    """0 to ``count`` in pieces of the same size, but the last."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def fill_logits(
    out: Float[Tensor, "n V"], hidden: Float[Tensor, "n H"], weight: Float[Tensor, "V H"], bias: Tensor | None
) -> Float[Tensor, "n V"]:
    """hidden @ weight.T + bias in ``out``; for use without gradients."""
    if bias is None:
        return torch.mm(hidden, weight.T, out=out)
    return torch.addmm(bias, hidden, weight.T, out=out)


class _Chunks:
    """NLL and its slopes, a chunk of rows at a time; for use without gradients.

    Products are of ``product_type``, all else of ``sum_type``. What is of the size of the logits is kept in memory
    that the next rows use again, and turned into probabilities a block at a time, while that is in the cache.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, product_type: torch.dtype):
        vocab, kind = len(weight), hidden.device.type
        self.hidden, self.weight, self.bias = hidden.to(product_type), weight.to(product_type), bias
        self.sum_type = torch.promote_types(hidden.dtype, torch.float32)
        self.chunks = list(chunks(len(hidden), self.weight))
        most = self.chunks[0].stop if self.chunks else 0
        self._logits = self.weight.new_empty(most, vocab)
        self._block = max(1, BLOCK_ELEMENTS.get(kind, most * vocab) // vocab)
        # Where both types are the same, probabilities are formed in the memory of the logits.
        rounded = product_type != self.sum_type
        self._wide = self._logits.new_empty(min(self._block, most), vocab, dtype=self.sum_type) if rounded else None

    def nll(self, rows: slice, targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """-log softmax[target] of each of some rows."""
        return torch.cat([nll for _, nll, _ in self._blocks(rows, targets)])

    def slopes(
        self, rows: slice, targets: Int[Tensor, " n"], weights: Float[Tensor, " n"], bias_total: Tensor | None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n V"]]:
        """(NLL, d NLL / d logits = softmax - onehot(target)); the latter of the type of products, until the next call.

        Its sum under ``weights`` is added to ``bias_total``.
        """
        found = []
        for block, nll, probs in self._blocks(rows, targets):
            found.append(nll)
            probs.scatter_add_(1, targets[block, None], probs.new_full((len(probs), 1), -1.0))
            if bias_total is not None:
                bias_total.addmv_(probs.T, weights[block])
            if self._wide is not None:
                self._logits[block] = probs
        return torch.cat(found), self._logits[: rows.stop - rows.start]

    def _blocks(self, rows: slice, targets: Int[Tensor, " n"]) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(rows of the chunk, their NLL, their softmax) of each block; the softmax until the next one."""
        count = rows.stop - rows.start
        logits = fill_logits(self._logits[:count], self.hidden[rows], self.weight, None)
        for block in pieces(count, self._block):
            wide = logits[block] if self._wide is None else self._wide[: block.stop - block.start].copy_(logits[block])
            if self.bias is not None:
                wide += self.bias
            picked, top = wide.gather(1, targets[block, None]).squeeze(1), wide.amax(-1)
            probs = torch.softmax(wide, -1, out=wide)
            # The largest probability is 1 over the sum of exp(logit - top), and so tells the log-sum.
            yield block, top - probs.amax(-1).log_() - picked, probs


class _Gradients:
    """Sums of the gradients of hidden, weight and bias over the chunks, for a weight of each token."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, weights: Float[Tensor, " M"]):
        self.weights, self.weighted = weights, hidden * weights[:, None]
        # What the first rows overwrite; without rows there is nothing but zeros.
        made = torch.empty_like if len(hidden) else torch.zeros_like
        self.hidden, self.weight = made(hidden), made(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, layer: _Chunks, rows: slice, targets: Int[Tensor, " M"]) -> Float[Tensor, " n"]:
        """Those of some rows; their NLL."""
        weights = self.weights[rows]
        nll, slopes = layer.slopes(rows, targets[rows], weights, self.bias)
        # The weights go to what is small: the rows of hidden and of its gradient.
        torch.mul(slopes @ layer.weight, weights[:, None], out=self.hidden[rows])
        weighted, earlier = self.weighted[rows].to(slopes.dtype), rows.start > 0
        if slopes.dtype == self.weight.dtype:
            self.weight.addmm_(slopes.T, weighted, beta=float(earlier))  # with 0, what was there is not read
        elif earlier:
            self.weight += slopes.T @ weighted
        else:
            self.weight.copy_(slopes.T @ weighted)
        return nll


def _product_type(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, ignored, dtype, graded):
        counted = targets != ignored
        targets, layer = torch.where(counted, targets, 0), _Chunks(hidden, weight, bias, dtype)
        wanted = graded and any(ctx.needs_input_grad[:3])
        gradients = _Gradients(hidden, weight, bias, counted.to(layer.sum_type)) if wanted else None
        nll = torch.empty(len(hidden), dtype=layer.sum_type, device=hidden.device)
        for rows in layer.chunks:
            nll[rows] = layer.nll(rows, targets[rows]) if gradients is None else gradients.add(layer, rows, targets)
        ctx.save_for_backward(hidden, weight, bias, targets, counted)
        ctx.gradients, ctx.dtype = gradients, dtype
        return torch.where(counted, nll, 0.0)

    @staticmethod
    def backward(ctx, upstream):
        if torch.is_grad_enabled():  # create_graph=True: what is saved here would give a wrong second derivative
            raise RuntimeError("the chunked cross-entropy has no second derivative")
        hidden, weight, bias, targets, counted = ctx.saved_tensors
        upstream = torch.where(counted, upstream, 0.0)
        found, ctx.gradients = ctx.gradients, None
        if found is not None and len(hidden):
            scale, alike = _common(upstream, counted)
            # Where the answer is not waited for and the promise was broken, the gradient is NaN.
            if upstream.device.type not in READ_BACK or alike:
                scale = torch.where(alike, scale, torch.nan)
                return (
                    found.hidden.mul_(scale),
                    found.weight.mul_(scale),
                    None if bias is None else found.bias.mul_(scale),
                    *(None,) * 4,
                )
        layer, found = _Chunks(hidden, weight, bias, ctx.dtype), _Gradients(hidden, weight, bias, upstream)
        for rows in layer.chunks:
            found.add(layer, rows, targets)
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
    together = list(chunks(len(hidden), weight))
    logits = hidden.new_empty(together[0].stop if together else 0, len(weight))
    for rows in together:
        best[rows] = fill_logits(logits[: rows.stop - rows.start], hidden[rows], weight, bias).argmax(-1)
    return best

"""Linear output layer and cross-entropy in one, in chunks: the logits never exist whole.

Where the loss weighs all tokens alike (a sum or mean of NLLs), the gradient is formed in the forward pass, while a
chunk's logits are there, and backward only scales it. Where the weights come later (importance weights, say), the
chunks are computed again in backward, under the weights that came. Products run in bf16 under autocast, sums in fp32.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits held at once, by device type: 16 MB of fp32 on a CPU, 256 MB on a GPU."""


def chunks(rows: int, vocab: int, device: torch.device) -> Iterator[slice]:
    """Rows whose logits are held at once: pieces of the same size, but the last."""
    size = max(1, CHUNK_ELEMENTS.get(device.type, 1 << 24) // vocab)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if bias is None else logits.add_(bias)


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp(logits - top) in place of the logits, its sum, and the log-sum of the logits: exp is taken once."""
    top = logits.amax(-1)
    exps = logits.sub_(top[:, None]).exp_()
    total = exps.sum(-1)
    return exps, total, total.log() + top


def _product_type(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _Gradients:
    """Sums of the gradients of hidden, weight and bias over the chunks."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype):
        self.low_hidden, self.low_weight = hidden.to(dtype), weight.to(dtype)
        self.hidden, self.weight = torch.empty_like(hidden), torch.zeros_like(weight)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, exps: Tensor, total: Tensor, targets: Tensor, upstream: Tensor) -> None:
        """d nll / d logits = exps / total - onehot(target), times ``upstream`` by token; overwrites ``exps``."""
        grad = exps.mul_((upstream / total)[:, None])
        grad.scatter_add_(1, targets[:, None], -upstream[:, None])
        if self.bias is not None:
            self.bias += grad.sum(0)
        grad = grad.to(self.low_weight.dtype)
        self.hidden[rows] = (grad @ self.low_weight).to(self.hidden.dtype)
        if grad.dtype == self.weight.dtype:
            self.weight.addmm_(grad.T, self.low_hidden[rows])
        else:
            self.weight += grad.T @ self.low_hidden[rows]


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, ignored, dtype, graded):
        counted = targets != ignored
        nll = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        lse, ones = torch.empty_like(nll), counted.to(nll.dtype)
        wanted = graded and any(ctx.needs_input_grad[:3])
        gradients = _Gradients(hidden, weight, bias, dtype) if wanted else None
        low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
        for rows in chunks(len(hidden), len(weight), hidden.device):
            logits = _logits(low_hidden[rows], low_weight, bias)
            picked = logits.gather(1, targets[rows, None]).squeeze(1)
            exps, total, lse[rows] = _exponentials(logits)
            nll[rows] = lse[rows] - picked
            if gradients is not None:
                gradients.add(rows, exps, total, targets[rows], ones[rows])
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
        found = _Gradients(hidden, weight, bias, ctx.dtype)
        for rows in chunks(len(hidden), len(weight), hidden.device):
            exps = _logits(found.low_hidden[rows], found.low_weight, bias).sub_(lse[rows, None]).exp_()
            found.add(rows, exps, torch.ones_like(lse[rows]), targets[rows], upstream[rows])
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
    for rows in chunks(len(hidden), len(weight), hidden.device):
        best[rows] = _logits(hidden[rows], weight, bias).argmax(-1)
    return best

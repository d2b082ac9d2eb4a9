"""Linear output layer and cross-entropy in one, in chunks: the logits never exist whole.

Forward keeps one log-sum-exp per token; backward recomputes each chunk's logits under whatever weight the objective
puts on each token. Products run in bf16 under autocast, sums in fp32.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits held at once, by device type: 16 MB of fp32 on a CPU, 256 MB on a GPU."""


def _chunks(rows: int, vocab: int, device: torch.device) -> Iterator[slice]:
    size = max(1, CHUNK_ELEMENTS.get(device.type, 1 << 24) // vocab)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ weight.T
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return logits if bias is None else logits.add_(bias)


def _product_type(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _TokenNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, dtype):
        low_hidden, low_weight = hidden.to(dtype), weight.to(dtype)
        nll = hidden.new_empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32))
        lse = torch.empty_like(nll)
        for rows in _chunks(len(hidden), len(weight), hidden.device):
            logits = _logits(low_hidden[rows], low_weight, bias)
            lse[rows] = torch.logsumexp(logits, dim=-1)
            nll[rows] = lse[rows] - logits.gather(1, targets[rows, None]).squeeze(1)
        ctx.save_for_backward(hidden, weight, bias, targets, lse)
        ctx.dtype = dtype
        return nll

    @staticmethod
    def backward(ctx, upstream):
        hidden, weight, bias, targets, lse = ctx.saved_tensors
        low_hidden, low_weight = hidden.to(ctx.dtype), weight.to(ctx.dtype)
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        for rows in _chunks(len(hidden), len(weight), hidden.device):
            grad = torch.exp(_logits(low_hidden[rows], low_weight, bias).sub_(lse[rows, None]))
            grad.scatter_add_(1, targets[rows, None], grad.new_full((len(grad), 1), -1.0))
            grad.mul_(upstream[rows, None])
            if d_bias is not None:
                d_bias += grad.sum(0)
            low_grad = grad.to(ctx.dtype)
            d_hidden[rows] = (low_grad @ low_weight).to(hidden.dtype)
            d_weight += low_grad.T @ low_hidden[rows]
        return d_hidden, d_weight, d_bias, None, None


def token_nll(
    hidden: Float[Tensor, "M H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " M"],
) -> Float[Tensor, " M"]:
    """-log softmax(hidden @ weight.T + bias)[target] in nats for each of M tokens, in fp32 (fp64 for fp64 input)."""
    return _TokenNLL.apply(hidden, weight, bias, targets, _product_type(hidden))


@torch.no_grad()
def token_argmax(
    hidden: Float[Tensor, "M H"], weight: Float[Tensor, "V H"], bias: Float[Tensor, " V"] | None
) -> Int[Tensor, " M"]:
    """The likeliest token at each of M positions."""
    best = torch.empty(len(hidden), dtype=torch.long, device=hidden.device)
    for rows in _chunks(len(hidden), len(weight), hidden.device):
        best[rows] = _logits(hidden[rows], weight, bias).argmax(-1)
    return best

"""The chunked output layer against plain cross-entropy, forwards and backwards."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from seqvae.models import cross_entropy
from seqvae.models.cross_entropy import token_argmax, token_nll
from seqvae.types import PAD

ROWS, HIDDEN, VOCAB = 13, 5, 11


@pytest.fixture(
    params=[(1, 1), (VOCAB * 4, VOCAB * 3), (VOCAB * 4, VOCAB * 4), (1 << 20, VOCAB * 4), (1 << 20, 1 << 20)],
    ids=["one by one", "chunks of 4, blocks of 3", "chunks of 4", "blocks of 4", "all at once"],
)
def _chunks(request, monkeypatch):
    """ROWS is no multiple of 3 or 4, so that the last chunk and the last block are short ones."""
    elements, block = request.param
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", {"cpu": elements * 8})  # of fp64
    monkeypatch.setattr(cross_entropy, "BLOCK_ELEMENTS", {"cpu": block})


chunked = pytest.mark.usefixtures("_chunks")


def tensors(dtype=torch.float64, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    targets = torch.randint(0, VOCAB, (ROWS,), generator=generator)
    targets[[2, 6, 12]] = PAD
    return normal(ROWS, HIDDEN), normal(VOCAB, HIDDEN), normal(VOCAB) if bias else None, targets


def plain(hidden, weight, bias, targets):
    return functional.cross_entropy(
        functional.linear(hidden, weight, bias), targets, ignore_index=PAD, reduction="none"
    )


def gradients(nll, weights, inputs):
    return torch.autograd.grad((nll * weights).sum(), [each for each in inputs if each is not None])


WEIGHTS = {
    "a sum": torch.ones(ROWS),
    "a mean": torch.full((ROWS,), 1 / ROWS),
    "negative": torch.full((ROWS,), -2.5),
    "zero": torch.zeros(ROWS),
    "importance weights": torch.linspace(0.1, 2.0, ROWS),
    "mixed signs": torch.linspace(-1.0, 1.5, ROWS),
    "one token": torch.eye(ROWS)[4],
}


@chunked
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_values_and_gradients_are_those_of_plain_cross_entropy(kind, bias):
    *inputs, targets = tensors(bias=bias)
    weights = WEIGHTS[kind].double()
    found, expected = token_nll(*inputs, targets, ignored=PAD), plain(*inputs, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(found, weights, inputs), gradients(expected, weights, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@chunked
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck_accepts_it(bias):
    *inputs, targets = tensors(bias=bias)
    given = [each for each in inputs if each is not None]

    def nll(*values):
        return token_nll(*values, *([] if bias else [None]), targets, ignored=PAD)

    assert torch.autograd.gradcheck(nll, given, fast_mode=True)


@chunked
def test_padding_adds_nothing_to_the_loss_or_to_any_gradient():
    hidden, weight, bias, targets = tensors()
    found = gradients(token_nll(hidden, weight, bias, targets, ignored=PAD), torch.ones(ROWS), (hidden, weight, bias))
    kept = targets != PAD
    short = token_nll(hidden[kept], weight, bias, targets[kept], ignored=PAD)
    expected = torch.autograd.grad(short.sum(), (hidden, weight, bias))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
    assert (found[0][~kept] == 0).all()


@chunked
def test_a_batch_of_nothing_but_padding_is_zero():
    hidden, weight, bias, _ = tensors()
    nll = token_nll(hidden, weight, bias, torch.full((ROWS,), PAD), ignored=PAD)
    assert torch.equal(nll, torch.zeros_like(nll))
    for gradient in gradients(nll, torch.ones(ROWS), (hidden, weight, bias)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("later", [True, False])
def test_of_no_tokens_every_gradient_is_zero(later):
    hidden, weight, bias, targets = tensors()
    nll = token_nll(hidden[:0], weight, bias, targets[:0], ignored=PAD, alike=not later)
    assert nll.shape == (0,)
    for gradient in torch.autograd.grad(nll.sum(), (weight, bias)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_equal_weights_are_answered_without_computing_the_logits_again(monkeypatch):
    """Otherwise the fast path, which most updates take, would not be the one under test."""
    hidden, weight, bias, targets = tensors()
    nll = token_nll(hidden, weight, bias, targets, ignored=PAD)
    calls = []
    original = cross_entropy.fill_logits
    monkeypatch.setattr(cross_entropy, "fill_logits", lambda *args: calls.append(1) or original(*args))
    torch.autograd.grad(nll.sum(), weight, retain_graph=True)
    assert not calls
    torch.autograd.grad((nll * torch.arange(ROWS)).sum(), weight)
    assert calls


@chunked
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_come_later_are_computed_in_backward_alone(kind, monkeypatch):
    """The same gradients, and none is formed beforehand."""
    *inputs, targets = tensors()
    weights, formed = WEIGHTS[kind].double(), []
    original = cross_entropy._Gradients.add
    monkeypatch.setattr(cross_entropy._Gradients, "add", lambda *args: formed.append(1) or original(*args))
    found = token_nll(*inputs, targets, ignored=PAD, alike=False)
    assert not formed
    expected = plain(*inputs, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(found, weights, inputs), gradients(expected, weights, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)
    assert formed


def test_backward_may_be_called_twice():
    hidden, weight, bias, targets = tensors()
    nll = token_nll(hidden, weight, bias, targets, ignored=PAD)
    first = torch.autograd.grad(nll.sum() / 3, weight, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(nll.sum() / 3, weight)[0], first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_one_input_alone_can_have_the_gradient(wanted):
    *inputs, targets = tensors()
    inputs = [each.detach().requires_grad_(index == wanted) for index, each in enumerate(inputs)]
    found = torch.autograd.grad(token_nll(*inputs, targets, ignored=PAD).sum(), inputs[wanted])
    torch.testing.assert_close(found, torch.autograd.grad(plain(*inputs, targets).sum(), inputs[wanted]))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_formed_where_none_is_wanted(monkeypatch, mode):
    """Evaluation would otherwise cost three products for each that it needs."""

    def never(*args):
        raise AssertionError("formed a gradient")

    monkeypatch.setattr(cross_entropy._Gradients, "add", never)
    hidden, weight, bias, targets = tensors()
    with mode():
        found = token_nll(hidden, nn.Parameter(weight), bias, targets, ignored=PAD)
    torch.testing.assert_close(found, plain(hidden, weight, bias, targets).detach())


def test_large_logits_do_not_overflow():
    hidden, weight, bias, targets = tensors(torch.float32)
    found = token_nll(hidden * 1e3, weight * 1e3, bias, targets, ignored=PAD)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, plain(hidden * 1e3, weight * 1e3, bias, targets), rtol=1e-5, atol=1.0)


@chunked
def test_half_precision_products_still_give_fp32_sums():
    """Under autocast the products are bf16 (8 bits), the log-sum and the gradients fp32."""
    *inputs, targets = tensors(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_nll(*inputs, targets, ignored=PAD)
    expected = plain(*inputs, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.06)
    for kind in ("a mean", "importance weights"):
        weights = WEIGHTS[kind]
        ours = torch.autograd.grad((found * weights).sum(), inputs, retain_graph=True)
        theirs = torch.autograd.grad((expected * weights).sum(), inputs, retain_graph=True)
        for left, right in zip(ours, theirs, strict=True):
            assert left.dtype == torch.float32
            torch.testing.assert_close(left, right, rtol=0.05, atol=0.05 * float(right.abs().max()))


def test_bf16_products_are_really_used_under_autocast():
    *inputs, targets = tensors(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_nll(*inputs, targets, ignored=PAD)
    assert not torch.equal(found, plain(*inputs, targets))


@chunked
@pytest.mark.parametrize("bias", [True, False])
def test_argmax_is_the_likeliest_token(bias):
    hidden, weight, given_bias, _ = tensors(bias=bias)
    expected = functional.linear(hidden, weight, given_bias).argmax(-1)
    assert torch.equal(token_argmax(hidden, weight, given_bias), expected)


def test_a_second_derivative_is_refused_rather_than_wrong():
    hidden = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    loss = token_nll(hidden, weight, None, torch.tensor([1, 2, 6, 3]), ignored=0).sum() + hidden.pow(3).sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, hidden, create_graph=True)

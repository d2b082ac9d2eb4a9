"""bf16 products made of fp32 ones are those that PyTorch makes of bf16."""

import pytest
import torch

from benchmarks.rounded import RoundedProducts
from seqvae.models.cross_entropy import token_nll

EPS = torch.finfo(torch.bfloat16).eps


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


PRODUCTS = {
    "mm": lambda: normal(5, 700) @ normal(700, 3, seed=1),
    "addmm": lambda: torch.addmm(normal(3, seed=2), normal(5, 700), normal(700, 3, seed=1)),
    "bmm": lambda: normal(2, 5, 700) @ normal(2, 700, 3, seed=1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_that_of_bf16_up_to_one_rounding(name):
    with RoundedProducts():
        found = PRODUCTS[name]()
    expected = PRODUCTS[name]()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=EPS, atol=1e-3)


def test_products_of_fp32_are_left_alone_and_are_others():
    left, right = torch.randn(5, 700), torch.randn(700, 3)
    exact = left @ right
    with RoundedProducts():
        assert torch.equal(left @ right, exact)
        rounded = left.bfloat16() @ right.bfloat16()
    assert not torch.equal(rounded.float(), exact)


def test_the_cross_entropy_and_its_gradients_are_those_of_bf16():
    generator = torch.Generator().manual_seed(4)
    hidden, weight = (torch.randn(*shape, generator=generator).requires_grad_() for shape in ((13, 31), (57, 31)))
    targets = torch.randint(0, 57, (13,), generator=generator)

    def numbers():
        with torch.autocast("cpu", torch.bfloat16):
            nll = token_nll(hidden, weight, None, targets, ignored=-1)
        return nll.detach(), *torch.autograd.grad(nll.sum(), (hidden, weight))

    expected, exact = numbers(), torch.autograd.grad(token_nll(hidden, weight, None, targets, ignored=-1).sum(), weight)
    with RoundedProducts():
        found = numbers()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=4 * EPS, atol=4 * EPS)
    assert not torch.equal(found[2], exact[0])

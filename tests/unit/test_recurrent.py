"""Recurrent layers in bf16: those of fp32 but for rounding, whichever kernel computes them."""

import pytest
import torch
from torch import nn

from seqvae.models.recurrent import NETWORKS, run_causal

SENTENCES, LENGTH, INPUTS, HIDDEN = 5, 7, 11, 13


def tensors(cell, layers, with_state):
    random = torch.Generator().manual_seed(layers)
    network = NETWORKS[cell](INPUTS, HIDDEN, layers, batch_first=True)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=random) / 4)
    inputs = torch.randn(SENTENCES, LENGTH, INPUTS, generator=random).requires_grad_()
    parts = [torch.randn(layers, SENTENCES, HIDDEN, generator=random) for _ in range(2 if cell == "lstm" else 1)]
    return network, inputs, tuple(parts) if with_state else None


def numbers(network, inputs, state, *, rounded):
    """Outputs, states, and the gradients of a sum of them."""
    with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
        outputs, last = run_causal(network, inputs, state)
    assert all(each.dtype == torch.float32 for each in (outputs, *last))
    loss = outputs.square().sum() + sum(part.sum() for part in last)
    gradients = torch.autograd.grad(loss, [inputs, *network.parameters()])
    return [each.detach() for each in (outputs, *last, *gradients)]


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # of switching oneDNN off and on
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", NETWORKS)
def test_bf16_is_fp32_but_for_rounding(cell, layers, with_state, onednn):
    given = tensors(cell, layers, with_state)
    with torch.backends.mkldnn.flags(enabled=onednn):
        found, expected = numbers(*given, rounded=True), numbers(*given, rounded=False)
    for ours, theirs in zip(found, expected, strict=True):
        assert not torch.equal(ours, theirs)  # it was rounded
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("cell", NETWORKS)
def test_without_autocast_it_is_the_network_itself(cell):
    network, inputs, state = tensors(cell, 2, True)
    outputs, last = run_causal(network, inputs, state)
    expected, own = network(inputs, state if cell == "lstm" else state[0])
    assert torch.equal(outputs, expected)
    for ours, theirs in zip(last, own if cell == "lstm" else (own,), strict=True):
        assert torch.equal(ours, theirs)


def test_fp64_stays_fp64():
    network = nn.LSTM(INPUTS, HIDDEN, batch_first=True).double()
    outputs, last = run_causal(network, torch.randn(SENTENCES, LENGTH, INPUTS, dtype=torch.float64))
    assert all(each.dtype == torch.float64 for each in (outputs, *last))

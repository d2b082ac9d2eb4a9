"""The aggregate posterior against the prior, and the mutual information of older papers."""

import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, FixedCodes, LinearGaussian, small_model, store_of
from torch import nn

from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.evaluation.latent import encode_split, mutual_information
from seqvae.evaluation.marginal import aggregate_posterior, batch_mutual_information, prior_hole, unit_holes
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior import StandardPrior


def posteriors(mean, std):
    mean = torch.as_tensor(mean, dtype=torch.float32)
    return [GaussianPosterior(part, torch.full_like(part, 2 * math.log(std))) for part in mean.split(7)]


@pytest.mark.parametrize(("shift", "std"), [(0.0, 1.0), (0.8, 0.6), (-1.5, 2.0)])
def test_the_hole_of_a_unit_is_the_closed_form_between_gaussians(shift, std):
    found = unit_holes(posteriors([[shift, 0.0]] * 11, std), StandardPrior(2))
    for value, mean in zip(found, (shift, 0.0), strict=True):
        assert value == pytest.approx(math.log(std) + (1 + mean**2) / (2 * std**2) - 0.5, abs=1e-4)


def test_the_hole_of_a_unit_agrees_with_monte_carlo_for_a_mixture():
    mean = 1.3 * torch.randn(60, 1, generator=torch.Generator().manual_seed(1))
    z = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(2))
    components = torch.distributions.Normal(mean.T, 0.4).log_prob(z)
    gap = torch.distributions.Normal(0, 1).log_prob(z[:, 0]) - torch.logsumexp(components, 1) + math.log(60)
    error = float(gap.std() / 200)
    assert unit_holes(posteriors(mean, 0.4), StandardPrior(1))[0] == pytest.approx(float(gap.mean()), abs=4 * error)
    store = TokenStore.from_texts(["a"] * 60, WORDS)
    hole = prior_hole(encode_split(FixedCodes(mean, 0.4), store), StandardPrior(1), draws=5_000)
    assert hole.mean() == pytest.approx(float(gap.mean()), abs=4 * hole.std() / math.sqrt(5_000))


def test_units_that_the_prior_fills_are_continuous_and_others_are_not():
    model, store = LinearGaussian(rows=1500), store_of(1500)
    found = aggregate_posterior(model, store, encode_split(model, store))
    assert found.continuous_units == 2
    assert found.hole_nats < 0.1
    model.shift = 0.5
    assert aggregate_posterior(model, store, encode_split(model, store)).continuous_units == 0


def test_units_are_none_where_the_prior_does_not_split():
    class Twice(nn.Module):
        log_prob, sample = StandardPrior.log_prob, StandardPrior.sample

    assert unit_holes(posteriors([[0.0]], 1.0), Twice()) is None


def test_batch_mi_is_that_of_the_definition_written_out_and_has_its_own_ceiling():
    model, store = small_model(scale=1.5), store_of(150)
    codes = encode_split(model, store)
    found, ceiling = batch_mutual_information(model, store, codes)
    order = np.argsort(store.lengths, kind="stable")
    expected = bound = 0.0
    model.eval()
    for length in np.unique(store.lengths):
        group = [row for row in order if store.lengths[row] == length]
        for rows in (np.array(group[i : i + 32]) for i in range(0, len(group), 32)):
            q = model.encode(collate(store, rows))
            normal = torch.distributions.Normal(q.mean.detach(), q.std.detach())
            pairs = normal.log_prob(codes.z[rows][:, None]).sum(-1)
            expected += float((pairs.diagonal() - pairs.exp().mean(1).log()).sum())
            bound += len(rows) * math.log(len(rows))
    assert found == pytest.approx(expected / 150, abs=1e-4)
    assert ceiling == pytest.approx(bound / 150)
    assert 0 < ceiling <= math.log(32)


def test_batch_mi_never_passes_its_ceiling_where_the_mi_of_the_split_does():
    mean = 100.0 * torch.arange(90.0)[:, None]
    model, store = FixedCodes(mean, 0.1), TokenStore.from_texts(["a"] * 90, WORDS)
    codes = encode_split(model, store)
    found, ceiling = batch_mutual_information(model, store, codes)
    assert found == pytest.approx(ceiling, abs=1e-4)
    assert ceiling == pytest.approx((64 * math.log(32) + 26 * math.log(26)) / 90)
    assert mutual_information(codes).nats > ceiling + 0.5


def test_the_whole_does_not_depend_on_batch_size():
    model, store = small_model(), store_of(43)
    one, other = (aggregate_posterior(model, store, encode_split(model, store, batch_tokens=b)) for b in (11, 10_000))
    for name in ("hole_nats", "hole_se", "batch_mi_nats", "batch_mi_ceiling_nats", "continuous_units"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4)
    assert one.unit_holes_nats == pytest.approx(other.unit_holes_nats, abs=1e-5)

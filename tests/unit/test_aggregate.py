"""Draws from the aggregate posterior: where the codes of a corpus lie, whatever the prior says."""

import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, small_model, store_of, texts

import seqvae.generation.aggregate as module
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.generation.aggregate import Aggregate, fit_aggregate
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.textvae import GREEDY, TextVAE

TWO_CLUMPS = (torch.tensor([6.0, -2.0, 0.5]), torch.tensor([-4.0, 3.0, 0.5]))


class Clumps(torch.nn.Module):
    """An encoder whose posterior is known: sentences of odd length lie at one place, the others at another."""

    latent_dim, device, labels = 3, torch.device("cpu"), None

    def __init__(self, std: float = 0.5):
        super().__init__()
        self.logvar, self.encoded = 2 * math.log(std), 0

    def encode(self, batch):
        self.encoded += len(batch)
        mean = torch.stack([TWO_CLUMPS[int(length) % 2] for length in batch.lengths])
        return GaussianPosterior(mean, torch.full_like(mean, self.logvar))


def share_of_odd(store) -> float:
    return float((store.lengths % 2).mean())


def test_draws_have_the_moments_of_the_codes():
    """Against the closed form: a mixture of two known Gaussians, by the shares of odd and even lengths."""
    store = store_of(900)
    mixture = fit_aggregate(Clumps(std=0.5), store, components=2)
    z = mixture.sample(20_000, generator=torch.Generator().manual_seed(1))
    near = (z - TWO_CLUMPS[1]).norm(dim=1) < (z - TWO_CLUMPS[0]).norm(dim=1)
    assert float(near.float().mean()) == pytest.approx(share_of_odd(store), abs=0.02)
    for clump, place in ((z[near], TWO_CLUMPS[1]), (z[~near], TWO_CLUMPS[0])):
        assert clump.mean(0).tolist() == pytest.approx(place.tolist(), abs=0.1)
        assert clump.std(0).tolist() == pytest.approx([0.5] * 3, abs=0.06)


def test_the_codes_of_an_autoencoder_are_its_means():
    mixture = fit_aggregate(Clumps(std=0.5), store_of(300), components=2, noiseless=True)
    z = mixture.sample(500)
    distances = torch.stack([(z - place).norm(dim=1) for place in TWO_CLUMPS]).amin(0)
    assert float(distances.max()) < 0.05


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_same_seed_gives_the_same_mixture_and_the_same_draws(cell):
    model, store = small_model(cell=cell), store_of(120)
    one, again, other = (fit_aggregate(model, store, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.means, again.means)
    assert torch.equal(one.factors, again.factors)
    assert not torch.equal(one.means, other.means)
    draws = [one.sample(7, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_mixture_does_not_depend_on_batches_and_leaves_the_model_as_it_was():
    model, store = small_model().train(), store_of(90)
    state = torch.get_rng_state()
    mixtures = [fit_aggregate(model, store, batch_tokens=tokens) for tokens in (11, 5_000)]
    assert torch.allclose(mixtures[0].means, mixtures[1].means, atol=1e-4)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("sentences", "components"), [(2, 1), (59, 1), (60, 2), (900, 10)])
def test_a_small_corpus_gets_a_small_mixture(sentences, components):
    """Ten sentences for each component and dimension, of which there are three."""
    mixture = fit_aggregate(Clumps(), store_of(sentences))
    assert (len(mixture.weights), mixture.sentences) == (components, sentences)


def test_of_a_large_corpus_a_subset_is_encoded(monkeypatch):
    monkeypatch.setattr(module, "AT_MOST", 40)
    model = Clumps()
    assert fit_aggregate(model, store_of(100)).sentences == 40
    assert model.encoded == 40


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_codes_does_not_matter(scale):
    codes = np.random.default_rng(0).normal(size=(400, 3)) * [1.0, 0.3, 2.0]
    one, scaled = module._mixture(codes, 2, 0), module._mixture(codes * scale, 2, 0)
    assert torch.allclose(one.factors * scale, scaled.factors, rtol=1e-4, atol=scale * 1e-6)
    assert torch.allclose(one.means * scale, scaled.means, rtol=1e-4, atol=scale * 1e-6)


def test_equal_codes_give_equal_draws():
    store = TokenStore.from_texts(["a b c"] * 9, WORDS)
    z = fit_aggregate(Clumps(), store, noiseless=True).sample(4)
    assert torch.allclose(z, TWO_CLUMPS[1].expand(4, -1), atol=0.01)


def test_no_draws_are_no_codes():
    assert fit_aggregate(Clumps(), store_of(20)).sample(0).shape == (0, 3)


def test_what_cannot_be_fitted_is_said():
    for count in (0, 1):
        with pytest.raises(SeqVAEError, match=rf"two sentences or more, not {count}") as caught:
            fit_aggregate(Clumps(), store_of(count))
        assert caught.value.code == "E245"
    for components in (0, 13):
        with pytest.raises(SeqVAEError, match=rf"{components} components cannot be fitted to 12") as caught:
            fit_aggregate(Clumps(), store_of(12), components=components)
        assert caught.value.code == "E246"
    with pytest.raises(SeqVAEError, match="NaN or infinity"):
        fit_aggregate(Clumps(std=math.inf), store_of(12))


def far_away(vae: TextVAE) -> Aggregate:
    """A mixture of one narrow Gaussian, far from the prior."""
    zeros = torch.zeros(1, vae.latent_dim)
    return Aggregate(weights=torch.ones(1), means=zeros + 4, factors=torch.eye(vae.latent_dim)[None] / 1e4, sentences=9)


def test_sample_draws_from_the_source_it_is_given():
    vae = TextVAE(small_model(), WORDS)
    greedy = vae.decode(np.full((1, 3), 4.0))
    assert vae.sample(5, source=far_away(vae), config=GREEDY) == greedy * 5
    assert vae.sample(5, config=GREEDY) != greedy * 5


def test_a_text_is_all_that_fit_aggregate_needs():
    vae = TextVAE(small_model(), WORDS)
    mixture = vae.fit_aggregate(texts(80), components=2, seed=1)
    assert (mixture.means.shape, mixture.sentences) == ((2, 3), 80)
    assert torch.equal(mixture.means, fit_aggregate(vae.model, store_of(80), components=2, seed=1).means)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_autoencoder_samples_from_its_codes_alone(cell):
    vae = TextVAE(small_model(cell=cell), WORDS, noiseless=True)
    with pytest.raises(SeqVAEError, match="no prior") as caught:
        vae.sample(2)
    assert caught.value.code == "E241"
    assert "--from aggregate" in caught.value.hint
    assert len(vae.sample(2, source=vae.fit_aggregate(texts(40)))) == 2


def test_a_language_model_has_no_codes_to_fit():
    with pytest.raises(SeqVAEError, match="no latent code") as caught:
        TextVAE(small_model(latent_dim=0), WORDS).fit_aggregate(texts(40))
    assert caught.value.code == "E243"

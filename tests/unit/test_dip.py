"""DIP-VAE against its definition, by `torch.cov` and autograd."""

import pytest
import torch
from model_toys import LATENT, VOCAB, batch_of, tiny_vae
from training_toys import bytes_of, last_checkpoint, phase_of, stopped_at, toy_trainer

from seqvae.errors import SeqVAEError
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.objectives.base import Dims
from seqvae.objectives.dip import DIP, DIPConfig
from seqvae.types import Terms

SIZE, SENTENCES, SAMPLES = 4, 7, 3


class Alone:
    """What a loop of one process is asked for."""

    model = batch = loss = tokens = None
    step, finite = 0, torch.tensor(True)

    def generator(self, name): ...

    def draw_batch(self, generator): ...

    def update(self, batch, parts): ...

    def reset(self, part): ...

    def summed(self, values):
        return values


def strategy(**settings) -> DIP:
    found = DIP(DIPConfig(**{"lambda_od": 1.0, "lambda_d": 1.0, **settings}))
    found.build(Dims(vocab=VOCAB, latent=SIZE, hidden=8, epoch_steps=20))
    return found


def posterior(seed=0, sentences=SENTENCES):
    random = torch.Generator().manual_seed(seed)
    mean = torch.randn(sentences, SIZE, generator=random) @ torch.randn(SIZE, SIZE, generator=random) + 1.5
    return GaussianPosterior(mean.requires_grad_(), (0.3 * torch.randn(sentences, SIZE, generator=random) - 1))


def terms_of(q, seed=9) -> Terms:
    z = q.rsample(SAMPLES, torch.Generator().manual_seed(seed))
    ones, prior = torch.ones(len(q.mean)), StandardPrior(SIZE)
    kl_dims = torch.ones(len(q.mean), SIZE)
    return Terms(rec=ones.expand(SAMPLES, -1), kl=ones, kl_dims=kl_dims, z=z, q=q, prior=prior, tokens=ones.int())


def paid(method, terms):
    return method.penalty(terms, batch_of(), 0, torch.Generator())


def expected(terms, of, weights):
    """The definition: both weighted sums over the entries of the covariance."""
    covariance = torch.cov(terms.q.mean.T, correction=0)
    if of == "codes":
        covariance = covariance + torch.diag((terms.z - terms.q.mean).square().mean((0, 1)))
    between, own = weights
    total = 0.0
    for i in range(SIZE):
        for j in range(SIZE):
            total += own * (covariance[i, i] - 1) ** 2 if i == j else between * covariance[i, j] ** 2
    return total


@pytest.mark.parametrize("of", ["codes", "means"])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_of_the_first_batch_it_is_the_definition_and_so_is_its_gradient(of, decay):
    terms = terms_of(posterior())
    found = paid(strategy(of=of, lambda_od=2.0, lambda_d=0.5, decay=decay), terms)
    reference = expected(terms, of, (2.0, 0.5))
    torch.testing.assert_close(found, reference)
    gradients = [torch.autograd.grad(each, terms.q.mean, retain_graph=True)[0] for each in (found, reference)]
    torch.testing.assert_close(*gradients)


def test_without_memory_every_batch_is_by_itself():
    method = strategy(decay=0.0)
    for seed in range(3):
        terms = terms_of(posterior(seed))
        torch.testing.assert_close(paid(method, terms), expected(terms, "codes", (1.0, 1.0)))
        method.after_update(Alone(), terms)


def test_with_memory_its_value_is_that_of_all_sentences_so_far():
    """Of the first batches, of one size, the average is the plain mean: the covariance of all of them as one."""
    method, seen = strategy(of="means", decay=0.95), [posterior(seed) for seed in range(4)]
    for q in seen[:3]:
        method.after_update(Alone(), terms_of(q))
    together = GaussianPosterior(*(torch.cat([getattr(q, name) for q in seen]) for name in ("mean", "logvar")))
    last = terms_of(seen[3])
    found, reference = paid(method, last), expected(terms_of(together), "means", (1.0, 1.0))
    torch.testing.assert_close(found, reference)
    assert method.updates == 3
    # The gradient is that of the whole for the sentences at hand, as many times as batches were averaged.
    (own,) = torch.autograd.grad(found, last.q.mean)
    (whole,) = torch.autograd.grad(reference, seen[3].mean)
    torch.testing.assert_close(own, 4 * whole)


def test_codes_that_follow_it_become_uncorrelated_with_variance_one():
    torch.manual_seed(3)
    mean = torch.nn.Parameter(torch.randn(400, SIZE) @ torch.randn(SIZE, SIZE))
    method, optimizer = strategy(of="means", decay=0.5), torch.optim.Adam([mean], lr=0.01)
    for _ in range(1500):
        terms = terms_of(GaussianPosterior(mean, torch.zeros(400, SIZE)))
        optimizer.zero_grad()
        paid(method, terms).backward()
        optimizer.step()
        method.after_update(Alone(), terms)
    torch.testing.assert_close(torch.cov(mean.T), torch.eye(SIZE), atol=0.1, rtol=0)


def test_a_language_model_pays_nothing():
    model, method = tiny_vae(0), DIP(DIPConfig())
    method.build(Dims(vocab=VOCAB, latent=0, hidden=8, epoch_steps=20))
    terms = model.terms(batch_of(), 1)
    assert paid(method, terms) == 0.0
    method.after_update(Alone(), terms)


def test_a_learned_prior_is_refused_with_what_would_do():
    model, method = tiny_vae(prior={"family": "mixture"}), DIP(DIPConfig())
    method.build(Dims(vocab=VOCAB, latent=LATENT, hidden=8, epoch_steps=20))
    with pytest.raises(SeqVAEError, match="split by dimension") as caught:
        paid(method, model.terms(batch_of(), 1))
    assert caught.value.code == "E270"


def test_what_it_has_seen_is_saved_with_the_run(tmp_path):
    changes = {"train": {"steps": 8}}
    phases = [phase_of(tmp_path, DIPConfig(decay=0.8), **changes)]
    whole = toy_trainer(tmp_path / "whole", phases=phases, **changes)
    assert whole.fit()
    stopped = stopped_at(5, lambda seen: toy_trainer(tmp_path / "part", phases=phases, observe=seen, **changes))
    again = toy_trainer(tmp_path / "part", phases=phases, **changes)
    assert again.fit(last_checkpoint(stopped))
    assert bytes_of(again.objective) == bytes_of(whole.objective)
    assert bytes_of(again.model) == bytes_of(whole.model)


def test_an_update_that_was_not_finite_is_not_taken_in():
    method, loop = strategy(), Alone()
    method.after_update(loop, terms_of(posterior(1)))
    before = bytes_of(method)
    loop.finite = torch.tensor(False)
    method.after_update(loop, terms_of(GaussianPosterior(torch.full((2, SIZE), torch.nan), torch.zeros(2, SIZE))))
    assert bytes_of(method) == before

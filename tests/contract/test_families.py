"""What every posterior family keeps under every prior, or why the two are refused."""

import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, store_of
from model_toys import batch_of, rows_of, spread
from pydantic import ValidationError
from training_toys import bytes_of, last_checkpoint, stopped_at, toy_trainer

from seqvae.config import Config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.passes import evaluating
from seqvae.evaluation.report import EvalConfig, evaluate_model
from seqvae.io import pretrained
from seqvae.models.posterior import PosteriorConfig, build_posterior
from seqvae.models.prior import PriorConfig
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE
from seqvae.validation import models_in

SETTINGS = {"encoder": {"embedding": 5, "hidden": 6}, "decoder": {"embedding": 7, "hidden": 8}}


def configs(union) -> dict[str, type]:
    return {kind.model_fields["family"].default: kind for kind in models_in(union)}


POSTERIORS, PRIORS = configs(PosteriorConfig), configs(PriorConfig)
PAIRS = list(itertools.product(POSTERIORS, PRIORS))


def refusal(posterior: str, prior: str) -> str | None:
    try:
        Config.from_dict({"model": {"posterior": {"family": posterior}, "prior": {"family": prior}}})
    except SeqVAEError as error:
        return error.what
    return None


REFUSED = {pair: reason for pair in PAIRS if (reason := refusal(*pair)) is not None}
TOGETHER = [pair for pair in PAIRS if pair not in REFUSED]


def test_the_pairs_that_go_together_are_these():
    standard = {(posterior, "standard") for posterior in ("gaussian", "batchnorm", "delta", "iaf")}
    learned = {("gaussian", "mixture"), ("gaussian", "vamp"), ("iaf", "mixture")}
    assert set(TOGETHER) == standard | learned | {("vmf", "sphere")}


every_pair = pytest.mark.parametrize(("posterior", "prior"), TOGETHER)


def model_of(posterior: str, prior: str, seed: int = 0, latent_dim: int = 3, vocab: int = WORDS.vocab_size) -> SeqVAE:
    """A model in evaluation mode with large random weights."""
    families = {"posterior": {"family": posterior}, "prior": {"family": prior}}
    torch.manual_seed(seed)
    model = SeqVAE(ModelConfig.model_validate(SETTINGS | families | {"latent_dim": latent_dim}), vocab)
    return spread(model, seed=seed).eval()


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_families_that_are_promised_are_there():
    assert {"gaussian", "batchnorm", "delta", "vmf", "iaf"} <= POSTERIORS.keys()
    assert {"standard", "sphere", "mixture", "vamp"} <= PRIORS.keys()


@pytest.mark.parametrize("family", POSTERIORS)
def test_every_family_goes_with_some_prior(family):
    assert family in {posterior for posterior, _ in TOGETHER}


@pytest.mark.parametrize("family", PRIORS)
def test_every_prior_goes_with_some_family(family):
    assert family in {prior for _, prior in TOGETHER}


@pytest.mark.parametrize("pair", REFUSED)
def test_a_pair_that_is_refused_is_named_with_the_reason(pair):
    reason = REFUSED[pair]
    assert pair[0] in reason
    assert pair[1] in reason
    assert "family" in reason
    assert len(reason.split()) > 8, "no reason is given"


@pytest.mark.parametrize("kind", [*POSTERIORS.values(), *PRIORS.values()], ids=lambda kind: kind.__name__)
def test_its_settings_are_frozen_closed_and_described(kind):
    config = kind()
    with pytest.raises(ValidationError, match="frozen"):
        config.family = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        kind(no_such_setting=1)
    assert all(info.description for info in kind.model_fields.values())


@pytest.mark.parametrize("family", POSTERIORS)
def test_the_docstring_of_a_posterior_cites_a_source(family):
    head = build_posterior(POSTERIORS[family](), 7, 3)
    assert re.search(r"\b(19|20)\d\d\b", type(head).__doc__)


@pytest.mark.parametrize("family", POSTERIORS)
def test_a_posterior_can_be_chosen_by_its_name_alone(family):
    config = Config.from_dict({}, [f"model.posterior.family={family}"])
    assert type(config.model.posterior) is POSTERIORS[family]
    assert Config.from_dict(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("family", [*POSTERIORS, *PRIORS])
def test_it_has_a_recipe(family):
    if family in ("gaussian", "standard"):
        return
    models = [Config.from_yaml(name).model for name in shipped_configs()]
    assert family in {each.family for model in models for each in (model.posterior, model.prior)}


def test_an_unknown_family_is_told_with_the_known_ones():
    with pytest.raises(SeqVAEError, match=r"`model.posterior.family`: there is no 'gausian'") as caught:
        Config.from_dict({}, ["model.posterior.family=gausian"])
    assert caught.value.hint == "did you mean `gaussian`?"


def test_settings_of_another_family_go_when_the_family_is_changed():
    data = {"model": {"posterior": {"family": "batchnorm", "gamma": 0.5}}}
    assert Config.from_dict(data, ["model.posterior.family=delta"]).model.posterior == POSTERIORS["delta"]()
    with pytest.raises(SeqVAEError, match=r"`model\.posterior\.gamma` is not a setting"):
        Config.from_dict({}, ["model.posterior.family=delta", "model.posterior.gamma=0.5"])


def test_a_family_that_is_not_named_is_the_gaussian():
    assert Config.from_dict({"model": {"posterior": {}, "prior": {}}}) == Config()


@every_pair
def test_a_few_steps_are_finite_and_train_all_of_it(posterior, prior, tmp_path):
    families = {"posterior": {"family": posterior}, "prior": {"family": prior}}
    trainer = toy_trainer(tmp_path, model=families, train={"steps": 3})
    before = bytes_of(dict(trainer.model.named_parameters()))
    assert trainer.fit()
    for event in trainer.task.observe.of("train"):
        assert all(math.isfinite(event[key]) for key in ("rec_nats", "kl_nats", "elbo_nats"))
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())
    after = bytes_of(dict(trainer.model.named_parameters()))
    assert [name for name in before if before[name] == after[name]] == []


@every_pair
def test_a_run_that_was_stopped_goes_on_bit_by_bit(posterior, prior, tmp_path):
    changes = {"model": {"posterior": {"family": posterior}, "prior": {"family": prior}}}
    changes["train"] = {"steps": 5, "validate_every": 4}
    whole = toy_trainer(tmp_path / "whole", **changes)
    assert whole.fit()
    changes["train"]["deterministic"] = True  # memory that nobody has written is then full of NaN
    first = stopped_at(3, lambda observe: toy_trainer(tmp_path / "cut", observe=observe, **changes))
    second = toy_trainer(tmp_path / "cut", **changes)
    torch.manual_seed(99)
    assert second.fit(last_checkpoint(first))
    assert bytes_of(second.model) == bytes_of(whole.model)
    assert [*first.task.observe.timeless(), *second.task.observe.timeless()] == whole.task.observe.timeless()


@every_pair
def test_it_is_saved_and_loaded_as_it_was(posterior, prior, tmp_path):
    vae = TextVAE(model_of(posterior, prior), WORDS)
    pretrained.save(tmp_path / "model", vae, facts={})
    back = pretrained.load(tmp_path / "model")
    assert back.model.config == vae.model.config
    assert bytes_of(back.model) == bytes_of(vae.model)
    texts = ["a b c", "", "g f e d"]
    np.testing.assert_array_equal(back.encode(texts).mean, vae.encode(texts).mean)
    assert back.sample(3, seed=4) == vae.sample(3, seed=4)
    assert back.interpolate("a b", "g", 3) == vae.interpolate("a b", "g", 3)


@torch.no_grad()
@every_pair
def test_nothing_depends_on_company_or_padding(posterior, prior):
    model, batch = model_of(posterior, prior, vocab=11), batch_of()
    z = model.encode(batch).rsample(4, noise())
    expected = model.terms(batch, z=z)
    for rows in ([2], [3, 1]):
        found = model.terms(rows_of(batch, rows, width=13), z=z[:, rows])
        for name in ("rec", "log_q", "log_p"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name)[:, rows], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.kl, expected.kl[rows], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@every_pair
def test_the_kl_is_the_mean_log_ratio_of_its_samples(posterior, prior):
    """A closed form must agree with Monte Carlo; an estimate must be it."""
    model, batch = model_of(posterior, prior, vocab=11), batch_of()
    terms = model.terms(batch, 4_000, generator=noise())
    ratio = terms.log_q - terms.log_p
    tolerance = 5 * ratio.std(0) / math.sqrt(len(ratio)) + 1e-3
    assert ((terms.kl - ratio.mean(0)).abs() <= tolerance).all()
    assert terms.kl_estimated == (terms.q.kl(terms.prior) is None)
    assert (terms.kl > -tolerance).all()
    if terms.kl_dims is not None:
        torch.testing.assert_close(terms.kl_dims.sum(-1), terms.kl)


@every_pair
def test_gradients_reach_every_parameter(posterior, prior):
    model, batch = model_of(posterior, prior, vocab=11).train(), batch_of()
    terms = model.terms(batch, 3, generator=noise())
    (terms.rec.mean(0) + terms.kl).sum().backward()
    still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert still == set()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@torch.no_grad()
@every_pair
def test_a_posterior_can_be_cut_and_detached(posterior, prior):
    model, batch = model_of(posterior, prior, vocab=11), batch_of()
    with torch.enable_grad():
        q = model.encode(batch)
        z = q.rsample(2, noise())
        assert z.requires_grad
        fixed = q.detach()
        assert not fixed.mean.requires_grad
        assert not fixed.log_prob(z.detach()).requires_grad
    index = torch.tensor([3, 1])
    torch.testing.assert_close(q[index].log_prob(z[:, index]), q.log_prob(z)[:, index], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(q[1:3].mean, q.mean[1:3])
    torch.testing.assert_close(fixed.log_prob(z), q.log_prob(z), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@every_pair
def test_a_density_of_one_code_under_many_sentences_is_that_of_each_alone(posterior, prior):
    """As the mutual information asks for it."""
    model, batch = model_of(posterior, prior, vocab=11), batch_of()
    q = model.encode(batch)
    z = q.rsample(1, noise())[0][:2]
    pairs = q.log_prob(z[:, None].expand(-1, len(batch), -1))
    for row in range(len(batch)):
        torch.testing.assert_close(pairs[:, row], q[row : row + 1].log_prob(z[:, None])[:, 0], rtol=1e-4, atol=1e-4)


@every_pair
def test_the_tighter_bound_is_tighter_sentence_by_sentence(posterior, prior):
    found = elbo_and_iw(model_of(posterior, prior), store_of(23), samples=20)
    assert np.isfinite(found.elbo).all()
    assert (found.iw <= found.elbo).all()
    assert (found.iw < found.elbo - 1e-6).mean() > 0.5
    np.testing.assert_allclose(found.rec + found.kl, found.elbo)


@every_pair
def test_its_report_holds_no_number_that_the_family_does_not_have(posterior, prior):
    model = model_of(posterior, prior)
    report = evaluate_model(model, WORDS, store_of(31), split="toy", config=EvalConfig(iw_samples=7, reconstructions=5))
    numbers = report.to_dict()
    json.dumps(numbers, allow_nan=False)
    with evaluating(model):
        terms = model.terms(batch_of(vocab=WORDS.vocab_size))
    assert (numbers["kl_analytic_nats"] is None) == terms.kl_estimated
    assert (numbers["kl_dims_nats"] is None) == (terms.kl_dims is None)
    assert (numbers["active_units"] is None) == (terms.q.std is None)
    assert numbers["mi_nats"] <= numbers["mi_ceiling_nats"] + 1e-5
    assert numbers["iw_nats"] <= numbers["elbo_nats"]
    assert report.verdict.text

"""SeqVAE: what a pass gives, against naive loops; its parts; the language model that it is without a code."""

import copy
import math

import pytest
import torch
from evaluation_toys import WORDS
from model_toys import LATENT, LENGTHS, VOCAB, batch_of, company, rows_of, tiny_vae
from torch.distributions import Independent, Normal

from seqvae.models.decoder import DecoderConfig
from seqvae.models.encoder import EncoderConfig
from seqvae.models.vae import InitConfig, ModelConfig, SeqVAE
from seqvae.textvae import TextVAE
from seqvae.types import BOS, EOS

SAMPLES = 6


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def naive_rec(model, batch, z):
    """-log p(x|z) by stepping through each sentence alone and taking one softmax after the other."""
    rec = torch.zeros(len(z), len(batch))
    for sample in range(len(z)):
        for row, length in enumerate(batch.lengths.tolist()):
            code = z[sample, row][None]
            state = model.decoder.start(code)
            for position in range(length - 1):
                logits, state = model.decoder.step(batch.tokens[row, position][None], code, state)
                rec[sample, row] -= torch.log(torch.softmax(logits[0], -1)[batch.tokens[row, position + 1]])
    return rec


MODELS = {
    "two layers": {},
    "tied": {"decoder": {"embedding": 8, "tie_weights": True, "output_bias": False, "layers": 1}},
    "bidirectional": {"encoder": {"bidirectional": True, "layers": 2, "pooling": "max"}},
    "gru": {"encoder": {"cell": "gru"}, "decoder": {"cell": "gru"}},
    "skip": {"decoder": {"z_to_state": False, "z_to_input": False, "z_to_output": True}},
    "tied skip": {"decoder": {"embedding": 8, "tie_weights": True, "z_to_output": True, "cell": "gru"}},
}

every_model = pytest.mark.parametrize("kind", MODELS)


@torch.no_grad()
@every_model
def test_rec_is_the_negative_log_probability_of_the_whole_sentence(kind):
    model, batch = tiny_vae(**MODELS[kind]), batch_of()
    terms = model.terms(batch, SAMPLES, generator=noise())
    assert terms.rec.shape == (SAMPLES, len(LENGTHS))
    assert terms.z.shape == (SAMPLES, len(LENGTHS), LATENT)
    torch.testing.assert_close(terms.rec, naive_rec(model, batch, terms.z), rtol=1e-5, atol=1e-4)


@torch.no_grad()
@every_model
def test_nothing_depends_on_company_order_or_padding(kind):
    model, batch = tiny_vae(**MODELS[kind]), batch_of()
    z = torch.randn(SAMPLES, len(LENGTHS), LATENT, generator=noise())
    expected = model.terms(batch, SAMPLES, z=z)
    for rows, other in company(batch).values():
        found = model.terms(other, SAMPLES, z=z[:, rows])
        torch.testing.assert_close(found.rec, expected.rec[:, rows], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.kl, expected.kl[rows], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.log_q, expected.log_q[:, rows], rtol=1e-5, atol=1e-5)
        assert torch.equal(found.tokens, expected.tokens[rows])
        assert torch.equal(model.correct_tokens(other, z[0, rows]), model.correct_tokens(batch, z[0])[rows])


def test_gradients_do_not_depend_on_padding():
    model, batch = tiny_vae(), batch_of()
    z = torch.randn(1, len(LENGTHS), LATENT, generator=noise())
    found = []
    for each in (batch, rows_of(batch, range(len(batch)), width=23)):
        model.zero_grad()
        terms = model.terms(each, z=z)
        (terms.rec.mean(0) + terms.kl).sum().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for tight, loose in zip(*found, strict=True):
        torch.testing.assert_close(loose, tight, rtol=1e-4, atol=1e-5)


def test_rec_and_kl_are_both_sums_over_a_sentence():
    """A mean over tokens against a sum over dimensions would weigh the KL by the length of the sentence."""
    model, batch = tiny_vae(), batch_of()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    terms = model.terms(batch)
    assert torch.equal(terms.tokens, batch.lengths - 1)
    torch.testing.assert_close(terms.rec[0], (batch.lengths - 1) * math.log(VOCAB))
    torch.testing.assert_close(terms.kl, terms.kl_dims.sum(-1))
    assert terms.kl_dims.shape == (len(LENGTHS), LATENT)


@torch.no_grad()
def test_densities_of_the_samples_are_those_of_torch_distributions():
    model, batch = tiny_vae(), batch_of()
    terms = model.terms(batch, SAMPLES, generator=noise())
    q = Independent(Normal(terms.q.mean, terms.q.std), 1)
    prior = Independent(Normal(torch.zeros(LATENT), torch.ones(LATENT)), 1)
    torch.testing.assert_close(terms.log_q, q.log_prob(terms.z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms.log_p, prior.log_prob(terms.z), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(terms.kl, torch.distributions.kl_divergence(q, prior), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_sample_is_scored_with_its_own_code():
    model, batch = tiny_vae(), batch_of()
    together = model.terms(batch, SAMPLES, generator=noise())
    for sample in range(SAMPLES):
        alone = model.terms(batch, z=together.z[sample : sample + 1])
        torch.testing.assert_close(alone.rec[0], together.rec[sample], rtol=1e-5, atol=1e-5)
    assert together.rec.std(0).min() > 1e-3


@torch.no_grad()
def test_what_the_decoder_reads_may_differ_from_what_it_must_write():
    model, batch = tiny_vae(), batch_of()
    z = torch.randn(1, len(LENGTHS), LATENT, generator=noise())
    inputs = batch.with_tokens(torch.where(batch.tokens > EOS, 3, batch.tokens))
    found = model.terms(batch, z=z, inputs=inputs)
    hidden = model.decoder(inputs.tokens[:, :-1], z[0])
    logits = hidden @ model.decoder.output_weight.T + model.decoder.output_bias
    nll = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), batch.tokens[:, 1:], ignore_index=0, reduction="none"
    )
    torch.testing.assert_close(found.rec[0], nll.sum(1))
    assert torch.equal(found.tokens, batch.lengths - 1)
    assert not torch.equal(found.rec, model.terms(batch, z=z).rec)


@torch.no_grad()
def test_a_posterior_that_is_given_is_used():
    model, batch = tiny_vae(), batch_of()
    q = model.encode(batch_of(seed=1))
    terms = model.terms(batch, q=q, z=q.mean[None])
    assert torch.equal(terms.kl, q.kl(model.prior)[0])
    assert torch.equal(terms.z[0], q.mean)


@torch.no_grad()
def test_correct_tokens_are_those_that_a_loop_counts():
    model, batch = tiny_vae(seed=3), batch_of((7, 2, 5, 9, 3, 8, 6))
    z = torch.randn(7, LATENT, generator=noise())
    expected = []
    for row, length in enumerate(batch.lengths.tolist()):
        state, right = model.decoder.start(z[row : row + 1]), 0
        for position in range(length - 1):
            logits, state = model.decoder.step(batch.tokens[row, position][None], z[row : row + 1], state)
            right += int(logits.argmax() == batch.tokens[row, position + 1])
        expected.append(right)
    assert model.correct_tokens(batch, z).tolist() == expected
    assert 0 < sum(expected) < sum(LENGTHS)


def test_the_empty_sentence_is_a_sentence():
    model = tiny_vae()
    batch = batch_of((2,))
    assert batch.tokens.tolist() == [[BOS, EOS]]
    terms = model.terms(batch, SAMPLES)
    assert terms.tokens.tolist() == [1]
    assert torch.isfinite(terms.rec).all()
    assert torch.isfinite(terms.kl).all()
    (terms.rec.mean(0) + terms.kl).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


class TestLanguageModel:
    def test_it_is_the_decoder_alone(self):
        model = tiny_vae(0)
        assert model.encoder is model.posterior is model.prior is None
        assert list(model.parts()) == ["decoder"]
        assert model.encode(batch_of()) is None

    def test_its_nll_is_rec_and_there_is_no_kl(self):
        model, batch = tiny_vae(0), batch_of()
        terms = model.terms(batch)
        assert terms.q is terms.prior is terms.kl_dims is None
        assert terms.z.shape == (1, len(LENGTHS), 0)
        assert not terms.kl.any()
        assert not terms.log_q.any()
        assert not terms.log_p.any()
        torch.testing.assert_close(terms.rec, naive_rec(model, batch, terms.z), rtol=1e-5, atol=1e-4)

    @torch.no_grad()
    def test_its_probabilities_sum_to_one(self):
        """Over the sentences of up to one word, and every beginning of two words for the longer ones."""
        model = tiny_vae(0).double()
        words = [token for token in range(VOCAB) if token != EOS]
        ended = [[BOS, EOS], *([BOS, word, EOS] for word in words)]
        begun = [[BOS, first, second] for first in words for second in words]
        short, long = (sum(math.exp(-_nll(model, torch.tensor(row))) for row in rows) for rows in (ended, begun))
        assert short + long == pytest.approx(1.0, abs=1e-9)
        assert min(short, long) > 0.05


def _nll(model, row):
    logits = model.decoder(row[None, :-1], torch.zeros(1, 0))[0] @ model.decoder.output_weight.T
    nll = torch.nn.functional.cross_entropy(logits + model.decoder.output_bias, row[1:], reduction="none")
    return float(nll.sum())


class TestParts:
    @every_model
    def test_together_they_are_the_whole_model(self, kind):
        model = tiny_vae(**MODELS[kind])
        halves = [{id(p) for module in modules for p in module.parameters()} for modules in model.parts().values()]
        assert not halves[0] & halves[1]
        assert halves[0] | halves[1] == {id(p) for p in model.parameters()}

    @every_model
    @pytest.mark.parametrize("part", ["encoder", "decoder"])
    def test_a_reset_draws_one_part_anew_and_leaves_the_other(self, kind, part):
        model = tiny_vae(**MODELS[kind])
        before = copy.deepcopy(model.state_dict())
        model.reset(part)
        own = {"encoder": ("encoder.", "posterior."), "decoder": ("decoder.", "prior.")}[part]
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]) != name.startswith(own), name

    @pytest.mark.parametrize("cell", ["lstm", "gru"])
    @pytest.mark.parametrize("part", ["encoder", "decoder"])
    def test_a_reset_part_is_drawn_as_at_the_beginning(self, part, cell):
        config = ModelConfig(
            latent_dim=LATENT,
            encoder=EncoderConfig(cell=cell, embedding=5, hidden=6),
            decoder=DecoderConfig(cell=cell, embedding=7, hidden=8, output_bias=True, z_to_output=True),
            init=InitConfig(weights=0.01, embeddings=0.05),
        )
        model = SeqVAE(config, VOCAB)
        for parameter in model.parameters():
            parameter.data.fill_(9.0)
        model.reset(part)
        for module in model.parts()[part]:
            for name, parameter in module.named_parameters():
                bound = 0.05 if "embedding" in name else 0.01
                if name == "output_bias":
                    assert not parameter.any()
                else:
                    assert 0.6 * bound < parameter.abs().max() <= bound, name

    def test_a_reset_keeps_tied_weights_tied(self):
        model = tiny_vae(**MODELS["tied"])
        model.reset("decoder")
        assert model.decoder.output_weight is model.decoder.embedding.weight

    def test_a_reset_follows_the_seed(self):
        weights = []
        for seed in (1, 1, 2):
            model = tiny_vae()
            torch.manual_seed(seed)
            model.reset("decoder")
            weights.append(model.decoder.lstm.weight_hh_l0.detach().clone())
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])


class TestInit:
    def config(self, **init):
        return ModelConfig(
            latent_dim=LATENT,
            encoder=EncoderConfig(embedding=5, hidden=6),
            decoder=DecoderConfig(embedding=7, hidden=8, output_bias=True),
            init=InitConfig(**init),
        )

    def test_equal_seeds_give_equal_models(self):
        models = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            models.append(SeqVAE(self.config(), VOCAB).state_dict())
        assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
        assert any(not torch.equal(models[0][name], models[2][name]) for name in models[0])

    def test_weights_and_embeddings_are_uniform_within_their_bounds(self):
        model = SeqVAE(self.config(weights=0.03, embeddings=0.2), VOCAB)
        for name, parameter in model.named_parameters():
            if name == "decoder.output_bias":
                assert not parameter.any()
                continue
            bound = 0.2 if "embedding" in name else 0.03
            assert 0.6 * bound < parameter.abs().max() <= bound, name

    def test_without_a_bound_weights_are_pytorchs(self):
        model = SeqVAE(self.config(), VOCAB)
        assert model.decoder.lstm.weight_hh_l0.abs().max() > 0.8 / math.sqrt(8)
        assert model.decoder.embedding.weight.abs().max() <= 0.1


class TestPrior:
    def test_its_samples_are_standard_normal(self):
        z = tiny_vae().prior.sample(20_000, generator=noise())
        assert z.shape == (20_000, LATENT)
        assert z.mean(0).abs().max() < 4.5 / math.sqrt(20_000)
        assert (z.std(0) - 1).abs().max() < 4.5 / math.sqrt(2 * 20_000)
        assert torch.equal(
            tiny_vae().prior.sample(5, generator=noise(4)), tiny_vae().prior.sample(5, generator=noise(4))
        )

    def test_samples_of_the_model_come_from_codes_of_the_prior(self, monkeypatch):
        """Not from noise in the decoder's state: the decoder starts from those codes, and they decide the text."""
        model = tiny_vae(seed=5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
        vae, starts, start, draw = TextVAE(model, WORDS), [], model.decoder.start, model.prior.sample
        monkeypatch.setattr(model.decoder, "start", lambda z: starts.append(z) or start(z))
        drawn = vae.sample(12, seed=4)
        assert torch.equal(starts.pop(), draw(12, generator=noise(4)))
        monkeypatch.setattr(model.prior, "sample", lambda n, **given: draw(n, **given) * 0 + 3)
        assert vae.sample(12, seed=4) != drawn
        assert (starts.pop() == 3).all()


def test_a_batch_moves_as_a_whole_and_keeps_its_rows():
    batch = batch_of()
    moved = batch.to("cpu")
    assert torch.equal(moved.tokens, batch.tokens)
    assert torch.equal(moved.rows, batch.rows)
    assert len(moved) == len(LENGTHS)
    shorter = batch.with_tokens(batch.tokens[:, :4], batch.lengths.clamp(max=4))
    assert torch.equal(shorter.rows, batch.rows)
    assert shorter.lengths.max() == 4

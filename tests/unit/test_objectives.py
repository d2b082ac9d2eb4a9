"""The training methods' own semantics, and how several combine into one objective."""

import math
from typing import ClassVar, Literal

import pytest
import torch
from model_toys import LATENT, batch_of, rows_of, tiny_vae

from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.objectives import registry
from seqvae.objectives.autoencoder import Autoencoder, AutoencoderConfig
from seqvae.objectives.base import PARTS, Dims, Objective, Strategy, StrategyConfig
from seqvae.objectives.beta import Beta, BetaConfig
from seqvae.objectives.free_bits import FreeBits, FreeBitsConfig
from seqvae.objectives.kl_annealing import KLAnnealing, KLAnnealingConfig
from seqvae.objectives.word_dropout import WordDropout, WordDropoutConfig
from seqvae.types import BOS, PAD, UNK, Terms

DIMS = Dims(vocab=11, latent=LATENT, hidden=8, epoch_steps=20)


class PlainConfig(StrategyConfig):
    name: str = "plain"


class Plain(Strategy):
    """For a test to override a hook of."""

    Config = PlainConfig

    def __init__(self, name="plain"):
        super().__init__(PlainConfig(name=name))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def annealing(**settings):
    strategy = KLAnnealing(KLAnnealingConfig(**settings))
    strategy.build(DIMS)
    return strategy


def terms_of(kl_dims):
    rec = torch.ones(1, len(kl_dims))
    z = torch.zeros(1, *kl_dims.shape)
    return Terms(
        rec=rec, kl=kl_dims.sum(1), kl_dims=kl_dims, z=z, q=None, prior=None, tokens=torch.ones(len(kl_dims)).int()
    )


class TestKLAnnealing:
    def test_linear_weight_goes_from_start_to_end_and_stays(self):
        weight = annealing(start=0.1, end=0.9, steps=10).kl_weight
        assert [weight(step) for step in (0, 5, 10, 11, 10_000)] == pytest.approx([0.1, 0.5, 0.9, 0.9, 0.9])

    def test_the_length_may_be_given_in_epochs(self):
        by_epochs, by_steps = annealing(epochs=2.5), annealing(steps=50)
        assert [by_epochs.kl_weight(step) for step in range(70)] == [by_steps.kl_weight(step) for step in range(70)]
        assert by_epochs.kl_weight(25) == 0.5

    def test_steps_win_over_epochs(self):
        assert annealing(epochs=2.5, steps=4).kl_weight(2) == 0.5

    def test_a_warm_up_shorter_than_a_step_is_over_after_one(self):
        assert [annealing(epochs=0.001).kl_weight(step) for step in (0, 1)] == [0.0, 1.0]

    def test_logistic_weight_is_bowmans_curve_centred_in_the_warm_up(self):
        weight = annealing(shape="logistic", steps=40, steepness=12.0).kl_weight
        for step in (0, 7, 20, 33, 40, 60):
            assert weight(step) == pytest.approx(1 / (1 + math.exp(-12 * (step / 40 - 0.5))))
        assert weight(0) == pytest.approx(0.0025, abs=1e-4)
        assert weight(20) == 0.5
        assert 1 - weight(40) == pytest.approx(weight(0))

    def test_logistic_weight_lies_between_start_and_end_and_never_falls(self):
        weight = annealing(shape="logistic", start=0.2, end=0.6, steps=10, steepness=30).kl_weight
        values = [weight(step) for step in (*range(50), 10**9)]
        assert values == sorted(values)
        assert 0.2 <= values[0] < 0.2001
        assert values[-1] == pytest.approx(0.6)


class TestBeta:
    def test_the_weight_is_constant(self):
        assert {Beta(BetaConfig(beta=0.3)).kl_weight(step) for step in (0, 5, 10**6)} == {0.3}

    def test_it_multiplies_with_annealing(self):
        objective = Objective(tiny_vae(), [annealing(steps=10), Beta(BetaConfig(beta=0.3))])
        assert objective.kl_weight(5) == pytest.approx(0.15)


class TestAutoencoder:
    def test_the_loss_is_rec_at_the_posterior_mean(self):
        model, batch = tiny_vae(), batch_of()
        objective = Objective(model, [Autoencoder(AutoencoderConfig())], samples=2)
        loss, terms = objective(batch, 0, noise())
        mean = model.encode(batch).mean
        assert torch.equal(terms.z, mean.expand(2, -1, -1))
        expected = model.terms(batch, z=mean[None]).rec.sum()
        torch.testing.assert_close(loss, expected)

    def test_the_variance_gets_no_gradient(self):
        model = tiny_vae()
        Objective(model, [Autoencoder(AutoencoderConfig())])(batch_of(), 0, noise())[0].backward()
        gradient = model.posterior.linear.weight.grad
        assert gradient[:LATENT].any()
        assert not gradient[LATENT:].any()


class TestWordDropout:
    batch = batch_of((30,) * 41 + (2, 7), seed=1)

    def corrupted(self, rate, seed=0):
        return WordDropout(WordDropoutConfig(rate=rate)).corrupt_decoder(self.batch, 0, noise(seed))

    def test_the_rate_is_the_share_of_words_that_are_replaced(self):
        words = self.batch.tokens > UNK
        replaced = (self.corrupted(0.3).tokens == UNK) & words
        share, n = float(replaced.sum() / words.sum()), int(words.sum())
        assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / n)

    def test_what_is_not_replaced_stays(self):
        found = self.corrupted(0.3)
        kept = found.tokens != UNK
        assert torch.equal(found.tokens[kept], self.batch.tokens[kept])
        assert torch.equal(found.lengths, self.batch.lengths)
        assert torch.equal(found.rows, self.batch.rows)

    def test_the_beginning_of_a_sentence_and_the_padding_stay_at_any_rate(self):
        found = self.corrupted(1.0).tokens
        special = (self.batch.tokens == BOS) | (self.batch.tokens == PAD)
        assert torch.equal(found[special], self.batch.tokens[special])
        assert (found[~special] == UNK).all()

    def test_nothing_happens_at_rate_zero(self):
        assert torch.equal(self.corrupted(0.0).tokens, self.batch.tokens)

    def test_the_generator_alone_decides(self):
        before = torch.get_rng_state()
        first, again, other = (self.corrupted(0.4, seed).tokens for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), before)

    def shares(self, at, **settings):
        strategy = WordDropout(WordDropoutConfig(**settings))
        strategy.build(DIMS)
        words = self.batch.tokens > UNK
        found = [strategy.corrupt_decoder(self.batch, step, noise()).tokens == UNK for step in at]
        return [float((replaced & words).sum() / words.sum()) for replaced in found]

    def test_a_schedule_takes_the_rate_linearly_to_its_end(self):
        found = self.shares((0, 5, 10, 10**6), rate=1.0, end_rate=0.0, steps=10)
        assert (found[0], found[2], found[3]) == (1.0, 0.0, 0.0)
        assert found[1] == pytest.approx(0.5, abs=0.05)
        assert self.shares(range(25), rate=0.2, end_rate=0.9, epochs=1) == self.shares(
            range(25), rate=0.2, end_rate=0.9, steps=20
        )

    def test_without_a_schedule_the_step_does_not_matter(self):
        assert len(set(self.shares((0, 7, 10**6), rate=0.4))) == 1

    def test_half_a_schedule_is_refused(self):
        with pytest.raises(ValueError, match="end_rate needs the length"):
            WordDropoutConfig(end_rate=0.1)
        with pytest.raises(ValueError, match="a schedule needs end_rate"):
            WordDropoutConfig(steps=3)

    def test_the_targets_and_the_encoder_stay_clean(self):
        model, batch = tiny_vae(), batch_of()
        strategy = WordDropout(WordDropoutConfig(rate=1.0))
        _, terms = Objective(model, [strategy])(batch, 0, noise())
        torch.testing.assert_close(terms.q.mean, model.encode(batch).mean)
        inputs = strategy.corrupt_decoder(batch, 0, noise())
        torch.testing.assert_close(terms.rec, model.terms(batch, z=terms.z, inputs=inputs).rec)
        assert not torch.equal(terms.rec, model.terms(batch, z=terms.z).rec)


class TestFreeBits:
    kl_dims = torch.tensor([[0.1, 2.0, 0.6], [0.2, 1.0, 0.4], [0.0, 3.0, 0.2]])  # means 0.1, 2.0, 0.4

    def shaped(self, nats, kl_dims):
        return FreeBits(FreeBitsConfig(nats_per_dim=nats)).shape_kl(terms_of(kl_dims), 0)

    def test_each_dimension_costs_at_least_its_bits_on_the_batch_mean(self):
        """Sum over dimensions of max(lambda, mean over the batch), for every sentence of the batch."""
        torch.testing.assert_close(self.shaped(0.25, self.kl_dims), torch.full((3,), 0.25 + 2.0 + 0.4))

    def test_no_gradient_reaches_a_dimension_below_its_bits(self):
        kl_dims = self.kl_dims.clone().requires_grad_()
        self.shaped(0.25, kl_dims).sum().backward()
        assert torch.equal(kl_dims.grad, torch.tensor([0.0, 1.0, 1.0]).expand(3, 3))

    def test_without_bits_it_is_the_plain_kl_on_average(self):
        assert float(self.shaped(0.0, self.kl_dims).mean()) == pytest.approx(float(self.kl_dims.sum(1).mean()))

    def test_a_language_model_has_nothing_to_shape(self):
        model = tiny_vae(0)
        loss, terms = Objective(model, [FreeBits(FreeBitsConfig())])(batch_of(), 0, noise())
        torch.testing.assert_close(loss, terms.rec.sum())


class Recorder(Plain):
    """Adds its number to every word, and remembers what it saw."""

    def __init__(self, number):
        super().__init__(f"recorder{number}")
        self.number, self.seen = number, []

    def corrupt_encoder(self, batch, step, generator):
        self.seen.append(("encoder", batch.tokens.clone()))
        return batch.with_tokens(batch.tokens[:, :-1], batch.lengths.clamp(max=batch.tokens.shape[1] - 1))

    def corrupt_decoder(self, batch, step, generator):
        self.seen.append(("decoder", batch.tokens.clone()))
        return batch.with_tokens(torch.where(batch.tokens == 4, 4 + self.number, batch.tokens))

    def refine(self, q, batch, model):
        self.seen.append(("refine", batch.tokens.clone()))
        return GaussianPosterior(2 * q.mean + self.number, q.logvar)


class TestCombination:
    def test_without_strategies_the_loss_is_minus_elbo_summed_over_sentences(self):
        model, batch = tiny_vae(), batch_of()
        loss, terms = Objective(model, [], samples=4)(batch, 0, noise())
        expected = model.terms(batch, 4, generator=noise())
        torch.testing.assert_close(terms.z, expected.z)
        torch.testing.assert_close(loss, (expected.rec.mean(0) + expected.kl).sum())

    def test_the_weight_is_on_the_kl_alone(self):
        model, batch = tiny_vae(), batch_of()
        loss, terms = Objective(model, [Beta(BetaConfig(beta=0.3))])(batch, 0, noise())
        torch.testing.assert_close(loss, (terms.rec.mean(0) + 0.3 * terms.kl).sum())

    def test_reported_terms_are_not_shaped(self):
        model, batch = tiny_vae(), batch_of()
        plain = Objective(model, [])(batch, 0, noise())[1]
        strategies = [Beta(BetaConfig(beta=0.0)), FreeBits(FreeBitsConfig(nats_per_dim=50.0))]
        shaped = Objective(model, strategies)(batch, 0, noise())[1]
        assert torch.equal(shaped.kl, plain.kl)
        assert torch.equal(shaped.rec, plain.rec)

    def test_noise_scales_multiply_the_deviation_from_the_mean(self):
        class Half(Plain):
            def noise_scale(self, step):
                return 0.5

        class Third(Plain):
            def noise_scale(self, step):
                return 1 / 3

        model, batch = tiny_vae(), batch_of()
        plain = Objective(model, [])(batch, 0, noise())[1]
        scaled = Objective(model, [Half("a"), Third("b")])(batch, 0, noise())[1]
        mean = model.encode(batch).mean
        torch.testing.assert_close(scaled.z - mean, (plain.z - mean) / 6)

    def test_corruptions_and_refinements_are_chained_in_order_and_targets_stay_clean(self):
        model, batch = tiny_vae(), batch_of()
        first, second = Recorder(1), Recorder(2)
        _, terms = Objective(model, [first, second])(batch, 0, noise())
        assert torch.equal(dict(first.seen)["encoder"], batch.tokens)
        assert torch.equal(dict(second.seen)["encoder"], batch.tokens[:, :-1])
        assert torch.equal(dict(second.seen)["decoder"], torch.where(batch.tokens == 4, 5, batch.tokens))
        assert torch.equal(dict(second.seen)["refine"], batch.tokens)
        read = batch.with_tokens(batch.tokens[:, :-2], batch.lengths.clamp(max=7))
        torch.testing.assert_close(terms.q.mean, 4 * model.encode(read).mean + 4)
        assert torch.equal(terms.tokens, batch.lengths - 1)

    def test_one_strategy_may_shape_the_kl_and_one_replace_the_loss(self):
        class Shape(Plain):
            def shape_kl(self, terms, step):
                return terms.kl * 0 + step

        class Replace(Plain):
            def objective(self, terms, step):
                return terms.log_q[0] * step

        model, batch = tiny_vae(), batch_of()
        loss, terms = Objective(model, [Shape(), Beta(BetaConfig(beta=0.5))])(batch, 3, noise())
        torch.testing.assert_close(loss, (terms.rec[0] + 1.5).sum())
        loss, terms = Objective(model, [Replace(), Beta(BetaConfig(beta=0.5))])(batch, 3, noise())
        torch.testing.assert_close(loss, 3 * terms.log_q[0].sum())

    def test_penalties_are_added_and_weigh_the_same_in_a_batch_of_any_size(self):
        class Penalty(Plain):
            def __init__(self, name, size):
                super().__init__(name)
                self.size = size

            def penalty(self, terms, batch, step, generator):
                return self.size * terms.z.square().mean()

        model, batch = tiny_vae(), batch_of()
        objective = Objective(model, [Penalty("a", 2.0), Penalty("b", 5.0)])
        loss, terms = objective(batch, 0, noise())
        shift = 7.0 * terms.z.square().mean()
        torch.testing.assert_close(loss / len(batch), (terms.rec[0] + terms.kl).mean() + shift)

    def test_the_mean_loss_of_a_batch_given_twice_is_that_of_the_batch(self):
        class Penalty(Plain):
            def penalty(self, terms, batch, step, generator):
                return 11.0

        model, batch = tiny_vae(), batch_of()
        twice = rows_of(batch, [*range(5), *range(5)])
        objective = Objective(model, [Penalty(), Autoencoder(AutoencoderConfig())])
        one, two = objective(batch, 0, noise())[0] / 5, objective(twice, 0, noise())[0] / 10
        torch.testing.assert_close(one, two)
        assert one > 11.0

    def test_parts_that_are_trained_are_those_that_all_agree_on(self):
        class Only(Plain):
            def __init__(self, *parts):
                super().__init__("-".join(parts))
                self.parts = frozenset(parts)

            def trains(self, step):
                return self.parts

        model = tiny_vae()
        assert Objective(model, []).trains(0) == PARTS
        assert Objective(model, [Only("encoder"), Only("encoder", "decoder")]).trains(0) == {"encoder"}
        assert Objective(model, [Only("encoder"), Only("decoder")]).trains(0) == frozenset()

    def test_a_language_model_is_trained_by_its_rec(self):
        model, batch = tiny_vae(0), batch_of()
        loss, terms = Objective(model, [annealing(steps=3), WordDropout(WordDropoutConfig(rate=0.0))], samples=4)(
            batch, 1, noise()
        )
        torch.testing.assert_close(loss, terms.rec[0].sum())
        assert not torch.equal(Objective(model, [WordDropout(WordDropoutConfig(rate=1.0))])(batch, 1, noise())[0], loss)

    def test_all_noise_comes_from_the_generator(self):
        model, batch = tiny_vae(), batch_of()
        objective = Objective(model, [WordDropout(WordDropoutConfig(rate=0.5))], samples=2)
        before = torch.get_rng_state()
        first, again, other = (objective(batch, 0, noise(seed))[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_models_parameters_are_not_the_objectives(self):
        class Head(Plain):
            def build(self, dims):
                self.head = torch.nn.Linear(dims.latent, 2)

        head = Head()
        head.build(DIMS)
        names = {name for name, _ in Objective(tiny_vae(), [head]).named_parameters()}
        assert names == {"strategies.0.head.weight", "strategies.0.head.bias"}


class ShapeAConfig(StrategyConfig):
    name: Literal["shape_a"] = "shape_a"


class ShapeA(Strategy):
    Config = ShapeAConfig
    conflicts: ClassVar = {"beta": "it has a weight of its own"}

    def shape_kl(self, terms, step):
        return terms.kl

    def objective(self, terms, step):
        return terms.kl


class TestConflicts:
    @pytest.fixture(autouse=True)
    def _another_method(self, monkeypatch):
        types = {**registry.strategy_types(), "shape_a": ShapeA}
        monkeypatch.setattr(registry, "strategy_types", lambda: types)

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_declared_conflict_is_refused_with_its_reason_in_either_order(self, turned):
        pair = [ShapeAConfig(), BetaConfig(beta=0.1)]
        with pytest.raises(ValueError, match="cannot go together: it has a weight of its own") as caught:
            registry.check_strategies(pair[::-1] if turned else pair)
        assert "`beta`" in str(caught.value)
        assert "`shape_a`" in str(caught.value)

    def test_two_that_shape_the_kl_are_refused(self):
        with pytest.raises(ValueError, match="`free_bits` and `shape_a` both replace the KL; keep one of them"):
            registry.check_strategies([FreeBitsConfig(), ShapeAConfig()])

    def test_two_that_replace_the_loss_are_refused(self, monkeypatch):
        class OtherConfig(StrategyConfig):
            name: Literal["other"] = "other"

        class Other(Strategy):
            Config = OtherConfig

            def objective(self, terms, step):
                return terms.kl

        types = {**registry.strategy_types(), "other": Other}
        monkeypatch.setattr(registry, "strategy_types", lambda: types)
        with pytest.raises(ValueError, match="both replace the whole loss"):
            registry.check_strategies([OtherConfig(), ShapeAConfig()])

    def test_a_method_that_a_replaced_loss_would_ignore_is_refused(self, monkeypatch):
        class ReplacesConfig(StrategyConfig):
            name: Literal["replaces"] = "replaces"

        class Replaces(Strategy):
            Config = ReplacesConfig

            def objective(self, terms, step):
                return terms.kl

        types = {**registry.strategy_types(), "replaces": Replaces}
        monkeypatch.setattr(registry, "strategy_types", lambda: types)
        for other in (KLAnnealingConfig(), FreeBitsConfig()):
            with pytest.raises(ValueError, match=f"whole loss, so that `{other.name}` would have no effect"):
                registry.check_strategies([other, ReplacesConfig()])
        registry.check_strategies([WordDropoutConfig(), ReplacesConfig()])

    def test_a_method_that_stands_twice_is_refused(self):
        with pytest.raises(ValueError, match="`beta` stands twice"):
            registry.check_strategies([BetaConfig(beta=0.1), KLAnnealingConfig(), BetaConfig(beta=0.2)])

    def test_methods_that_go_together_are_accepted(self):
        registry.check_strategies([KLAnnealingConfig(), FreeBitsConfig(), WordDropoutConfig(), BetaConfig(beta=0.5)])


@pytest.mark.parametrize("place", ["objective", "phase"])
def test_the_config_refuses_what_cannot_go_together_and_says_where(place):
    twice = [{"name": "beta", "beta": 0.1}, {"name": "beta", "beta": 0.2}]
    settings = {"objective": {"strategies": twice}}
    if place == "phase":
        settings = {"train": {"phases": [{"name": "first", "strategies": twice}]}}
    with pytest.raises(SeqVAEError, match="`beta` stands twice") as caught:
        Config.from_dict(settings)
    assert caught.value.exit_code == 2


def test_a_method_that_only_weighs_the_kl_is_refused_where_there_is_none(monkeypatch):
    """Of whatever name: a new one need not be entered anywhere."""

    class HalfConfig(StrategyConfig):
        name: str = "half"

    class Half(Strategy):
        def kl_weight(self, step):
            return 0.5

    half = Half(HalfConfig())
    for other in ({"name": "autoencoder"}, {"name": "adversarial"}, {"name": "mmd"}):
        built = registry.build_strategy(
            Config.from_dict({"objective": {"strategies": [other]}}).objective.strategies[0]
        )
        assert f"`half` and `{built.name}` cannot go together" in registry.refusal(half, built)
        assert registry.refusal(built, half)
    mmd = registry.build_strategy(
        Config.from_dict({"objective": {"strategies": [{"name": "mmd", "alpha": 0.5}]}}).objective.strategies[0]
    )
    assert registry.refusal(half, mmd) is None

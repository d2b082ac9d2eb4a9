"""Methods that change what the KL costs: cycles, a capacity, the variants of free bits, a minimum rate."""

import dataclasses

import pytest
import torch
from model_toys import LATENT, batch_of, tiny_vae
from pydantic import ValidationError
from training_toys import bytes_of, phase_of, toy_trainer

from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Dims, Objective
from seqvae.objectives.capacity import Capacity, CapacityConfig
from seqvae.objectives.cyclical_annealing import CyclicalAnnealing, CyclicalAnnealingConfig
from seqvae.objectives.free_bits import FreeBits, FreeBitsConfig
from seqvae.objectives.minimum_rate import MinimumRate, MinimumRateConfig
from seqvae.types import Terms

DIMS = Dims(vocab=11, latent=LATENT, hidden=8, epoch_steps=20)
KL_DIMS = torch.tensor([[0.1, 2.0, 0.6], [0.2, 1.0, 0.4], [0.0, 3.0, 0.2], [0.1, 0.4, 0.0]])  # totals 2.7 1.6 3.2 0.5


def built(cls, config):
    strategy = cls(config)
    strategy.build(DIMS)
    return strategy


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def terms_of(kl_dims, split=True):
    size = len(kl_dims)
    return Terms(
        rec=torch.ones(2, size),
        kl=kl_dims.sum(1),
        kl_dims=kl_dims if split else None,
        z=torch.zeros(2, *kl_dims.shape),
        q=None,
        prior=None,
        tokens=torch.ones(size).int(),
    )


class TestCyclicalAnnealing:
    def weights(self, at, **settings):
        weight = built(CyclicalAnnealing, CyclicalAnnealingConfig(**settings)).kl_weight
        return [weight(step) for step in at]

    def test_each_cycle_ramps_up_and_then_stays(self):
        cycle = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
        assert self.weights(range(24), cycles=3, steps=24) == pytest.approx(cycle * 3)

    def test_after_the_last_cycle_the_weight_stays_at_the_end(self):
        assert self.weights((24, 25, 10**6), cycles=3, steps=24, end=0.8) == [0.8, 0.8, 0.8]

    def test_it_is_the_formula_of_fu_et_al_where_cycles_have_whole_lengths(self):
        length, cycles, ramp = 60, 4, 0.3
        expected = [min((step % (length // cycles)) / (length / cycles) / ramp, 1.0) for step in range(length)]
        assert self.weights(range(60), cycles=4, steps=60, ramp=0.3) == pytest.approx(expected)

    def test_a_phase_at_the_start_comes_before_each_ramp(self):
        found = self.weights(range(16), cycles=2, steps=16, zero=0.5, ramp=0.25, start=0.1, end=0.9)
        assert found == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.9, 0.9] * 2)

    def test_without_a_ramp_the_weight_jumps(self):
        assert self.weights(range(8), cycles=2, steps=8, zero=0.5, ramp=0.0) == [0.0, 0.0, 1.0, 1.0] * 2

    def test_the_length_may_be_given_in_epochs(self):
        assert self.weights(range(50), cycles=2, epochs=2) == self.weights(range(50), cycles=2, steps=40)

    def test_as_many_cycles_as_asked_for_begin_even_where_they_have_no_whole_lengths(self):
        found = self.weights(range(100), cycles=7, steps=100)
        starts = [step for step in range(100) if step == 0 or found[step] < found[step - 1]]
        assert len(starts) == 7

    def test_shares_of_more_than_a_cycle_are_refused(self):
        with pytest.raises(ValidationError, match="more than a whole cycle"):
            CyclicalAnnealingConfig(zero=0.6, ramp=0.5)


class TestCapacity:
    def shaped(self, step, kl_dims=KL_DIMS, **settings):
        return built(Capacity, CapacityConfig(**settings)).shape_kl(terms_of(kl_dims), step)

    def test_each_sentence_pays_for_its_distance_from_the_capacity(self):
        found = self.shaped(5, gamma=3.0, start_nats=1.0, end_nats=3.0, steps=10)
        torch.testing.assert_close(found, 3.0 * torch.tensor([0.7, 0.4, 1.2, 1.5]))

    def test_the_batch_may_pay_for_the_distance_of_its_mean(self):
        found = self.shaped(5, gamma=3.0, start_nats=1.0, end_nats=3.0, steps=10, level="mean")
        torch.testing.assert_close(found, torch.full((4,), 0.0))
        found = self.shaped(0, gamma=3.0, start_nats=1.0, end_nats=3.0, steps=10, level="mean")
        torch.testing.assert_close(found, torch.full((4,), 3.0))

    def test_the_capacity_grows_linearly_and_stays(self):
        zero = torch.zeros(2, 3)
        capacities = [float(self.shaped(step, zero, gamma=1.0, end_nats=8.0, epochs=0.5)[0]) for step in (0, 5, 10, 99)]
        assert capacities == [0.0, 4.0, 8.0, 8.0]

    def test_below_the_capacity_the_gradient_raises_the_kl(self):
        kl_dims = KL_DIMS.clone().requires_grad_()
        self.shaped(0, kl_dims, gamma=3.0, start_nats=2.0).sum().backward()
        assert kl_dims.grad[:, 0].tolist() == [3.0, -3.0, 3.0, -3.0]


class TestFreeBitsVariants:
    def shaped(self, variant, kl_dims=KL_DIMS, nats=0.5, split=True, **settings):
        config = FreeBitsConfig(variant=variant, nats_per_dim=nats, **settings)
        return FreeBits(config).shape_kl(terms_of(kl_dims, split), 0)

    def test_each_is_its_closed_form(self):
        """0.5 nats a dimension, so 1.5 in all; batch means 0.1, 1.6, 0.3 and 2.0 in all."""
        closed = {
            "dimension_mean": [0.5 + 1.6 + 0.5] * 4,
            "sentence_dimension": [0.5 + 2.0 + 0.6, 0.5 + 1.0 + 0.5, 0.5 + 3.0 + 0.5, 0.5 + 0.5 + 0.5],
            "sentence_total": [2.7, 1.6, 3.2, 1.5],
            "mean_total": [2.0] * 4,
        }
        for variant, expected in closed.items():
            torch.testing.assert_close(self.shaped(variant), torch.tensor(expected))
        torch.testing.assert_close(self.shaped("mean_total", nats=0.9), torch.full((4,), 2.7))

    def test_no_gradient_reaches_what_lies_below_its_bits(self):
        gradients = {
            "dimension_mean": [[0.0, 1.0, 0.0]] * 4,
            "sentence_dimension": [[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0]],
            "sentence_total": [[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]],
            "mean_total": [[1, 1, 1]] * 4,
        }
        for variant, expected in gradients.items():
            kl_dims = KL_DIMS.clone().requires_grad_()
            self.shaped(variant, kl_dims).sum().backward()
            torch.testing.assert_close(kl_dims.grad, torch.tensor(expected).float())

    def test_groups_share_their_bits_and_the_last_takes_the_rest(self):
        """Two dimensions, then one: means 1.7 against 1.0, then 0.3 against 0.5."""
        torch.testing.assert_close(self.shaped("dimension_mean", group_size=2), torch.full((4,), 1.7 + 0.5))

    def test_one_group_of_all_is_the_total_of_the_batch_mean(self):
        for nats in (0.5, 0.9):
            one = self.shaped("dimension_mean", nats=nats, group_size=3)
            torch.testing.assert_close(one, self.shaped("mean_total", nats=nats))

    def test_configs_from_before_the_variants_mean_what_they_meant(self):
        config = Config.from_dict({"objective": {"strategies": [{"name": "free_bits", "nats_per_dim": 0.3}]}})
        assert config.objective.strategies[0] == FreeBitsConfig(variant="dimension_mean", nats_per_dim=0.3)

    @pytest.mark.parametrize("variant", ["dimension_mean", "sentence_dimension"])
    def test_a_kl_that_does_not_split_is_refused_where_dimensions_are_needed(self, variant):
        with pytest.raises(SeqVAEError, match="needs a KL that splits by dimension") as caught:
            self.shaped(variant, split=False)
        assert (caught.value.code, caught.value.exit_code) == ("E270", 2)

    def test_an_estimate_is_refused_where_the_kl_of_each_sentence_is_needed(self):
        """E max(B, KL + noise) > max(B, KL): bits that are not free."""
        estimated = dataclasses.replace(terms_of(KL_DIMS, split=False), kl_estimated=True)
        with pytest.raises(SeqVAEError, match="is an estimate") as caught:
            FreeBits(FreeBitsConfig(variant="sentence_total")).shape_kl(estimated, 0)
        assert caught.value.code == "E270"
        assert len(FreeBits(FreeBitsConfig(variant="mean_total")).shape_kl(estimated, 0)) == 4
        with pytest.raises(SeqVAEError, match="is an estimate") as caught:
            built(Capacity, CapacityConfig()).shape_kl(estimated, 0)
        assert caught.value.code == "E270"
        assert len(built(Capacity, CapacityConfig(level="mean")).shape_kl(estimated, 0)) == 4

    @pytest.mark.parametrize("variant", ["sentence_total", "mean_total"])
    def test_a_kl_that_does_not_split_is_no_matter_for_totals(self, variant):
        assert torch.equal(self.shaped(variant, split=False), self.shaped(variant))

    def test_groups_without_their_variant_are_refused(self):
        with pytest.raises(ValidationError, match="group_size belongs to variant dimension_mean"):
            FreeBitsConfig(variant="mean_total", group_size=2)


class TestMinimumRate:
    def test_the_loss_has_the_multiplied_gap_and_its_gradients(self):
        strategy = built(MinimumRate, MinimumRateConfig(nats=5.0, start=0.25))
        model, batch = tiny_vae(), batch_of()
        plain = Objective(model, [])(batch, 0, noise())[0]
        loss, terms = Objective(model, [strategy])(batch, 0, noise())
        gap = 5.0 - terms.kl.mean()
        torch.testing.assert_close(loss / len(batch), plain / len(batch) + 0.25 * gap)
        (found,) = torch.autograd.grad(loss / len(batch), strategy.multiplier)
        torch.testing.assert_close(found, gap)

    def test_it_cannot_start_where_it_could_never_leave(self):
        with pytest.raises(ValidationError, match="greater than 0"):
            MinimumRateConfig(start=0.0)

    def test_a_negative_parameter_is_a_positive_multiplier(self):
        one, other = (built(MinimumRate, MinimumRateConfig(start=0.25)) for _ in range(2))
        with torch.no_grad():
            other.multiplier.neg_()
        terms = terms_of(KL_DIMS)
        assert one.penalty(terms, batch_of(), 0, noise()) == other.penalty(terms, batch_of(), 0, noise())

    @pytest.mark.parametrize(("nats", "rises"), [(1000.0, True), (0.0, False)])
    def test_the_multiplier_rises_while_the_rate_is_too_low_and_falls_above_it(self, tmp_path, nats, rises):
        config, changes = MinimumRateConfig(nats=nats, lr=0.01), {"train": {"steps": 8}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, config, **changes)], **changes)
        assert trainer.fit()
        multiplier = float(trainer.objective.strategies[0].multiplier.detach())
        assert (multiplier > 0.5) == rises
        assert abs(multiplier - 0.5) > 0.05

    def test_it_finds_the_constrained_optimum(self):
        """min k^2 subject to k >= 1.5 has k = 1.5 and the multiplier 2k = 3 (Karush, Kuhn and Tucker)."""
        strategy = built(MinimumRate, MinimumRateConfig(nats=1.5, start=0.5, lr=0.03))
        (ascent,) = strategy.optimizers().values()
        kl = torch.zeros(1, requires_grad=True)
        descent = torch.optim.SGD([kl], lr=0.1)
        for _ in range(400):
            loss = kl.sum().square() + strategy.penalty(terms_of(kl.expand(4, 1)), batch_of(), 0, noise())
            for optimizer in (ascent, descent):
                optimizer.zero_grad()
            loss.backward()
            for optimizer in (ascent, descent):
                optimizer.step()
        assert kl.item() == pytest.approx(1.5, abs=0.05)
        assert strategy.multiplier.item() == pytest.approx(3.0, abs=0.1)

    def test_the_multiplier_is_not_in_the_main_optimizer_and_is_not_saved_with_the_model(self, tmp_path):
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, MinimumRateConfig())])
        trainer._start_phase(0)
        multiplier = trainer.objective.strategies[0].multiplier
        assert all(multiplier is not p for p in trainer.stage.main_parameters)
        assert "minimum_rate.multiplier" in trainer.optimizers
        assert "multiplier" not in " ".join(bytes_of(trainer.model))


def test_a_language_model_has_nothing_to_shape():
    model, batch = tiny_vae(0), batch_of()
    dims = dataclasses.replace(DIMS, latent=0)
    plain = Objective(model, [])(batch, 0, noise())[0]
    for cls, config in (
        (Capacity, CapacityConfig()),
        (MinimumRate, MinimumRateConfig()),
        *((FreeBits, FreeBitsConfig(variant=v)) for v in ("sentence_dimension", "sentence_total", "mean_total")),
    ):
        strategy = cls(config)
        strategy.build(dims)
        torch.testing.assert_close(Objective(model, [strategy])(batch, 0, noise())[0], plain)

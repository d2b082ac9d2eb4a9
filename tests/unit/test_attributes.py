"""Arithmetic with codes: analogies, walks along a dimension and directions of labels, against closed forms."""

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, FixedCodes, texts
from model_toys import spread as spread_weights
from model_toys import tiny_vae

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.generation.attributes import Spread, analogy_code, label_direction, measure_spread, walk
from seqvae.generation.codes import Codes
from seqvae.generation.decoding import DecodeConfig
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE

LATENT, ROWS = 3, 47
SHORT = DecodeConfig(strategy="greedy", max_length=6)
FAMILIES = {
    "gaussian": {},
    "vmf": {"posterior": {"family": "vmf"}},
    "iaf": {"posterior": {"family": "iaf", "steps": 2, "hidden": 5, "context": 4}},
}


def random(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(codes) -> np.ndarray:
    return codes / np.linalg.norm(codes, axis=-1, keepdims=True)


def vae_of(noiseless=False, **families) -> TextVAE:
    return TextVAE(tiny_vae(latent_dim=LATENT, **families), WORDS, noiseless=noiseless)


def conditional() -> TextVAE:
    config = {"latent_dim": LATENT, "conditional": {"embedding": 4}, "encoder": {"hidden": 6}, "decoder": {"hidden": 8}}
    model = SeqVAE(ModelConfig.model_validate(config), WORDS.vocab_size, ("east", "west"))
    return TextVAE(spread_weights(model).eval(), WORDS)


def refused(code, call, *arguments, **named) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        call(*arguments, **named)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


class TestAnalogy:
    def test_it_is_b_minus_a_plus_c(self):
        a, b, c = codes = random(3, LATENT)
        np.testing.assert_allclose(analogy_code(codes)[0], b - a + c, rtol=1e-6)

    def test_on_a_sphere_it_keeps_the_direction_and_has_length_one(self):
        a, b, c = codes = unit(random(3, LATENT))
        z = analogy_code(codes, spherical=True)[0]
        np.testing.assert_allclose(np.linalg.norm(z), 1.0, rtol=1e-6)
        np.testing.assert_allclose(z @ (b - a + c), np.linalg.norm(b - a + c), rtol=1e-6)

    def test_on_a_sphere_nothing_left_is_refused(self):
        b, c = unit(np.array([[1.0, 2.0, 0.0], [1.0, -2.0, 0.0]], np.float32))
        assert "centre" in refused("E299", analogy_code, np.stack([b + c, b, c]), spherical=True).what

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_to_a_leaves_c_as_it_is(self, family):
        vae = vae_of(**FAMILIES[family])
        assert vae.analogy("a b", "a b", "d c", config=SHORT) == vae.reconstruct(["d c"], config=SHORT)[0]
        assert isinstance(vae.analogy("a b", "e", "d c", config=SHORT), str)


class TestSpread:
    def test_its_deviation_is_that_of_draws_from_the_aggregate_posterior(self):
        means, std = random(ROWS, LATENT), np.array([0.2, 1.5, 0.7], np.float32)
        found = Spread.of(Codes(means, np.tile(std, (ROWS, 1))))
        draws = means[:, None] + std * random(ROWS, 20_000, LATENT, seed=1)
        np.testing.assert_allclose(found.mean, means.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.deviation, draws.reshape(-1, LATENT).std(0), rtol=5e-3)
        assert found.sentences == ROWS

    def test_without_noise_it_is_that_of_the_means(self):
        means = random(ROWS, LATENT)
        for codes, noiseless in ((Codes(means, np.ones_like(means)), True), (Codes(means, None), False)):
            np.testing.assert_allclose(Spread.of(codes, noiseless=noiseless).deviation, means.std(0), rtol=1e-5)

    def test_active_are_the_dimensions_whose_mean_varies(self):
        means = random(ROWS, LATENT) * np.array([1.0, 0.05, 0.3])
        found = Spread.of(Codes(means, np.ones_like(means)))
        assert found.active == found.chosen("active") == [0, 2]
        assert found.chosen("all") == [0, 1, 2]
        assert found.chosen([2, 0, 2]) == [2, 0]

    def test_a_dimension_that_is_not_there_is_refused_with_those_that_are(self):
        found = Spread.of(Codes(random(ROWS, LATENT), None))
        for dims in ([3], [0, -1]):
            assert "from 0 to 2" in refused("E297", found.chosen, dims).hint
        assert "no variance by dimension" in refused("E297", found.chosen, "active").what
        still = Spread.of(Codes(np.ones((ROWS, LATENT), np.float32), np.ones((ROWS, LATENT), np.float32)))
        assert "no dimension is active" in refused("E297", still.chosen, "active").what

    def test_a_single_sentence_has_none(self):
        refused("E348", vae_of().spread, ["a b"])


class LinearDecoder(TextVAE):
    """Writes W z, so that what a walk does to the text is known."""

    weight = np.array([3.0, -5.0, 0.25])

    def decode(self, z, **settings):
        return [f"{value:.6f}" for value in np.asarray(z) @ self.weight]


class TestWalk:
    @pytest.mark.parametrize("dim", range(LATENT))
    def test_a_linear_decoder_writes_a_line_with_the_slope_of_its_weight(self, dim):
        vae = LinearDecoder(tiny_vae(latent_dim=LATENT), WORDS)
        corpus = texts(ROWS)
        found = vae.spread(corpus)
        ((path, written),) = vae.traverse("a b c", found, [dim], reach=2.0, steps=5)
        code = vae.encode(["a b c"]).mean[0]
        assert path.t == [-2.0, -1.0, 0.0, 1.0, 2.0]
        others = code @ vae.weight - code[dim] * vae.weight[dim]
        codes = vae.encode(corpus)
        deviation = np.sqrt(codes.mean[:, dim].var() + np.square(codes.std[:, dim]).mean())
        expected = others + vae.weight[dim] * (codes.mean[:, dim].mean() + np.array(path.t) * deviation)
        np.testing.assert_allclose([float(text) for text in written], expected, atol=1e-4)
        own = others + vae.weight[dim] * (path.mean + path.own * path.deviation)
        np.testing.assert_allclose(own, code @ vae.weight, atol=1e-4)

    def test_on_a_sphere_every_point_has_length_one_and_the_value_of_its_place(self):
        z, found = unit(random(LATENT)), Spread.of(Codes(unit(random(ROWS, LATENT)), None))
        path = walk(z, 1, found, reach=9.0, steps=6, spherical=True)
        np.testing.assert_allclose(np.linalg.norm(path.z, axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(path.z[:, 1], found.mean[1] + np.array(path.t) * found.deviation[1], atol=1e-6)
        assert path.z[0, 1] == pytest.approx(-1.0)
        assert path.z[-1, 1] == pytest.approx(1.0)
        inner = path.z[2]
        assert inner[0] * z[2] == pytest.approx(inner[2] * z[0], abs=1e-6)

    def test_a_dimension_in_which_nothing_varies_has_one_place(self):
        found = Spread.of(Codes(np.full((ROWS, LATENT), 0.5, np.float32), None))
        path = walk(random(LATENT), 2, found, steps=4)
        assert (path.t, path.own) == ([0.0], 0.0)
        assert path.z[0, 2] == 0.5

    def test_one_step_is_the_mean_and_none_is_refused(self):
        found = Spread.of(Codes(random(ROWS, LATENT), None))
        assert walk(random(LATENT), 0, found, steps=1).t == [0.0]
        for steps in (0, 10**30):
            refused("E235", walk, random(LATENT), 0, found, steps=steps)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_family_can_be_walked(self, family):
        vae = vae_of(**FAMILIES[family])
        walks = vae.traverse("a b", vae.spread(texts(ROWS)), "all", steps=3, config=SHORT)
        assert [path.dim for path, _ in walks] == [0, 1, 2]
        assert [len(written) for _, written in walks] == [3, 3, 3]


class TestShift:
    def labelled(self, seed=0):
        """Codes of two labels, about 0 and about a known offset."""
        numbers = np.arange(ROWS) % 3 == 0
        offset = np.array([2.0, 0.0, -1.0], np.float32)
        means = 0.1 * random(ROWS, LATENT, seed=seed) + numbers[:, None] * offset
        store = TokenStore.from_texts(texts(ROWS), WORDS).with_labels(numbers.astype(np.int32), ["dull", "fine"])
        return FixedCodes(torch.from_numpy(means), std=0.3), store, means, offset

    def test_the_direction_is_the_difference_of_the_means(self):
        model, store, means, offset = self.labelled()
        found = label_direction(model, store, "fine")
        having = store.labels == 1
        np.testing.assert_allclose(found.vector, means[having].mean(0) - means[~having].mean(0), atol=1e-5)
        np.testing.assert_allclose(found.vector, offset, atol=0.1)
        assert (found.having, found.others) == (int(having.sum()), int((~having).sum()))
        np.testing.assert_allclose(label_direction(model, store, "dull").vector, -found.vector, atol=1e-6)

    def test_strength_one_brings_the_mean_of_the_others_to_that_of_the_label(self):
        model, store, means, _ = self.labelled()
        found, having = label_direction(model, store, "fine"), store.labels == 1
        moved = found.shifted(means[~having].mean(0)[None], 1.0)[0]
        np.testing.assert_allclose(moved, means[having].mean(0), atol=1e-5)
        np.testing.assert_allclose(
            np.linalg.norm(found.shifted(unit(means), 0.7, spherical=True), axis=1), 1, rtol=1e-5
        )

    @pytest.mark.parametrize("family", FAMILIES)
    def test_strength_zero_is_the_reconstruction(self, family):
        vae, corpus = vae_of(**FAMILIES[family]), texts(ROWS)
        direction = vae.direction("long", corpus, ["long" if len(text) > 7 else "short" for text in corpus])
        assert vae.shift(corpus[:5], direction, 0.0, config=SHORT) == vae.reconstruct(corpus[:5], config=SHORT)
        assert len(vae.shift(corpus[:5], direction, 2.0, config=SHORT)) == 5

    def test_what_cannot_be_shifted_is_refused_with_the_reason(self):
        model, store, *_ = self.labelled()
        assert "'dull', 'fine'" in refused("E347", label_direction, model, store, "good").hint
        alike = store.with_labels(np.ones(ROWS, np.int32), ["dull", "fine"])
        assert "every sentence" in refused("E347", label_direction, model, alike, "fine").what
        assert "no sentence here" in refused("E347", label_direction, model, alike, "dull").what
        refused("E346", vae_of().direction, "fine", texts(5))
        refused("E286", vae_of().direction, "fine", texts(5), ["fine"] * 4)
        assert "conditional" in refused("E296", conditional().direction, "east", texts(4), ["east", "west"] * 2).what


class TestKinds:
    def test_a_language_model_is_refused_by_every_verb(self):
        vae = TextVAE(tiny_vae(latent_dim=0), WORDS)
        for call in (
            lambda: vae.analogy("a", "b", "c"),
            lambda: vae.spread(texts(5)),
            lambda: vae.direction("x", texts(2), ["x", "y"]),
        ):
            assert "language model" in refused("E243", call).what

    def test_a_plain_autoencoder_can_do_all_of_it(self):
        vae, corpus = vae_of(noiseless=True), texts(ROWS)
        found = vae.spread(corpus)
        np.testing.assert_allclose(found.deviation, vae.encode(corpus).mean.std(0), rtol=1e-4)
        assert vae.traverse("a", found, [0], steps=2, config=SHORT)
        direction = vae.direction("x", corpus, ["x" if n % 2 else "y" for n in range(ROWS)])
        assert vae.shift(["a"], direction, config=SHORT)
        assert isinstance(vae.analogy("a", "b", "c", config=SHORT), str)

    def test_a_conditional_model_needs_the_label_of_each(self):
        vae = conditional()
        labels = ["east" if n % 2 else "west" for n in range(ROWS)]
        found = vae.spread(texts(ROWS), label=labels)
        assert vae.traverse("a b", found, [1], steps=2, config=SHORT, label="west")
        assert isinstance(vae.analogy("a", "b", "c", config=SHORT, label="east"), str)
        assert len(vae.neighbors(["a"], texts(ROWS), 2, label="east", corpus_label=labels)[0]) == 2
        refused("E282", vae.analogy, "a", "b", "c")
        refused("E282", vae.spread, texts(ROWS))


def test_a_large_corpus_is_measured_on_a_subset(monkeypatch):
    monkeypatch.setattr("seqvae.generation.attributes.AT_MOST", 13)
    model = FixedCodes(torch.from_numpy(random(ROWS, LATENT)), std=0.3)
    store = TokenStore.from_texts(texts(ROWS), WORDS)
    assert measure_spread(model, store).sentences == 13
    assert (measure_spread(model, store, seed=1).mean != measure_spread(model, store).mean).all()

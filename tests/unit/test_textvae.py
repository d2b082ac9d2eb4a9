"""TextVAE: strings in, strings out; defined at every edge, deterministic, the same in any batch and any thread."""

import inspect
import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from training_toys import WORDS, sentences, settings

import seqvae
from seqvae import textvae
from seqvae.errors import SeqVAEError
from seqvae.evaluation.report import EvalConfig
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.textvae import TextVAE

LATENT = 3
TEXTS = [*sentences(23, seed=7), "", "nothing known here", "w1 what w2"]
SAMPLE = DecodeConfig(strategy="sample", max_length=20)
SHORT = DecodeConfig(strategy="greedy", max_length=9)
"""Random weights often write in circles."""


def vae_of(latent_dim=LATENT, noiseless=False, batch_size=256) -> TextVAE:
    """Large random weights: sentences differ, and most end before the longest length."""
    torch.manual_seed(0)
    model = SeqVAE(ModelConfig(**settings()["model"] | {"latent_dim": latent_dim}), WORDS.vocab_size)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1.2, 1.2, generator=generator)
    return TextVAE(model, WORDS, noiseless=noiseless, batch_size=batch_size)


@pytest.fixture(scope="module")
def vae() -> TextVAE:
    return vae_of()


def refused(code, call, *args, **kwargs) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value


class TestShapes:
    def test_codes_are_one_row_for_each_text_in_its_order(self, vae):
        codes = vae.encode(TEXTS)
        assert len(codes) == len(TEXTS)
        assert codes.mean.shape == codes.std.shape == (len(TEXTS), LATENT)
        assert (codes.std > 0).all()
        backwards = vae.encode(TEXTS[::-1])
        np.testing.assert_allclose(backwards.mean[::-1], codes.mean, rtol=1e-5, atol=1e-6)
        assert len(np.unique(codes.mean.round(5), axis=0)) > 15

    def test_as_an_array_the_codes_are_their_means(self, vae):
        codes = vae.encode(TEXTS)
        assert np.array_equal(np.asarray(codes), codes.mean)
        assert np.asarray(codes, dtype=np.float64).dtype == np.float64
        assert vae.decode(codes, config=SHORT) == vae.decode(codes.mean, config=SHORT)

    def test_texts_come_back_one_for_each_code_in_its_order(self, vae):
        codes = vae.encode(TEXTS).mean
        texts = vae.decode(codes, config=SAMPLE)
        assert len(texts) == len(TEXTS)
        assert len(set(texts)) > 15
        assert vae.reconstruct(TEXTS, config=SAMPLE) == texts
        likeliest = vae.decode(codes, config=SHORT)
        assert [vae.decode(code[None], config=SHORT)[0] for code in codes] == likeliest
        assert len(set(likeliest)) > 1

    @pytest.mark.parametrize("kind", ["list", "float64", "torch", "torch with gradient"])
    def test_codes_may_come_as_any_array_of_numbers(self, vae, kind):
        codes = vae.encode(TEXTS[:4]).mean
        given = {
            "list": codes.tolist,
            "float64": lambda: codes.astype(np.float64),
            "torch": lambda: torch.from_numpy(codes),
            "torch with gradient": lambda: torch.from_numpy(codes).requires_grad_(),
        }[kind]()
        assert vae.decode(given, config=SHORT) == vae.decode(codes, config=SHORT)

    @pytest.mark.parametrize("shape", [(LATENT,), (2, LATENT + 1), (1, 2, LATENT), ()])
    def test_codes_of_another_shape_are_refused_with_the_shape_that_fits(self, vae, shape):
        error = refused("E240", vae.decode, np.zeros(shape))
        assert str(shape) in error.what
        assert f"(n, {LATENT})" in error.hint

    @pytest.mark.parametrize("codes", ["abc", [[1.0, 2.0, 3.0], [1.0]], [[None, 1.0, 2.0, {}]]])
    def test_what_is_no_array_of_numbers_is_refused(self, vae, codes):
        assert "not an array of numbers" in refused("E240", vae.decode, codes).what

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_code_that_is_not_finite_is_refused(self, vae, bad):
        refused("E234", vae.decode, np.full((2, LATENT), bad))


class TestEdges:
    def test_nothing_gives_nothing(self, vae):
        codes = vae.encode([])
        assert codes.mean.shape == codes.std.shape == (0, LATENT)
        assert vae.decode(codes) == vae.decode([]) == vae.decode(np.zeros((0, LATENT))) == []
        assert vae.reconstruct([]) == vae.sample(0) == []
        assert vae.score([]).nats.shape == (0,)

    @pytest.mark.parametrize("text", ["", "   ", "no word of it is known", "w1", "<pad> <bos> <eos> <unk>"])
    def test_every_text_is_a_sentence(self, vae, text):
        codes = vae.encode([text])
        assert np.isfinite(codes.mean).all()
        assert isinstance(vae.reconstruct([text], config=SHORT)[0], str)
        assert vae.score([text]).nats[0] > 0

    def test_an_empty_text_has_the_code_of_white_space(self, vae):
        assert np.array_equal(vae.encode([""]).mean, vae.encode([" \t "]).mean)

    def test_what_a_code_makes_likely_is_what_decoding_from_it_finds(self, vae):
        """log p of each drawn text at its own code, from stepping through it; at another's, as if it stood there."""
        codes, config = vae.encode(TEXTS[:6]).mean, DecodeConfig(strategy="sample", max_length=90)
        decoded = decode(vae.model, torch.from_numpy(codes), config, torch.Generator().manual_seed(1))
        ended = [number for number, cut in enumerate(decoded.truncated) if not cut]
        assert len(ended) > 2
        texts = [WORDS.decode(decoded.tokens[number]) for number in ended]
        found = vae.log_probs_at(texts, codes)
        assert found.shape == (len(ended), 6)
        expected = [decoded.log_probs[number] for number in ended]
        np.testing.assert_allclose(found[range(len(ended)), ended], expected, rtol=1e-5)
        np.testing.assert_allclose(vae.log_probs_at(texts, codes[[4, 1]]), found[:, [4, 1]], rtol=1e-5)

    @pytest.mark.parametrize("path", ["slerp", "lerp"])
    @pytest.mark.parametrize(("a", "b"), [("w1 w2", "w5"), ("w1 w2", "w1 w2"), ("", ""), ("", "unheard of")])
    def test_a_way_has_as_many_steps_as_asked_for_and_ends_in_the_reconstructions(self, vae, a, b, path):
        for steps in (1, 2, 5):
            way = vae.interpolate(a, b, steps, path=path, config=SHORT)
            assert [t for t, _ in way] == pytest.approx(np.linspace(0, 1, steps).tolist())
            assert way[0][1] == vae.reconstruct([a], config=SHORT)[0]
            assert way[-1][1] == vae.reconstruct([b if steps > 1 else a], config=SHORT)[0]

    def test_a_way_of_no_steps_is_refused(self, vae):
        refused("E235", vae.interpolate, "w1", "w2", 0)

    def test_one_text_instead_of_a_list_is_refused(self, vae):
        for call in (vae.encode, vae.reconstruct, vae.score, vae.fit_aggregate):
            assert "[text]" in refused("E244", call, "w1 w2").hint
        refused("E244", seqvae.evaluate, vae, "w1 w2")

    def test_what_is_no_text_is_refused_with_its_place(self):
        unchecked = inspect.unwrap(textvae.listed)  # the machine that checks shapes in tests would be first
        assert "int at place 1" in refused("E244", unchecked, ["w1", 2]).what

    def test_a_negative_number_of_samples_is_refused(self, vae):
        assert "-3" in refused("E242", vae.sample, -3).what


class TestKinds:
    def test_a_language_model_samples_and_has_no_codes(self):
        model = vae_of(latent_dim=0)
        assert len(model.sample(5)) == 5
        assert len(model.score(TEXTS)) == len(TEXTS)
        for verb, call in {
            "encode": lambda: model.encode(["w1"]),
            "decode": lambda: model.decode([[0.0]]),
            "reconstruct": lambda: model.reconstruct(["w1"]),
            "fit_aggregate": lambda: model.fit_aggregate(["w1", "w2"]),
            "interpolate": lambda: model.interpolate("w1", "w2"),
        }.items():
            assert "language model" in refused("E243", call).what, verb

    def test_a_plain_autoencoder_has_no_prior(self):
        model = vae_of(noiseless=True)
        assert "no prior" in refused("E241", model.sample, 2).what
        assert len(model.reconstruct(TEXTS)) == len(TEXTS)
        assert len(model.interpolate("w1", "w2", 3)) == 3
        assert model.score(TEXTS).by == "rec"


class TestDeterminism:
    def test_the_same_call_gives_the_same_answer(self, vae):
        def answers():
            way = vae.interpolate("w1 w2", "w5", 4)
            codes, scores = vae.encode(TEXTS).mean.tolist(), vae.score(TEXTS, by="iw").nats.tolist()
            return codes, scores, vae.reconstruct(TEXTS[:9]), vae.sample(9), way

        torch.manual_seed(1)
        np.random.seed(1)
        first = answers()
        torch.manual_seed(2)
        np.random.seed(2)
        assert answers() == first

    def test_the_random_numbers_of_the_program_are_left_alone(self, vae):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        vae.reconstruct(TEXTS, config=SAMPLE)
        vae.sample(4)
        vae.sample(4, seed=None)
        vae.score(TEXTS)
        vae.fit_aggregate(TEXTS)
        assert torch.equal(torch.get_rng_state(), before)

    def test_another_seed_gives_other_samples(self, vae):
        assert vae.sample(30, seed=1) == vae.sample(30, seed=1) != vae.sample(30, seed=2)
        assert vae.sample(30, seed=None) != vae.sample(30, seed=None)
        codes = vae.encode(TEXTS)
        assert vae.decode(codes, config=SAMPLE, seed=1) != vae.decode(codes, config=SAMPLE, seed=2)

    @pytest.mark.parametrize("batch_size", [1, 3, 25])
    def test_nothing_depends_on_the_batch_size(self, vae, batch_size):
        other = vae_of(batch_size=batch_size)
        np.testing.assert_allclose(other.encode(TEXTS).mean, vae.encode(TEXTS).mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(other.encode(TEXTS).std, vae.encode(TEXTS).std, rtol=1e-5, atol=1e-6)
        assert other.reconstruct(TEXTS, config=SHORT) == vae.reconstruct(TEXTS, config=SHORT)
        assert other.reconstruct(TEXTS, config=SAMPLE, seed=5) == vae.reconstruct(TEXTS, config=SAMPLE, seed=5)
        assert other.sample(26, seed=5, config=SAMPLE) == vae.sample(26, seed=5, config=SAMPLE)
        ways = [each.interpolate("w1 w2", "w5", 26, config=SHORT) for each in (other, vae)]
        assert ways[0] == ways[1]

    def test_pieces_with_one_generator_are_drawn_as_the_whole(self, vae):
        codes, generator = vae.encode(TEXTS), torch.Generator().manual_seed(5)
        pieces = [vae.decode(codes.mean[rows], config=SAMPLE, seed=generator) for rows in (slice(7), slice(7, None))]
        assert [*pieces[0], *pieces[1]] == vae.decode(codes, config=SAMPLE, seed=5)

    def test_threads_get_the_answers_that_one_alone_gets(self, vae):
        threads = 4

        def answers(number):
            texts = TEXTS[number:] + TEXTS[:number]
            config = DecodeConfig(strategy="beam", beam_size=2, max_length=9)
            codes = vae.encode(texts).mean.tolist()
            mixture = vae.fit_aggregate(texts, seed=number)
            return (
                codes,
                vae.reconstruct(texts, config=SHORT),
                vae.sample(9, seed=number, config=SAMPLE),
                vae.sample(9, seed=number, config=SAMPLE, source=mixture),
                vae.decode(codes, config=config),
                vae.interpolate(texts[0], texts[1], 3, config=SHORT),
                vae.score(texts, samples=3, seed=number).nats.tolist(),
            )

        alone = [answers(number) for number in range(threads)]
        filters = list(warnings.filters)  # what libraries change when they are first imported has been changed
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(2):
                assert list(pool.map(answers, range(threads))) == alone
        assert not vae.model.training
        assert warnings.filters == filters

    def test_a_model_that_is_in_evaluation_mode_is_not_written_to(self, vae, monkeypatch):
        """What no thread writes, no thread can find half-written by another."""

        def written(module, name, value):
            raise AssertionError(f"{name} of {type(module).__name__} was set")

        codes = vae.encode(TEXTS)
        monkeypatch.setattr(torch.nn.Module, "__setattr__", written)
        vae.encode(TEXTS)
        vae.decode(codes, config=SAMPLE)
        vae.score(TEXTS)
        vae.sample(3)
        vae.fit_aggregate(TEXTS)

    def test_no_dropout_and_no_gradient(self, vae):
        assert not any(module.training for module in vae.model.modules())
        vae.reconstruct(TEXTS)
        assert all(parameter.grad is None for parameter in vae.model.parameters())


class TestUnknownWords:
    def test_they_are_not_written_unless_allowed(self, vae):
        config = DecodeConfig(strategy="sample", max_length=20, allow_unk=True)
        assert not any("<unk>" in text for text in vae.sample(60, seed=2))
        assert any("<unk>" in text for text in vae.sample(60, seed=2, config=config))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_diverged_gives_no_codes(bad):
    model = vae_of()
    next(model.model.encoder.parameters()).data.fill_(bad)
    refused("E234", model.encode, ["w1"])


def test_scores_are_the_numbers_of_the_evaluation(vae):
    scores = vae.score(TEXTS, by="iw", samples=9, seed=2)
    report = seqvae.evaluate(vae, TEXTS, config=EvalConfig(iw_samples=9, seed=2))
    assert (scores.iw.mean(), scores.elbo.mean()) == (report.iw_nats, report.elbo_nats)
    assert scores.tokens.sum() == report.tokens
    assert np.array_equal(scores.nats, scores.iw)
    with pytest.raises(FrozenInstanceError):
        scores.nats = None


def test_a_model_is_evaluated_on_texts(vae):
    report = seqvae.evaluate(vae, TEXTS, split="mine")
    assert report.sentences == len(TEXTS)
    assert report.split == "mine"
    assert report.elbo_nats == pytest.approx(report.rec_nats + report.kl_nats)


def test_a_text_of_python_is_the_line_of_a_file_that_it_would_be(vae):
    lines = [f"{text}{end}" for text, end in zip(("a b", "c d", "e f"), ("\n", "\r\n", ""), strict=True)]
    np.testing.assert_array_equal(vae.score(lines).nats, vae.score(["a b", "c d", "e f"]).nats)
    assert textvae.listed(["a\nb\r\nc\n\n", "a\rb\r"]) == ["a b c ", "a\rb\r"]


def test_a_word_that_is_no_choice_is_refused_before_anything_is_done():
    """In a process of its own: here the types of all arguments are checked."""
    code = """
        import sys
        from test_textvae import vae_of
        from seqvae.errors import SeqVAEError

        vae = vae_of()
        calls = [
            lambda: vae.neighbors(["a"], ["b", "c"], by="l2"),
            lambda: vae.interpolate("a", "b", path="Slerp"),
            lambda: vae.score(["a"], by="nll"),
        ]
        for call in calls:
            try:
                call()
            except SeqVAEError as error:
                print(error.code, error.what, error.hint, sep=" | ")
    """
    here = Path(__file__).parent
    places = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "E287 | `by` cannot be 'l2' | choose from: cosine, euclidean",
        "E287 | `path` cannot be 'Slerp' | choose from: slerp, lerp",
        "E287 | `by` cannot be 'nll' | choose from: elbo, iw, rec",
    ], done.stderr


def test_numbers_of_numpy_are_numbers(vae):
    assert vae.sample(3, seed=np.int64(5)) == vae.sample(3, seed=5)
    assert vae.fit_aggregate(["a b", "c d", "e f"], seed=2**33 + 5).sentences == 3


def test_devices_are_named_as_on_the_command_line(vae):
    assert vae.to("auto").model.device.type in ("cpu", "cuda", "mps")
    with pytest.raises(SeqVAEError, match="E207"):
        vae.to("cuda:99")
    assert vae.to("cpu") is vae

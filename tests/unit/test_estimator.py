"""The transformer behaves as scikit-learn expects, and gives what the model gives."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from typer.testing import CliRunner

import seqvae
from seqvae.cli.app import app
from seqvae.errors import SeqVAEError
from seqvae.estimator import TextVAETransformer

TEXTS = [f"{who} {did} {what}" for who in ("she", "tom", "we") for did in ("saw", "liked") for what in ("tea", "cake")]
TEXTS = [f"{text} {when}" for text in TEXTS for when in ("today", "at noon", "again", "")] * 3
LABELS = [text.split()[0] for text in TEXTS]
QUICK = {"train.epochs": 1, "train.steps": 4, "train.device": "cpu", "train.threads": 1, "model.latent_dim": 3}
QUICK |= {f"model.{part}.{size}": 7 for part in ("encoder", "decoder") for size in ("embedding", "hidden")}


@pytest.fixture(scope="module")
def fitted():
    return TextVAETransformer(QUICK).fit(TEXTS)


def test_codes_are_the_posterior_means_of_the_model(fitted):
    codes = fitted.transform(TEXTS[:5])
    assert codes.shape == (5, 3)
    np.testing.assert_array_equal(codes, fitted.vae_.encode(TEXTS[:5]).mean)
    assert fitted.inverse_transform(codes) == fitted.vae_.decode(codes)
    assert fitted.get_feature_names_out().tolist() == ["z0", "z1", "z2"]


def test_the_same_seed_gives_the_same_codes_and_another_one_others(fitted):
    codes = fitted.transform(TEXTS[:5])
    np.testing.assert_array_equal(clone(fitted).fit(TEXTS).transform(TEXTS[:5]), codes)
    assert not np.array_equal(TextVAETransformer(QUICK, random_state=7).fit(TEXTS).transform(TEXTS[:5]), codes)


def test_it_works_in_a_pipeline(fitted):
    pipeline = make_pipeline(TextVAETransformer(QUICK), LogisticRegression()).fit(TEXTS, LABELS)
    assert set(pipeline.predict(TEXTS[:9])) <= set(LABELS)


def test_the_run_is_kept_where_it_is_asked_for(tmp_path):
    fitted = TextVAETransformer(QUICK, out=tmp_path / "run").fit(TEXTS)
    kept = seqvae.load(tmp_path / "run")
    np.testing.assert_array_equal(kept.encode(TEXTS[:3]).mean, fitted.transform(TEXTS[:3]))


def test_a_kept_run_keeps_its_texts_and_can_be_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    TextVAETransformer(QUICK, out=tmp_path / "run").fit(TEXTS)
    texts = tmp_path / "run.texts.jsonl"
    assert [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()] == TEXTS
    done = CliRunner().invoke(app, ["eval", "--model", str(tmp_path / "run"), "--iw-samples", "2"])
    assert done.exit_code == 0, done.stderr
    with pytest.raises(SeqVAEError, match="E704"):
        TextVAETransformer(QUICK, out=tmp_path / "run").fit(["other texts"] * 30)
    assert "other" not in texts.read_text(encoding="utf-8")


CHECKS = (
    *("estimator_cloneable", "estimator_repr", "estimator_tags_renamed", "valid_tag_types", "set_params"),
    *("no_attributes_set_in_init", "get_params_invariance", "parameters_default_constructible"),
)
"""Those of scikit-learn that need no table of numbers."""


@pytest.mark.parametrize("check", CHECKS)
def test_the_checks_of_scikit_learn_that_apply_pass(check):
    getattr(estimator_checks, f"check_{check}")("TextVAETransformer", TextVAETransformer())


def test_what_was_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        TextVAETransformer().transform(TEXTS)


def test_what_is_no_list_of_texts_is_refused():
    with pytest.raises(SeqVAEError) as caught:
        TextVAETransformer(QUICK).fit("one text")
    assert caught.value.code == "E244"


def test_half_a_character_is_told_with_its_row():
    with pytest.raises(SeqVAEError, match="surrogate") as caught:
        TextVAETransformer().fit(["a cat sat"] * 40 + ["a \ud83d cat"])
    assert caught.value.code == "E303"


def test_a_model_without_a_code_is_no_transformer():
    with pytest.raises(SeqVAEError, match="language model") as caught:
        TextVAETransformer(QUICK | {"model.latent_dim": 0, "objective.strategies": []}).fit(TEXTS)
    assert caught.value.code == "E243"

"""What the page is told agrees with what the library says when it is asked the same."""

import numpy as np
import pytest
from explored import ATTACK, SENTENCES
from sklearn.decomposition import PCA

from seqvae.errors import SeqVAEError
from seqvae.generation.decoding import DecodeConfig
from seqvae.web import requests
from seqvae.web.atlas import Map

A, B = "the cat saw a cake", "my friend liked some tea at night"


def test_the_corpus_is_shown_as_it_stands_in_the_file_with_all_its_labels(explorer):
    texts = explorer.texts()
    assert len(texts["texts"]) == SENTENCES
    assert texts["texts"][100] == ATTACK
    assert texts["lines"] == list(range(1, SENTENCES + 1))
    labels = {each["title"]: each for each in explorer.about()["columns"] if "classes" in each}
    assert labels["meal"]["classes"] == ["<b>drink</b>", "food"]
    assert set(labels["who"]["classes"]) == {"the", "a", "my", "she", "markup"}
    numbers = explorer.column(labels["meal"]["name"])
    assert [labels["meal"]["classes"][i] == "<b>drink</b>" for i in numbers] == [
        "tea" in text for text in texts["texts"]
    ]


def test_the_map_is_the_principal_components_of_the_codes(explorer):
    xy = explorer.atlas.maps["pca"].xy
    theirs = PCA(2).fit_transform(explorer.vae.encode(explorer.corpus.store).mean)
    for ours, other in zip(xy.T, theirs.T, strict=True):
        assert abs(np.corrcoef(ours, other)[0, 1]) == pytest.approx(1, abs=1e-4)
    assert np.abs(xy).max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("linear", [True, False])
def test_a_code_of_the_corpus_is_drawn_where_its_sentence_is(explorer, linear):
    drawn, means = explorer.atlas.maps["pca"], explorer.atlas.codes.mean
    drawn = drawn if linear else Map(name="other", xy=drawn.xy)
    np.testing.assert_allclose(drawn.place(means[:7], means), drawn.xy[:7], atol=1e-4)


def test_a_sentence_is_told_its_code_what_comes_back_and_what_lies_near(explorer):
    vae, found = explorer.vae, explorer.sentence(requests.SentenceRequest(text=A, neighbors=3))
    codes = vae.encode([A])
    assert found["mean"] == codes.mean[0].tolist()
    assert found["std"] == codes.std[0].tolist()
    assert found["reconstruction"]["text"] == vae.reconstruct([A])[0]
    near = vae.neighbors([A], explorer.corpus.store, 3)[0]
    assert [each["score"] for each in found["neighbors"]] == [each.score for each in near]
    assert [explorer.corpus.texts[each["row"]] for each in found["neighbors"]] == [each.text for each in near]
    assert found["score"]["nats"] == pytest.approx(vae.score([A]).nats[0])
    assert explorer.sentence(requests.SentenceRequest(text="the zebra saw a cake"))["unknown"] == ["zebra"]


def test_the_probability_of_a_text_is_what_the_decoder_gives_it(explorer):
    found = explorer.sentence(requests.SentenceRequest(text=A))
    back = found["reconstruction"]
    # At the same code, teacher-forced: -log p(x|z) of the text that came back.
    import torch

    from seqvae.data.batching import collate
    from seqvae.data.store import TokenStore

    store = TokenStore.from_texts([back["text"]], explorer.vae.tokenizer)
    with torch.no_grad():
        terms = explorer.vae.model.terms(collate(store, np.array([0])), z=torch.tensor([[found["mean"]]]))
    assert back["log_prob"] == pytest.approx(-float(terms.rec), abs=1e-4)


def test_the_words_that_a_code_makes_likelier_are_those_that_it_writes_more_often(explorer):
    """The expected number of a word falls between 0 and the places of the sentence; the likelier are sorted."""
    words = explorer.sentence(requests.SentenceRequest(text=B))["words"]
    rises = [each["here"] - each["elsewhere"] for each in words["more"]]
    falls = [each["here"] - each["elsewhere"] for each in words["less"]]
    assert rises == sorted(rises, reverse=True)
    assert falls == sorted(falls)
    assert min(rises) > 0 > max(falls)
    back = explorer.vae.reconstruct([B])[0].split()
    assert {each["word"] for each in words["more"][:3]} & set(back)


@pytest.mark.parametrize("kind", ["slerp", "lerp"])
def test_a_path_is_the_path_of_the_library(explorer, kind):
    found = explorer.path(requests.PathRequest(a=A, b=B, steps=9, path=kind))
    assert [(each["t"], each["text"]) for each in found["steps"]] == explorer.vae.interpolate(A, B, 9, path=kind)
    assert len(found["places"]["pca"]) == 9
    assert all(each["log_prob"] < 0 for each in found["steps"])


def test_sliders_sums_samples_and_gaps_are_those_of_the_library(explorer):
    vae = explorer.vae
    z = vae.encode([A]).mean[0]
    assert explorer.decode(requests.DecodeRequest(z=z.tolist()))["text"] == vae.decode(z[None])[0]
    terms = [{"text": text, "weight": weight} for text, weight in ((A, -1), (B, 1), ("she ate a cake", 1))]
    assert explorer.sum(requests.SumRequest(terms=terms))["text"] == vae.analogy(A, B, "she ate a cake")
    drawn = explorer.sample(requests.SampleRequest(n=6, temperature=0.8, top_p=0.9, seed=4))["texts"]
    config = DecodeConfig(temperature=0.8, top_p=0.9, max_length=explorer.decoding.max_length)
    assert drawn == vae.sample(6, seed=4, config=config)
    filled = explorer.fill(requests.FillRequest(text="the ___ saw a cake", n=3))["found"]
    assert [each["text"] for each in filled] == [each.text for each in vae.impute(["the ___ saw a cake"], 3)[0]]
    walk = explorer.walk(requests.WalkRequest(text=A, dim=2))
    ((own, texts),) = vae.traverse(A, explorer.atlas.spread, [2])
    assert (walk["t"], walk["texts"]) == (own.t, texts)


def test_the_run_tells_its_curves_and_a_diagnosis_its_verdict(explorer):
    run = explorer.about()["run"]
    steps = run["curves"]["train"]["step"]
    assert steps == sorted(steps)
    assert len(steps) == len(run["curves"]["train"]["elbo_nats"]) > 10
    assert [each["name"] for each in run["methods"]] == ["free_bits"]
    found = explorer.diagnose(wait=True)
    assert found["sentences"] == SENTENCES
    assert found["verdict"]["text"]


def test_what_was_encoded_once_comes_from_the_cache(explorer, place, monkeypatch):
    from seqvae.web.atlas import Atlas

    monkeypatch.setenv("SEQVAE_CACHE", str(place / "cache"))
    monkeypatch.setattr(type(explorer.vae), "encode", lambda *_, **__: pytest.fail("encoded again"))
    again = Atlas(explorer.vae, explorer.corpus)
    np.testing.assert_array_equal(again.codes.mean, explorer.atlas.codes.mean)


def test_a_map_that_cannot_be_made_says_what_to_install(explorer, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SeqVAEError, match="UMAP is not installed") as refused:
        explorer.atlas.map("umap")
    assert refused.value.code == "E431"


def test_texts_and_weights_of_a_sum_have_to_be_as_many(explorer):
    with pytest.raises(SeqVAEError) as refused:
        explorer.vae.combine([A, B], [1.0])
    assert refused.value.code == "E430"

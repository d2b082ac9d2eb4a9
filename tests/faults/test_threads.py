"""Sixteen threads on one loaded model get what one alone gets, bit by bit."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from training_toys import WORDS, sentences, settings

import seqvae
from seqvae.data.char_tokenizer import CharTokenizer
from seqvae.data.sentencepiece_tokenizer import SentencePieceTokenizer, SentencePieceTokenizerConfig
from seqvae.evaluation.report import EvalConfig
from seqvae.generation.decoding import DecodeConfig
from seqvae.io import pretrained
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.objectives.registry import build_strategy
from seqvae.objectives.semi_amortised import SemiAmortisedConfig
from seqvae.textvae import TextVAE

THREADS = 16
SHORT = DecodeConfig(strategy="greedy", max_length=7)
TEXTS = [*sentences(THREADS, seed=3), "", "nothing known here"]

KINDS = {
    "words": (WORDS, {}, ()),
    "characters": (CharTokenizer(list("w 0123456789")), {"encoder.cell": "gru", "decoder.cell": "gru"}, ()),
    "pieces": (None, {"posterior": {"family": "iaf", "hidden": 5, "context": 4}}, ()),
    "refined": (WORDS, {}, (SemiAmortisedConfig(steps=2),)),
    "language model": (WORDS, {"latent_dim": 0}, ()),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    tokenizer, changes, refiners = KINDS[request.param]
    if tokenizer is None:
        tokenizer = SentencePieceTokenizer.train(sentences(50), SentencePieceTokenizerConfig(vocab_size=272))
    torch.manual_seed(0)
    model = SeqVAE(ModelConfig(**settings(model=changes)["model"]), tokenizer.vocab_size)
    model.refiners = tuple(map(build_strategy, refiners))
    place = tmp_path_factory.mktemp("models") / "model"
    pretrained.save(place, TextVAE(model, tokenizer), facts={})
    return place


def answers(vae: TextVAE, number: int) -> list:
    """What one caller asks for, in an order of its own."""
    texts = TEXTS[number:] + TEXTS[:number]
    asks = [
        lambda: vae.sample(5, seed=number, config=DecodeConfig(max_length=8)),
        lambda: vae.score(texts[:7], samples=2, seed=number).nats.tolist(),
    ]
    if number % 8 == 0:  # the whole report: it costs as much as all the others
        asks.append(lambda: seqvae.evaluate(vae, texts[:3], config=EvalConfig(iw_samples=2)).to_dict())
    if vae.latent_dim:
        asks += [
            lambda: vae.encode(texts).mean.tolist(),
            lambda: vae.reconstruct(texts[:5], config=SHORT),
            lambda: vae.interpolate(texts[0], texts[1], 3, config=SHORT),
            lambda: vae.decode(vae.encode(texts[:3]), config=DecodeConfig(strategy="beam", beam_size=2, max_length=7)),
        ]
    found = [None] * len(asks)
    for place in random.Random(number).sample(range(len(asks)), len(asks)):
        found[place] = asks[place]()
    return found


def test_sixteen_threads_get_the_answers_that_one_alone_gets(folder):
    vae = seqvae.load(folder)
    before = {name: tensor.clone() for name, tensor in vae.model.state_dict().items()}
    trained = [parameter.requires_grad for parameter in vae.model.parameters()]
    alone = [answers(vae, number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(lambda number: answers(vae, number), range(THREADS))) == alone
    assert not vae.model.training
    assert [parameter.requires_grad for parameter in vae.model.parameters()] == trained
    assert all(parameter.grad is None for parameter in vae.model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.model.state_dict().items())


def test_sixteen_threads_load_the_same_model(folder):
    alone = seqvae.load(folder)
    with ThreadPoolExecutor(THREADS) as pool:
        for vae in pool.map(lambda _: seqvae.load(folder), range(THREADS)):
            assert all(
                torch.equal(tensor, alone.model.state_dict()[name]) for name, tensor in vae.model.state_dict().items()
            )
            assert vae.tokenizer.fingerprint() == alone.tokenizer.fingerprint()

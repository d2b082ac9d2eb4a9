"""The textbook that speed is measured against does the same mathematics: losses, gradients, sentences and bounds."""

import numpy as np
import pytest
import torch
from model_toys import VOCAB, batch_of, tiny_vae
from torch import nn

from benchmarks.textbook import FORBIDDEN, SAME, Textbook, Training, _recurrent
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import WordTokenizer
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.passes import row_seed
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.objectives.base import Objective
from seqvae.objectives.beta import Beta, BetaConfig
from seqvae.types import BOS, EOS, UNK

LATENT = 3
WEIGHT = 0.3
PACKED, EQUAL = (7, 2, 5, 9, 3), (6, 6, 6, 6)


def pair(*, dropout: float = 0.0, dropout_out: float = 0.0, tied: bool = False, scale: float = 1.0):
    sizes = {"embedding": 8 if tied else 7, "hidden": 8, "layers": 1, "output_bias": False, "tie_weights": tied}
    model = tiny_vae(
        LATENT,
        encoder={"dropout": dropout},
        decoder=sizes | {"dropout_in": dropout, "dropout_out": dropout_out},
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model, Textbook.like(model).eval()


def losses(model, book, batch):
    """Both, per sentence, from the same noise and the same dropout."""
    objective = Objective(model, [Beta(BetaConfig(beta=WEIGHT))])
    torch.manual_seed(5)
    ours, _ = objective(batch, 0, torch.Generator().manual_seed(9))
    torch.manual_seed(5)
    theirs = book.loss(batch.tokens, batch.lengths, WEIGHT, torch.Generator().manual_seed(9))
    return ours / len(batch), theirs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("lengths", "dropout", "dropout_out"),
    # What is unpacked lies in another order in memory, which is the order in which dropout draws.
    [(PACKED, 0.0, 0.0), (PACKED, 0.4, 0.0), (EQUAL, 0.0, 0.0), (EQUAL, 0.4, 0.4)],
)
def test_losses_and_gradients_are_the_same(lengths, dropout, dropout_out, tied):
    model, book = pair(dropout=dropout, dropout_out=dropout_out, tied=tied)
    model.train(), book.train()
    ours, theirs = losses(model, book, batch_of(lengths))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    ours.backward(), theirs.backward()
    gradients = dict(model.named_parameters())
    for name, parameter in book.named_parameters():
        expected = gradients[SAME.get(name, _recurrent(name))].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6, msg=name)
    assert len(list(book.parameters())) == len(gradients)


def test_dropout_and_kl_weight_are_part_of_what_is_compared():
    batch = batch_of(EQUAL)
    plain, dropped = (losses(*(each.train() for each in pair(dropout=rate)), batch) for rate in (0.0, 0.4))
    assert abs((plain[1] - dropped[1]).item()) > 1e-2
    _, book = pair()
    one, other = (book.loss(batch.tokens, batch.lengths, w, torch.Generator().manual_seed(9)) for w in (0.3, 0.4))
    assert abs((one - other).item()) > 1e-2


def test_training_goes_the_same_way():
    """Ten updates of each from the same weights, data and seeds."""
    model, book = pair(dropout=0.2, scale=0.5)
    objective = Objective(model.train(), [Beta(BetaConfig(beta=WEIGHT))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    training = Training(book, lr=1e-2, clip_norm=0.5, generator=torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(1)
    for step in range(10):
        batch = batch_of(PACKED, seed=step)
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss, _ = objective(batch, step, noise)
        (loss / len(batch)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        torch.manual_seed(step)
        sentences = [row[:length] for row, length in zip(batch.tokens, batch.lengths, strict=True)]
        assert training.step(sentences, WEIGHT) == pytest.approx(loss.item() / len(batch), rel=1e-4)


def codes(count: int) -> torch.Tensor:
    return torch.randn(count, LATENT, generator=torch.Generator().manual_seed(2))


def test_greedy_sentences_are_the_same():
    model, book = pair(scale=3.0)
    z = codes(40)
    found = decode(model, z, DecodeConfig(strategy="greedy", max_length=12)).tokens
    assert found == [book.write(code, 12) for code in z]
    assert len({tuple(words) for words in found}) > 5


@pytest.mark.parametrize("size", [1, 2, 5])
def test_beam_sentences_are_the_same(size):
    model, book = pair(scale=2.0)
    z = codes(40)
    found = decode(model, z, DecodeConfig(strategy="beam", beam_size=size, max_length=12)).tokens
    assert found == [book.beam(code, 12, size) for code in z]
    assert len({tuple(words) for words in found}) > 5


def test_sampled_tokens_have_the_frequencies_of_the_model():
    model, book = pair(scale=1.0)
    z, draws = codes(1), 3000
    with torch.no_grad():
        logits, _ = model.decoder.step(torch.tensor([BOS]), z, model.decoder.start(z))
    logits[:, FORBIDDEN] = -torch.inf
    expected = torch.softmax(logits[0], -1).numpy()
    torch.manual_seed(0)
    first = [words[0] if words else EOS for words in (book.write(z[0], 1, draw=True) for _ in range(draws))]
    counts = np.bincount(first, minlength=VOCAB)
    assert (np.abs(counts - draws * expected) < 4.5 * np.sqrt(expected * (1 - expected) * draws) + 1e-9).all()
    assert counts[UNK] == 0 < counts[EOS]


@pytest.mark.parametrize("together", [4, 100])
def test_importance_weighted_bounds_are_the_same(together):
    model, book = pair()
    words = WordTokenizer([f"w{i}" for i in range(VOCAB - 4)])
    store = TokenStore.from_texts(["w0 w3 w1", "", "w6 w6 w2 w5 w4", "w1"], words)
    ours = elbo_and_iw(model, store, samples=11, seed=4).iw
    for row in range(len(store)):
        noise = torch.Generator().manual_seed(row_seed(4, row))
        sentence = torch.from_numpy(store[row].astype(np.int64))
        assert book.iw_nll(sentence, 11, together, noise) == pytest.approx(ours[row], rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"decoder": {"layers": 2, "output_bias": False}},
        {"decoder": {"layers": 1, "output_bias": False}, "encoder": {"bidirectional": True}},
        {"decoder": {"layers": 1, "output_bias": False, "cell": "gru"}},
        {"latent_dim": 0, "decoder": {"layers": 1, "output_bias": False}},
        {"decoder": {"layers": 1, "output_bias": False}, "prior": {"family": "mixture"}},
    ],
)
def test_another_network_is_refused(settings):
    with pytest.raises(ValueError, match="no such network"):
        Textbook.like(tiny_vae(**settings))

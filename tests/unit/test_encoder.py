"""The encoder against packed nn.LSTM and nn.GRU, and that a sentence's features are its own."""

import itertools

import pytest
import torch
from model_toys import LENGTHS, VOCAB, batch_of, company, spread
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqvae.models.encoder import Encoder, EncoderConfig
from seqvae.models.recurrent import reversed_index

EMBEDDING, HIDDEN = 5, 6

every_kind = pytest.mark.parametrize(
    ("pooling", "bidirectional", "layers", "cell"),
    [
        *itertools.product(["last", "mean", "max"], [False, True], [1, 2, 3], ["lstm"]),
        *itertools.product(["last", "mean", "max"], [False, True], [1, 2], ["gru"]),
    ],
)


def encoder_of(pooling="last", bidirectional=False, layers=1, cell="lstm", dropout=0.0):
    config = EncoderConfig(
        cell=cell,
        embedding=EMBEDDING,
        hidden=HIDDEN,
        layers=layers,
        bidirectional=bidirectional,
        pooling=pooling,
        dropout=dropout,
    )
    return spread(Encoder(config, VOCAB))


def packed_reference(encoder, batch):
    """The same weights in one packed network: outputs of the last layer, and the last state of each direction."""
    bidirectional, layers = encoder.network.directions == 2, len(encoder.network.forwards)
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[encoder.config.cell]
    network = kind(EMBEDDING, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
    weights = {}
    for suffix, stack in (("", encoder.network.forwards), ("_reverse", encoder.network.backwards)):
        for layer, ours in enumerate(stack):
            for name, value in ours.state_dict().items():
                weights[name.replace("_l0", f"_l{layer}{suffix}")] = value
    network.load_state_dict(weights)
    packed = pack_padded_sequence(encoder.embedding(batch.tokens), batch.lengths, True, enforce_sorted=False)
    outputs, last = network(packed)
    last = last[0] if isinstance(last, tuple) else last
    outputs, _ = pad_packed_sequence(outputs, batch_first=True)
    return outputs, last.view(layers, -1, len(batch), HIDDEN)[-1].transpose(0, 1).flatten(1)


@every_kind
def test_features_are_those_of_a_packed_network(pooling, bidirectional, layers, cell):
    encoder, batch = encoder_of(pooling, bidirectional, layers, cell), batch_of()
    outputs, last = packed_reference(encoder, batch)
    sentences = [row[:length] for row, length in zip(outputs, LENGTHS, strict=True)]
    expected = {
        "last": lambda: last,
        "mean": lambda: torch.stack([sentence.mean(0) for sentence in sentences]),
        "max": lambda: torch.stack([sentence.max(0).values for sentence in sentences]),
    }[pooling]()
    found = encoder(batch.tokens, batch.lengths)
    assert found.shape == (len(LENGTHS), HIDDEN * (1 + bidirectional)) == (len(LENGTHS), encoder.features)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@every_kind
def test_features_do_not_depend_on_company_order_or_padding(pooling, bidirectional, layers, cell):
    encoder, batch = encoder_of(pooling, bidirectional, layers, cell), batch_of()
    expected = encoder(batch.tokens, batch.lengths)
    for name, (rows, other) in company(batch).items():
        found = encoder(other.tokens, other.lengths)
        torch.testing.assert_close(found, expected[rows], rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


@every_kind
def test_nothing_behind_the_end_of_a_sentence_is_read(pooling, bidirectional, layers, cell):
    """Other ids in the place of the padding change no feature, and no gradient reaches them."""
    encoder = encoder_of(pooling, bidirectional, layers, cell)
    clean = batch_of(width=12, vocab=VOCAB - 1)
    dirty = batch_of(width=12, vocab=VOCAB - 1, filler=VOCAB - 1)
    expected, found = encoder(clean.tokens, clean.lengths), encoder(dirty.tokens, dirty.lengths)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    gradient = encoder.embedding.weight.grad
    assert torch.equal(gradient[VOCAB - 1], torch.zeros(EMBEDDING))
    assert gradient[4 : VOCAB - 1].any(1).all()


@every_kind
def test_a_sentence_does_not_change_its_neighbour(pooling, bidirectional, layers, cell):
    encoder, batch = encoder_of(pooling, bidirectional, layers, cell), batch_of()
    before = encoder(batch.tokens, batch.lengths)
    tokens = batch.tokens.clone()
    tokens[3, 1:8] = 5
    after = encoder(tokens, batch.lengths)
    others = [0, 1, 2, 4]
    assert torch.equal(after[others], before[others])
    assert not torch.equal(after[3], before[3])


@every_kind
def test_every_token_of_a_sentence_is_read(pooling, bidirectional, layers, cell):
    encoder, batch = encoder_of(pooling, bidirectional, layers, cell), batch_of()
    embedded = encoder.embedding(batch.tokens).detach().requires_grad_()
    encoder.embedding.register_forward_hook(lambda *_: embedded)
    encoder(batch.tokens, batch.lengths).square().sum().backward()
    inside = torch.arange(max(LENGTHS)) < batch.lengths[:, None]
    reached = embedded.grad.any(-1)
    if pooling == "max" and not bidirectional:  # what no feature is largest at or after is not seen
        assert not (reached & ~inside).any()
        assert reached[:, 0].all()
    else:
        assert torch.equal(reached, inside)


def test_the_backward_direction_is_reversed_by_the_sentences_own_length():
    index = reversed_index(torch.tensor([3, 5, 2]), 6)
    assert index.tolist() == [[2, 1, 0, 3, 4, 5], [4, 3, 2, 1, 0, 5], [1, 0, 2, 3, 4, 5]]


def test_dropout_acts_in_training_only():
    encoder, batch = encoder_of(dropout=0.5), batch_of()
    torch.manual_seed(1)
    noisy = [encoder(batch.tokens, batch.lengths) for _ in range(2)]
    assert not torch.equal(*noisy)
    encoder.eval()
    still = [encoder(batch.tokens, batch.lengths) for _ in range(2)]
    assert torch.equal(*still)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
def test_features_are_fp32_under_autocast(pooling, cell):
    encoder, batch = encoder_of(pooling, True, 2, cell), batch_of()
    expected = encoder(batch.tokens, batch.lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(batch.tokens, batch.lengths)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)

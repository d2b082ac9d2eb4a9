"""Dropout with one mask for a sentence, beside dropout by token."""

import pytest
import torch
from model_toys import LATENT, VOCAB
from torch import nn

from seqvae.models.decoder import Decoder, DecoderConfig
from seqvae.models.dropout import SentenceDropout, make_dropout
from seqvae.models.encoder import Encoder, EncoderConfig

RATE, ROWS, LENGTH, SIZE = 0.3, 400, 3, 50


def test_all_tokens_of_a_sentence_have_one_mask_and_sentences_their_own():
    torch.manual_seed(0)
    found = SentenceDropout(RATE)(torch.ones(ROWS, LENGTH, SIZE))
    assert torch.equal(found, found[:, :1].expand(-1, LENGTH, -1))
    assert len({tuple(row) for row in found[:, 0].tolist()}) == ROWS


def test_as_much_is_dropped_as_the_rate_says_and_the_mean_stays():
    torch.manual_seed(0)
    found = SentenceDropout(RATE)(torch.ones(ROWS, LENGTH, SIZE))[:, 0]
    assert sorted(set(found.flatten().tolist())) == [0.0, pytest.approx(1 / (1 - RATE))]
    error = (RATE * (1 - RATE) / (ROWS * SIZE)) ** 0.5
    assert abs(float((found == 0).float().mean()) - RATE) < 4 * error


def test_it_acts_in_training_only_and_not_at_rate_zero():
    inputs = torch.randn(5, LENGTH, SIZE)
    assert SentenceDropout(RATE).eval()(inputs) is inputs
    assert SentenceDropout(0.0)(inputs) is inputs


def test_the_setting_chooses_the_kind():
    assert isinstance(make_dropout(RATE, "tokens"), nn.Dropout)
    assert isinstance(make_dropout(RATE, "sentence"), SentenceDropout)


@pytest.mark.parametrize(("over", "alike"), [("sentence", True), ("tokens", False)])
def test_encoder_and_decoder_drop_as_their_settings_say(over, alike):
    torch.manual_seed(1)
    tokens = torch.full((6, 4), 5)  # one word throughout: its embeddings differ by their masks alone
    decoder = Decoder(DecoderConfig(embedding=7, hidden=8, dropout_in=0.5, dropout_over=over), VOCAB, LATENT)
    encoder = Encoder(EncoderConfig(embedding=9, hidden=8, dropout=0.5, dropout_over=over), VOCAB)
    for embedding, dropout in ((decoder.embedding, decoder.dropout_in), (encoder.embedding, encoder.dropout)):
        dropped = dropout(embedding(tokens))
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped)) == alike
    seen = []
    decoder.dropout_out.register_forward_hook(lambda module, inputs, outputs: seen.append((inputs[0], outputs)))
    decoder(tokens, torch.randn(6, LATENT))
    ((before, after),) = seen
    zero = (after == 0) & (before != 0)
    assert torch.equal(zero, zero[:, :1].expand_as(zero)) == alike

"""Dropout with one mask for a sentence, beside dropout by token."""

import pytest
import torch
from model_toys import LATENT, VOCAB
from torch import nn

from seqvae.models.decoder import Decoder, DecoderConfig
from seqvae.models.dropout import SentenceDropout, make_dropout
from seqvae.models.encoder import Encoder, EncoderConfig
from seqvae.models.recurrent import NETWORKS, run_causal

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


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", NETWORKS)
def test_weight_dropout_is_the_network_with_some_recurrent_weights_at_zero(cell, layers):
    torch.manual_seed(2)
    network = NETWORKS[cell](11, 13, layers, batch_first=True)
    inputs = torch.randn(5, 7, 11)
    torch.manual_seed(3)
    outputs, last = run_causal(network, inputs, None, RATE)
    masked = NETWORKS[cell](11, 13, layers, batch_first=True)
    masked.load_state_dict(network.state_dict())
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in masked.named_parameters():
            if name.startswith("weight_hh"):
                weight.copy_(nn.functional.dropout(weight, RATE))
                assert 0 < float((weight == 0).float().mean()) < 2 * RATE
    expected, own = masked(inputs)
    torch.testing.assert_close(outputs, expected)
    for ours, theirs in zip(last, own if cell == "lstm" else (own,), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bf16", [False, True])
def test_dropped_weights_get_no_gradient_and_the_others_that_of_their_scale(bf16):
    torch.manual_seed(4)
    decoder = Decoder(
        DecoderConfig(embedding=7, hidden=8, dropout_in=0, dropout_out=0, weight_dropout=0.4), VOCAB, LATENT
    )
    weight = decoder.network.weight_hh_l0
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        decoder(torch.full((6, 4), 5), torch.randn(6, LATENT)).square().sum().backward()
    dropped = weight.grad == 0
    assert abs(float(dropped.float().mean()) - 0.4) < 4 * (0.24 / weight.numel()) ** 0.5
    assert not (decoder.network.weight_ih_l0.grad == 0).any()


def test_weight_dropout_is_drawn_anew_for_each_batch_and_only_in_training():
    torch.manual_seed(5)
    settings = {"embedding": 7, "hidden": 8, "dropout_in": 0, "dropout_out": 0}
    decoder = Decoder(DecoderConfig(**settings, weight_dropout=0.5), VOCAB, LATENT)
    plain = Decoder(DecoderConfig(**settings), VOCAB, LATENT)
    plain.load_state_dict(decoder.state_dict())
    given = torch.full((6, 4), 5), torch.randn(6, LATENT)
    assert not torch.equal(decoder(*given), decoder(*given))
    assert torch.equal(decoder.eval()(*given), plain.eval()(*given))
    decoder.network.train()  # as on a GPU, where gradients of an LSTM exist in its training mode alone
    assert torch.equal(decoder(*given), plain(*given))


def test_embedding_dropout_takes_a_word_from_the_whole_batch():
    torch.manual_seed(6)
    rate, words = 0.4, 3000
    config = DecoderConfig(embedding=7, hidden=8, dropout_in=0, dropout_out=0, embedding_dropout=rate)
    decoder = Decoder(config, words, LATENT)
    tokens = torch.arange(words).repeat(2).view(-1, 5)  # each word twice, in two sentences
    seen = []
    decoder.dropout_in.register_forward_hook(lambda module, inputs, outputs: seen.append(inputs[0]))
    for _ in range(2):
        decoder(tokens, torch.randn(len(tokens), LATENT))
    whole = decoder.embedding(tokens)
    masks = []
    for found in seen:
        zero = (found == 0).all(-1)
        torch.testing.assert_close(found, torch.where(zero[..., None], 0.0, whole / (1 - rate)))
        first, second = zero.flatten().view(2, words)
        assert torch.equal(first, second)
        assert abs(float(first.float().mean()) - rate) < 4 * (rate * (1 - rate) / words) ** 0.5
        masks.append(first)
    assert not torch.equal(*masks)


def test_a_dropped_word_is_still_learned_as_what_is_predicted():
    torch.manual_seed(7)
    config = {"embedding": 8, "hidden": 8, "dropout_in": 0, "dropout_out": 0, "embedding_dropout": 0.5}
    tokens, z = torch.randint(VOCAB, (6, 4)), torch.randn(6, LATENT)
    for tied in (False, True):
        decoder = Decoder(DecoderConfig(**config, tie_weights=tied), VOCAB, LATENT)
        seen = []
        decoder.dropout_in.register_forward_hook(lambda module, inputs, outputs, to=seen: to.append(inputs[0]))
        (decoder(tokens, z) @ decoder.output_weight.T).logsumexp(-1).sum().backward()
        dropped = tokens[(seen[0] == 0).all(-1)].unique()
        assert 0 < len(dropped) < len(tokens.unique())
        assert bool((decoder.embedding.weight.grad[dropped] != 0).any()) == tied


def test_embedding_dropout_acts_in_training_only():
    torch.manual_seed(8)
    settings = {"embedding": 7, "hidden": 8}
    decoder = Decoder(DecoderConfig(**settings, embedding_dropout=0.5), VOCAB, LATENT).eval()
    plain = Decoder(DecoderConfig(**settings), VOCAB, LATENT).eval()
    plain.load_state_dict(decoder.state_dict())
    given = torch.full((6, 4), 5), torch.randn(6, LATENT)
    assert torch.equal(decoder(*given), plain(*given))

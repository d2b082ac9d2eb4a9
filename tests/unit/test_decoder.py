"""The decoder: stepping equals teacher forcing, and z arrives by each of its paths."""

import itertools

import pytest
import torch
from model_toys import LATENT, VOCAB, batch_of, company, spread
from pydantic import ValidationError
from torch import nn

from seqvae.models.decoder import Decoder, DecoderConfig, State

HIDDEN = 8

PATHS = [
    dict(zip(("z_to_state", "z_to_input", "z_to_output"), chosen, strict=True))
    for chosen in itertools.product([False, True], repeat=3)
    if any(chosen)
]

KINDS = [
    {"cell": cell, "layers": layers, "tie_weights": tied, "output_bias": bias, **paths}
    for cell, layers, (tied, bias), paths in itertools.product(
        ["lstm", "gru"], [1, 2], [(False, False), (False, True), (True, True)], PATHS
    )
]


def label(settings):
    names = [name for name, value in settings.items() if value is True]
    return "-".join([settings["cell"], str(settings["layers"]), *names])


every_kind = pytest.mark.parametrize("settings", KINDS, ids=label)
every_cell = pytest.mark.parametrize("cell", ["lstm", "gru"])


def decoder_of(latent=LATENT, **settings):
    embedding = HIDDEN if settings.get("tie_weights") else 7
    return spread(Decoder(DecoderConfig(embedding=embedding, hidden=HIDDEN, **settings), VOCAB, latent)).eval()


def codes(count, latent=LATENT, seed=0):
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))


def teacher_forced(decoder, tokens, z):
    """Log-probabilities of every next token, ``[N T V]``."""
    logits = decoder(tokens, z) @ decoder.output_weight.T
    return torch.log_softmax(logits if decoder.output_bias is None else logits + decoder.output_bias, -1)


def stepped(decoder, tokens, z):
    state, found = decoder.start(z), []
    for token in tokens.T:
        logits, state = decoder.step(token, z, state)
        found.append(torch.log_softmax(logits, -1))
    return torch.stack(found, 1)


def by_hand(decoder, tokens, z):
    """The wiring of He et al. (2019) with a cell for each layer: c0 = W z, h0 = tanh c0, z beside every input.

    A GRU has no c. With the skip, W z stands beside the outputs.
    """
    layers, lstm = decoder.config.layers, decoder.config.cell == "lstm"
    cells = []
    for layer in range(layers):
        inputs = decoder.network.input_size if layer == 0 else HIDDEN
        cell = nn.LSTMCell(inputs, HIDDEN) if lstm else nn.GRUCell(inputs, HIDDEN)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        cell.load_state_dict({name: getattr(decoder.network, f"{name}_l{layer}") for name in names})
        cells.append(cell)
    c = [torch.zeros(len(z), HIDDEN)] * layers
    if decoder.config.z_to_state:
        c = list((z @ decoder.state.weight.T).split(HIDDEN, dim=1))
    h = [torch.tanh(each) for each in c]
    outputs = []
    for token in tokens.T:
        x = decoder.embedding.weight[token]
        x = torch.cat([x, z], dim=1) if decoder.config.z_to_input else x
        for layer, cell in enumerate(cells):
            if lstm:
                h[layer], c[layer] = cell(x, (h[layer], c[layer]))
            else:
                h[layer] = cell(x, h[layer])
            x = h[layer]
        outputs.append(x + z @ decoder.skip.weight.T if decoder.config.z_to_output else x)
    logits = torch.stack(outputs, 1) @ decoder.output_weight.T
    return torch.log_softmax(logits if decoder.output_bias is None else logits + decoder.output_bias, -1)


@every_kind
def test_stepping_gives_the_teacher_forced_log_probabilities(settings):
    decoder, batch, z = decoder_of(**settings), batch_of(), codes(5)
    expected = teacher_forced(decoder, batch.tokens, z)
    assert expected.shape == (5, 9, VOCAB)
    torch.testing.assert_close(stepped(decoder, batch.tokens, z), expected, rtol=0, atol=1e-5)


@every_kind
def test_the_wiring_is_that_of_a_loop_over_cells(settings):
    decoder, batch, z = decoder_of(**settings), batch_of(), codes(5)
    expected = by_hand(decoder, batch.tokens, z)
    torch.testing.assert_close(teacher_forced(decoder, batch.tokens, z), expected, rtol=0, atol=1e-5)


@every_kind
def test_the_code_changes_every_prediction(settings):
    decoder, batch = decoder_of(**settings), batch_of()
    one, other = (teacher_forced(decoder, batch.tokens, codes(5, seed=seed)) for seed in (0, 1))
    assert ((one - other).abs().amax(-1) > 1e-4).all()


@every_kind
def test_every_dimension_of_the_code_arrives(settings):
    decoder, batch, z = decoder_of(**settings), batch_of(), codes(5).requires_grad_()
    teacher_forced(decoder, batch.tokens, z)[..., 4].sum().backward()
    assert (z.grad != 0).all()


@every_cell
@pytest.mark.parametrize("latent", [0, LATENT])
@pytest.mark.parametrize("layers", [1, 2])
def test_without_its_path_the_initial_state_is_zero(layers, latent, cell):
    state = decoder_of(latent, cell=cell, layers=layers, z_to_state=False).start(codes(5, latent))
    assert len(state.parts()) == {"lstm": 2, "gru": 1}[cell]
    for part in state.parts():
        assert part.shape == (layers, 5, HIDDEN)
        assert not part.any()


@every_cell
def test_each_layer_has_a_start_of_its_own(cell):
    decoder, z = decoder_of(cell=cell, layers=2), codes(5)
    state, projected = decoder.start(z), z @ decoder.state.weight.T
    projected = torch.stack([projected[:, :HIDDEN], projected[:, HIDDEN:]])
    torch.testing.assert_close(state.h, torch.tanh(projected))
    assert not torch.equal(state.h[0], state.h[1])
    if cell == "lstm":
        torch.testing.assert_close(state.c, projected)
    else:
        assert state.c is None


def test_without_its_path_no_input_has_room_for_the_code():
    assert decoder_of(z_to_input=False).network.input_size == 7
    assert decoder_of().network.input_size == 7 + LATENT
    assert decoder_of(0).network.input_size == 7


def test_the_skip_passes_by_the_recurrence_and_the_dropout():
    """It adds the same W z at every step, in training too, and a language model has none."""
    skipping = decoder_of(z_to_output=True, dropout_in=0.0, dropout_out=0.4).train()
    batch, z = batch_of(), codes(5)
    torch.manual_seed(4)
    outputs = skipping(batch.tokens, z)
    straight, skipping.skip = skipping.skip, None
    torch.manual_seed(4)
    expected = (z @ straight.weight.T)[:, None].expand_as(outputs)
    torch.testing.assert_close(outputs - skipping(batch.tokens, z), expected, rtol=1e-4, atol=1e-5)
    assert decoder_of(0, z_to_output=True).skip is None


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_predictions_do_not_depend_on_company_order_or_padding(layers, cell):
    decoder, batch, z = decoder_of(cell=cell, layers=layers, z_to_output=True), batch_of(), codes(5)
    expected = teacher_forced(decoder, batch.tokens, z)
    for name, (rows, other) in company(batch).items():
        found = teacher_forced(decoder, other.tokens, z[rows])
        for index, row in enumerate(rows):
            length = int(batch.lengths[row])
            torch.testing.assert_close(found[index, :length], expected[row, :length], msg=f"{name}, row {row}")


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_no_prediction_sees_the_token_that_it_predicts(layers, cell):
    decoder, batch, z = decoder_of(cell=cell, layers=layers), batch_of(), codes(5)
    before = teacher_forced(decoder, batch.tokens, z)
    tokens = batch.tokens.clone()
    tokens[:, 4] = 3
    after = teacher_forced(decoder, tokens, z)
    assert torch.equal(after[:, :4], before[:, :4])
    assert not torch.equal(after[:, 4], before[:, 4])


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_selected_hypotheses_go_on_as_they_would_have(layers, cell):
    """Beam search copies, drops and reorders hypotheses."""
    decoder, z = decoder_of(cell=cell, layers=layers, z_to_output=True), codes(4)
    _, state = decoder.step(torch.tensor([4, 5, 6, 7]), z, decoder.start(z))
    index = torch.tensor([2, 0, 2, 3, 1, 2])
    token = torch.tensor([8, 9, 10, 4, 5, 6])
    logits, selected = decoder.step(token, z[index], state.select(index))
    for place, row in enumerate(index.tolist()):
        one = State(*(part[:, row : row + 1] for part in state.parts()))
        alone, after = decoder.step(token[place : place + 1], z[row : row + 1], one)
        torch.testing.assert_close(logits[place], alone[0])
        for part, expected in zip(selected.parts(), after.parts(), strict=True):
            torch.testing.assert_close(part[:, place], expected[:, 0])


def test_dropout_acts_in_training_only():
    decoder, batch, z = decoder_of(layers=2, dropout_in=0.4, dropout_out=0.4), batch_of(), codes(5)
    assert torch.equal(decoder(batch.tokens, z), decoder(batch.tokens, z))
    decoder.train()
    assert not torch.equal(decoder(batch.tokens, z), decoder(batch.tokens, z))


def test_dropout_out_lies_between_the_layers_too():
    decoder, batch, z = decoder_of(layers=2, dropout_in=0.0, dropout_out=0.4).train(), batch_of(), codes(5)
    decoder.dropout_out.p = 0.0
    assert not torch.equal(decoder(batch.tokens, z), decoder(batch.tokens, z))


def test_tied_weights_are_one_parameter():
    decoder = decoder_of(tie_weights=True)
    assert decoder.output_weight is decoder.embedding.weight
    assert [tuple(p.shape) for p in decoder.parameters()].count((VOCAB, HIDDEN)) == 1


@every_cell
def test_logits_are_fp32_under_autocast(cell):
    decoder, z = decoder_of(cell=cell, output_bias=True, z_to_output=True), codes(5)
    token = torch.full((5,), 4)
    expected, _ = decoder.step(token, z, decoder.start(z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, state = decoder.step(token, z, decoder.start(z))
        assert decoder(token[:, None], z).dtype == torch.float32
    assert logits.dtype == torch.float32
    assert {part.dtype for part in state.parts()} == {torch.float32}
    torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tie_weights": True, "embedding": 7, "hidden": 8}, "tie_weights needs embedding = hidden, not 7 and 8"),
        ({"z_to_state": False, "z_to_input": False}, "the decoder never sees z"),
        ({"dropout_out": 1.0}, "less than 1"),
        ({"word_dropout": 0.4}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_reason(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        DecoderConfig(**settings)

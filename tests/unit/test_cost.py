"""What is counted of a model's work agrees with the weights that the model has, and with what a machine could do."""

import pytest
from model_toys import VOCAB, tiny_vae

from seqvae.machine import Ceiling
from seqvae.models.cost import Weights, Work, least_seconds, scoring_work, update_work, writing_work
from seqvae.models.vae import SeqVAE

MODELS = {
    "two layers": {},
    "one tied layer": {"decoder": {"layers": 1, "embedding": 8, "tie_weights": True}},
    "both directions": {"encoder": {"bidirectional": True, "layers": 3}},
    "GRU": {"encoder": {"cell": "gru"}, "decoder": {"cell": "gru"}},
    "no z at the input": {"decoder": {"z_to_input": False}},
    "language model": {"latent_dim": 0},
}


def recurrent(part) -> int:
    """Numbers in the matrices of a part's recurrent layers."""
    return sum(p.numel() for name, p in part.named_parameters() if "weight_ih" in name or "weight_hh" in name)


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_a_token_passes_through_the_weights_that_the_model_has(settings):
    model: SeqVAE = tiny_vae(**settings)
    found = Weights.of(model.config, VOCAB)
    assert found.encoder == (0 if model.encoder is None else recurrent(model.encoder))
    assert found.decoder == recurrent(model.decoder)
    assert found.output == model.decoder.output_weight.numel()


def test_an_update_is_three_passes_over_every_token_and_sample():
    model = tiny_vae()
    sizes = {"parameters": 1000, "sentences": 5.0, "tokens": 35.0}
    weights = Weights.of(model.config, VOCAB)
    one, three = (update_work(model.config, VOCAB, samples=samples, **sizes) for samples in (1, 3))
    assert one["output"].flops == 3 * 2 * weights.output * 35
    assert one["encoder"].flops == 3 * 2 * weights.encoder * (35 + 5)
    assert (three["output"].flops, three["decoder"].flops) == (3 * one["output"].flops, 3 * one["decoder"].flops)
    assert three["encoder"] == one["encoder"]
    assert one["update"] == Work(0.0, 8 * 4.0 * 1000)


def test_scoring_reads_a_sentence_once_and_writing_reads_all_weights_at_every_step():
    model = tiny_vae()
    weights = Weights.of(model.config, VOCAB)
    scored = scoring_work(model.config, VOCAB, sentences=5, tokens=35, samples=11)
    assert scored["encoder"].flops == 2 * weights.encoder * 40
    assert scored["output"].flops == 2 * weights.output * 35 * 11
    written = writing_work(model.config, VOCAB, tokens=70, steps=9)
    assert written["decoder"] == Work(2.0 * weights.decoder * 70, 4.0 * weights.decoder * 9)


def test_the_least_time_is_that_of_whichever_takes_longer():
    work = Work(300.0, 20.0) + Work(100.0, 20.0)
    assert work.seconds(100.0, 1000.0) == 4.0
    assert work.seconds(1000.0, 10.0) == 4.0


@pytest.mark.parametrize(
    ("device", "bf16", "seconds"), [("cpu", False, 7.0), ("cuda", False, 7.0), ("cpu", True, 2.5), ("cuda", True, 4.0)]
)
def test_bf16_speeds_up_the_output_layer_and_on_a_cpu_the_recurrent_ones(device, bf16, seconds):
    work = {"encoder": Work(200.0), "decoder": Work(0.0, 10.0), "output": Work(400.0), "update": Work(0.0, 0.0)}
    best = Ceiling(fp32_flops_per_s=100.0, bf16_flops_per_s=400.0, bytes_per_s=10.0)
    assert least_seconds(work, best, device=device, bf16=bf16) == seconds
    slow = Ceiling(fp32_flops_per_s=100.0, bf16_flops_per_s=5.0, bytes_per_s=10.0)
    assert least_seconds(work, slow, device=device, bf16=bf16) == 7.0

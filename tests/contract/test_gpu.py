"""All that computes does so on a GPU as well: nothing that it needs is left on the CPU, and it finds what a CPU finds.

Tried on a stand-in for a GPU (`fake_gpu`), which computes on the CPU.
"""

import contextlib
import json

import numpy as np
import pytest
import torch
from fake_gpu import fake_gpu
from test_captured import StandIn
from test_families import TOGETHER
from test_strategies import TYPES, example
from training_toys import (
    WORDS,
    Events,
    StopsAt,
    bytes_of,
    phase_of,
    sentences,
    settings,
    store_of,
    toy_trainer,
    write_corpus,
)
from typer.testing import CliRunner
from user_toys import write_text

import seqvae
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.evaluation.suite import EvalConfig
from seqvae.generation.decoding import DecodeConfig
from seqvae.models.vae import SeqVAE
from seqvae.speed import measure_speed
from seqvae.textvae import TextVAE
from seqvae.training import captured

TEXTS = sentences(9)


class TestTheStandIn:
    def test_what_lies_on_it_meets_nothing_of_the_cpu(self):
        with fake_gpu() as gpu:
            there, here = torch.ones(3, device="cuda"), torch.ones(3)
            assert (there.device.type, here.device.type, there.is_cuda) == ("cuda", "cpu", True)
            for mixed in (lambda: there + here, lambda: torch.cat([here, there]), lambda: torch.stack([there, here])):
                with pytest.raises(RuntimeError, match="same device"):
                    mixed()
            assert gpu.operations == 0
            assert (there + here.sum()).device.type == "cuda"  # a single number may come from anywhere
            assert there[torch.tensor([0, 2])].tolist() == [1.0, 1.0]
            assert gpu.operations > 0

    def test_only_a_copy_takes_it_back(self):
        with fake_gpu():
            there = torch.arange(3.0).to("cuda")
            with pytest.raises(TypeError, match="cpu"):
                there.numpy()
            assert there.double().device.type == there[1:].device.type == torch.zeros_like(there).device.type == "cuda"
            assert there.cpu().numpy().tolist() == there.tolist() == [0.0, 1.0, 2.0]
            assert there.to("cpu", torch.float64).dtype == torch.float64

    def test_gradients_lie_where_their_tensors_do(self):
        with fake_gpu():
            layer = torch.nn.Linear(3, 2).to("cuda")
            layer(torch.ones(4, 3, device="cuda")).sum().backward()
            assert layer.weight.grad.device.type == "cuda"
            with pytest.raises(RuntimeError, match="same device"):
                layer(torch.ones(4, 3))

    def test_generators_belong_to_a_device(self):
        with fake_gpu():
            own = torch.Generator("cuda").manual_seed(3)
            assert own.device.type == "cuda"
            assert torch.rand(2, device="cuda", generator=own).device.type == "cuda"
            with pytest.raises(RuntimeError, match="generator"):
                torch.rand(2, generator=own)
            with pytest.raises(RuntimeError, match="generator"):
                torch.zeros(2, device="cuda").uniform_(generator=torch.Generator())


def trained(folder, *strategies, gpu, **sections):
    train = {"device": "auto" if gpu else "cpu", "steps": 4, "validate_every": 3, **sections.pop("train", {})}
    with fake_gpu() if gpu else contextlib.nullcontext() as there:
        phases = [phase_of(folder, *strategies, train=train, **sections)] if strategies else None
        trainer = toy_trainer(folder, phases=phases, train=train, **sections)
        assert trainer.task.runtime.device.type == ("cuda" if gpu else "cpu")
        assert trainer.fit()
        assert there is None or there.operations > 500
    return trainer


def alike(folder, *strategies, **sections):
    here, there = (trained(folder / str(gpu), *strategies, gpu=gpu, **sections) for gpu in (False, True))
    assert there.task.observe.timeless() == here.task.observe.timeless()
    assert bytes_of(there.model) == bytes_of(here.model)


def test_a_run_goes_on_where_there_is_no_gpu_and_back(tmp_path):
    train = {
        "steps": 9,
        "device": "auto",
        "precision": "auto",
        "save_every": 1,
        "optimizer": {"name": "adamw", "lr": 0.01},
    }
    config = Config.from_dict(settings(data=write_corpus(tmp_path), train=train))
    with fake_gpu():
        assert not seqvae.train(config, out=tmp_path / "run", observers=[StopsAt(3)]).finished
    seen = StopsAt(6)
    assert not seqvae.train(resume=tmp_path / "run", observers=[seen]).finished
    assert "saved on cuda, resumed on cpu: same batches, other noise" in [note["text"] for note in seen.of("note")]
    seen = Events()
    with fake_gpu():
        assert seqvae.train(resume=tmp_path / "run", observers=[seen]).finished
    assert "saved on cpu, resumed on cuda: same batches, other noise" in [note["text"] for note in seen.of("note")]


@pytest.mark.parametrize("name", TYPES)
def test_a_method_trains_there_as_on_a_cpu(tmp_path, name):
    alike(tmp_path, example(name))


@pytest.mark.parametrize(("posterior", "prior"), TOGETHER)
def test_a_family_trains_there_as_on_a_cpu(tmp_path, posterior, prior):
    alike(tmp_path, model={"posterior": {"family": posterior}, "prior": {"family": prior}})


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"latent_dim": 0}},
        {"model": {"encoder.cell": "gru", "decoder.cell": "gru", "encoder.bidirectional": True, "decoder.layers": 2}},
        {
            "model": {
                "encoder.dropout": 0.2,
                "decoder.dropout_over": "sentence",
                "decoder.weight_dropout": 0.3,
                "decoder.embedding_dropout": 0.1,
                "decoder.output_bias": True,
            }
        },
        {"train": {"average_decay": 0.9, "accumulate": 2, "save_every": 1}},
        {"train": {"schedule": {"name": "plateau", "patience": 1, "start_epoch": 0}, "validate_every": 1}},
        {"train": {"on_divergence": "rollback", "micro_tokens": 14}, "objective": {"samples": 3}},
    ],
    ids=["language model", "two directions", "one mask", "averaged", "plateau", "cut"],
)
def test_a_setting_trains_there_as_on_a_cpu(tmp_path, sections):
    alike(tmp_path, **sections)


def toy_vae(posterior: str, prior: str) -> TextVAE:
    torch.manual_seed(0)
    config = Config.from_dict(settings(model={"posterior": {"family": posterior}, "prior": {"family": prior}}))
    model = SeqVAE(config.model, WORDS.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # so that not all sentences are written alike
    return TextVAE(model, WORDS)


VERBS = {
    "encode": lambda vae: vae.encode(TEXTS).mean,
    "score": lambda vae: vars(vae.score(TEXTS, by="iw", samples=3)),
    "log_probs_at": lambda vae: vae.log_probs_at(TEXTS, vae.encode(TEXTS)),
    "decode": lambda vae: vae.decode(vae.encode(TEXTS)),
    "reconstruct": lambda vae: vae.reconstruct(TEXTS),
    "reconstruct by beam": lambda vae: vae.reconstruct(TEXTS, config=DecodeConfig(beam_size=3)),
    "sample": lambda vae: vae.sample(5, seed=0),
    "sample of the likeliest": lambda vae: vae.sample(5, seed=0, config=DecodeConfig(top_k=4, top_p=0.8)),
    "interpolate": lambda vae: vae.interpolate(TEXTS[0], TEXTS[1]),
    "neighbors": lambda vae: [near.text for found in vae.neighbors(TEXTS[:2], TEXTS[2:]) for near in found],
    "analogy": lambda vae: vae.analogy(*TEXTS[:3]),
    "traverse": lambda vae: [texts for _, texts in vae.traverse(TEXTS[0], vae.spread(TEXTS), [1])],
    "shift": lambda vae: vae.shift(TEXTS[:2], vae.direction("a", TEXTS, ["a", "b"] * 4 + ["a"])),
    "impute": lambda vae: [each.text for found in vae.impute(["w1 ___ w3"], n=2) for each in found],
    "aggregate": lambda vae: vae.sample(4, source=vae.fit_aggregate(TEXTS)),
    "evaluate": lambda vae: seqvae.evaluate(vae, TEXTS, config=EvalConfig(iw_samples=3)).to_dict(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("family", [("gaussian", "standard"), ("vmf", "sphere"), ("iaf", "mixture")], ids="-".join)
def test_a_verb_gives_there_what_it_gives_on_a_cpu(verb, family):
    expected = VERBS[verb](toy_vae(*family))
    with fake_gpu() as gpu:
        vae = toy_vae(*family).to("cuda")
        before = gpu.operations
        result = VERBS[verb](vae)
        assert gpu.operations > before
    np.testing.assert_equal(result, expected)


def test_the_bench_measures_it_and_tries_cuda_graphs(monkeypatch):
    monkeypatch.setattr(captured, "CudaRecorder", StandIn)
    with fake_gpu():
        config = Config.from_dict(settings(train={"device": "auto"}))
        report = measure_speed(config, store_of(40), WORDS.vocab_size, seconds=0.02)
    assert report.device == "a GPU that is none"
    assert "train.cuda_graphs=true" in report.trials
    assert report.peak_bytes == 1 << 20


def test_a_user_goes_all_the_way_on_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(captured, "CudaRecorder", StandIn)
    write_text(tmp_path)
    run, begin = CliRunner(), "train --config small.yaml --set train.device=auto --set train.steps=9"
    commands = (
        f"{begin} --out runs/a",
        f"{begin} --out runs/b --set train.cuda_graphs=true",
        "eval --model runs/a --suite full --iw-samples 2 --samples 10",
        "diagnose --model runs/a",
        "report runs/a",
        "explore --model runs/a --corpus test.txt --export page.html",
        "doctor",
    )
    for command in commands:
        with fake_gpu():
            result = run.invoke(app, command.split())
        assert result.exit_code == 0, f"{command}: {result.stderr}"
    facts = json.loads((tmp_path / "runs/b/provenance.json").read_text(encoding="utf-8"))
    assert facts["device_name"] == "a GPU that is none"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestOnAGPU:
    """The same on a real one, whose random numbers and roundings are its own."""

    @pytest.mark.parametrize("name", TYPES)
    def test_a_method_trains_there(self, tmp_path, name):
        train = {"device": "cuda", "steps": 4, "validate_every": 3}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), train=train)], train=train)
        assert trainer.fit()
        assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())

    @pytest.mark.parametrize(("posterior", "prior"), TOGETHER)
    def test_bounds_are_those_of_a_cpu(self, posterior, prior):
        vae = toy_vae(posterior, prior)
        here = seqvae.evaluate(vae, TEXTS, config=EvalConfig(iw_samples=200))
        there = seqvae.evaluate(vae.to("cuda"), TEXTS, config=EvalConfig(iw_samples=200))
        assert there.iw_nats == pytest.approx(here.iw_nats, rel=1e-2)  # other samples of z

    @pytest.mark.parametrize("verb", VERBS)
    def test_a_verb_runs_there(self, verb):
        VERBS[verb](toy_vae("gaussian", "standard").to("cuda"))

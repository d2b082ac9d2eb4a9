"""The page of methods: what a row is made of, when a method counts as a cure, what the page says, and going on."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import collapse, collapse_rows, collapse_sections, trainings
from benchmarks.collapse_measure import against_truth, obedience
from benchmarks.collapse_page import page
from benchmarks.collapse_rows import BASELINES, applies, base, config_of, rows
from benchmarks.collapse_verdict import outcome
from seqvae.config import shipped_configs
from seqvae.data.grammar import Grammar
from seqvae.errors import SeqVAEError


def done(row="free_bits", seed=0, *, mi=2.0, swap=3.0, kl=4.0, se=0.01, failed=None, **more):
    """One training as it is kept, with made-up numbers."""
    report = {
        "elbo_nats": 25.5, "elbo_se": 0.5, "iw_nats": 24.25, "iw_se": 0.5, "rec_nats": 21.5, "rec_se": 0.5,
        "kl_nats": kl, "kl_se": se, "mi_nats": mi, "mi_se": se, "swap_gap_nats": swap, "swap_gap_se": se,
        "active_units": 7, "latent_dim": 16, "sentences": 1_234, "conditional": False,
    }  # fmt: skip
    facts = {"git": "0123456789abcdef", "versions": {"torch": "2.13"}, "device": "cpu", "device_name": "some processor",
             "threads": 1, "precision": "fp32"}  # fmt: skip
    found = {"row": row, "seed": seed, "steps": None, "sentences": None, "failed": failed, "facts": facts,
             "seconds": {"wall": 99.0, "cpu": 45.4}}  # fmt: skip
    if failed is None:
        verdict = {"text": f"What is said of {row}."}
        found |= {"report": report, "diagnosis": {"verdict": verdict, "remedies": []}}
    return found | more


def seeds(row, **values):
    """Three seeds; each value is a list of three, or the same for all."""
    return [
        done(row, seed, **{name: each[seed] if isinstance(each, list) else each for name, each in values.items()})
        for seed in range(3)
    ]


# What a row is.


def test_every_recipe_is_a_row_and_so_is_every_baseline():
    recipes = {name.removeprefix("recipes/").removesuffix(".yaml") for name in shipped_configs() if "/" in name}
    assert set(rows()) == recipes | set(BASELINES)


@pytest.mark.parametrize("corpus", ["tiny", "ptb"])
@pytest.mark.parametrize("name", list(rows()))
def test_rows_differ_from_the_uncured_one_in_their_method_alone(name, corpus):
    row = rows()[name]
    if not applies(row, corpus):
        assert name == "conditional"
        return
    config, plain = (config_of(each, corpus, 5, 240).model_dump() for each in (row, rows()["uncured"]))
    for settings in (config, plain):
        settings["train"].pop("phases")
        settings.pop("objective")
        settings["data"].pop("labels")
        for part in ("posterior", "prior", "conditional"):
            settings["model"].pop(part)
        settings["model"]["decoder"].pop("z_to_output")
    if name == "language_model":
        assert config["model"].pop("latent_dim") == 0
        plain["model"].pop("latent_dim")
    assert config == plain
    assert (config["train"]["seed"], config["train"]["steps"]) == (5, 240)


def test_a_method_is_what_its_recipe_says():
    made = {name: config_of(rows()[name], "tiny", 0) for name in ("skip", "vmf", "many_samples", "conditional")}
    assert made["skip"].model.decoder.z_to_output
    assert (made["vmf"].model.posterior.family, made["vmf"].model.prior.family) == ("vmf", "sphere")
    assert made["many_samples"].objective.samples == 3
    assert made["conditional"].data.labels == "sentiment"
    assert made["conditional"].model.conditional.embedding == 16
    assert not config_of(rows()["uncured"], "tiny", 0).objective.strategies


def test_lengths_in_epochs_keep_their_share_of_the_training():
    """The recipe anneals in 3 epochs of 12."""
    annealing, floor = config_of(rows()["free_bits"], "tiny", 0, 240).objective.strategies
    assert (annealing.name, annealing.steps) == ("kl_annealing", 60)
    assert floor.nats_per_dim == 0.2
    refine = config_of(rows()["semi_amortised"], "tiny", 0, 240).objective.strategies[1]
    assert (refine.name, refine.steps) == ("semi_amortised", 2)  # no length: steps of inference


def test_phases_share_the_updates_and_keep_no_optimizer_of_their_own():
    """30 epochs as an autoencoder, then 60, of which 10 anneal."""
    first, second = config_of(rows()["ae_pretraining"], "tiny", 0, 100).train.phases
    assert (first.steps, second.steps) == (33, 67)
    assert second.reset == ("decoder",)
    assert second.strategies[0].steps == 11
    assert first.optimizer is second.optimizer is None


# When a method counts as a cure.

NOTHING = seeds("uncured", mi=[0.0, 0.01, 0.02], swap=[0.0, 0.02, 0.01], kl=0.0)


def test_more_information_and_a_larger_swap_gap_are_a_cure():
    found = outcome(seeds("free_bits", mi=[2.0, 2.1, 1.9], swap=[3.0, 3.3, 2.7]), NOTHING)
    assert found.cured is True
    assert "MI +1.99 ± 0.06" in found.text


@pytest.mark.parametrize(
    "values",
    [
        {"mi": 0.0, "swap": 0.0, "kl": 5.0},  # a rate alone
        {"mi": [2.0, 2.1, 1.9], "swap": [0.02, 0.0, 0.01]},  # information that the decoder ignores
        {"mi": [0.01, 0.0, 0.02], "swap": [3.0, 3.1, 2.9]},
        {"mi": [0.0, 0.0, 3.0], "swap": [0.0, 0.0, 3.0]},  # one seed of three: within two standard errors
        {"mi": [0.05, 0.051, 0.052], "swap": [3.0, 3.1, 2.9]},  # sure, but as good as nothing
    ],
)
def test_a_rate_or_chance_is_no_cure(values):
    assert outcome(seeds("free_bits", **values), NOTHING).cured is False


def test_a_method_is_held_against_an_uncured_model_that_did_not_collapse():
    alive = seeds("uncured", mi=[2.0, 2.2, 1.8], swap=[3.0, 3.2, 2.8])
    assert outcome(seeds("beta", mi=[2.1, 2.2, 1.9], swap=[3.1, 3.2, 2.9]), alive).cured is False


def test_a_single_seed_is_judged_by_the_noise_of_its_sentences():
    alone = [done("uncured", mi=0.0, swap=0.0)]
    assert outcome([done(mi=1.0, swap=1.0, se=0.1)], alone).cured is True
    assert outcome([done(mi=1.0, swap=1.0, se=0.6)], alone).cured is False


def test_nothing_is_said_before_both_are_done():
    assert outcome([], NOTHING).cured is None
    assert outcome([done()], []).cured is None
    assert outcome([done()], NOTHING).cured is None  # one seed against three: no noise to judge by


# What the page says.


def test_the_page_has_a_line_for_each_row_and_names_what_is_missing():
    cure = seeds("free_bits", mi=[2.0, 2.1, 1.9], swap=[3.0, 3.3, 2.7])
    text = page({"tiny": NOTHING + cure}, "benchmarks.collapse")
    for part in (
        "| `uncured` | 25.50 ± 0.00 | 24.25 ± 0.00 | 21.50 ± 0.00 | 0.00 ± 0.00 | 0.01 ± 0.01 | 7 of 16 | 0.01 ± 0.01 "
        "| 45 | baseline |",
        "| 2.00 ± 0.10 | 7 of 16 | 3.00 ± 0.30 | 45 | yes |",
        "`python -m benchmarks.collapse`", "`0123456789`; torch 2.13", "cpu (some processor), 1 thread, fp32",
        "The uncured model: What is said of uncured.", "1,234 test sentences", "at most 7.12",
        "Left out, since the corpus has no labels: `conditional`.",
    ):  # fmt: skip
        assert part in text
    tiny, ptb = text.split("## Penn Treebank")
    missing = next(line for line in tiny.splitlines() if "Not done yet" in line)
    assert "seed 0, 1, 2" in missing
    assert "`vmf`" in missing
    assert "`free_bits`" not in missing
    assert "`free_bits`" in next(line for line in ptb.splitlines() if "Not done yet" in line)
    assert "mean nothing" not in text


def test_what_did_not_cure_says_so_with_the_diagnosis_and_what_was_found_out(monkeypatch):
    monkeypatch.setattr(collapse_sections, "NOTES", {("tiny", "delta"): "It was looked into."})
    remedy = {"settings": ["a.b=c"], "reason": "for a reason"}
    none = [
        each | {"diagnosis": each["diagnosis"] | {"remedies": [remedy]}}
        for each in seeds("delta", mi=0.0, swap=0.0, kl=3.0)
    ]
    text = page({"tiny": NOTHING + none}, "benchmarks.collapse")
    line = next(line for line in text.splitlines() if line.startswith("- `delta`"))
    assert "MI -0.01 ± 0.01, swap gap -0.01 ± 0.01 nats against the uncured model, at a KL of +3.00" in line
    assert line.endswith("What is said of delta. To try first: `a.b=c` (for a reason). It was looked into.")
    assert "- `uncured`" not in text


def test_divergence_is_a_result():
    some = [done("mmd", 0), done("mmd", 1, failed="E501: not finite"), done("beta", 0, failed="E501: not finite")]
    text = page({"tiny": NOTHING + some}, "benchmarks.collapse")
    assert "| `mmd` (1 of 2 diverged) |" in text
    assert "| `beta` (1 of 1 diverged) | - | - | - | - | - | - | - | 45 | diverged |" in text
    assert "- `mmd` diverged with seed 1: E501: not finite" in text


def test_quantities_that_do_not_apply_are_no_numbers():
    blank = done("autoencoder")
    blank["report"] |= dict.fromkeys(("elbo_nats", "iw_nats", "kl_nats", "mi_nats", "active_units"))
    text = page({"tiny": [blank]}, "benchmarks.collapse")
    assert "| `autoencoder` | - | - | 21.50 ± 0.50 | - | - | - | 3.00 ± 0.01 | 45 | baseline |" in text


def test_a_trial_says_that_its_numbers_mean_nothing_and_an_empty_page_is_a_page():
    text = page({"tiny": [done("uncured") | {"steps": 10}]}, "benchmarks.collapse")
    assert "`python -m benchmarks.collapse --steps 10 --sentences 1234`" in text
    assert "with 10 updates a row: the numbers mean nothing" in text
    assert "Not done yet" in page({}, "benchmarks.collapse")


# The truth, the probes, obedience.


def test_a_bound_below_the_truth_is_called_a_bug():
    def truth(nats):
        return {"nats": 19.5, "given": False, "above": {b: {"nats": nats, "se": 0.1} for b in ("elbo", "iw")}}

    sound = [done("beta", seed, truth=truth(gap)) for seed, gap in enumerate((0.5, -0.2))]
    text = page({"tiny": [*sound]}, "benchmarks.collapse")
    assert "| `beta` | 19.500 | -0.200 ± 0.100 | -0.200 ± 0.100 | yes |" in text
    assert "is a bug" not in text
    broken = page({"tiny": [*sound, done("beta", 2, truth=truth(-0.31))]}, "benchmarks.collapse")
    assert "**A bound beats the truth, which is a bug: beta.**" in broken


@pytest.mark.parametrize("given", [False, True])
def test_the_truth_is_paired_with_each_bound_and_knows_the_label_where_the_model_does(given):
    grammar = Grammar.default()
    sentences = list(grammar.sample(9, seed=3))
    texts, told = [s.text for s in sentences], [{"topic": s.factors["topic"]} for s in sentences]
    truth = -np.array(
        [grammar.log_prob(text, **(known if given else {})) for text, known in zip(texts, told, strict=True)]
    )
    noise = np.random.default_rng(0).normal(0.3, 1, 9)
    found = against_truth(grammar, texts, told if given else None, {"elbo": truth + 2, "iw": truth + noise})
    assert found["nats"] == pytest.approx(truth.mean())
    assert (found["above"]["elbo"]["nats"], found["above"]["elbo"]["se"]) == (pytest.approx(2), pytest.approx(0))
    assert found["above"]["iw"]["nats"] == pytest.approx(noise.mean())
    assert found["above"]["iw"]["se"] == pytest.approx(noise.std(ddof=1) / 3)


def test_a_known_label_makes_a_sentence_likelier():
    grammar = Grammar.default()
    gains = [
        grammar.log_prob(s.text, sentiment=s.factors["sentiment"]) - grammar.log_prob(s.text)
        for s in grammar.sample(200, seed=5)
    ]
    assert 0 < np.mean(gains) < np.log(3)


def test_obedience_is_of_the_grammar():
    grammar = Grammar.default()
    by_label = {label: [] for label in grammar.factors["sentiment"]}
    for sentence in grammar.sample(300, seed=7):
        by_label[sentence.factors["sentiment"]].append(sentence.text)
    found = obedience(grammar, "sentiment", by_label, [text for texts in by_label.values() for text in texts])
    assert all(each["parsed"] == each["obeyed"] == 1 for each in found.values())
    assert all(each["by_chance"] < 0.6 for each in found.values())
    nonsense = obedience(grammar, "sentiment", {"positive": ["no such words", by_label["positive"][0]]}, ["x"])
    assert nonsense["positive"] == {"samples": 2, "parsed": 0.5, "obeyed": 0.5, "by_chance": 0.0}
    text = page({"tiny": [done("conditional", obedience=found)]}, "benchmarks.collapse")
    assert "| positive | 100.0 | 100.0 |" in text


def test_probes_stand_beside_the_majority_and_a_bag_of_words():
    topic = {"accuracy": 0.5, "majority": 0.25, "bag_of_words": 0.75, "train_sentences": 321}
    some = [done("beta", seed, probes={"topic": topic | {"accuracy": found}}) for seed, found in ((0, 0.5), (1, 0.6))]
    text = page({"tiny": some}, "benchmarks.collapse")
    assert "| majority | 25.0 |\n| bag of words | 75.0 |\n| `beta` | 55.0 |" in text
    assert "321 training sentences" in text


# Doing it.


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs the script with a training and a measurement that are made up; the calls of the training."""
    calls = []

    def train(config, *, resume, allow_change, observers):
        calls.append((resume.parent.parent.name, config.train.seed))
        for observe in observers:
            observe({"event": "valid"})
        if calls[-1] in train.diverges:
            raise SeqVAEError("E501", "the loss is not finite")
        return argparse.Namespace(finished=calls[-1] not in train.stops)

    train.stops, train.diverges = [], []

    def measure(config, run, sentences, split):
        kept = done(run.parent.parent.name, config.train.seed)
        return {name: kept[name] for name in ("report", "diagnosis", "facts")}

    monkeypatch.setattr(trainings, "train", train)
    monkeypatch.setattr(trainings, "measure", measure)
    monkeypatch.setattr(trainings, "facts_of", lambda run: done()["facts"])
    monkeypatch.setattr(collapse, "__spec__", argparse.Namespace(name="benchmarks.collapse"))
    out = tmp_path / "results" / "page.md"

    def run(*argv):
        calls.clear()
        collapse.main([*argv, "--work", str(tmp_path / "work"), "--out", str(out)])
        return list(calls)

    run.train, run.out, run.work = train, out, tmp_path / "work"
    return run


def test_what_is_kept_is_not_done_again_and_the_page_is_made_of_all(ask):
    first = ask("--corpus", "tiny", "--rows", "uncured", "beta", "--seeds", "1")
    assert first == [("uncured", 1), ("beta", 1)]
    assert ask("--corpus", "tiny", "--rows", "uncured", "--seeds", "1", "2") == [("uncured", 2)]
    text = ask.out.read_text()
    assert "| `beta` |" in text
    assert "| `uncured` |" in text
    assert ask("--page-only") == []


def test_by_default_every_row_of_both_corpora_is_done_with_every_seed(ask):
    tried = ask()
    assert len(tried) == 3 * len(rows()) + len(rows()) - 1  # no labels on Penn Treebank
    assert tried[: len(rows())] == [(name, 0) for name in rows()]  # a whole table of one seed first


def test_kept_rows_of_other_settings_are_refused(ask):
    ask("--corpus", "tiny", "--rows", "beta", "--seeds", "0", "--steps", "10")
    with pytest.raises(SystemExit, match="was made with other config"):
        ask("--corpus", "tiny", "--rows", "beta", "--seeds", "0")


def test_a_stopped_training_goes_on_and_its_seconds_add_up(ask):
    ask.train.stops.append(("beta", 0))
    with pytest.raises(SystemExit, match="the same command goes on"):
        ask("--corpus", "tiny", "--rows", "beta", "--seeds", "0")
    seconds = ask.work / "tiny" / "beta" / "seed-0" / "seconds.json"
    seconds.write_text(json.dumps({"wall": 500.0, "cpu": 300.0}))
    ask.train.stops.clear()
    assert ask("--corpus", "tiny", "--rows", "beta", "--seeds", "0") == [("beta", 0)]
    kept = json.loads(seconds.with_name("row.json").read_text())
    assert 500 <= kept["seconds"]["wall"] < 600
    assert 300 <= kept["seconds"]["cpu"] < 400


def test_a_training_that_diverges_is_kept_as_such(ask):
    ask.train.diverges.append(("beta", 0))
    ask("--corpus", "tiny", "--rows", "beta", "--seeds", "0")
    assert "- `beta` diverged with seed 0: E501: the loss is not finite" in ask.out.read_text()


def test_the_budget_is_in_the_base_configs():
    assert {corpus: base(corpus).train.steps for corpus in collapse_rows.SEEDS} == {"tiny": 1_000, "ptb": 680}

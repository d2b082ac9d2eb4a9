"""The page of many kinds of text: its configs are sound, what it measures besides, and how it is told."""

import pytest

from benchmarks import breadth, logs, smiles
from benchmarks.breadth_page import page
from seqvae.config import Config


@pytest.mark.parametrize("row", breadth.ROWS, ids=lambda row: row.name)
def test_every_row_has_a_config_that_keeps_the_code_in_use(row):
    config = Config.from_yaml(breadth.CONFIGS / f"{row.name}.yaml")
    assert {"kl_annealing", "free_bits"} <= {strategy.name for strategy in config.objective.strategies}


def test_every_config_has_its_row():
    configs = {path.stem for path in breadth.CONFIGS.iterdir() if not path.stem.startswith("collapse-")}
    assert configs == {row.name for row in breadth.ROWS}


class Answers(breadth.Trial):
    """A trial whose commands answer what a test says."""

    def seqvae(self, *words):
        self.commands.append(words)
        return self.answers.pop(0)


def trial(tmp_path, *answers) -> Answers:
    made = Answers("row", tmp_path, None)
    object.__setattr__(made, "answers", list(answers))
    return made


def test_validity_counts_what_the_check_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(breadth, "DRAWN", 8)
    made = trial(tmp_path, ["CCO", "CCO", "CCN", "C1CC", "CC(", "", "CXC", "CC(C)(C)(C)C"])
    smiles.write(made.data, 5, seed=0)
    with (made.data / "train.txt").open("a") as stream:
        stream.write("CCN\n")
    found = breadth.validity(made)
    assert found["valid of 8 prior samples"] == "37.5%"
    assert found["of the valid ones different"] == "66.7%"
    assert found["of the valid ones not in the training text"] == "66.7%"
    for reason in ("a ring is not closed", "a branch is not closed", "cannot be read", "too many bonds at an atom"):
        assert f"{reason} (1)" in found["why the others are not"]


def test_anomalies_are_found_where_their_scores_are_higher(tmp_path):
    """1 where every anomaly scores above every normal line, 0 where below, whatever the scale."""
    made = trial(tmp_path)
    logs.write(made.data, 500, seed=0, anomalies=0.1)
    kinds = (made.data / "test.kind.labels").read_text().splitlines()
    scores = [(9.0 + i, -0.5) if kind != "normal" else (i / 1e3, 0.5) for i, kind in enumerate(kinds)]
    made.answers.append([f"{line}\t{token}\t7\tsome text" for line, token in scores])
    found = breadth.anomalies(made)
    assert found["anomalies"] == "10 of 100 lines"
    assert found["area under the ROC curve, nats of the line"] == "1.000"
    assert found["the same, nats per token"] == "0.000"


def test_the_page_tells_commands_numbers_and_outputs():
    report = dict.fromkeys(
        ("iw_nats", "iw_se", "nats_per_character", "kl_nats", "mi_nats", "mi_se", "swap_gap_nats", "swap_gap_se",
         "elbo_nats", "rec_nats", "ppl_iw", "mi_ceiling_nats", "token_accuracy", "unknown_rate"), 1.5,
    ) | {"active_units": 3, "latent_dim": 7, "sentences": 1234, "tokens": 5678, "iw_samples": 20}  # fmt: skip
    row = {
        "title": "some text", "steps": None, "train_seconds": 90, "commands": ["seqvae train --config x.yaml"],
        "report": report | {"verdict": {"collapsed": True, "text": "Collapsed.", "next": "weaken the decoder"}},
        "facts": {"vocabulary": 4321, "updates": 2000, "git": "0123456789abcdef", "versions": {"torch": "2"},
                  "device_name": "x86_64", "threads": 2, "precision": "fp32"},
        "samples": ["one sample"], "ends": ["here", "there"], "path": ["0.00  here"], "extra": {"validity": "97%"},
    }  # fmt: skip
    text = page({"x": row}, "benchmarks.breadth", ["--out", "a.md"])
    for part in (
        "| some text | 4,321 | 1.50 | 1.500 | 1.50 | 1.50 | 3 of 7 | 1.50 | no | 2,000 updates, 1.5 min |",
        "    seqvae train --config x.yaml", "> Collapsed. Next: weaken the decoder", "    one sample", "0.00  here",
        "| validity | 97% |", "`python -m benchmarks.breadth --out a.md`",
    ):  # fmt: skip
        assert part in text
    assert "mean nothing" not in text
    assert "mean nothing" in page({"x": row | {"steps": 20}}, "benchmarks.breadth", [])

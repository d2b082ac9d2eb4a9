"""The log of a run, read back as series."""

import json
import math

import pytest

from seqvae.errors import SeqVAEError
from seqvae.training.history import read_history
from seqvae.web import record

EVENTS = [
    {"event": "phase", "step": 0, "name": "autoencoder"},
    {"event": "train", "step": 5, "rec_nats": 9.5, "kl_nats": 1.25},
    {"event": "note", "step": 6, "text": "learning rate lowered"},
    {"event": "train", "step": 10, "rec_nats": 8.5, "kl_nats": None},
    {"event": "valid", "step": 10, "elbo_nats": 11.5, "best": True, "monitor": "elbo"},
    {"event": "phase", "step": 10, "name": "free bits"},
    {"event": "valid", "step": 17, "elbo_nats": 10.5, "active_units": 3},
]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS), encoding="utf-8")
    return folder


def test_series_hold_what_was_logged_and_nothing_else(run):
    history = read_history(run)
    assert history.name == "mine"
    assert history.phases == [(0, "autoencoder"), (10, "free bits")]
    assert history.train["step"].tolist() == [5, 10]
    assert history.train["rec_nats"].tolist() == [9.5, 8.5]
    assert history.valid["elbo_nats"].tolist() == [11.5, 10.5]
    assert set(history.valid) == {"step", "elbo_nats", "active_units"}  # neither a flag nor a word is a number


def test_what_an_event_does_not_have_is_nan(run):
    history = read_history(run)
    assert [math.isnan(value) for value in history.train["kl_nats"]] == [False, True]
    assert [math.isnan(value) for value in history.valid["active_units"]] == [True, False]


def test_a_line_that_is_being_written_is_left_for_later(run):
    before = read_history(run)
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "train", "st')
    assert read_history(run).train["step"].tolist() == before.train["step"].tolist()


@pytest.mark.parametrize("line", ["{", "3", '{"step": 4}', '{"event": 4}'])
def test_a_damaged_line_is_named(run, line):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(SeqVAEError, match="no event") as caught:
        read_history(run)
    assert (caught.value.code, caught.value.where.line) == ("E401", len(EVENTS) + 1)


def test_no_run_and_a_run_without_a_line_say_so(tmp_path):
    with pytest.raises(SeqVAEError, match="there is no run") as caught:
        read_history(tmp_path)
    assert caught.value.code == "E404"
    (tmp_path / "metrics.jsonl").write_text(json.dumps(EVENTS[0]) + "\n", encoding="utf-8")
    with pytest.raises(SeqVAEError, match="logged nothing yet"):
        read_history(tmp_path)


def test_the_explorer_shows_the_same_numbers_with_none_for_what_is_not_known(run):
    curves = record.training_curves(run)
    assert curves["train"]["step"] == [5.0, 10.0]
    assert curves["train"]["kl_nats"] == [1.25, None]
    assert curves["valid"]["ppl_elbo"] == [None, None]


def test_the_explorer_says_why_there_are_no_curves(run):
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write("{\n")
    assert record.training_curves(run) == {"why_none": "a line is no event"}


def test_a_long_log_is_thinned_to_its_last_point(run):
    long = ({"event": "train", "step": step, "rec_nats": 1.5} for step in range(1_501))
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in long), encoding="utf-8")
    steps = record.training_curves(run)["train"]["step"]
    assert len(steps) <= record.POINTS
    assert (steps[0], steps[1], steps[-1]) == (0.0, 3.0, 1_500.0)

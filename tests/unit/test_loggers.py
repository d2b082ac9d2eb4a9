"""What a run tells while it goes on: rows that line up, honest times, a metrics file that resumes."""

import json

import pytest

from seqvae.training import loggers
from seqvae.training.loggers import COLUMNS, MetricsFile, PlainLog, Rows, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock in the hands of the test: ``clock[0] += 3`` lets three seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(loggers.time, "monotonic", lambda: now[0])
    return now


def event(kind: str, step: int = 0, **facts) -> dict:
    known = {"phase": 0, "phase_step": step, "epoch": round(step / 40, 2)}
    numbers = {"elbo_nats": 41.26, "rec_nats": 38.14, "kl_nats": 3.12}
    usual = {
        "start": {"facts": {"run": "runs/x", "data": "tiny"}},
        "phase": {"name": "training", "phases": 1, "steps": 400, "total_steps": 400},
        "resume": {"name": "training", "phases": 1, "steps": 400, "total_steps": 400},
        "train": {**numbers, "kl_weight": 0.25, "lr": 0.001, "tokens_per_s": 33_123.4},
        "valid": {**numbers, "active_units": 9, "ppl_elbo": 12.75, "best": True},
        "note": {"text": "learning rate lowered"},
        "end": {"best": 40.125, "best_step": 1200},
    }
    place = {} if kind == "start" else {"step": step, **known}
    return {"event": kind, **place, **usual[kind], **facts}


def cells(line: str) -> dict[str, str]:
    """The cells of a row by column, read by the place where they stand."""
    ends, place = [], -1
    for width in loggers._WIDTHS:
        place += width + 1
        ends.append(place)
    starts = [0, *(end + 1 for end in ends)]
    found = {name: line[start:end].strip() for name, start, end in zip(COLUMNS, starts, ends, strict=False)}
    return found | {"mark": line[ends[-1] :].strip()}


def test_a_row_says_every_number_under_its_column(clock):
    rows = Rows()
    (header,) = rows.render(event("phase"), train_rows=True)
    assert header.split() == list(COLUMNS)
    clock[0] += 5
    (train,) = rows.render(event("train", 100), train_rows=True)
    assert cells(train) == {
        **{"step": "100", "epoch": "2.5", "-elbo": "41.26", "rec": "38.14", "kl": "3.12", "beta": "0.25"},
        **{"active": "", "ppl≤": "", "tok/s": "33,123", "left": "15s", "mark": ""},
    }
    (valid,) = rows.render(event("valid", 100), train_rows=True)
    assert cells(valid) == cells(train) | {"active": "9", "ppl≤": "12.75", "mark": "best"}
    (worse,) = rows.render(event("valid", 100, best=False), train_rows=True)
    assert cells(worse) == cells(valid) | {"mark": "valid"}


def test_rows_fit_into_eighty_columns_and_line_up():
    rows = Rows()
    (header,) = rows.render(event("phase", total_steps=10**7), train_rows=True)
    large = {"elbo_nats": 9999.99, "rec_nats": 9999.99, "kl_nats": 999.99, "ppl_elbo": 1.3e38, "active_units": 1024}
    late = event("valid", 1_234_567, epoch=100.0, tokens_per_s=654_321.0, best=False, **large)
    (row,) = rows.render(late, train_rows=True)
    assert len(header) == row.rindex(" valid") <= len(row) < 80
    assert cells(row)["ppl≤"] == "1.3e+38"
    assert cells(row)["step"] == "1234567"


def test_what_a_model_does_not_have_is_left_blank():
    """A language model has no units; before the first line of training there is no pace and no weight of the KL."""
    rows = Rows()
    (row,) = rows.render(event("valid", 10, active_units=None, ppl_elbo=None), train_rows=False)
    assert [name for name, cell in cells(row).items() if not cell] == ["beta", "active", "ppl≤", "tok/s", "left"]


def test_only_validation_is_shown_where_training_rows_are_not_wanted():
    rows = Rows()
    assert rows.render(event("train", 50), train_rows=False) == []
    assert len(rows.render(event("valid", 50), train_rows=False)) == 1


def test_facts_notes_phases_and_the_end_are_lines_of_their_own():
    rows = Rows()
    assert rows.render(event("start"), train_rows=True) == ["run      runs/x", "data     tiny"]
    assert rows.render(event("note"), train_rows=True) == ["note     learning rate lowered"]
    title, header = rows.render(event("phase", name="free bits", phases=2, steps=1500), train_rows=True)
    assert title == "phase    free bits: at most 1,500 updates"
    assert header.split() == list(COLUMNS)
    assert rows.render(event("resume", 1300), train_rows=True)[0] == "resume   at update 1,300"
    assert rows.render(event("end"), train_rows=True) == ["best     40.12 nats at update 1,200"]
    assert rows.render(event("end", best=None, best_step=None), train_rows=True) == []


def test_time_left_is_from_the_mean_pace(clock):
    rows = Rows()
    rows.render(event("phase", total_steps=400), train_rows=True)
    assert rows.seconds_left(0) is None
    clock[0] += 30
    assert rows.seconds_left(100) == pytest.approx(90)
    clock[0] += 30
    assert rows.seconds_left(300) == pytest.approx(20)
    assert rows.seconds_left(400) == rows.seconds_left(450) == 0


def test_time_left_of_a_resumed_run_counts_what_this_process_did(clock):
    rows = Rows()
    rows.render(event("resume", 300, total_steps=400), train_rows=True)
    assert rows.seconds_left(300) is None
    clock[0] += 10
    assert rows.seconds_left(350) == pytest.approx(10)


def test_time_left_knows_when_a_phase_ended_early(clock):
    """The second phase announces what the run can still come to; the pace is that of the whole run."""
    rows = Rows()
    rows.render(event("phase", total_steps=1000), train_rows=True)
    clock[0] += 50
    rows.render(event("phase", 100, total_steps=300), train_rows=True)
    clock[0] += 50
    assert rows.seconds_left(200) == pytest.approx(50)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (75.0, "1m15s"),
        (3599.7, "1h00m"),
        (7384.0, "2h03m"),
        (47.9 * 3600, "47h54m"),
        (53.0 * 3600, "2d05h"),
        (41e6, "474d12h"),
    ],
)
def test_durations_are_short_and_never_say_sixty(seconds, text):
    assert duration(seconds) == text


def shown(path, events) -> list[str]:
    """What a plain log writes about events; each comes as (what happens before it, event)."""
    with path.open("w", encoding="utf-8") as stream:
        log = PlainLog(stream, every_s=15.0)
        for wait, each in events:
            wait()
            log(each)
    return path.read_text(encoding="utf-8").splitlines()


def test_a_plain_log_shows_training_at_most_every_so_often(clock, tmp_path):
    def a_second():
        clock[0] += 1

    rows = shown(tmp_path / "log", [(a_second, event("phase")), *((a_second, event("train", n)) for n in range(1, 41))])
    assert [int(cells(row)["step"]) for row in rows[1:]] == [16, 32]


def test_a_plain_log_shows_every_validation_and_note(clock, tmp_path):
    kinds = ("start", "phase", "valid", "valid", "note", "end")
    assert len(shown(tmp_path / "log", [(lambda: None, event(kind, 3)) for kind in kinds])) == 7


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_metrics_file_holds_what_happened_one_object_a_line(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for kind in ("start", "phase", "train", "valid", "note", "end", "resume"):
        metrics(event(kind, 7))  # start and resume tell of a process, not of the run
    metrics(event("valid", 8, ppl_elbo=float("inf")))
    metrics.close()
    found = lines(tmp_path / "metrics.jsonl")
    assert [each["event"] for each in found] == ["phase", "train", "valid", "note", "end", "valid"]
    assert found[1] == event("train", 7)
    assert found[-1]["ppl_elbo"] is None


def test_a_resumed_metrics_file_is_cut_where_the_checkpoint_was_and_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    first(event("train", 1))
    kept = first.size()
    first(event("train", 2))
    first.close()
    assert path.stat().st_size > kept
    second = MetricsFile(path, keep_bytes=kept)
    second(event("note", text="é"))
    second.close()
    assert [each.get("text", each["step"]) for each in lines(path)] == [1, "é"]


def test_a_metrics_file_shorter_than_the_checkpoint_says_is_not_filled_with_zeros(tmp_path):
    """After a crash of the machine the file may have lost its end."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"event": "train"}\n')
    metrics = MetricsFile(path, keep_bytes=500)
    metrics(event("train", 3))
    metrics.close()
    assert len(lines(path)) == 2


def test_a_new_run_begins_with_an_empty_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"what a killed run left\n")
    MetricsFile(path).close()
    assert path.read_bytes() == b""

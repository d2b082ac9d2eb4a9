"""TensorBoard and Weights & Biases are told what the run's own log is told; a run outlives them and is not changed."""

import json
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from training_toys import Events, bytes_of, settings, write_corpus

import seqvae
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.training import external_loggers
from seqvae.training.external_loggers import check_loggers, scalars

STEPS = {"steps": 12, "validate_every": 3, "save_every": 4}
LABELS = ("calm", "<b>wild\N{NO-BREAK SPACE}one</b>")


class Stops(Events):
    """The power fails at a step."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, event):
        super().__call__(event)
        if event["event"] == "train" and event["step"] == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> dict[str, str]:
    """The files of a small corpus; those of validation have labels, one of which is written in two words."""
    folder = tmp_path_factory.mktemp("text")
    files = write_corpus(folder)
    (folder / "valid.mood.labels").write_text("".join(f"{LABELS[n % 2]}\n" for n in range(13)), encoding="utf-8")
    return files


def config_of(text: dict[str, str], *loggers: str, **train) -> Config:
    return Config.from_dict(settings(data=text, train={**STEPS, "loggers": list(loggers), **train}))


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """What metrics.jsonl holds: the numbers of each series by step."""
    found: dict[str, dict[int, float]] = {}
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        for name, value in scalars(event).items():
            found.setdefault(name, {})[event["step"]] = value
    return found


# TensorBoard, by its own reader.


def read_board(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def board_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    board = read_board(folder)
    return {name: [(each.step, each.value) for each in board.Scalars(name)] for name in board.Tags()["scalars"]}


def assert_board_is_the_log(folder: Path) -> None:
    """Every number of the log once, at its step and in order, and no other."""
    board, log = board_scalars(folder), logged(folder)
    assert board.keys() == log.keys()
    for name, points in log.items():
        assert [step for step, _ in board[name]] == list(points), name
        np.testing.assert_allclose([value for _, value in board[name]], list(points.values()), rtol=1e-6)


@pytest.fixture(scope="module")
def shown(text, tmp_path_factory) -> tuple[Path, Config]:
    """A whole run that TensorBoard was told of."""
    folder, config = tmp_path_factory.mktemp("runs") / "shown", config_of(text, "tensorboard")
    assert seqvae.train(config, out=folder).finished
    return folder, config


def test_tensorboard_has_every_number_of_the_log_at_its_step(shown):
    folder, _ = shown
    assert_board_is_the_log(folder)
    expected = {"train/rec_nats", "train/kl_nats", "train/kl_weight", "train/lr", "train/tokens_per_s"}
    assert expected | {"valid/rec_nats", "valid/active_units", "valid/ppl_elbo"} <= logged(folder).keys()


def test_tensorboard_has_the_config_as_text(shown):
    folder, _ = shown
    (text,) = [event.tensor_proto.string_val[0].decode() for event in read_board(folder).Tensors("config/text_summary")]
    saved = (folder / "config.yaml").read_text(encoding="utf-8")
    assert text == f"```yaml\n{saved}```"
    assert Config.from_yaml(folder / "config.yaml").train.loggers == ("tensorboard",)


def test_the_projector_has_the_codes_of_the_validation_sentences_and_what_is_known_of_them(shown, text):
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    place = shown[0] / "tensorboard"
    (embedding,) = text_format.Parse((place / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings
    rows = [line.split("\t") for line in (place / embedding.metadata_path).read_text("utf-8").splitlines()]
    sentences = Path(text["valid"]).read_text(encoding="utf-8").splitlines()
    assert rows[0] == ["text", "mood"]
    assert [row[0] for row in rows[1:]] == sentences
    assert {row[1] for row in rows[1:]} == {"calm", "<b>wild one</b>"}
    means = np.loadtxt(place / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(means, seqvae.load(shown[0]).encode(sentences).mean, atol=1e-6)


def test_at_most_so_many_codes_are_shown(shown, monkeypatch, text):
    folder, config = shown
    monkeypatch.setattr(external_loggers, "MOST_CODES", 5)
    vae = seqvae.load(folder)
    sentences = Path(text["valid"]).read_text(encoding="utf-8").splitlines()
    store = vae._store(sentences).with_labels(np.arange(13) % 2, LABELS)
    codes = external_loggers.codes_to_show(vae, config, store, 7)
    assert codes.means.shape == (5, 3)
    assert all(len(values) == 5 for values in codes.columns.values())
    found = vae.encode(list(codes.columns["text"])).mean
    np.testing.assert_allclose(codes.means, found, atol=1e-6)


def test_what_a_run_does_again_after_a_divergence_takes_the_place_of_what_it_had_done(text, tmp_path):
    logger = external_loggers.TensorBoardLogger(config_of(text, "tensorboard"), tmp_path, None, print)
    for step, value in [(1, 0.5), (2, 0.25), (3, 0.75), (4, 8.0), (3, 0.125), (4, 0.0625)]:
        logger({"event": "train", "step": step, "phase": 0, "phase_step": step, "epoch": 0.0, "rec_nats": value})
    logger.close(failed=False)
    assert board_scalars(tmp_path)["train/rec_nats"] == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]


def test_a_resumed_run_goes_on_in_the_same_folder_and_doubles_no_step(text, tmp_path):
    config = config_of(text, "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        seqvae.train(config, out=tmp_path / "run", observers=[Stops(11)])
    before = board_scalars(tmp_path / "run")["train/rec_nats"]
    assert [step for step, _ in before] == list(range(1, 11))  # the last checkpoint is at 9
    assert seqvae.train(resume=tmp_path / "run").finished
    assert_board_is_the_log(tmp_path / "run")
    assert len(read_board(tmp_path / "run").Tensors("config/text_summary")) == 1


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(text, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        seqvae.train(config_of(text, "tensorboard"), out=tmp_path / "run", observers=[Stops(3)])
    assert seqvae.train(resume=tmp_path / "run").finished
    assert_board_is_the_log(tmp_path / "run")
    assert len(read_board(tmp_path / "run").Tensors("config/text_summary")) == 1


def test_a_logger_that_comes_to_a_run_later_is_told_what_was(text, tmp_path):
    """By `--set` at a resume, which may change who is told though nothing else."""
    with pytest.raises(KeyboardInterrupt):
        seqvae.train(config_of(text), out=tmp_path / "run", observers=[Stops(7)])
    assert not (tmp_path / "run/tensorboard").exists()
    assert seqvae.train(config_of(text, "tensorboard"), resume=tmp_path / "run").finished
    assert_board_is_the_log(tmp_path / "run")
    assert min(logged(tmp_path / "run")["train/rec_nats"]) == 1


def test_being_told_changes_no_bit_of_the_run(shown, text, tmp_path):
    assert seqvae.train(config_of(text), out=tmp_path / "alone").finished
    weights = [bytes_of(seqvae.load(folder).model) for folder in (shown[0], tmp_path / "alone")]
    assert weights[0] == weights[1]
    untimed = [{n: v for n, v in logged(f).items() if "tokens_per_s" not in n} for f in (shown[0], tmp_path / "alone")]
    assert untimed[0] == untimed[1]


def test_a_logger_that_fails_is_dropped_with_a_note_and_the_run_goes_on(text, tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    calls, events = [], Events()

    def full(self, name, value, step):
        calls.append(step)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    assert seqvae.train(config_of(text, "tensorboard"), out=tmp_path / "run", observers=[events]).finished
    assert calls == [1]
    notes = [event["text"] for event in events.of("note")]
    assert "tensorboard is told nothing more ([Errno 28] No space left on device); the run goes on" in notes
    assert "No space left" in (tmp_path / "run/log.txt").read_text(encoding="utf-8")


def test_a_language_model_has_no_codes_to_show(text, tmp_path):
    config = config_of(text, "tensorboard").replace("model.latent_dim=0", "train.steps=2")
    assert seqvae.train(config, out=tmp_path / "lm").finished
    assert not (tmp_path / "lm/tensorboard/projector_config.pbtxt").exists()
    assert_board_is_the_log(tmp_path / "lm")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_program_that_is_missing_is_told_before_anything_is_done(name, text, tmp_path, monkeypatch):
    monkeypatch.setattr(external_loggers.importlib.util, "find_spec", lambda asked: None if asked == name else True)
    with pytest.raises(SeqVAEError, match=f"`train.loggers` names {name}, which is not installed") as caught:
        seqvae.train(config_of(text, name), out=tmp_path / "run")
    assert (caught.value.code, caught.value.hint.split(";")[0]) == ("E252", f"pip install 'seqvae[{name}]'")
    assert not (tmp_path / "run").exists()


# Weights & Biases, offline.


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    """The library with a home of its own, without key, server or run of before."""
    import wandb

    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home/netrc"))
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    wandb.teardown()
    yield wandb
    wandb.teardown()


def records(file: Path) -> list:
    """The records of an offline run: after 7 bytes pieces in blocks of 32 KiB, each behind checksum, length and kind
    (whole, first, middle, last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, found, place, whole = file.read_bytes(), [], 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(whole))
            whole = b""
    return found


def wandb_scalars(file: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for record in records(file):
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            if name.startswith(("train/", "valid/")):
                found.setdefault(name, {})[record.history.step.num] = json.loads(item.value_json)
    return found


def test_wandb_offline_has_every_number_and_a_resume_goes_on_in_the_same_run(wandb, text, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(KeyboardInterrupt):
        seqvae.train(config_of(text, "wandb"), out=tmp_path / "run", observers=[Stops(11)])
    events = Events()
    assert seqvae.train(resume=tmp_path / "run", observers=[events]).finished
    first, second = sorted(
        (tmp_path / "run/wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime
    )
    assert first.name == second.name == f"run-{json.loads((tmp_path / 'run/wandb/run.json').read_text())['id']}.wandb"
    parts = [wandb_scalars(file) for file in (first, second)]
    log = logged(tmp_path / "run")
    assert list(parts[0]["train/rec_nats"]) == list(range(1, 11))
    assert list(parts[1]["train/rec_nats"]) == [10, 11, 12]
    for name, points in log.items():
        if "tokens_per_s" not in name:
            assert parts[0][name] | parts[1][name] == pytest.approx(points), name
    (begun,) = [record.run for record in records(second) if record.HasField("run")]
    assert (begun.run_id, begun.project, begun.display_name) == (second.stem.removeprefix("run-"), "seqvae", "run")
    settings_sent = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert settings_sent["model"]["latent_dim"] == 3
    table = json.loads(next(second.parent.glob("files/media/table/codes*.json")).read_text(encoding="utf-8"))
    assert table["columns"] == ["text", "mood", "mean_0", "mean_1", "mean_2"]
    assert len(table["data"]) == 13
    assert any("`wandb sync " in event["text"] for event in events.of("note"))


@pytest.mark.slow
def test_where_no_server_answers_the_run_is_kept_on_this_machine(wandb, text, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setattr(external_loggers, "INIT_S", 1)
    events = Events()
    assert seqvae.train(config_of(text, "wandb", steps=3), out=tmp_path / "run", observers=[events]).finished
    notes = " ".join(event["text"] for event in events.of("note"))
    assert "Weights & Biases does not answer" in notes
    assert "`wandb sync " in notes
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    assert list(wandb_scalars(file)["train/rec_nats"]) == [1, 2, 3]


def test_without_a_key_wandb_is_refused_before_anything_is_done(wandb, text, tmp_path, monkeypatch):
    with pytest.raises(SeqVAEError, match="has no key") as caught:
        seqvae.train(config_of(text, "wandb"), out=tmp_path / "run")
    assert caught.value.code == "E253"
    assert "WANDB_MODE=offline" in caught.value.hint
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.teardown()
    check_loggers(config_of(text, "wandb"))

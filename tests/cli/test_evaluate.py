"""eval, and the model that every verb acts on: found, named, or missed with the way out."""

import contextlib
import json
import re
import shutil

import pytest
from typer.testing import CliRunner

import seqvae.textvae
from seqvae.cli.app import app
from seqvae.errors import SeqVAEError
from seqvae.evaluation.report import EvalReport
from seqvae.io import pretrained

PROMISED = {
    *("split", "sentences", "tokens", "elbo_nats", "rec_nats", "kl_nats", "iw_nats", "iw_samples", "ppl_iw"),
    *("ppl_elbo", "mi_nats", "mi_ceiling_nats", "active_units", "latent_dim", "swap_gap_nats", "token_accuracy"),
    *("bleu", "exact_match", "verdict"),
}
LATENT = {"kl_nats", "mi_nats", "mi_ceiling_nats", "active_units", "swap_gap_nats", "bleu", "exact_match"}


def measured(result) -> dict:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json_is_one_object_with_every_promised_number(verb):
    found = measured(verb("eval", "--json"))
    assert found.keys() >= PROMISED
    assert {name for name in PROMISED if found[name] is None} == set()
    assert (found["split"], found["sentences"], found["iw_samples"], found["latent_dim"]) == ("test", 25, 7, 3)
    assert 0 < found["iw_nats"] <= found["elbo_nats"] == pytest.approx(found["rec_nats"] + found["kl_nats"])
    assert found["verdict"].keys() >= {"collapsed", "text"}


def test_what_a_model_does_not_have_is_null(verb):
    found = measured(verb("eval", "--json", "--model", "runs/lm"))
    assert {name for name in PROMISED if found[name] is None} == LATENT
    assert found["verdict"]["collapsed"] is None
    found = measured(verb("eval", "--json", "--model", "runs/ae"))
    assert {found[name] for name in ("elbo_nats", "kl_nats", "iw_nats", "ppl_iw", "mi_nats")} == {None}
    assert found["rec_nats"] > 0


def test_the_table_has_each_number_on_one_line_of_eighty_columns(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = verb("eval")
    lines = result.stdout.splitlines()
    labels = [item.metadata["label"] for item in EvalReport.__dataclass_fields__.values() if "label" in item.metadata]
    for label in labels:
        (line,) = [line for line in lines if line.startswith(f"  {label}  ")]
        assert line[len(label) + 2 :].split()[0].replace(",", "").lstrip("-").replace(".", "").isdigit()
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("KL by dimension"))]
    assert len([line for line in table if line.strip()]) == len(labels) + 3
    assert max(map(len, table)) <= 80
    assert "\x1b" not in result.stdout


def test_the_numbers_repeat_and_a_seed_changes_them(verb):
    first, again, other = (measured(verb("eval", "--json", *seed)) for seed in ((), ("--seed", 0), ("--seed", 1)))
    assert first == again
    assert first["elbo_nats"] != other["elbo_nats"]


def test_options_choose_the_text_and_the_samples(verb):
    assert measured(verb("eval", "--json", "--split", "valid"))["sentences"] == 30
    assert measured(verb("eval", "--json", "--iw-samples", 2))["iw_samples"] == 2
    found = measured(verb("eval", "--json", "--input", "valid.txt"))
    assert (found["split"], found["sentences"]) == ("valid.txt", 30)
    expected = measured(verb("eval", "--json", "--split", "valid"))
    assert {**found, "split": "valid"} == expected


@pytest.mark.parametrize(
    "arguments", [("eval", "--json"), ("diagnose", "--json"), ("sample", "--from", "aggregate", "--seed", 1)]
)
def test_a_column_of_a_table_is_read_as_a_text_is(verb, tmp_path, arguments):
    rows = ["number,sentence"]
    with open("valid.txt", encoding="utf-8") as text:
        lines = text.read().splitlines()
    rows += [f"{number},{line}" for number, line in enumerate(lines)]
    (tmp_path / "valid.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    from_table = verb(*arguments, "--input", tmp_path / "valid.csv", "--text-column", "sentence")
    assert from_table.exit_code == 0, from_table.stderr
    from_text = verb(*arguments, "--input", "valid.txt")
    written = [re.sub(r'fingerprint": .*', "", each.stdout) for each in (from_table, from_text)]
    assert written[0].replace("valid.csv", "valid.txt") == written[1]


def test_a_conditional_model_is_measured_on_a_text_with_the_labels_beside_it(desk, tmp_path, monkeypatch):
    for split in ("train", "valid", "test"):
        texts = (tmp_path / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        labels = "".join("night\n" if text.endswith("night") else "day\n" for text in texts)
        (tmp_path / f"{split}.when.labels").write_text(labels, encoding="utf-8")
    changes = ("data.labels=when", "model.conditional={}", "train.steps=3")
    trained = desk("train", "--config", "small.yaml", "--out", "runs/by", *(f"--set={change}" for change in changes))
    assert trained.exit_code == 0, trained.stderr
    found = measured(desk("eval", "--json", "--input", "valid.txt"))
    assert {**found, "split": "valid"} == measured(desk("eval", "--json", "--split", "valid"))
    full = ("--suite", "full", "--samples", 10)
    assert "probes" in measured(desk("eval", "--json", "--input", "valid.txt", *full))
    assert measured(desk("diagnose", "--json", "--input", "valid.txt"))
    codes = ("sample", "--from", "aggregate", "--seed", 1, "--input")
    drawn = desk(*codes, "valid.txt")
    assert drawn.exit_code == 0, drawn.stderr

    shutil.copy("valid.txt", "bare.txt")
    for verb in (("eval", "--input"), ("diagnose", "--input"), codes):
        result = desk(*verb, "bare.txt")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error[E282]" in result.stderr
        assert "write the label of each line into bare.when.labels" in result.stderr
        assert ("`--label`" in result.stderr) == (verb == codes)
    saved = [("SENTENCES", 3), ("WALKED", 2), ("UNITS", 2), ("ENDS", 2)]
    for name, few in saved:
        monkeypatch.setattr(f"seqvae.web.saved.{name}", few)
    shown = desk("explore", "--corpus", "valid.txt", "--export", "page.html")
    assert shown.exit_code == 0, shown.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    kept = json.loads(re.search(r'id="saved"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert kept["about"]["labels"] == ["day"]
    assert {each["name"] for each in kept["answers"]} == {"sentence", "path", "walk", "sample"}
    assert all(each["body"]["label"] == "day" for each in kept["answers"])
    assert "error[E282]" in desk("explore", "--corpus", "bare.txt", "--export", "page.html").stderr
    card = (tmp_path / "runs/by/model/README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", "runs/by/model")
    assert code.count("label='") == 2
    exec(compile(code, "card", "exec"), {})
    all_night = desk(*codes, "bare.txt", "--label", "night")
    assert all_night.exit_code == 0, all_night.stderr
    (tmp_path / "bare.when.labels").write_text("night\n" * 30, encoding="utf-8")
    assert all_night.stdout == desk(*codes, "bare.txt", "--label", "night").stdout
    (tmp_path / "bare.csv").write_text("text\nthe cat\n", encoding="utf-8")
    assert "FILE.labels beside FILE.txt" in desk("eval", "--input", "bare.csv").stderr
    assert "error[E301]" in desk("eval", "--input", "nope.txt").stderr


def test_a_file_is_measured_without_its_blank_lines_and_its_unknown_words_are_told(verb, tmp_path):
    (tmp_path / "mine.txt").write_text("the cat saw a cake\n\nthe zebra ate\n", encoding="utf-8")
    result = verb("eval", "--json", "--input", tmp_path / "mine.txt")
    assert measured(result)["sentences"] == 2
    notes = [line for line in result.stderr.splitlines() if line.startswith("note")]
    assert [note.split(":")[0] for note in notes] == [f"note     {tmp_path / 'mine.txt'}"] * 2
    assert "blank" in notes[0]
    assert "12.5% of the tokens are unknown words" in notes[1]


def test_a_text_of_unknown_words_only_is_measured_and_told(verb, tmp_path):
    (tmp_path / "mine.txt").write_text("zebra quagga\nokapi\n", encoding="utf-8")
    for model in ("vae", "lm", "ae"):
        result = verb("eval", "--json", "--input", tmp_path / "mine.txt", "--model", f"runs/{model}")
        found = measured(result)
        assert (found["sentences"], found["unknown_rate"]) == (2, 1.0)
        assert found["rec_nats"] > 0
        assert "100.0% of the tokens are unknown words" in result.stderr


@pytest.fixture(scope="module")
def full(workplace):
    """The full suite on a small scale, with all that it can be given."""
    pairs = workplace / "pairs.tsv"
    rows = ["the cat saw a cake\ta dog saw a cake\t3.5", "she ate\tshe ate some tea\t4", "she liked\tthe cat\t1"]
    pairs.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for split, count in (("train", 200), ("valid", 30)):
        lines = (workplace / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        labels = ["night" if line.endswith("night") else "day" for line in lines]
        (workplace / f"{split}.time.labels").write_text("\n".join(labels) + "\n", encoding="utf-8")
        assert len(labels) == count
    arguments = ["--samples", 20, "--language-model", "runs/lm", "--pairs", "pairs.tsv", "--group-size", 3]
    with contextlib.chdir(workplace):
        result = CliRunner().invoke(app, ["eval", "--suite=full", "--split=valid", "--json", *map(str, arguments)])
    for path in workplace.glob("*.labels"):
        path.unlink()
    return result


def test_the_full_suite_adds_its_parts_to_the_numbers_of_the_basic_one(full, verb):
    found, basic = measured(full), measured(verb("eval", "--json", "--split", "valid"))
    assert {name: found[name] for name in basic} == basic
    parts = {"aggregate_posterior", "samples", "samples_from", "interpolation", "probes", "retrieval", "similarity"}
    assert found.keys() - basic.keys() == parts
    assert None not in [found[name] for name in parts]
    assert found["samples"]["samples"]["sentences"] == found["samples"]["real"]["sentences"] == 20
    assert found["samples"]["forward"]["ppl"] > 1
    assert found["probes"]["time"]["train_sentences"] == 200
    assert found["probes"]["time"]["bag_of_words"] == 1
    assert found["retrieval"]["groups"] == 10
    assert found["similarity"]["pairs"] == 3
    stages = [line for line in full.stderr.splitlines() if line.startswith("measure ")]
    assert len(stages) == 5


@pytest.mark.parametrize("model", ["lm", "ae"])
def test_the_full_suite_of_a_model_without_prior_or_code_leaves_out_what_it_does_not_have(verb, model):
    found = measured(verb("eval", "--suite", "full", "--json", "--samples", 9, "--model", f"runs/{model}"))
    assert found["samples_from"] == {"lm": "no code", "ae": "mixture"}[model]
    assert found["aggregate_posterior"] is None
    assert found["samples"]["forward"] is None
    assert (found["interpolation"] is None) == (model == "lm")
    assert (found["probes"], found["retrieval"], found["similarity"]) == ({}, None, None)


def test_the_full_suite_prints_tables_of_eighty_columns_that_end_with_what_the_code_knows(verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = verb("eval", "--suite", "full", "--samples", 9, "--group-size", 5, "--language-model", "runs/lm")
    tables = result.stdout.splitlines()
    tables = tables[tables.index("all codes together against the prior") :]
    assert max(map(len, tables)) <= 80
    for words in ("reverse PPL", "continuous units", "the middle, to the first", "recall at 10"):
        assert words in result.stdout
    assert "--language-model" not in result.stderr


@pytest.mark.parametrize("option", ["--language-model", "--samples", "--pairs", "--group-size"])
def test_options_of_the_full_suite_are_refused_without_it(verb, option):
    result = verb("eval", option, "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error[E293]: {option} is for the full suite" in result.stderr
    assert "--suite full" in result.stderr


def test_pairs_that_cannot_be_read_are_named_before_anything_is_measured(verb, tmp_path):
    path = tmp_path / "pairs.tsv"
    for text, code in (("a b\n", "E291"), ("a\tb\t1\na\tb\n", "E292"), ("a\tb\t1\n", "E292")):
        path.write_text(text, encoding="utf-8")
        result = verb("eval", "--suite", "full", "--pairs", path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error[{code}]" in result.stderr
        assert "measure " not in result.stderr
    assert (
        "error[E291]: there is no column 'z'"
        in verb("eval", "--suite", "full", "--pairs", path, "--pair-columns", "a,b,z").stderr
    )


def test_a_language_model_that_has_a_code_is_refused(verb):
    result = verb("eval", "--suite", "full", "--language-model", "runs/vae")
    assert result.exit_code == 2
    assert "error[E290]" in result.stderr


def test_the_numbers_are_kept_with_the_model_by_split(verb, workplace):
    for split in ("test", "valid"):
        found = measured(verb("eval", "--json", "--split", split))
        assert json.loads((workplace / "runs/vae/model/eval.json").read_text(encoding="utf-8"))[split] == found
    verb("eval", "--input", "valid.txt")
    assert json.loads((workplace / "runs/vae/model/eval.json").read_text(encoding="utf-8")).keys() == {"test", "valid"}


def test_without_a_model_the_newest_run_is_taken_and_named(verb):
    result = verb("sample", "-n", 2, "--seed", 3)
    assert result.stderr == "model    runs/vae\n"
    named = [verb("sample", "-n", 2, "--seed", 3, "--model", path) for path in ("runs/vae", "runs/vae/model")]
    assert {each.stdout for each in named} == {result.stdout}
    assert {each.stderr for each in named} == {""}


@pytest.mark.parametrize("arguments", [["eval"], ["sample"], ["reconstruct", "a"], ["interpolate", "a", "b"]])
def test_without_any_model_the_way_to_one_is_told(desk, arguments):
    result = desk(*arguments)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "error[E404]: there is no model under ./runs" in result.stderr
    assert "seqvae train --config tiny.yaml" in result.stderr
    result = desk(*arguments, "--model", "runs/nope")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "there is no such folder" in result.stderr


def test_a_run_that_has_no_model_yet_is_passed_over_and_told_apart(verb, workplace, tmp_path, monkeypatch):
    """Nor is it taken for the newest run."""
    for name in ("vae", "young"):
        shutil.copytree(workplace / "runs/vae", tmp_path / "runs" / name)
    shutil.rmtree(tmp_path / "runs/young/model")
    (tmp_path / "runs/young/provenance.json").touch()
    monkeypatch.chdir(tmp_path)
    assert "model    runs/vae\n" in verb("sample").stderr
    result = verb("sample", "--model", "runs/young")
    assert result.exit_code == 4
    assert "this run has no model yet" in result.stderr
    assert "seqvae train --resume runs/young" in result.stderr


def test_a_model_folder_away_from_its_run_needs_a_text(verb, workplace, tmp_path):
    shutil.copytree(workplace / "runs/vae/model", tmp_path / "shared")
    result = verb("eval", "--model", tmp_path / "shared")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E214]" in result.stderr
    assert "--input FILE" in result.stderr
    assert measured(verb("eval", "--json", "--model", tmp_path / "shared", "--input", "test.txt"))["iw_samples"] == 500
    assert len(verb("sample", "-n", 2, "--model", tmp_path / "shared").stdout.splitlines()) == 2


@pytest.mark.parametrize("name", ["shared", "model"])
def test_a_config_of_somebody_else_beside_a_model_is_left_alone(verb, workplace, tmp_path, name):
    shutil.copytree(workplace / "runs/vae/model", tmp_path / name)
    (tmp_path / "config.yaml").write_text("services: {web: {ports: [80]}}\n", encoding="utf-8")
    found = measured(verb("eval", "--json", "--model", tmp_path / name, "--input", "test.txt"))
    assert (found["sentences"], found["iw_samples"]) == (25, 500)
    assert "error[E214]" in verb("eval", "--model", tmp_path / name).stderr


def test_a_model_folder_is_known_from_inside_it(verb, workplace, monkeypatch):
    monkeypatch.chdir(workplace / "runs/vae/model")
    found = measured(verb("eval", "--json", "--model", ".", "--input", workplace / "test.txt"))
    assert found["iw_samples"] == 7


def test_a_split_that_the_run_was_not_given_is_told_with_what_there_is(verb, workplace, tmp_path):
    shutil.copytree(workplace / "runs/vae", tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    text = re.sub(r"test: .*test\.txt", "test: null", config.read_text(encoding="utf-8"))
    config.write_text(text, encoding="utf-8")
    result = verb("eval", "--model", tmp_path / "run", "--split", "test")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E220]: the run has no test text" in result.stderr
    assert "--input FILE" in result.stderr
    assert "data.train, data.valid" in result.stderr


@pytest.mark.parametrize("name", ["eval", "diagnose"])
def test_a_run_without_a_test_text_is_measured_on_its_validation_text_and_told_so(verb, workplace, tmp_path, name):
    shutil.copytree(workplace / "runs/vae", tmp_path / "run")
    config = tmp_path / "run/config.yaml"
    text = re.sub(r"test: .*test\.txt", "test: null", config.read_text(encoding="utf-8"))
    config.write_text(text, encoding="utf-8")
    told, asked = verb(name, "--model", tmp_path / "run"), verb(name, "--model", tmp_path / "run", "--split", "valid")
    assert told.exit_code == 0, told.stderr
    assert "the run has no test text: this is its validation text" in told.stderr
    assert (told.stdout, "validation text" in asked.stderr) == (asked.stdout, False)


def test_a_folder_that_cannot_be_written_is_measured_all_the_same(verb, monkeypatch):
    def read_only(*arguments, **options):
        raise SeqVAEError("E702", "permission denied")

    monkeypatch.setattr(pretrained, "keep_evaluation", read_only)
    result = verb("eval", "--json")
    assert measured(result)["sentences"] == 25
    assert "the numbers were not kept in runs/vae/model: permission denied" in result.stderr


def test_numbers_of_weights_that_a_live_run_has_replaced_are_not_kept(verb, workplace, tmp_path, monkeypatch):
    """The run saves a better model while the one before it is measured."""
    shutil.copytree(workplace / "runs/vae", tmp_path / "run")
    model, measure = tmp_path / "run/model", seqvae.textvae.evaluate

    def slowly(vae, *arguments, **options):
        other = seqvae.load(model)
        other.model.decoder.output_weight.data.mul_(2)
        pretrained.save(model, other, facts={})
        return measure(vae, *arguments, **options)

    monkeypatch.setattr(seqvae.textvae, "evaluate", slowly)
    result = verb("eval", "--json", "--model", tmp_path / "run")
    assert measured(result)["sentences"] == 25
    assert "note     the numbers were not kept" in result.stderr
    assert "saved anew" in result.stderr
    assert not (model / "eval.json").exists()
    assert seqvae.load(model).model.decoder.output_weight.shape[0] == 19


def test_a_damaged_model_is_named(verb, workplace, tmp_path):
    shutil.copytree(workplace / "runs/vae/model", tmp_path / "damaged")
    with (tmp_path / "damaged/model.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"xyz")
    result = verb("sample", "--model", tmp_path / "damaged")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "model.safetensors" in result.stderr

"""What is said of a setting is what its class says, wherever it is looked up from."""

import json

import pytest
from typer.testing import CliRunner

from seqvae.cli.app import app
from seqvae.config import Config, find_config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.setting_docs import explain, inside, setting_names
from seqvae.yaml_source import read_yaml


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["config", *words], prog_name="seqvae")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_a_setting_has_description_type_default_unit_and_those_who_set_it():
    (doc,) = explain("train.schedule.patience")
    assert (doc.kind, doc.type, doc.default, doc.unit) == ("plateau", "whole number, from 1", 2, "validations")
    assert doc.description == "validations without improvement before a decay"
    assert doc.set_by == {"recipes/ae_pretraining.yaml": 5}


def test_kinds_that_share_a_name_are_told_apart_where_they_differ():
    adamw, sgd = explain("train.optimizer.lr")
    assert [(doc.kind, doc.default) for doc in (adamw, sgd)] == [("adamw", 0.001), ("sgd", 1.0)]
    assert sgd.set_by == {"recipes/ae_pretraining.yaml": 0.5}
    assert "recipes/ae_pretraining.yaml" not in adamw.set_by
    (warmup,) = explain("train.schedule.warmup_steps")
    assert warmup.kind == "constant, cosine, plateau"


def test_a_method_is_found_in_objective_and_in_phases():
    (doc,) = explain("objective.strategies.free_bits")
    assert "nats_per_dim" in doc.settings
    assert {"tiny.yaml", "ptb.yaml"} <= doc.set_by.keys()
    (own,) = explain("objective.strategies.beta.beta")
    assert own.type.startswith("number")
    assert own.set_by["recipes/beta.yaml"] == 0.4


def test_kinds_of_a_section_come_with_the_setting_that_chooses_one_and_with_what_each_is():
    assert "told apart by `name` (`seqvae config explain tokenizer.word`)" in run("explain", "tokenizer")
    shown = " ".join(run("explain", "model.posterior").split())
    assert "told apart by `family` (`seqvae config explain model.posterior.gaussian`)" in shown
    assert "delta The Gaussian posterior whose variance stays below the prior's" in shown


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_section_lists_its_settings(name):
    (doc,) = explain(name)
    shown = run("explain", name)
    for setting in doc.settings or doc.kinds:
        assert f"\n  {setting}" in shown
    assert [each.path for each in inside(doc)] == [f"{name}.{setting}" for setting in doc.settings]


def test_every_setting_can_be_explained_in_a_page_of_text():
    for name in setting_names():
        for doc in explain(name):
            assert doc.description, name
            assert doc.type, name


@pytest.mark.parametrize("name", shipped_configs())
def test_whatever_a_shipped_config_sets_is_explained(name):
    for section, settings in read_yaml(find_config(name)).data.items():
        for setting in settings:
            assert any(name in doc.set_by for doc in explain(f"{section}.{setting}")), setting


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("train.patiense", "train.patience"),
        ("patience", "train.patience"),
        ("train.shedule", "train.schedule"),
        ("objective.strategies.free_bit", "objective.strategies.free_bits"),
        ("modle.latent_dim", "model.latent_dim"),
    ],
)
def test_a_slip_is_met_with_the_nearest_name(wrong, meant):
    with pytest.raises(SeqVAEError) as caught:
        explain(wrong)
    assert caught.value.code == "E204"
    assert f"`{meant}`" in caught.value.hint


def test_list_names_every_shipped_config_with_its_first_line():
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines] == shipped_configs()
    rows = json.loads(run("list", "--json"))
    for line, row in zip(lines, rows, strict=True):
        assert line == f"{row['name']:<{max(map(len, shipped_configs()))}}  {row['about']}"
        assert find_config(row["name"]).read_text(encoding="utf-8").startswith(f"# {row['about']}\n")


def test_show_prints_a_config_that_reads_back_to_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text(run("show", "tiny", "--set", "train.seed=7"), encoding="utf-8")
    assert Config.from_yaml(tmp_path / "a.yaml") == Config.from_yaml("tiny", ["train.seed=7"])


def test_the_schema_describes_every_section_and_setting():
    schema = json.loads(run("schema"))
    assert schema["properties"].keys() == Config.model_fields.keys()
    assert schema["$defs"]["TrainConfig"]["properties"]["epochs"]["minimum"] == 1
    assert not schema["additionalProperties"]

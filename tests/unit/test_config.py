"""A config file is read strictly, and a mistake in it is shown where it stands with the nearest right setting."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from seqvae.config import Config, find_config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.training.settings import SGDConfig, TrainConfig
from seqvae.validation import models_in
from seqvae.yaml_source import MAX_BYTES, dump_value, dump_yaml, parse_value, parse_yaml


def read(tmp_path: Path, monkeypatch, text: str | bytes, *overrides: str) -> Config:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return Config.from_yaml("my.yaml", overrides)


def message(call, *arguments) -> str:
    with pytest.raises(SeqVAEError) as caught:
        call(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


# What a file may say.


def test_a_file_sets_what_it_names_and_leaves_the_defaults(tmp_path, monkeypatch):
    config = read(tmp_path, monkeypatch, "train:\n  optimizer: {name: sgd, lr: 1e-3}\nmodel:\n  latent_dim: 9\n")
    assert config.train.optimizer == SGDConfig(lr=0.001)
    assert config.model.latent_dim == 9
    assert config.replace(**{"model.latent_dim": 32, "train.optimizer": {"name": "adamw"}}) == Config()


def test_scalars_are_those_of_yaml_1_2():
    text = "[1e-3, .5, 7., +3, 0x1f, 0o17, no, on, 'true', true, False, ~, null, 2026-01-02, 1_000, .inf, 12:30, '1']"
    expected = [0.001, 0.5, 7.0, 3, 31, 15, "no", "on", "true", True, False, None, None]
    expected += ["2026-01-02", "1_000", math.inf, "12:30", "1"]
    found = parse_yaml(f"a: {text}", "f").data["a"]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "---\n", "train:\n", "train:\n  optimizer:\n", "\ufeff"]
)
def test_an_empty_file_or_section_means_the_defaults(tmp_path, monkeypatch, text):
    assert read(tmp_path, monkeypatch, text) == Config()


def test_a_kind_that_is_not_named_is_the_default_kind(tmp_path, monkeypatch):
    optimizer = read(tmp_path, monkeypatch, "train: {optimizer: {lr: 0.25}}").train.optimizer
    assert (optimizer.name, optimizer.lr) == ("adamw", 0.25)


def test_an_alias_repeats_a_value(tmp_path, monkeypatch):
    text = "model: {encoder: {hidden: &size 48}, decoder: {hidden: *size}}"
    assert read(tmp_path, monkeypatch, text).model.decoder.hidden == 48


# What it may not, word for word.

YAML_MISTAKES = {
    "unknown setting": (
        "train:\n  # updates\n  stpes: 500\n",
        "error[E204]: `train.stpes` is not a setting\n"
        "  --> my.yaml:3:3\n"
        "   |\n"
        " 3 |   stpes: 500\n"
        "   |   ^^^^^\n"
        "help: did you mean `steps`?",
    ),
    "unknown section": (
        "modle: {latent_dim: 3}\n",
        "error[E204]: `modle` is not a setting\n"
        "  --> my.yaml:1:1\n"
        "   |\n"
        " 1 | modle: {latent_dim: 3}\n"
        "   | ^^^^^\n"
        "help: did you mean `model`?",
    ),
    "setting of another section": (
        "train: {latent_dim: 3}\n",
        "error[E204]: `train.latent_dim` is not a setting\n"
        "  --> my.yaml:1:9\n"
        "   |\n"
        " 1 | train: {latent_dim: 3}\n"
        "   |         ^^^^^^^^^^\n"
        "help: did you mean `model.latent_dim`?",
    ),
    "unknown setting of one kind": (
        "objective:\n  strategies:\n    - name: free_bits\n      nats_per_dimension: 1\n",
        "error[E204]: `objective.strategies.0.nats_per_dimension` is not a setting\n"
        "  --> my.yaml:4:7\n"
        "   |\n"
        " 4 |       nats_per_dimension: 1\n"
        "   |       ^^^^^^^^^^^^^^^^^^\n"
        "help: did you mean `nats_per_dim`?",
    ),
    "wrong type": (
        "train:\n  steps: many\n",
        "error[E205]: `train.steps` should be a valid integer, not 'many'\n"
        "  --> my.yaml:2:10\n"
        "   |\n"
        " 2 |   steps: many\n"
        "   |          ^^^^\n"
        "help: `steps`: at most this many updates, in each phase that names none",
    ),
    "out of range": (
        "train:\n  optimizer:\n    betas: [0.9, 0.99]\n    lr: -1e-3\n",
        "error[E205]: `train.optimizer.lr` should be greater than 0, not -0.001\n"
        "  --> my.yaml:4:9\n"
        "   |\n"
        " 4 |     lr: -1e-3\n"
        "   |         ^^^^^\n"
        "help: `lr`: learning rate after warm-up",
    ),
    "not one of the choices": (
        "train: {monitor: elbow}\n",
        "error[E205]: `train.monitor` should be 'auto', 'elbo', 'iw' or 'rec', not 'elbow'\n"
        "  --> my.yaml:1:18\n"
        "   |\n"
        " 1 | train: {monitor: elbow}\n"
        "   |                  ^^^^^\n"
        "help: did you mean `elbo`?",
    ),
    "unknown kind": (
        "train:\n  optimizer:\n    name: adam\n",
        "error[E205]: `train.optimizer.name`: there is no 'adam'\n"
        "  --> my.yaml:3:11\n"
        "   |\n"
        " 3 |     name: adam\n"
        "   |           ^^^^\n"
        "help: did you mean `adamw`?",
    ),
    "a value for a section": (
        "train:\n  optimizer: sgd\n",
        "error[E205]: `train.optimizer` is a section, it cannot be 'sgd'\n"
        "  --> my.yaml:2:14\n"
        "   |\n"
        " 2 |   optimizer: sgd\n"
        "   |              ^^^\n"
        "help: set `train.optimizer.name`; choose from: adamw, sgd",
    ),
    "missing": (
        "train:\n  phases:\n    - epochs: 3\n",
        "error[E205]: `train.phases.0.name` is missing\n"
        "  --> my.yaml:3:7\n"
        "   |\n"
        " 3 |     - epochs: 3\n"
        "   |       ^^^^^^^^^\n"
        "help: `name`: shown in the log",
    ),
    "two that cannot go together": (
        "objective:\n  strategies: [{name: free_bits}, {name: free_bits}]\n",
        "error[E205]: `objective`: `free_bits` stands twice\n  --> my.yaml:1:1\n   |\n 1 | objective:\n   | ^^^^^^^^^",
    ),
    "several": (
        "train:\n  steps: 2.5\n  lr: 3\nmodel:\n  latent_dim: -1\n",
        "error[E205]: `train.steps` should be a valid integer, got a number with a fractional part, not 2.5\n"
        "  --> my.yaml:2:10\n"
        "   |\n"
        " 2 |   steps: 2.5\n"
        "   |          ^^^\n"
        "help: `steps`: at most this many updates, in each phase that names none\n"
        "and 2 more:\n"
        "  my.yaml:3:3: `train.lr` is not a setting\n"
        "  my.yaml:5:15: `model.latent_dim` should be greater than or equal to 0, not -1",
    ),
    "twice": (
        "train:\n  steps: 1\n  epochs: 2\n  steps: 3\n",
        "error[E203]: `steps` stands twice (first on line 2)\n"
        "  --> my.yaml:4:3\n"
        "   |\n"
        " 4 |   steps: 3\n"
        "   |   ^^^^^\n"
        "help: keep one of them",
    ),
    "tab": (
        "train:\n\tsteps: 1\n",
        "error[E203]: a tab cannot stand here\n  --> my.yaml:2:1\n   |\n 2 |  steps: 1\n   | ^\nhelp: use spaces",
    ),
    "not a mapping": (
        "- train\n",
        "error[E203]: a config is a mapping of settings (`section:` and below it `setting: value`)\n"
        "  --> my.yaml:1:1\n"
        "   |\n"
        " 1 | - train\n"
        "   | ^^^^^^^\n"
        "help: begin with a section, such as `train:`",
    ),
    "two documents": (
        "train: {}\n---\nmodel: {}\n",
        "error[E203]: a second document begins here\n"
        "  --> my.yaml:2:1\n"
        "   |\n"
        " 2 | ---\n"
        "   | ^\n"
        "help: keep one document in a file (`---` begins another)",
    ),
    "a value that contains itself": (
        "train: &a [1, *a]\n",
        "error[E203]: this value contains itself\n"
        "  --> my.yaml:1:8\n"
        "   |\n"
        " 1 | train: &a [1, *a]\n"
        "   |        ^^^^^^^^^^\n"
        "help: remove the alias (`*name`)",
    ),
    "code": (
        "train: !!python/object/apply:os.system ['true']\n",
        "error[E203]: the tag `tag:yaml.org,2002:python/object/apply:os.system` is not allowed\n"
        "  --> my.yaml:1:8\n"
        "   |\n"
        " 1 | train: !!python/object/apply:os.system ['true']\n"
        "   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
        "help: remove it: settings are plain values",
    ),
    "not UTF-8": (
        b"# caf\xe9\ntrain: {}\n",
        "error[E203]: byte 0xe9 is not UTF-8\n"
        "  --> my.yaml:1:6\n"
        "   |\n"
        " 1 | # caf\ufffd\n"
        "   |      ^\n"
        "help: save the file in UTF-8",
    ),
    "control character": (
        "train: {}\n# \x07\n",
        "error[E203]: the character U+0007 cannot stand in YAML\n"
        "  --> my.yaml:2:3\n"
        "   |\n"
        " 2 | # \ufffd\n"
        "   |   ^\n"
        "help: remove it",
    ),
}


@pytest.mark.parametrize("case", YAML_MISTAKES)
def test_a_mistake_in_a_file_is_shown_in_place(tmp_path, monkeypatch, case):
    text, expected = YAML_MISTAKES[case]
    assert message(read, tmp_path, monkeypatch, text) == expected


def test_a_document_that_multiplies_itself_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "more than 20000 values" in message(parse_yaml, "\n".join(lines), "f")


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{b: " * 5000, "\n".join(" " * n + "a:" for n in range(300))])
def test_a_document_nested_without_end_is_refused(text):
    assert "nested too deeply" in message(parse_yaml, text, "f")


def test_a_file_too_large_to_be_a_config_is_refused(tmp_path, monkeypatch):
    assert "larger than 1 MB" in message(read, tmp_path, monkeypatch, b"# padding\n" * (MAX_BYTES // 9))


# Overrides.

OVERRIDE_MISTAKES = {
    "unknown": (
        "train.stpes=5",
        "error[E204]: `train.stpes` is not a setting\n"
        "  --> --set\n"
        " |\n"
        " | train.stpes=5\n"
        " |       ^^^^^\n"
        "help: did you mean `steps`?",
    ),
    "without its section": (
        "latent_dim=5",
        "error[E204]: `latent_dim` is not a setting\n"
        "  --> --set\n"
        " |\n"
        " | latent_dim=5\n"
        " | ^^^^^^^^^^\n"
        "help: did you mean `model.latent_dim`?",
    ),
    "wrong value": (
        "model.latent_dim=big",
        "error[E205]: `model.latent_dim` should be a valid integer, not 'big'\n"
        "  --> --set\n"
        " |\n"
        " | model.latent_dim=big\n"
        " |                  ^^^\n"
        "help: `latent_dim`: dimensions of z; 0 gives a language model",
    ),
    "wrong value inside": (
        "objective.strategies=[{name: free_bits, nats_per_dim: -2}]",
        "error[E205]: `objective.strategies.0.nats_per_dim` should be greater than or equal to 0, not -2\n"
        "  --> --set\n"
        " |\n"
        " | objective.strategies=[{name: free_bits, nats_per_dim: -2}]\n"
        " |                                                       ^^\n"
        "help: `nats_per_dim`: free nats for each latent dimension; a total is this times the dimensions",
    ),
    "no equals": (
        "train.steps 5",
        "error[E206]: there is no `=`\n"
        "  --> --set\n"
        " |\n"
        " | train.steps 5\n"
        " | ^^^^^^^^^^^^^\n"
        "help: write `train.steps 5=VALUE`",
    ),
    "no value": (
        "train.steps=",
        "error[E206]: there is no value after `=`\n"
        "  --> --set\n"
        " |\n"
        " | train.steps=\n"
        " |            ^\n"
        "help: write `null` for none, or `''` for empty text",
    ),
    "no name": (
        "train..lr=1",
        "error[E206]: a name is missing\n"
        "  --> --set\n"
        " |\n"
        " | train..lr=1\n"
        " |       ^\n"
        "help: write `section.setting=VALUE`",
    ),
    "no such entry": (
        "objective.strategies.3.name=beta",
        "error[E206]: `objective.strategies` has no entry `3`\n"
        "  --> --set\n"
        " |\n"
        " | objective.strategies.3.name=beta\n"
        " |                      ^\n"
        "help: it has entries 0 to 0; 1 adds one",
    ),
    "below a value": (
        "train.seed.x=1",
        "error[E206]: `train.seed` is a value: nothing stands below it\n"
        "  --> --set\n"
        " |\n"
        " | train.seed.x=1\n"
        " |       ^^^^",
    ),
    "a comment": (
        "data.train=my corpus #2.txt",
        "error[E206]: something follows the value\n"
        "  --> --set\n"
        " |\n"
        " | data.train=my corpus #2.txt\n"
        " |                      ^^^^^^\n"
        "help: quote the value: `#` after a space begins a comment",
    ),
}

BASE = "train: {seed: 3}\nobjective: {strategies: [{name: free_bits, nats_per_dim: 0.5}]}\n"


@pytest.mark.parametrize("case", OVERRIDE_MISTAKES)
def test_a_mistake_in_an_override_is_shown_in_the_argument(tmp_path, monkeypatch, case):
    argument, expected = OVERRIDE_MISTAKES[case]
    assert message(read, tmp_path, monkeypatch, BASE, argument) == expected


def test_overrides_apply_in_order_over_the_file(tmp_path, monkeypatch):
    config = read(
        tmp_path,
        monkeypatch,
        BASE,
        "train.seed=4",
        "train.seed=5",
        "train.optimizer.lr=1e-4",
        "objective.strategies.0.nats_per_dim=2",
        "objective.strategies.1={name: word_dropout, rate: 0.25}",
        "train.optimizer.betas=[0.8, 0.9]",
        "data.train=my text.txt",
        "train.steps=null",
    )
    assert config.train.seed == 5
    assert (config.train.optimizer.name, config.train.optimizer.lr) == ("adamw", 0.0001)
    assert config.train.optimizer.betas == (0.8, 0.9)
    assert [each.name for each in config.objective.strategies] == ["free_bits", "word_dropout"]
    assert config.objective.strategies[0].nats_per_dim == 2
    assert config.data.train == "my text.txt"
    assert config.train.steps is None


def test_a_list_that_the_file_does_not_have_can_be_built():
    config = Config.from_dict({}, ["objective.strategies.0.name=free_bits", "objective.strategies.0.nats_per_dim=3"])
    assert config.objective.strategies[0].nats_per_dim == 3


def test_another_kind_drops_settings_that_only_the_former_has(tmp_path, monkeypatch):
    text = "train: {optimizer: {name: adamw, lr: 0.25, betas: [0.5, 0.6]}}"
    config = read(tmp_path, monkeypatch, text, "train.optimizer.name=sgd", "train.optimizer.momentum=0.5")
    assert config.train.optimizer == SGDConfig(lr=0.25, momentum=0.5)


def test_overrides_do_not_change_the_data_given():
    data = {"train": {"seed": 1, "optimizer": {"lr": 2}}}
    Config.from_dict(data, ["train.seed=2", "train.optimizer.name=sgd"])
    assert data == {"train": {"seed": 1, "optimizer": {"lr": 2}}}


# Changing and writing a config.


def test_a_config_can_be_changed_but_not_in_place():
    config = Config()
    changed = config.replace("train.steps=7", **{"model.latent_dim": 5, "data.train": Path("a: b, #c.txt")})
    assert (changed.train.steps, changed.model.latent_dim, changed.data.train) == (7, 5, "a: b, #c.txt")
    assert config == Config()
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 7
    with pytest.raises(SeqVAEError, match="E204"):
        config.replace(**{"train.stpes": 7})


def test_a_change_keeps_what_was_set_in_python():
    config = Config(train=TrainConfig(optimizer=SGDConfig(momentum=0.5), seed=8))
    assert config.replace("train.steps=7").train == TrainConfig(optimizer=SGDConfig(momentum=0.5), seed=8, steps=7)


@pytest.mark.parametrize("name", [None, *shipped_configs()])
def test_a_written_config_is_complete_and_reads_back_equal(tmp_path, monkeypatch, name):
    config = Config() if name is None else Config.from_yaml(name)
    config = config.replace(**{"train.optimizer.lr": 1e-5, "data.valid": Path("no"), "train.clip_norm": math.inf})
    text = config.to_yaml()
    assert read(tmp_path, monkeypatch, text) == config
    assert list(parse_yaml(text, "f").data) == list(Config.model_fields)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(PLAIN)
@example("1e-3")
@example("no")
@example("0o7")
@example("a\nb")
@example(" #x")
@example("\x85\u2028")
@example({"<<": ["=", "~", ""]})
def test_any_data_is_written_so_that_it_reads_back(value):
    assert parse_yaml(dump_yaml({"key": value}), "f").data == {"key": value}
    argument = f"key={dump_value(value)}"
    assert parse_value(argument, 4, ("key",)).data == value


# Finding a config.


def test_a_file_at_hand_goes_before_a_shipped_one_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("tiny.yaml").parent.name == "configs"
    assert find_config("tiny") == find_config("tiny.yaml")
    Path("tiny.yaml").write_text("train: {seed: 17}\n", encoding="utf-8")
    assert Config.from_yaml("tiny.yaml").train.seed == 17


def test_a_run_folder_means_its_config(tmp_path):
    (tmp_path / "config.yaml").write_text("train: {seed: 19}\n", encoding="utf-8")
    assert Config.from_yaml(tmp_path).train.seed == 19


def test_a_missing_config_says_where_it_was_looked_for_and_what_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message(find_config, "").startswith("error[E202]: there is no config ``")
    shown = message(find_config, "tinny.yaml")
    assert shown.startswith(
        "error[E202]: there is no config `tinny.yaml`\n  --> tinny.yaml\nhelp: did you mean `tiny.yaml`?"
    )
    assert str(tmp_path) in shown
    assert all(name in shown for name in shipped_configs())


def test_a_slip_in_the_name_of_a_config_in_a_folder_is_answered_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("conf/mini.yaml").touch()
    assert "did you mean `conf/mini.yaml`?" in message(find_config, "conf/mni.yaml")


def test_every_shipped_config_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"tiny.yaml", "ptb.yaml", "sketch.yaml"} <= set(shipped_configs())
    for name in shipped_configs():
        assert find_config(name) == find_config(Path(name).name)
        Config.from_yaml(name)


# The settings themselves.


def every_settings_class() -> set[type[BaseModel]]:
    found, waiting = set(), [Config]
    while waiting:
        cls = waiting.pop()
        found.add(cls)
        inner = [field.annotation for field in cls.model_fields.values()]
        inner += [item for annotation in inner for item in getattr(annotation, "__args__", ())]
        waiting += [model for annotation in inner for model in models_in(annotation) if model not in found]
    return found


def test_every_setting_is_described_frozen_and_refuses_strangers():
    classes = every_settings_class()
    assert {TrainConfig, SGDConfig} <= classes
    for cls in classes:
        assert cls.model_config.get("frozen"), cls
        assert cls.model_config.get("extra") == "forbid", cls
        for name, field in cls.model_fields.items():
            assert field.description or name == "name", f"{cls.__name__}.{name}"


def test_a_section_left_out_and_an_empty_one_mean_the_same():
    """A default that differs from its class's own would change silently once one of its settings is given."""
    for cls in every_settings_class():
        for name, field in cls.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if isinstance(default, BaseModel):
                assert default == type(default)(), f"{cls.__name__}.{name}"


# Whatever the text.


def outcome(read) -> str:
    try:
        assert isinstance(read(), Config)
    except SeqVAEError as error:
        return error.code if error.render() else "silent"
    return "config"


WORDS = ["train", "model", "steps", "optimizer", "name", "sgd", "objective", "strategies", "free_bits", "1e-3", "null"]
SIGNS = [
    ": ",
    ":",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "!!str ",
    "'",
    '"',
    "#",
    "\t",
    "|",
    "? ",
    "é",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS + SIGNS), max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_is_a_config_or_a_mistake_in_words(text):
    assert outcome(lambda: Config.from_dict(parse_yaml(text, "f.yaml").data)) in {"config", "E203", "E204", "E205"}


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*WORDS, *SIGNS, ".", "0", "="]), max_size=12).map("".join) | st.text(max_size=20))
@example("train=1")
@example("train.optimizer.name=[x]")
@example("train.optimizer.name={}")
@example("objective.strategies.0=[]")
@example("objective.strategies.0.x.y=1")
@example("train.phases.0.optimizer.lr=1")
def test_any_override_is_applied_or_a_mistake_in_words(argument):
    data = {"objective": {"strategies": [{"name": "free_bits"}]}}
    assert outcome(lambda: Config.from_dict(data, [argument])) in {"config", "E204", "E205", "E206"}


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(["a.b", "a.0", "a"], 2)))
def test_overrides_that_contradict_each_other_are_refused_in_words(first, second):
    with pytest.raises(SeqVAEError):
        Config.from_dict({}, [f"{first}=1", f"{second}=2"])


def test_values_of_numpy_are_values():
    changed = Config().replace(**{"model.latent_dim": np.int64(7), "train.optimizer.lr": np.float64(3e-3)})
    assert changed == Config().replace(**{"model.latent_dim": 7, "train.optimizer.lr": 3e-3})

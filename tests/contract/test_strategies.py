"""What every training method keeps, whichever it is: tried on each one that the scan finds."""

import inspect
import itertools
import re
import subprocess
import sys
import textwrap
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from training_toys import Events, bytes_of, last_checkpoint, phase_of, stopped_at, toy_trainer

import seqvae.objectives
from seqvae.config import shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.objectives import registry
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.training import divergence
from seqvae.training.stage import Stage

TYPES = registry.strategy_types()
VALUES = (0.5, 1, 2, 0, 0.1, "mean", True)
"""Tried in turn for a setting that has no default."""

QUICK = {"aggressive": {"inner_steps": 3, "window": 2}, "semi_amortised": {"steps": 2}}
"""Settings under which a step of the toy does not take long."""

each = pytest.mark.parametrize("name", TYPES)


def example(name: str) -> StrategyConfig:
    """The method with its defaults, and some value that is accepted where there is none."""
    given = dict(QUICK.get(name, {}))
    for field, info in TYPES[name].Config.model_fields.items():
        if info.is_required():
            for value in VALUES:
                try:
                    TYPES[name].Config.__pydantic_validator__.validate_assignment(
                        TYPES[name].Config.model_construct(), field, value
                    )
                except ValidationError:
                    continue
                given[field] = value
                break
    return TYPES[name].Config(**given)


def test_the_methods_that_are_promised_are_found():
    promised = """adversarial aggressive autoencoder bag_of_words beta capacity cyclical_annealing dip free_bits
    importance_weighted input_noise kl_annealing minimum_rate mmd semi_amortised word_dropout"""
    assert set(promised.split()) <= TYPES.keys()


@each
def test_its_settings_come_back_from_what_is_saved(name):
    config = example(name)
    assert TYPES[name].Config.model_validate(config.model_dump(mode="json")) == config
    section = registry.ObjectiveConfig.model_validate({"strategies": [config.model_dump(mode="json")]})
    assert section.strategies == (config,)
    assert type(section.strategies[0]) is TYPES[name].Config


@each
def test_its_settings_are_frozen_closed_and_described(name):
    config = example(name)
    with pytest.raises(ValidationError, match="frozen"):
        config.name = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        TYPES[name].Config.model_validate({**config.model_dump(), "no_such_setting": 1})
    for field, info in type(config).model_fields.items():
        assert field == "name" or info.description, f"{field} has no description"


@each
def test_its_docstring_cites_a_source(name):
    assert re.search(r"\b(19|20)\d\d\b", inspect.getdoc(TYPES[name])), "no year of a paper in the docstring"


@each
def test_it_has_a_recipe(name):
    assert f"recipes/{name}.yaml" in shipped_configs()


@each
def test_it_defines_only_hooks_that_exist(name):
    """A misspelt hook would never be called."""
    hooks = {hook for hook in vars(Strategy) if not hook.startswith("_")} | {"Config", "config", "forward"}
    own = {key for key in vars(TYPES[name]) if not key.startswith("_")}
    assert own <= hooks, f"{own - hooks} are no hooks; helpers begin with an underscore"


@each
@pytest.mark.parametrize("latent_dim", [3, 0])
def test_a_few_steps_are_finite(name, latent_dim, tmp_path):
    changes = {"model": {"latent_dim": latent_dim}, "train": {"steps": 5}}
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), **changes)], **changes)
    before = bytes_of(trainer.model)
    assert trainer.fit()
    events = trainer.task.observe
    assert [event["step"] for event in events.of("train")] == [1, 2, 3, 4, 5]
    for event in events.of("train"):
        assert all(torch.isfinite(torch.tensor(event[key])) for key in ("rec_nats", "kl_nats", "elbo_nats"))
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())
    assert bytes_of(trainer.model) != before


@each
def test_a_run_that_was_stopped_goes_on_bit_by_bit(name, tmp_path):
    """Also where every kernel has to be deterministic, and memory that nobody has written is full of NaN."""

    def trainer(folder, observe, *, deterministic=True):
        changes = {"train": {"steps": 9, "validate_every": 4, "deterministic": deterministic}}
        return toy_trainer(folder, phases=[phase_of(folder, example(name), **changes)], observe=observe, **changes)

    whole = trainer(tmp_path / "whole", Events(), deterministic=False)
    assert whole.fit()
    first = stopped_at(6, partial(trainer, tmp_path / "cut"))
    second = trainer(tmp_path / "cut", Events())
    torch.manual_seed(99)
    assert second.fit(last_checkpoint(first))
    assert bytes_of(second.model) == bytes_of(whole.model)
    assert bytes_of(second.best) == bytes_of(whole.best)
    assert [*first.task.observe.timeless(), *second.task.observe.timeless()] == whole.task.observe.timeless()
    ends = [last_checkpoint(run) for run in (second, whole)]
    assert bytes_of(ends[0].training) == bytes_of(ends[1].training)
    assert ends[0].progress == ends[1].progress


@each
def test_an_update_that_is_not_finite_changes_nothing_where_the_host_learns_of_it_later(name, tmp_path, monkeypatch):
    """As on a GPU: the optimizers have to leave the step out, or the host has to wait."""
    monkeypatch.setattr(divergence, "_LATER", {"cpu"})
    changes, before, clip = {"train": {"steps": 5, "log_every": 100}}, [], Stage.clip
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), **changes)], **changes)

    def not_finite(stage, loss, clip_norm):
        finite = clip(stage, loss, clip_norm)
        if trainer.progress.step < 2:
            return finite
        before.append((bytes_of(trainer.model), bytes_of(trainer.objective)))
        return torch.tensor(False)

    monkeypatch.setattr(Stage, "clip", not_finite)
    with pytest.raises(SeqVAEError, match="not finite") as caught:
        trainer.fit()
    assert caught.value.code == "E501"
    assert (bytes_of(trainer.model), bytes_of(trainer.objective)) == before[0]


def refusal(configs: list[StrategyConfig]) -> str | None:
    try:
        registry.check_strategies(configs)
    except ValueError as error:
        return str(error)
    return None


WITHOUT_KL = ("adversarial", "autoencoder", "importance_weighted", "mmd")
"""What weighs the KL has nothing to weigh beside these."""

REFUSED = {
    *(frozenset(pair) for pair in itertools.product(("beta", "cyclical_annealing", "kl_annealing"), WITHOUT_KL)),
    *(frozenset(pair) for pair in itertools.product(("capacity", "free_bits"), WITHOUT_KL)),
    *(
        frozenset({"importance_weighted", name})
        for name in ("adversarial", "autoencoder", "bag_of_words", "dip", "mmd")
    ),
    frozenset({"importance_weighted", "minimum_rate"}),
    frozenset({"aggressive", "autoencoder"}),
    frozenset({"capacity", "free_bits"}),
}


def test_the_pairs_that_are_refused_are_these_and_no_others():
    pairs = itertools.combinations(TYPES, 2)
    assert {frozenset(pair) for pair in pairs if refusal(list(map(example, pair))) is not None} == REFUSED


UNFIT = {
    ("capacity", "iaf"),
    ("dip", "iaf"),
    ("dip", "vmf"),
    ("free_bits", "iaf"),
    ("free_bits", "vmf"),
    ("semi_amortised", "iaf"),
}
UNFIT |= {("semi_amortised", "vmf")}
"""Methods that cannot do with the KL or the densities of a posterior."""


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(TYPES, 2)))
def test_every_pair_trains_or_is_refused_with_a_reason(one, other, tmp_path):
    configs = [example(one), example(other)]
    reason = refusal(configs)
    if reason is not None:
        assert f"`{one}`" in reason
        assert f"`{other}`" in reason
        assert len(reason.split()) > 6, "no reason is given"
        assert refusal(configs[::-1]) is not None
        return
    changes = {"train": {"steps": 2}}
    for order in (configs, configs[::-1]):
        folder = tmp_path / order[0].name
        trainer = toy_trainer(folder, phases=[phase_of(folder, *order, **changes)], **changes)
        assert trainer.fit()
        assert trainer.progress.step == 2
        assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


@each
@pytest.mark.parametrize("family", ["batchnorm", "delta", "iaf", "vmf"])
def test_it_trains_with_every_posterior_or_says_why_not(name, family, tmp_path):
    changes = {"model": {"posterior": {"family": family}}, "train": {"steps": 2}, "objective": {"samples": 2}}
    if family == "delta":
        changes["model"]["posterior"]["delta_nats"] = 0.5
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, example(name), **changes)], **changes)
    try:
        finished, refused = trainer.fit(), None
    except SeqVAEError as error:
        finished, refused = False, error
    assert finished == (refused is None) == ((name, family) not in UNFIT)
    if refused is not None:
        assert refused.exit_code == 2
        assert f"`{name}`" in refused.what
        assert "this posterior" in refused.what or "this model's" in refused.what
        assert trainer.progress.step == 0
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


NEW_METHOD = '''
"""Half of the KL, for a test."""

from typing import Literal

from pydantic import Field

from seqvae.objectives.base import Strategy, StrategyConfig


class HalvingConfig(StrategyConfig):
    name: Literal["halving"] = "halving"
    times: int = Field(1, ge=1, description="how often the weight is halved")


class Halving(Strategy):
    """Nobody 2001."""

    Config = HalvingConfig

    def kl_weight(self, step):
        return 0.5**self.config.times
'''


def test_a_new_file_in_the_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "halving.py").write_text(NEW_METHOD, encoding="utf-8")
    monkeypatch.setattr(seqvae.objectives, "__path__", [*seqvae.objectives.__path__, str(tmp_path)])
    registry.strategy_types.cache_clear()
    try:
        found = registry.strategy_types()
        assert found.keys() == TYPES.keys() | {"halving"}
        assert registry.build_strategy(found["halving"].Config(times=3)).kl_weight(0) == 0.125
    finally:
        sys.modules.pop("seqvae.objectives.halving", None)
        monkeypatch.undo()
        registry.strategy_types.cache_clear()
    assert registry.strategy_types().keys() == TYPES.keys()


def test_a_new_file_in_the_folder_can_be_named_in_a_config(tmp_path):
    """In a process of its own: the type of all settings is made when the package is first read."""
    (tmp_path / "halving.py").write_text(NEW_METHOD, encoding="utf-8")
    script = f"""
    import seqvae.objectives
    seqvae.objectives.__path__.append({str(tmp_path)!r})
    from seqvae.config import Config
    from seqvae.errors import SeqVAEError
    halving = {{"name": "halving", "times": 2}}
    config = Config.from_dict({{"objective": {{"strategies": [{{"name": "beta", "beta": 0.5}}, halving]}}}})
    assert config.objective.strategies[1].times == 2
    assert Config.from_dict(config.model_dump(mode="json")) == config
    try:
        Config.from_dict({{"objective": {{"strategies": [halving, halving]}}}})
    except SeqVAEError as error:
        assert "`halving` stands twice" in error.what, error.what
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr

"""`seqvae methods` tells what the code and the recipes say, all of it, and nothing stands there without its source."""

import json
from typing import Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from seqvae import method_docs as module
from seqvae.cli.app import app
from seqvae.config import Config, shipped_configs
from seqvae.errors import SeqVAEError
from seqvae.method_docs import HEADINGS, MethodDoc, citations, method_doc, method_docs
from seqvae.models.posterior import PosteriorConfig
from seqvae.models.prior import PriorConfig
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.objectives.registry import check_strategies, strategy_types
from seqvae.validation import models_in

FAMILIES = [
    kind.model_fields["family"].default for union in (PosteriorConfig, PriorConfig) for kind in models_in(union)
]


def incomplete(docs: dict[str, MethodDoc]) -> list[str]:
    """Those that do not say what they are, where they come from or how to train with them."""
    return [name for name, doc in docs.items() if not (doc.about and doc.source and doc.recipe in shipped_configs())]


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["methods", *arguments], prog_name="seqvae")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_everything_has_a_line_a_source_and_a_recipe():
    assert incomplete(method_docs()) == []


def test_a_method_without_source_or_recipe_would_be_found_out(monkeypatch):
    class HalvedConfig(StrategyConfig):
        name: Literal["halved"] = "halved"
        share: float = Field(0.5, description="a share")

    class Halved(Strategy):
        """Half of it."""

        Config = HalvedConfig

    types = {**strategy_types(), "halved": Halved}
    monkeypatch.setattr(module, "strategy_types", lambda: types)
    monkeypatch.setattr(module, "_settings", lambda path: ())
    assert incomplete(method_docs.__wrapped__()) == ["halved"]


def test_what_is_told_is_what_is_shipped_not_what_the_user_has_under_that_name(tmp_path, monkeypatch):
    told = method_docs()
    for name in shipped_configs():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("train: {steps: 2}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    module._text.cache_clear()
    assert method_docs.__wrapped__() == told
    listed = CliRunner().invoke(app, ["config", "list"], prog_name="seqvae").stdout
    assert "Dieng et al. 2019" in listed


def test_every_method_family_and_recipe_is_there():
    docs = method_docs()
    assert set(docs) >= {*strategy_types(), *FAMILIES, "phases", "tiny-lm", "denoising_autoencoder", "uncured"}
    recipes = {name for name in shipped_configs() if name.startswith("recipes/")}
    assert recipes - {doc.recipe for doc in docs.values()} == set()
    assert {doc.kind for doc in docs.values()} == set(HEADINGS)
    baselines = {name for name, doc in docs.items() if doc.kind == "baseline"}
    assert baselines == {"autoencoder", "denoising_autoencoder", "uncured", "tiny-lm"}


def test_a_recipe_uses_what_it_is_the_recipe_of():
    for doc in method_docs().values():
        config = Config.from_yaml(doc.recipe)
        phases = [each for phase in config.train.phases for each in phase.strategies or ()]
        used = {each.name for each in (*config.objective.strategies, *phases)}
        used |= {config.model.posterior.family, config.model.prior.family}
        assert doc.name in used or doc.kind in ("recipe", "baseline", "phases")


@pytest.mark.parametrize(
    ("name", "hooks"),
    [("beta", {"kl_weight"}), ("free_bits", {"shape_kl"}), ("word_dropout", {"build", "corrupt_decoder"})],
)
def test_hooks_are_those_that_the_class_overrides(name, hooks):
    assert set(method_doc(name).hooks) == hooks
    assert {hook for hook in hooks if hook in vars(strategy_types()[name])} == hooks


def test_conflicts_are_those_that_a_config_refuses():
    """Every pair of methods that can be made of their defaults."""
    configs = {}
    for name, cls in strategy_types().items():
        configs[name] = cls.Config(beta=0.5) if name == "beta" else cls.Config()
    for one in configs:
        for other in configs.keys() - {one}:
            reason = method_doc(one).conflicts.get(other)
            assert (reason is None) == (method_doc(other).conflicts.get(one) is None)
            if reason is None:
                check_strategies([configs[one], configs[other]])
            else:
                with pytest.raises(ValueError, match="`"):
                    check_strategies([configs[one], configs[other]])


def test_families_that_do_not_go_together_say_why():
    assert set(method_doc("vmf").conflicts) == {"standard", "mixture", "vamp"}
    assert set(method_doc("sphere").conflicts) >= {"gaussian", "iaf"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as Fu et al. 2019, section 3, say", ("Fu et al. 2019",)),
        ("Li et al.\n(2019), code; Xu and Durrett 2018", ("Li et al. 2019", "Xu and Durrett 2018")),
        ("Dai, Wipf and Xu 2020; Wood 1994; Dai, Wipf and Xu 2020", ("Dai, Wipf and Xu 2020", "Wood 1994")),
        ("batches of 2019 sentences", ()),
    ],
)
def test_citations_are_authors_and_years(text, found):
    assert citations(text) == found


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SeqVAEError, match="there is no method `free_bit`") as caught:
        method_doc("free_bit")
    assert (caught.value.code, caught.value.hint) == ("E269", "did you mean `free_bits`?")


def test_the_list_has_each_once_and_json_holds_the_same():
    lines = shown().splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    listed = json.loads(shown("--json"))
    assert names == [each["name"] for each in listed] == list(method_docs())
    assert max(map(len, lines)) <= 110
    assert set(listed[0]) == {"name", "kind", "about", "source", "recipe"}


@pytest.mark.parametrize("name", ["free_bits", "vamp", "phases", "skip", "autoencoder"])
def test_one_is_told_at_length(name):
    doc, page = method_doc(name), shown("show", name)
    assert page.startswith(f"{name}  ({doc.kind})\n")
    assert f"  seqvae train --config {doc.recipe}\n" in page
    assert all(hook in page for hook in doc.hooks)
    assert all(each.path.rpartition(".")[2] in page for each in doc.settings)
    assert all(f"  {other} " in page for other in doc.conflicts)
    assert " ".join(doc.source[0].split()) in page
    as_json = json.loads(shown("show", name, "--json"))
    assert as_json["reference"] == doc.reference
    assert [each["path"] for each in as_json["settings"]] == [each.path for each in doc.settings]

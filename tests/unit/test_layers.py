"""The direction of imports, and what no file of the package may do, read from the source without running it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import seqvae

PACKAGE = Path(seqvae.__file__).parent

LAYERS = {
    "seqvae.errors": 0,
    "seqvae.bounds": 0,
    "seqvae.error_catalogue": 0,
    "seqvae.specials": 0,
    "seqvae.types": 0,
    "seqvae.gaussian": 0,
    "seqvae.shipped": 0,
    "seqvae.notebook": 0,
    "seqvae.machine": 0,
    "seqvae.yaml_source": 0,
    "seqvae.validation": 0,
    "seqvae.io": 0,
    "seqvae.io.disk": 0,
    "seqvae.io.manifests": 0,
    "seqvae.io.storage": 0,
    "seqvae.io.tensors": 0,
    "seqvae.io.codes": 1,
    "seqvae.data": 1,
    "seqvae.models": 1,
    "seqvae.objectives": 1,
    "seqvae.training.settings": 1,
    "seqvae.training.optim": 1,
    "seqvae.config": 2,
    "seqvae.setting_docs": 2,
    "seqvae.method_docs": 2,
    "seqvae.starter": 2,
    "seqvae.evaluation": 2,
    "seqvae.generation": 2,
    "seqvae.training": 3,
    "seqvae.textvae": 3,
    "seqvae.health": 3,
    "seqvae.inspection": 3,
    "seqvae.speed": 3,
    "seqvae.speed_advice": 3,
    "seqvae.plots": 3,
    "seqvae.pages": 3,
    "seqvae.estimator": 3,
    "seqvae.io.pretrained": 3,
    "seqvae.io.hub": 3,
    "seqvae.io.onnx_export": 3,
    "seqvae.io.card": 3,
    "seqvae.cli": 4,
    "seqvae.web": 4,
    "seqvae": 4,
    "seqvae.__main__": 4,
}
"""The layer of a module is that of its longest prefix here; a module of `seqvae.io` has to be named."""

STRANGERS = {
    ("seqvae.models", "seqvae.objectives"),
    ("seqvae.data", "seqvae.models"),
    ("seqvae.data", "seqvae.objectives"),
}


def module_name(path: Path) -> str:
    parts = ("seqvae", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in SOURCES.items()}
HOMES = {
    key.value: value.value
    for node in ast.walk(TREES["seqvae"])
    if isinstance(node, ast.Dict)
    for key, value in zip(node.keys, node.values, strict=True)
    if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
}
"""Public names of the package, which are imported lazily, and the modules that they come from."""


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, module of this package) of each import, inside functions too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name != "seqvae"]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "seqvae":
            found.append((node.lineno, home_of(node.attr)))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                home = home_of(alias.name) if node.module == "seqvae" else str(node.module)
                found.append((node.lineno, inside if inside in SOURCES else home))
    return [(line, name) for line, name in found if name.split(".")[0] == "seqvae"]


def home_of(public: str) -> str:
    """The module behind ``seqvae.public``. The version is a constant, known before anything is imported: no edge."""
    return "" if public == "__version__" else HOMES.get(public, f"seqvae.{public}")


def layer(module: str) -> int:
    if module.startswith("seqvae.io."):
        return LAYERS[module]
    name = module
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    assert name != "seqvae" or module == "seqvae", f"{module} stands in no layer: name it in LAYERS"
    return LAYERS[name]


@pytest.mark.parametrize("module", [name for name in SOURCES if name != "seqvae"])
def test_no_module_imports_from_a_layer_above(module):
    upward = [
        f"{SOURCES[module].name}:{line} {module} (layer {layer(module)}) imports {target} (layer {layer(target)})"
        for line, target in imports(TREES[module])
        if layer(target) > layer(module)
    ]
    assert upward == []


@pytest.mark.parametrize(("one", "other"), sorted(STRANGERS | {(b, a) for a, b in STRANGERS if "data" not in a}))
def test_data_models_and_objectives_do_not_know_each_other(one, other):
    edges = [
        (module, target)
        for module in SOURCES
        for _, target in imports(TREES[module])
        if module.startswith(one) and target.startswith(other)
    ]
    assert edges == []


def test_modules_do_not_import_each_other_in_a_circle():
    """At the top of a module, that is; an import inside a function may close a circle."""
    graph = {}
    for name, tree in TREES.items():
        if name != "seqvae":
            top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
            graph[name] = {target for _, target in imports(top)} - {name}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_the_reader_of_imports_sees_an_upward_edge():
    tree = ast.parse("def f():\n  from seqvae.training import trainer\n  from seqvae import train, __version__")
    assert imports(tree) == [(2, "seqvae.training.trainer"), (3, HOMES["train"])]
    tree = ast.parse("import seqvae\nseqvae.load(seqvae.__version__)")
    assert imports(tree) == [(2, HOMES["load"])]
    assert layer("seqvae.training.trainer") == 3 > layer("seqvae.training.settings")


# What loading a shared folder could be abused for.

FORBIDDEN_MODULES = {
    *("pickle", "_pickle", "cPickle", "pickletools", "cloudpickle", "dill", "joblib", "marshal", "shelve", "copyreg"),
    *(
        "runpy",
        "imp",
        "code",
        "codeop",
        "ctypes",
        "torch.hub",
        "torch.jit",
        "torch.package",
        "torch.utils.cpp_extension",
    ),
}
FORBIDDEN_NAMES = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "torch.load",
        "torch.save",
        "torch.serialization",
        "torch.hub",
        "torch.jit",
    ),
    *("torch.package", "importlib.import_module", "importlib.util.spec_from_file_location", "tempfile.mktemp"),
    *("os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *(
        f"os.{family}{kind}"
        for family in ("exec", "spawn")
        for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.Dumper", "pandas.read_pickle"),
}
ALLOWED = {
    ("seqvae", "importlib.import_module"),  # names from its own table
    ("seqvae.objectives.registry", "importlib.import_module"),  # modules of its own folder, by their names
}
MUST_BE_FALSE = ("allow_pickle", "shell", "trust_remote_code")


def aliases(tree: ast.AST) -> dict[str, str]:
    """What the imported names of a module stand for: ``np`` for numpy, ``load`` for torch.load."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def full_name(node: ast.AST, known: dict[str, str]) -> str:
    """``np.load`` as ``numpy.load``, ``builtins.eval`` as ``eval``; empty for what is no name."""
    if isinstance(node, ast.Attribute):
        owner = full_name(node.value, known)
        return f"{owner}.{node.attr}".removeprefix("builtins.") if owner else ""
    return known.get(node.id, node.id).removeprefix("builtins.") if isinstance(node, ast.Name) else ""


def forbidden(tree: ast.AST, module: str = "") -> list[str]:
    """Whatever could run code that a file brings along, by line; names count wherever they stand, called or not."""
    found, known = [], aliases(tree)
    for node in ast.walk(tree):
        wrong = []
        if isinstance(node, ast.Import):
            wrong = [alias.name for alias in node.names if alias.name in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            wrong = [name for name in names if name in FORBIDDEN_MODULES | FORBIDDEN_NAMES][:1]
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            wrong = [name for name in [full_name(node, known)] if name in FORBIDDEN_NAMES]
        found += [f"{node.lineno}: {name}" for name in wrong if (module, name) not in ALLOWED]
        if isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            found += [
                f"{node.lineno}: {name}={given[name]}" for name in MUST_BE_FALSE if given.get(name, "False") != "False"
            ]
            if full_name(node.func, known) == "numpy.load" and "allow_pickle" not in given:
                found.append(f"{node.lineno}: numpy.load does not say allow_pickle=False")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{node.lineno}: bare except")
    return sorted(set(found))


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_can_run_code_from_a_file_or_swallow_every_error(module):
    assert forbidden(TREES[module], module) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import load",
        "from torch import hub",
        "torch.load(path, weights_only=True)",
        "import torch as t; t.load(path)",
        "from torch import load as fetch",
        "reader = torch.load",
        "eval('1')",
        "run = exec",
        "import builtins; builtins.eval('1')",
        "from os import system as run",
        "import importlib; importlib.import_module(name)",
        "yaml.load(text, Loader=Loader)",
        "class Mine(yaml.UnsafeLoader): ...",
        "numpy.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path)",
        "subprocess.run(command, shell=True)",
        "datasets.load_dataset(name, trust_remote_code=wanted)",
        "try:\n    f()\nexcept:\n    pass",
    ],
)
def test_the_reader_of_calls_sees_what_is_forbidden(code):
    assert len(forbidden(ast.parse(code))) == 1


def test_the_reader_of_calls_leaves_what_is_harmless():
    code = "model.eval()\nre.compile('a')\nnumpy.load(path, allow_pickle=False)\ncompile_all = self.exec\neval_ = 1"
    assert forbidden(ast.parse(code)) == []
    assert forbidden(ast.parse("class Mine(yaml.SafeLoader): ...\ntorch.compile(model)")) == []


def test_the_training_loop_names_no_method():
    from seqvae.objectives.registry import strategy_types

    names = [name for name in strategy_types() if "_" in name]
    assert len(names) >= 3
    for path in (PACKAGE / "training").glob("*.py"):
        assert [name for name in names if name in path.read_text(encoding="utf-8")] == [], path.name


# What an import costs.

HEAVY = ("torch", "numpy", "datasets", "pyarrow", "pandas", "pooch", "sentencepiece", "sacrebleu", "safetensors")


@pytest.mark.parametrize(
    "module", ["seqvae", "seqvae.errors", "seqvae.io.storage", "seqvae.cli.console", "seqvae.cli.app"]
)
def test_importing_what_help_needs_imports_nothing_heavy(module):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr

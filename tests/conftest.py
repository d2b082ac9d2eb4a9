"""What all tests share: one thread, no network, no folders of the user's."""

import compileall
import os
import signal
from pathlib import Path

# Before torch starts its threads: small tensors gain nothing by them, and waiting threads would take the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Read when the library is first imported, which may be before any test has begun.
os.environ["HF_HUB_OFFLINE"] = "1"

# Tests that a shell runs in the background ignore Ctrl-C, and so would the programs that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "seqvae",
    deadline=None,  # the first example pays for imports
    derandomize=True,  # the same examples on every machine: a failure can be had again
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("seqvae")


ROOT = Path(__file__).resolve().parents[1]
LONGEST_FIRST = ("faults", "web", "docs", "contract", "cli", "unit")
"""The folders of tests, by the time that a file of theirs takes."""


def pytest_configure(config):
    """Compile what tests start once, and not in each of many hundred programs."""
    if not hasattr(config, "workerinput"):  # one of the processes of pytest-xdist
        for folder, levels in (("seqvae", None), ("benchmarks", None), ("tests", 0)):
            compileall.compile_dir(ROOT / folder, maxlevels=levels, quiet=1)


def pytest_collection_modifyitems(items):
    """Files that take long begin first: of several processes none is left with one of them at the end."""
    place = {folder: number for number, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(ROOT / "tests").parts[0], len(place)))


@pytest.fixture(scope="session", autouse=True)
def _no_bytecode():
    """Python leaves half a module behind where the disk is full, as some tests have it, and others would read that."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch, tmp_path_factory):
    """Caches are empty and temporary; settings of the user's shell do not reach a test or what it starts."""
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("SEQVAE_DATA", "SEQVAE_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

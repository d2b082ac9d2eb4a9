"""What all tests share: one thread, no network, no folders of the user's."""

import os
import signal

# Before torch starts its threads: small tensors gain nothing by them, and waiting threads would take the other core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The programs that tests start compile seqvae once, not each anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

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


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch, tmp_path_factory):
    """Caches are empty and temporary; settings of the user's shell do not reach a test or what it starts."""
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("SEQVAE_DATA", "SEQVAE_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

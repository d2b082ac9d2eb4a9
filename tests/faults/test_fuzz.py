"""Whatever comes from outside is answered, or refused as documented: a few cases of each target, always the same ones.

`python -m benchmarks.fuzz` draws as many as one has time for, and shows the seed of what it finds.
"""

import collections

import pytest

from benchmarks.fuzz import Finding, fuzz
from benchmarks.fuzz_targets import TARGETS, Target
from seqvae.errors import SeqVAEError

CASES = {"command lines": 30, "text files": 20, "trainings": 3}


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_every_case_is_answered_or_refused_as_documented(target):
    outcomes = collections.Counter()
    fuzz(target.name, CASES.get(target.name, 40), seed=1, outcomes=outcomes)
    assert outcomes.total() > 0


@pytest.mark.parametrize("error", [ValueError("a fault"), SeqVAEError("E204", "of another kind"), AssertionError()])
def test_a_fault_is_found_in_its_smallest_form(monkeypatch, error):
    from hypothesis import strategies as st

    def check(number: int) -> str:
        if number > 7:
            raise error
        return "ok"

    monkeypatch.setattr(
        "benchmarks.fuzz_targets.TARGETS", [Target(name="faulty", kind="parser", cases=st.integers(0), check=check)]
    )
    with pytest.raises(Finding, match=rf"{type(error).__name__}(.|\n)*case 8$"):
        fuzz("faulty", 200, seed=0, outcomes=collections.Counter())

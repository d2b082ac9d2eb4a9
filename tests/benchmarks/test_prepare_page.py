"""Promises of the benchmark of preparing: it measures what it says, and the page tells it."""

import argparse
import sys

import pytest

from benchmarks import prepare

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memory is read as POSIX gives it")


def test_a_small_text_is_measured_and_told(tmp_path):
    texts = {400: tmp_path / "400.txt"}
    prepare._write(texts, tmp_path / "valid.txt", pool=30)
    assert len(texts[400].read_text().splitlines()) == 400
    found = []
    for workers in (1, 2):
        asked = {"kind": "words", "text": str(texts[400]), "workers": workers, "cache": str(tmp_path / f"{workers}")}
        found.append({"kind": "words", "lines": 400, "workers": workers, **prepare._measure(asked)})
    assert found[0]["files"] == found[1]["files"]
    assert found[0]["peak_mb"] > 20
    trained = [{"lines": 40, "first_step_s": 1.26, "own_mb": 300.4, "mapped_mb": 99.0, "peak_mb": 412.0}]
    page = prepare._page(argparse.Namespace(lines=400, pool=30), ["--lines", "400"], 7.0, found, trained)
    assert "Measured by `python -m benchmarks.prepare --lines 400`." in page
    assert f"| words | 400 | {found[0]['tokens']:,} | 1 |" in page
    assert "are the same, byte by byte" in page
    assert "| 40 | 1.3 | 300 | 99 | 412 |" in page
    found[1]["files"] = {}
    assert "**not the same**" in prepare._page(argparse.Namespace(lines=400, pool=30), [], 7.0, found, trained)

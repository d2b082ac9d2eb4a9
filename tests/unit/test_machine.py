"""What is measured of the machine: rates that agree with what was done, in turn and once more than is counted."""

import subprocess
import sys

import pytest
import torch

from seqvae import machine

CPU = torch.device("cpu")


def test_things_are_done_in_turn_and_the_first_time_is_not_counted():
    done = []
    taken = machine.in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, CPU, 0.0, rounds=3)
    assert done == ["a", "b"] * 4
    assert [len(times) for times in taken.values()] == [3, 3]


def test_a_time_is_the_median(monkeypatch):
    clock = iter([0.0, 0.0, 3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 6.0, 99.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(clock))
    assert machine.seconds_of(lambda: None, CPU, 5.0) == 2.0


def test_rates_are_those_of_the_work_that_was_done(monkeypatch):
    monkeypatch.setattr(machine, "seconds_of", lambda work, device, seconds: work() is None or 0.5)
    monkeypatch.setattr(machine, "_MATRIX", {"cpu": 256})
    monkeypatch.setattr(machine, "_COPIED_BYTES", {"cpu": 1000})
    best = machine.ceiling(CPU, 1.0)
    assert best.fp32_flops_per_s == best.bf16_flops_per_s == pytest.approx(2 * 256**3 / 0.5)
    assert best.bytes_per_s == 2 * 1000 / 0.5


def test_the_peak_of_a_process_counts_what_it_held_and_gave_back():
    code = "import torch; from seqvae.machine import peak_bytes as p; d = torch.device('cpu'); a = p(d)\n"
    code += "x = torch.ones(100_000_000); del x; print(p(d) - a)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100e6 < int(done.stdout) < 450e6  # 400 MB, of which an earlier peak may have been a part

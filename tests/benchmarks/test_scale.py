"""The cost model of many devices: what is fitted, what it predicts, and the page that says so."""

import re

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.scale_model import TERMS, Cluster, Cost, Link, Update, errors
from seqvae.config import Config

TRUE = (3e-3, 2e-5, 4e-12, 1e-12, 5e-11)


def updates() -> list[Update]:
    random = np.random.default_rng(0)
    return [
        Update(length=length, recurrent_flops=flops, output_flops=4 * flops * random.uniform(), update_bytes=size)
        for length in (5, 21, 60)
        for flops in (1e8, 3e9)
        for size in (1e6, 3e8)
    ]


def true_seconds(update: Update) -> float:
    return sum(coefficient * term for coefficient, term in zip(TRUE, update.terms, strict=True))


def test_the_fit_finds_the_coefficients_that_made_the_measurements():
    fitted = Cost.fitted(updates(), [true_seconds(update) for update in updates()])
    assert fitted.coefficients == pytest.approx(TRUE, rel=1e-6)
    update = updates()[7]
    assert fitted.seconds(update) == pytest.approx(true_seconds(update))
    assert list(fitted.parts(update)) == list(TERMS)


def test_the_fit_is_of_relative_errors_and_gives_no_negative_cost():
    noise = np.random.default_rng(1).normal(1, 0.05, len(updates()))
    measured = [true_seconds(update) * factor for update, factor in zip(updates(), noise, strict=True)]
    fitted = Cost.fitted(updates(), measured)
    assert min(fitted.coefficients) >= 0
    assert errors([fitted.seconds(update) for update in updates()], measured)["median"] < 0.05
    assert min(Cost.fitted(updates(), [1 / update.length for update in updates()]).coefficients) >= 0


def test_errors_are_relative_to_the_measurement():
    assert errors([1.1, 2.0, 2.7], [1.0, 2.0, 3.0]) == pytest.approx({"median": 0.1, "greatest": 0.1})


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_link_is_found_from_the_all_reduces_over_it(ranks):
    link = Link(latency_s=2e-5, bytes_per_s=3e9)
    sizes = (1e3, 1e5, 1e8)
    found = Link.fitted(sizes, [link.all_reduce_s(size, ranks) for size in sizes], ranks)
    assert (found.latency_s, found.bytes_per_s) == pytest.approx((2e-5, 3e9), rel=1e-6)


def test_an_all_reduce_in_a_ring_moves_each_byte_twice_less_a_share():
    link = Link(latency_s=0.0, bytes_per_s=10.0)
    assert link.all_reduce_s(40.0, 4) == pytest.approx(2 * 3 / 4 * 40 / 10)
    assert link.all_reduce_s(40.0, 1) == 0


def test_one_process_exchanges_nothing_and_one_node_does_not_leave_it():
    cluster = Cluster(
        per_node=8, inside=Link(latency_s=1.0, bytes_per_s=1.0), between=Link(latency_s=9.0, bytes_per_s=1.0)
    )
    assert cluster.exchange_s(1e3, 1) == 0
    assert cluster.all_reduce_s(80.0, 8) == cluster.inside.all_reduce_s(80.0, 8)
    across = cluster.between.all_reduce_s(80.0 / 8, 4)
    assert cluster.all_reduce_s(80.0, 32) == pytest.approx(cluster.inside.all_reduce_s(80.0, 8) + across)


def test_a_process_has_its_share_of_the_work_and_all_of_the_parameters():
    config, point = Config.from_yaml("tiny.yaml"), scale.Point(30, 7, 50)
    (whole, gradients), (share, same) = scale.counted(config, point), scale.counted(config, point, 3)
    assert share.recurrent_flops == pytest.approx(whole.recurrent_flops / 3)
    assert share.output_flops == pytest.approx(whole.output_flops / 3)
    assert (share.update_bytes, share.length, same) == (whole.update_bytes, whole.length, gradients)


def test_the_script_writes_its_page(tmp_path, monkeypatch, capsys):
    """Without other processes: they are tried in `test_distributed`."""
    monkeypatch.setattr(scale, "SIZES", {True: ((2, 3), (3, 4), (50, 90))})
    link = Link(latency_s=1e-4, bytes_per_s=1e9)
    found = {
        "processes": 2,
        "exchanges": [[size, link.all_reduce_s(size, 2)] for size in (1_000, 90_000)],
        "updates": [[{"sentences": 3, "length": 4, "vocab_size": 50}, 0.01]],
    }
    monkeypatch.setattr(scale, "_group", lambda arguments: found)
    small = [f"model.{part}.{size}=3" for part in ("encoder", "decoder") for size in ("embedding", "hidden")]
    changes = [part for change in [*small, "train.device=cpu", "train.threads=1"] for part in ("--set", change)]
    out = tmp_path / "scale.md"
    scale.main(["--config", "tiny.yaml", "--quick", "--out", str(out), "--between", "2.5,30", *changes])
    assert capsys.readouterr().out.startswith("8 updates measured")
    page = out.read_text(encoding="utf-8")
    assert "Assumed, not measured: 200 GB/s and 10 us a message within a node, 2.5 GB/s and 30 us" in page
    assert "All-reduces fit a link of 1 GB/s and 100 us a message." in page
    for devices in (1, 8, 64):
        assert len(re.findall(rf"^\| {devices} \| \d+ \| ", page, re.MULTILINE)) == 2
    assert str(tmp_path) not in page

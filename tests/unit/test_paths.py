"""Paths between codes: ends, symmetry, degenerate pairs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seqvae.bounds import MOST_STEPS
from seqvae.errors import SeqVAEError
from seqvae.generation.paths import fractions, interpolate

code = arrays("float32", 5, elements=st.floats(-(2.0**100), 2.0**100, width=32)).map(torch.from_numpy)
kind = st.sampled_from(["lerp", "slerp"])


@given(code, code, st.integers(1, 9), kind)
def test_paths_are_finite_with_exact_ends(a, b, steps, path):
    points = interpolate(a, b, steps, path)
    assert points.shape == (steps, 5)
    assert points.dtype == a.dtype
    assert torch.isfinite(points).all()
    assert torch.equal(points[0], a)
    assert steps == 1 or torch.equal(points[-1], b)


@given(code, code, st.integers(2, 9), kind)
def test_a_path_walked_backwards_is_the_same(a, b, steps, path):
    there, back = interpolate(a, b, steps, path), interpolate(b, a, steps, path).flip(0)
    scale = float(torch.stack([a, b]).abs().max())
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-6 * scale)


@given(code, code)
def test_slerp_goes_linearly_in_norm(a, b):
    lengths = [float(x.double().norm()) for x in (a, b)]
    cosine = float(a.double() @ b.double()) / (lengths[0] * lengths[1] or 1.0)
    if min(lengths) > 1e-20 and abs(cosine) < 0.999:
        points = interpolate(a, b, 5).double().norm(dim=1)
        for i in range(5):
            assert float(points[i]) == pytest.approx((1 - i / 4) * lengths[0] + i / 4 * lengths[1], rel=1e-4)


def test_slerp_of_orthogonal_codes_turns_at_constant_speed():
    points = interpolate(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0]), 4)
    angles = torch.rad2deg(torch.atan2(points[:, 1], points[:, 0]))
    torch.testing.assert_close(angles, torch.tensor([0.0, 30.0, 60.0, 90.0]))


def test_lerp_is_a_straight_line():
    points = interpolate(torch.tensor([0.0, 1.0]), torch.tensor([4.0, 3.0]), 5, "lerp")
    torch.testing.assert_close(points, torch.tensor([[0.0, 1.0], [1.0, 1.5], [2.0, 2.0], [3.0, 2.5], [4.0, 3.0]]))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 2.0], [1.0, 2.0]),
        ([1.0, 2.0], [3.0, 6.0]),
        ([1.0, 2.0], [-1.0, -2.0]),
        ([1.0, 2.0], [-3.0, -6.0]),
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([1.0, 0.0], [1.0, 5e-5]),
    ],
    ids=["equal", "parallel", "opposite", "opposite-longer", "from-zero", "to-zero", "zeros", "nearly-parallel"],
)
def test_slerp_is_lerp_where_there_is_no_great_circle(a, b):
    a, b = torch.tensor(a), torch.tensor(b)
    assert torch.equal(interpolate(a, b, 7), interpolate(a, b, 7, "lerp"))


def test_slerp_just_above_the_smallest_angle_is_close_to_lerp():
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 2e-4], dtype=torch.float64)
    slerp, lerp = interpolate(a, b, 7), interpolate(a, b, 7, "lerp")
    assert not torch.equal(slerp, lerp)
    torch.testing.assert_close(slerp, lerp, rtol=0, atol=1e-8)


def test_fractions_hold_both_ends_and_one_step_is_the_start():
    assert fractions(1) == [0.0]
    assert fractions(2) == [0.0, 1.0]
    assert fractions(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert math.isclose(fractions(7)[3], 0.5)


@pytest.mark.parametrize("steps", [0, -3, MOST_STEPS + 1, 10**30])
def test_a_path_of_no_steps_or_of_too_many_is_refused(steps):
    with pytest.raises(SeqVAEError, match="E235"):
        interpolate(torch.zeros(2), torch.ones(2), steps)

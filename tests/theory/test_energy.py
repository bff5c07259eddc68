"""The energy, its flow and its fixed points against autograd, closed forms and the laws they must obey."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.theory.energy import (
    TOYS,
    critical_points,
    delaunay_starts,
    descend,
    distinct,
    energy,
    flow,
    gradient,
    hessian,
    lowest_curvature,
    minima,
    spread_of_tau,
    toy,
    votes,
)
from leadline.theory.energy.landscape import soft_mean

PAIR = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
"""Two images at distance 2: they merge at tau = 2."""


def drawn(seed: int, num: int, d: int) -> Tensor:
    return torch.randn(num, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(x: Tensor, data: Tensor, tau: float) -> Tensor:
    """E of one point, straight from the formula."""
    return -tau * torch.logsumexp(-(x - data).square().sum(1) / tau, 0)


@pytest.mark.parametrize("tau", [0.3, 2.0, 50.0])
def test_value_gradient_and_hessian_are_those_of_the_formula(tau: float) -> None:
    data, x = drawn(0, 20, 3), drawn(1, 4, 3)
    slopes, curvatures = gradient(x, data, tau), hessian(x, data, tau)
    for i, point in enumerate(x):
        place = point.clone().requires_grad_()
        value = written_out(place, data, tau)
        torch.testing.assert_close(energy(x, data, tau)[i], value.detach())
        torch.testing.assert_close(slopes[i], torch.autograd.grad(value, place)[0])
        expected = torch.autograd.functional.hessian(lambda p: written_out(p, data, tau), point)
        torch.testing.assert_close(curvatures[i], expected)


def test_energy_is_the_smoothed_density_at_tau_of_two_sigma_squared() -> None:
    data, x, sigma = drawn(2, 15, 2), drawn(3, 6, 2), 0.7
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(15, dtype=torch.float64)),
        torch.distributions.Independent(torch.distributions.Normal(data, sigma), 1),
    )
    apart = energy(x, data, 2 * sigma**2) + 2 * sigma**2 * mixture.log_prob(x)
    torch.testing.assert_close(apart, apart[0].expand(6))


def test_lowest_curvature_is_the_smallest_eigenvalue_in_few_and_many_dimensions() -> None:
    for num, d in ((12, 3), (5, 40)):
        data, x = drawn(4, num, d), drawn(5, 3, d)
        values, directions = lowest_curvature(x, data, 9.0)
        expected = torch.linalg.eigvalsh(hessian(x, data, 9.0))[:, 0] / 2
        torch.testing.assert_close(values, expected)
        bent = torch.einsum("qd,qde,qe->q", directions, hessian(x, data, 9.0), directions) / 2
        torch.testing.assert_close(bent, expected)


def test_votes_are_the_weights_of_the_classes() -> None:
    found = votes(torch.tensor([[0.0, 0.0], [0.5, 0.0]], dtype=torch.float64), PAIR, torch.tensor([0, 1]), 2, 1.0)
    # |x - x_i|^2 differs by 4x, so the odds are exp(4x / tau).
    expected = [[0.5, 0.5], [1 / (1 + math.e**2), 1 / (1 + math.e**-2)]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), num=st.integers(1, 12), d=st.integers(1, 5), power=st.floats(-4, 3))
def test_the_flow_never_raises_the_energy(seed: int, num: int, d: int, power: float) -> None:
    data, starts, tau = drawn(seed, num, d), 2 * drawn(seed + 1, 5, d), 10**power
    before, mean = energy(starts, data, tau), soft_mean(starts, data, tau)
    slack = 1e-9 * (1 + before.abs())
    # The stated bound, for damped and for over-relaxed mean shift.
    for r in (0.3, 1.0, 1.7):
        fall = before - energy(starts + r * (mean - starts), data, tau)
        assert (fall >= r * (2 - r) * (mean - starts).square().sum(1) - slack).all()
    path = flow(starts, data, tau, tau * torch.tensor([0.0, 0.1, 1.0, 5.0], dtype=torch.float64), largest_step=0.5)
    assert (path.energy.diff(dim=0) <= slack).all()
    torch.testing.assert_close(path.points[0], starts)


@pytest.mark.parametrize("single", ["points", "images", "both"])
def test_either_may_be_in_float32(single: str) -> None:
    """The result is that of the wider type, on the same numbers."""
    data, starts, tau = drawn(0, 9, 2).float(), drawn(1, 4, 2).float(), 1.0
    x = starts if single != "images" else starts.double()
    y = data if single != "points" else data.double()
    wide = torch.float32 if single == "both" else torch.float64
    close = {"rtol": 1e-3, "atol": 1e-3} if single == "both" else {}
    for found, expected in (
        (hessian(x, y, tau), hessian(starts.double(), data.double(), tau)),
        (lowest_curvature(x, y, tau)[0], lowest_curvature(starts.double(), data.double(), tau)[0]),
        (
            flow(x, y, tau, torch.tensor([0.1, 1.0])).points,
            flow(starts.double(), data.double(), tau, torch.tensor([0.1, 1.0])).points,
        ),
    ):
        assert found.dtype == wide
        torch.testing.assert_close(found.double(), expected, **close)
    found, expected = minima(x, y, tau), minima(starts.double(), data.double(), tau)
    assert torch.equal(found.basin, expected.basin)
    assert energy(x, y, tau).shape == (4,)
    if single != "both":
        torch.testing.assert_close(found.points, expected.points)
        assert len(critical_points(x, y, tau).points) == len(
            critical_points(starts.double(), data.double(), tau).points
        )


def test_flow_to_one_image_is_exact_and_to_two_of_first_order() -> None:
    start, tau = torch.tensor([[0.4, 0.9]], dtype=torch.float64), 0.8
    times = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    exact = PAIR[:1] + (start - PAIR[:1]) * torch.exp(-2 * times / tau)[:, None]
    torch.testing.assert_close(flow(start, PAIR[:1], tau, times, largest_step=10.0).points[:, 0], exact)
    ends = [flow(start, PAIR, tau, times[2:], largest_step=step).points[0, 0] for step in (0.2, 0.1, 0.005)]
    coarse, fine = ((end - ends[2]).norm() for end in ends[:2])
    assert 1.8 < coarse / fine < 2.2


def test_two_images_merge_at_half_their_squared_distance() -> None:
    # On the axis m(x) = a tanh(2 a x / tau), of slope 2 a^2 / tau at 0: the middle is a minimum from tau = 2 a^2 on.
    before, after = minima(PAIR, PAIR, 1.9), minima(PAIR, PAIR, 2.1)
    assert (len(before), len(after)) == (2, 1)
    assert before.basin.tolist() == [0, 1]
    place = before.points[1, 0]
    torch.testing.assert_close(place, torch.tanh(2 * place / 1.9), atol=1e-6, rtol=0)
    torch.testing.assert_close(after.points, torch.zeros(1, 2, dtype=torch.float64), atol=1e-5, rtol=0)
    middle = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(lowest_curvature(middle, PAIR, 2.0)[0], torch.zeros(1, dtype=torch.float64))


def test_small_tau_keeps_every_image_and_large_tau_leaves_the_mean() -> None:
    data = drawn(6, 30, 8)
    near, far = minima(data, data, 1e-3), minima(data, data, 1e7)
    torch.testing.assert_close(near.points, data)
    assert near.basin.tolist() == list(range(30))
    assert near.curvature.min() > 0.99
    torch.testing.assert_close(far.points, data.mean(0, keepdim=True), atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 10**6), num=st.integers(2, 15), d=st.integers(1, 4))
def test_the_grid_of_tau_ends_where_one_minimum_is_certain(seed: int, num: int, d: int) -> None:
    data = drawn(seed, num, d)
    low, high = spread_of_tau(data)
    assert low < high
    found = minima(torch.cat([data, 3 * drawn(seed + 1, 10, d)]), data, high)
    assert len(found) == 1
    assert found.curvature.item() > 0


def test_a_start_on_a_saddle_is_moved_off_it() -> None:
    starts = torch.tensor([[0.0, 0.0], [0.0, 3.0], [-0.2, 0.0]], dtype=torch.float64)
    found = minima(starts, PAIR, 0.5)
    assert len(found) == 2
    assert found.curvature.min() > 0
    # All on the symmetry's axis go to the same side.
    assert found.basin[0] == found.basin[1] != found.basin[2]


def test_what_has_not_settled_is_in_no_basin() -> None:
    starts = torch.cat([PAIR[:1], torch.tensor([[0.1, 0.5]], dtype=torch.float64)])
    found = minima(starts, PAIR, 1e-4, max_steps=1)
    assert found.basin.tolist() == [0, -1]
    assert descend(starts, PAIR, 1e-4, max_steps=1).settled.tolist() == [True, False]


def test_the_end_of_a_start_does_not_depend_on_its_companions() -> None:
    data, starts = drawn(7, 20, 3), drawn(8, 6, 3)
    alone = torch.cat([descend(start[None], data, 1.5).points for start in starts])
    torch.testing.assert_close(descend(starts, data, 1.5).points, alone, atol=1e-9, rtol=0)


def test_fixed_points_in_the_plane_are_complete_by_morse() -> None:
    found = critical_points(delaunay_starts(PAIR), PAIR, 0.5)
    assert sorted(found.index.tolist()) == [0, 0, 1]
    torch.testing.assert_close(found.points[found.index == 1], torch.zeros(1, 2, dtype=torch.float64))
    data, _ = toy("grid", 25, 0.75, 3)
    for tau in (0.02, 0.05):
        found = critical_points(delaunay_starts(data), data, tau)
        numbers = torch.bincount(found.index, minlength=3)
        assert numbers[0] == len(minima(data, data, tau))
        assert numbers[0] - numbers[1] + numbers[2] == 1
        assert numbers.min() > 0


def test_distinct_groups_by_radius() -> None:
    first, member = distinct(torch.tensor([[0.0], [5.0], [0.05], [5.2]]), 0.1)
    assert first.tolist() == [0, 1, 3]
    assert member.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("layout", ["clusters", "grid", "moons"])
def test_toys_have_exact_shares_and_come_from_their_seed(layout: str) -> None:
    points, labels = toy(layout, 49, 0.8, seed=1)
    assert points.shape == (49, 2)
    assert points.dtype == torch.float64
    assert torch.bincount(labels).tolist() == [39, 10]
    torch.testing.assert_close(toy(layout, 49, 0.8, seed=1)[0], points)
    for other in (toy(layout, 49, 0.8, seed=2), toy(layout, 49, 0.8, seed=1, replicate=1)):
        assert not torch.equal(other[0], points)
    assert layout in TOYS


def test_errors_say_what_to_change() -> None:
    with pytest.raises(LeadlineError, match="positive number .--tau."):
        energy(PAIR, PAIR, -1.0)
    with pytest.raises(LeadlineError, match="at least one image are needed: 2 dimensions and 0 images"):
        descend(PAIR, PAIR[:0], 1.0)
    with pytest.raises(LeadlineError, match="times that ascend"):
        flow(PAIR, PAIR, 1.0, torch.tensor([1.0, 0.5], dtype=torch.float64))
    with pytest.raises(LeadlineError, match="at least two images that differ"):
        spread_of_tau(PAIR[:1].repeat(3, 1))
    with pytest.raises(LeadlineError, match="--num-points 9, not 10"):
        toy("grid", 10, 0.8, 0)
    with pytest.raises(LeadlineError, match="--share 0.3"):
        toy("moons", 10, 0.3, 0)
    with pytest.raises(LeadlineError, match="did you mean 'moons'"):
        toy("moon", 10, 0.8, 0)

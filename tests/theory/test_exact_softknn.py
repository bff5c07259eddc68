"""Soft k-NN against its formula in float64: every noise level, near-duplicates, crowds of copies, derivatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import hessian, jacfwd, jacrev, jvp, vjp, vmap

from leadline.precision import full_float32
from leadline.theory.exact import streams
from leadline.theory.exact.softknn import soft_neighbors
from leadline.theory.exact.vectors import Reference

# torch itself still uses it where forward derivatives are first asked for.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")

PAPER_SIGMAS = (80.0, 9.723, 1.501, 0.469, 0.116, 0.020, 0.002)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(queries, data, tau):
    """P1 Eq. 2 as written, in float64."""
    squared = (queries.double()[:, None] - data.double()[None]).square().sum(-1)
    return torch.softmax(-squared / torch.as_tensor(tau, dtype=torch.float64).reshape(-1, 1), dim=1)


def crowded(copies=0):
    """600 vectors of 64 values far from the origin, in pairs that are 1e-3 apart, and copies that are almost one."""
    first = torch.randn(300, 64, generator=generator()) + 5
    twins = first + 1e-3 * torch.randn(300, 64, generator=generator(1))
    same = first[:1] + 1e-5 * torch.randn(copies, 64, generator=generator(2))
    return torch.cat([first, twins, same])


@pytest.mark.parametrize("copies", [0, 200, 700])
@pytest.mark.parametrize("sigma", PAPER_SIGMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_right_at_every_noise_level(sigma, copies, dtype):
    data = crowded(copies)
    x = (data[:20] + sigma * torch.randn(20, 64, generator=generator(3))).to(dtype)
    tau = 2 * sigma**2
    found = soft_neighbors(x, data, tau, num_nearest=3, tile=101)
    expected = weights(x, data, tau)
    close = 1e-3 if dtype == torch.float32 else 1e-6
    mean = (expected @ data.double()).to(dtype)
    torch.testing.assert_close(found.mean, mean, rtol=1e-6 if dtype == torch.float32 else 1e-9, atol=1e-4)
    entropy = -(expected * expected.clamp(min=1e-300).log()).sum(1)
    torch.testing.assert_close(found.effective_k, entropy.exp(), rtol=close, atol=0)
    squared = (x.double()[:, None] - data.double()[None]).square().sum(-1)
    log_sum = (-squared / tau).logsumexp(1)
    torch.testing.assert_close(found.log_sum_exp, log_sum, rtol=1e-12, atol=close)
    assert torch.equal(found.indices, squared.argsort(dim=1, stable=True)[:, :3])
    torch.testing.assert_close(found.weights, expected.gather(1, found.indices), rtol=close, atol=1e-12)


def test_float32_products_alone_would_be_wrong_here():
    """What the candidates and the direct differences are for."""
    data = crowded()
    x, tau = data[:20], 2 * 0.002**2
    with full_float32():
        squared = x.square().sum(1, keepdim=True) - 2 * x @ data.T + data.square().sum(1)
    naive = torch.softmax(-squared / tau, 1) @ data
    exact = weights(x, data, tau) @ data.double()
    assert (naive - exact).abs().max() > 1e-4
    assert (soft_neighbors(x, data, tau).mean - exact).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("sigma", "copies", "ways"),
    [
        (80.0, 0, ["_by_products"]),
        (0.02, 0, ["_by_candidates"]),
        (0.02, 200, ["_by_candidates", "_by_candidates"]),
        (0.02, 700, ["_by_candidates", "_by_candidates", "_by_wide_products"]),
    ],
)
def test_the_cheapest_way_that_is_sure_answers(monkeypatch, sigma, copies, ways):
    taken = []

    def spied(name):
        way = getattr(streams, name)

        def spy(*arguments, **options):
            taken.append(name)
            return way(*arguments, **options)

        return spy

    for name in set(ways) | {"_by_products", "_by_wide_products"}:
        monkeypatch.setattr(streams, name, spied(name))
    data = crowded(copies)
    soft_neighbors(data[:4], data, 2 * sigma**2)
    assert [name for name in taken if name in ways] == ways
    assert ("_by_wide_products" in taken) == ("_by_wide_products" in ways)


def test_one_vector_far_away_takes_no_digits_from_the_others():
    data = 0.1 * torch.randn(4 * 1024, 16, generator=generator())
    data[1] += 1e5
    x = torch.randn(5, 16, generator=generator(1))
    found = soft_neighbors(x, data, 2.0, num_nearest=0)
    torch.testing.assert_close(found.mean, (weights(x, data, 2.0) @ data.double()).float())


def test_each_query_has_its_own_temperature():
    data = crowded()
    x, tau = data[:3] + 0.1, torch.tensor([1e-4, 1.0, 1e4])
    together = soft_neighbors(x, data, tau).mean
    apart = torch.cat([soft_neighbors(x[i : i + 1], data, float(tau[i])).mean for i in range(3)])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("tau", [1e-6, 10.0, 1e6])
def test_soft_votes(tau):
    data = crowded()
    labels = torch.randint(0, 3, (600,), generator=generator())
    found = soft_neighbors(data[:7], data, tau, labels=labels, num_classes=4, tile=77)
    expected = weights(data[:7], data, tau) @ torch.nn.functional.one_hot(labels, 4).double()
    torch.testing.assert_close(found.class_weights, expected, rtol=1e-4, atol=1e-7)
    assert soft_neighbors(data[:7], data, tau).class_weights is None


def test_pixels_of_a_memory_map_are_images(tmp_path):
    pixels = np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="w+", shape=(50, 1, 4, 4))
    pixels[:] = np.random.default_rng(0).integers(0, 256, pixels.shape)
    pixels.flush()
    read = np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="r", shape=(50, 1, 4, 4))
    images = torch.from_numpy(np.array(pixels)).flatten(1).float() / 127.5 - 1
    for tau in (1e-6, 1.0, 100.0):
        found, expected = soft_neighbors(images[:9], read, tau), soft_neighbors(images[:9], images, tau)
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.indices, expected.indices)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), log_sigma=st.floats(-3, 3), offset=st.sampled_from([0.0, 3.0]))
def test_weights_sum_to_one_and_follow_a_permutation(seed, n, log_sigma, offset):
    stream = generator(seed)
    data = torch.randn(n, 5, generator=stream) + offset
    x, order = torch.randn(3, 5, generator=stream) + offset, torch.randperm(n, generator=stream)
    tau = 2 * 10 ** (2 * log_sigma)
    found = soft_neighbors(x, data, tau, num_nearest=n, tile=7)
    permuted = soft_neighbors(x, data[order], tau, num_nearest=n, tile=7)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)
    assert (found.weights.diff(dim=1) <= 0).all()
    assert ((found.effective_k >= 1) & (found.effective_k <= n * (1 + 1e-3))).all()
    # The weights themselves, image by image: each position of the permuted set holds its image's weight.
    scattered = torch.zeros(3, n, dtype=torch.float64).scatter_(1, found.indices, found.weights)
    moved = torch.zeros(3, n, dtype=torch.float64).scatter_(1, permuted.indices, permuted.weights)
    torch.testing.assert_close(moved, scattered[:, order], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [0.1, 4.0, 200.0])
def test_derivatives_by_the_queries(tau, dtype):
    """jvp, vjp, Jacobians through vmap, and autograd, against those of the formula."""
    data = torch.randn(40, 6, generator=generator())
    x, v = (torch.randn(3, 6, generator=generator(s)).to(dtype) for s in (1, 2))
    x[0] = (data[0] + data[1]).to(dtype) / 2  # on the border, where the Jacobian is large

    def mean(q):
        return soft_neighbors(q, data, tau, num_nearest=0, tile=16).mean

    def formula(q):
        return (weights(q, data, tau) @ data.double()).to(dtype)

    expected = jvp(formula, (x,), (v,))[1]
    close = {"rtol": 1e-3, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(jvp(mean, (x,), (v,))[1], expected, **close)
    torch.testing.assert_close(vjp(mean, x)[1](v)[0], expected, **close)  # the Jacobian is symmetric
    one = x[0]
    jacobian = jacrev(lambda q: formula(q[None])[0])(one)
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(lambda q: mean(q[None])[0])(one), jacobian, **close)
    torch.testing.assert_close(vmap(lambda q: mean(q[None])[0])(x), mean(x))
    tracked = x.clone().requires_grad_()
    found = soft_neighbors(tracked, data, tau)
    (gradient,) = torch.autograd.grad((found.mean * v).sum() + found.log_sum_exp.sum(), tracked)
    torch.testing.assert_close(gradient, expected + 2 / tau * (formula(x) - x), **close)
    assert not found.effective_k.requires_grad
    assert not found.weights.requires_grad


def test_the_curvature_of_the_log_sum_is_the_means_jacobian():
    data = torch.randn(20, 4, dtype=torch.float64, generator=generator())
    x = torch.zeros(4, dtype=torch.float64)
    curvature = hessian(lambda q: soft_neighbors(q[None], data, 3.0).log_sum_exp[0])(x)
    jacobian = jacrev(lambda q: soft_neighbors(q[None], data, 3.0).mean[0])(x)
    torch.testing.assert_close(curvature, 2 / 3 * (jacobian - torch.eye(4)))


def test_a_second_derivative_of_the_mean_is_refused():
    data = torch.randn(9, 2, generator=generator())
    with pytest.raises(ValueError, match="derivatives of first order only"):
        hessian(lambda q: soft_neighbors(q[None], data, 1.0).mean.sum())(torch.zeros(2))
    x = torch.zeros(1, 2, requires_grad=True)
    (first,) = torch.autograd.grad(soft_neighbors(x, data, 1.0).mean.sum(), x, create_graph=True)
    with pytest.raises(ValueError, match="derivatives of first order only"):
        first.sum().backward()


def test_values_that_are_no_numbers_stay_visible():
    data = crowded()
    x = data[:3].clone()
    x[1, 0] = math.nan
    for tau in (1e-4, 1e4):
        found = soft_neighbors(x, data, tau)
        assert found.mean.isnan().any(1).tolist() == [False, True, False]
        assert found.log_sum_exp.isnan().tolist() == [False, True, False]


def test_no_queries_give_no_answers():
    found = soft_neighbors(torch.zeros(0, 3), torch.randn(5, 3, generator=generator()), 1.0, num_nearest=2)
    assert found.mean.shape == (0, 3)
    assert found.indices.shape == (0, 2)


DATA = torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.zeros(2, 4)}, "queries have 4 values each and the data 3"),
        ({"data": torch.zeros(0, 3)}, "at least one image"),
        ({"data": torch.full((5, 3), math.nan)}, "NaN, infinite or too large"),
        ({"data": torch.zeros(5, 3, dtype=torch.int64)}, "float values or uint8 pixels, not int64"),
        ({"tau": 0.0}, "tau must be above 0, not 0"),
        ({"tau": math.nan}, "tau must be above 0, not nan"),
        ({"tau": torch.ones(3)}, r"one per query \(2\), not 3"),
        ({"tau": torch.tensor(1.0, requires_grad=True)}, "no derivative by tau"),
        ({"num_nearest": 6}, "from 0 to the 5 vectors there are, not 6"),
        ({"tile": 0}, "1 or more, not 0"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, r"5 numbers from 0 to 0, one per image, not \[4\]"),
        ({"labels": torch.full((5,), 2), "num_classes": 2}, "from 0 to 1"),
        ({"num_classes": 2}, "without labels"),
        ({"data": Reference(DATA), "tile": 3}, "belong to the Reference"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"queries": torch.zeros(2, 3), "data": DATA, "tau": 1.0} | change
    queries, data, tau = given.pop("queries"), given.pop("data"), given.pop("tau")
    with pytest.raises(ValueError, match=message):
        soft_neighbors(queries, data, tau, **given)

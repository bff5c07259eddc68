"""Both ends of spectra against numpy's eigenvalues."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.theory.lanczos import extremes


def symmetric(n, d, seed):
    found = torch.randn(n, d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return found + found.mT


def run(matrices, **options):
    start = torch.randn(len(matrices), matrices.shape[1], generator=torch.Generator().manual_seed(9)).to(matrices)
    return extremes(lambda v: torch.einsum("nij,nj->ni", matrices, v), start, **options)


@settings(deadline=None, max_examples=15)
@given(d=st.integers(1, 12), n=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_to_the_end_it_finds_both_ends_of_the_spectrum(d, n, seed):
    matrices = symmetric(n, d, seed)
    found = run(matrices, tolerance=1e-9)
    values = np.linalg.eigvalsh(matrices.numpy())
    np.testing.assert_allclose(found.lowest, values[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.highest, values[:, -1], rtol=1e-6, atol=1e-6)
    assert found.converged.all()


def test_early_it_lies_inside_the_spectrum_and_above_power_iteration():
    matrices = symmetric(3, 60, 1) @ symmetric(3, 60, 1)
    start = torch.randn(3, 60, generator=torch.Generator().manual_seed(9)).to(matrices)
    found = extremes(lambda v: torch.einsum("nij,nj->ni", matrices, v), start, max_steps=6, tolerance=0.0)
    power = start
    for _ in range(5):
        power = torch.einsum("nij,nj->ni", matrices, power)
    quotient = torch.einsum("ni,nij,nj->n", power, matrices, power) / power.square().sum(1)
    true = np.linalg.eigvalsh(matrices.numpy())
    assert found.steps == 6
    assert not found.converged.any()
    assert (found.highest <= true[:, -1] * (1 + 1e-12)).all()
    assert (found.lowest >= true[:, 0]).all()
    assert (found.highest >= quotient.numpy()).all()


def test_an_eigenvalue_lies_within_the_residual():
    matrices = symmetric(4, 40, 2)
    found = run(matrices, max_steps=8, tolerance=0.0)
    values = np.linalg.eigvalsh(matrices.numpy())
    for ends in (found.lowest, found.highest):
        assert (np.abs(values - ends[:, None]).min(1) <= found.residual * (1 + 1e-9)).all()
    assert (found.residual > 0).all()


def test_an_exhausted_operator_gains_no_eigenvalue_while_others_go_on():
    """The first has two eigenvalues, 3 and 5: its products end after two steps, and 0 is not one of them."""
    few = torch.diag(torch.tensor([3.0, 5.0] * 15))
    many = symmetric(1, 30, 3)[0].float()
    found = run(torch.stack([few, many]), tolerance=1e-6)
    assert found.steps > 5
    assert found.lowest[0] == pytest.approx(3, rel=1e-5)
    assert found.highest[0] == pytest.approx(5, rel=1e-5)
    assert found.highest[1] == pytest.approx(float(torch.linalg.eigvalsh(many)[-1]), rel=1e-4)


def test_operators_of_one_value():
    found = run(torch.stack([torch.eye(20), torch.zeros(20, 20), -2 * torch.eye(20)]))
    np.testing.assert_allclose(found.lowest, [1, 0, -2], atol=1e-5)
    np.testing.assert_allclose(found.norm, [1, 0, 2], atol=1e-5)
    assert found.steps == 1

"""Full float32 inside, what the process asked for outside."""

import pytest
import torch

from leadline.precision import full_float32


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_products_are_of_float32_inside_and_as_asked_outside(asked: str) -> None:
    matrix = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    exact = matrix.double() @ matrix.double()
    torch.set_float32_matmul_precision(asked)
    try:
        before = matrix @ matrix
        with full_float32():
            inside = matrix @ matrix
        assert torch.get_float32_matmul_precision() == asked
        assert torch.equal(matrix @ matrix, before)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (inside - exact).abs().max() < 1e-3

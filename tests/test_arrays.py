"""Room for large arrays: in memory up to a limit, in a temporary file above it."""

import numpy as np
import pytest

from leadline import arrays
from leadline.arrays import allocate, gather


def test_large_arrays_lie_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", 160)
    assert not isinstance(allocate((10, 1, 2, 2), np.float32), np.memmap)
    large = allocate((11, 1, 2, 2), np.float32)
    assert isinstance(large, np.memmap)
    assert large.shape == (11, 1, 2, 2)
    assert large.dtype == np.float32
    assert not large.any()
    large[3] = 7
    assert large.sum() == 28


@pytest.mark.parametrize("limit", [1, 1 << 30])
def test_rows_are_gathered_in_their_order(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MEMORY_LIMIT", limit)
    array = np.arange(20_000, dtype=np.uint16).reshape(10_000, 2)
    rows = np.random.default_rng(0).permutation(10_000)
    found = gather(array, rows)
    np.testing.assert_array_equal(found, array[rows])
    assert found.dtype == np.uint16
    assert isinstance(found, np.memmap) is (limit == 1)

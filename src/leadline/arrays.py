"""Room for large arrays: in memory, or in a temporary file where they would be too large for it."""

import math
import tempfile
from typing import Any

import numpy as np

MEMORY_LIMIT = 1 << 30
"""Bytes above which an array lies in a temporary file."""


def allocate(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """An array of zeros; above 1 GiB a memory map of a temporary file without a name."""
    if math.prod(shape) * np.dtype(dtype).itemsize <= MEMORY_LIMIT:
        return np.zeros(shape, dtype=dtype)
    # The mapping keeps the file alive after it is closed; the system frees it with the last reference.
    with tempfile.TemporaryFile(prefix="leadline-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def gather(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`array[rows]`, in a temporary file where it would be large."""
    chosen = allocate((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), 4096):
        chosen[start : start + 4096] = array[rows[start : start + 4096]]
    return chosen

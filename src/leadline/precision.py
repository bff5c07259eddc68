"""Matrix products in full float32, whatever the process has asked torch for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Products of float32 in float32, not in TF32 or bfloat16, on the CPU and on CUDA; set back afterwards."""
    cpu: Any = torch.backends.mkldnn
    places = (torch.backends.cuda.matmul, cpu.matmul)
    asked = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, asked, strict=True):
            place.fp32_precision = precision

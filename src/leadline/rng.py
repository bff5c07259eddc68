"""Randomness is an argument: every stream is named by (seed, purpose, index). The global generators are never used."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed for the stream (seed, purpose, index): SHA-256, so that neighbouring indices share nothing."""
    digest = hashlib.sha256(f"leadline/{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(seed: int, purpose: str, index: int = 0) -> "torch.Generator":
    """The torch CPU generator of one stream. What it draws depends on its three arguments alone."""
    import torch

    return torch.Generator().manual_seed(stream_seed(seed, purpose, index))


def numpy_generator_for(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The NumPy generator of one stream."""
    return np.random.default_rng(stream_seed(seed, purpose, index))

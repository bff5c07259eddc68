"""The Vendi score: an effective number of different images, from the spectrum of their cosine similarities."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int

from leadline.audit.choosing import hashed_order
from leadline.audit.rows import float64_rows
from leadline.errors import LeadlineError
from leadline.records import ImageSet

LARGEST = 8192
"""Rows of the largest matrix that is decomposed: a minute's work, and half a gigabyte."""


def vendi_score(features: Float[np.ndarray, "n d"]) -> tuple[float, float]:
    """Friedman and Dieng (2023), Definition 3.1: exp(-Σ λ log λ), λ the eigenvalues of K/n, K the cosine similarities.

    features: [n, d], n of 2 or more, an array or a memory map, of any lengths but 0. Returns the score, from 1 (all
    alike) to n (all orthogonal), and the standard error of its logarithm. XᵀX/n, X the unit vectors, has the same
    eigenvalues, so the smaller matrix is decomposed: time n·d·min(n, d), memory 2 min(n, d)² and two chunks of rows.
    Raises LeadlineError where that is beyond 8,192, and on features of length 0 or that are not finite.

    The logarithm is the mean over images of -xᵀ log(XᵀX/n) x, which is also what each image adds to first order: its
    error is their sd/√n (the delta method). It tells how the score of n images varies, not how far it is from that
    of more: the score grows with n, so it compares sets of equal n alone.
    """
    n, d = features.shape
    if n < 2:
        raise LeadlineError(f"the Vendi score needs 2 images or more, {n} given")
    if min(n, d) > LARGEST:
        raise LeadlineError(
            f"the Vendi score of {n:,} images in {d:,} dimensions takes the spectrum of {min(n, d):,} × {min(n, d):,} "
            f"values, and at most {LARGEST:,} are decomposed: choose an encoder with fewer dimensions (--encoder)"
        )
    if d < n:
        # Σ λ log λ over XᵀX/n = VΛVᵀ; the square of x's part along v is what v adds to x's own.
        eigenvalues, vectors = np.linalg.eigh(sum(x.T @ x for x in _unit(features)) / n)
        shares: Iterable[np.ndarray] = (np.square(x @ vectors) for x in _unit(features))
    else:
        similarities = np.empty((n, n))
        for rows, x in float64_rows(features, unit_length=True):
            for columns, y in float64_rows(features, unit_length=True):
                similarities[rows, columns] = x @ y.T / n
        eigenvalues, vectors = np.linalg.eigh(similarities)
        shares = (np.square(vectors) * (n * eigenvalues),)
    # An eigenvalue of 0 comes out on either side of it; no image has a part along its vector.
    logs = np.log(np.clip(eigenvalues, np.finfo(np.float64).tiny, 1))
    added = np.concatenate([-(part @ logs) for part in shares])
    return float(np.clip(np.exp(added.mean()), 1, n)), float(added.std(ddof=1)) / math.sqrt(n)


def choose(images: ImageSet, n: int, seed: int) -> Int[np.ndarray, " m"]:
    """Indices, ascending, of n of the images (all, where there are no more): the same pictures whatever their order."""
    return np.sort(hashed_order(images.pixels, seed, "images of the Vendi score")[:n])


def _unit(features: Float[np.ndarray, "n d"]) -> Iterator[Float[np.ndarray, "m d"]]:
    return (rows for _, rows in float64_rows(features, unit_length=True))

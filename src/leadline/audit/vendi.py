"""The Vendi score: an effective number of different images, from the spectrum of their cosine similarities."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Int

from leadline.audit.rows import float64_rows
from leadline.errors import LeadlineError
from leadline.records import ImageSet
from leadline.rng import stream_seed


def vendi_score(features: Float[np.ndarray, "n d"]) -> tuple[float, float]:
    """Friedman and Dieng (2023), Definition 3.1: exp(-Σ λ log λ), λ the eigenvalues of K/n, K the cosine similarities.

    features: [n, d], n of 2 or more, an array or a memory map, of any lengths but 0. Returns the score, from 1 (all
    alike) to n (all orthogonal), and the standard error of its logarithm. XᵀX/n, X the unit vectors, has the same
    eigenvalues, so the smaller matrix is decomposed: time n·d·min(n, d), memory min(n, d)² and one chunk of rows.

    The logarithm is the mean over images of -xᵀ log(XᵀX/n) x, which is also what each image adds to first order: its
    error is their sd/√n (the delta method). It tells how the score of n images varies, not how far it is from that
    of more: the score grows with n, so it compares sets of equal n alone.
    """
    n, d = features.shape
    if n < 2:
        raise LeadlineError(f"the Vendi score needs 2 images or more, {n} given")
    if d < n:
        # Σ λ log λ over XᵀX/n = VΛVᵀ; the square of x's part along v is what v adds to x's own.
        eigenvalues, vectors = np.linalg.eigh(sum(x.T @ x for x in _unit(features)) / n)
        shares: Iterable[np.ndarray] = (np.square(x @ vectors) for x in _unit(features))
    else:
        unit = np.concatenate(list(_unit(features)))
        eigenvalues, vectors = np.linalg.eigh(unit @ unit.T / n)
        shares = (np.square(vectors) * (n * eigenvalues),)
    # An eigenvalue of 0 comes out on either side of it; no image has a part along its vector.
    logs = np.log(np.clip(eigenvalues, np.finfo(np.float64).tiny, 1))
    added = np.concatenate([-(part @ logs) for part in shares])
    return float(np.clip(np.exp(added.mean()), 1, n)), float(added.std(ddof=1)) / math.sqrt(n)


def choose(images: ImageSet, n: int, seed: int) -> Int[np.ndarray, " m"]:
    """Indices, ascending, of n of the images (all, where there are no more), as if drawn at random by `seed`.

    The same pictures whatever their order: those with the smallest hash of seed and pixels, where each further copy
    of a picture has a hash of its own.
    """
    if n >= len(images):
        return np.arange(len(images))
    key = stream_seed(seed, "images of the Vendi score").to_bytes(8, "little")
    copies: Counter[bytes] = Counter()
    ranks: list[bytes] = []
    for pixels in images.pixels:
        content = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
        ranks.append(hashlib.blake2b(content + b"%d" % copies[content], digest_size=16, key=key).digest())
        copies[content] += 1
    return np.sort(sorted(range(len(ranks)), key=ranks.__getitem__)[:n])


def _unit(features: Float[np.ndarray, "n d"]) -> Iterator[Float[np.ndarray, "m d"]]:
    return (rows for _, rows in float64_rows(features, unit_length=True))

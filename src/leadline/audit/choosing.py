"""Images in an order that is as good as random, and that depends on the images alone and not on how they came."""

import hashlib
from collections import Counter

import numpy as np
from jaxtyping import Int, UInt8

from leadline.rng import stream_seed


def hashed_order(pixels: UInt8[np.ndarray, "n c h w"], seed: int, purpose: str) -> Int[np.ndarray, " n"]:
    """Indices of all images, ordered by a hash of the seed, the purpose, the pixels and which copy of them it is.

    Every further copy of a picture has a hash of its own, so that copies do not stay together.
    """
    key = stream_seed(seed, purpose).to_bytes(8, "little")
    copies: Counter[bytes] = Counter()
    ranks: list[bytes] = []
    for image in pixels:
        content = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
        ranks.append(hashlib.blake2b(content + b"%d" % copies[content], digest_size=16, key=key).digest())
        copies[content] += 1
    return np.array(sorted(range(len(ranks)), key=ranks.__getitem__), dtype=np.int64)

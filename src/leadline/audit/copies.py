"""When an image counts as a copy of a training image: three rules as pure functions, and the interval of a share."""

import math

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from leadline.audit.choosing import hashed_order
from leadline.audit.intervals import Interval, clopper_pearson, wilson
from leadline.errors import NotMeasurable

FEW = 5
"""Below this many copies the exact interval is given: Wilson's may cover less than it says there."""


def ratio_copies(
    nearest: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], ratio: float
) -> Bool[np.ndarray, " n"]:
    """Yoon et al. (2023), d1/d2 rule: a copy where d1 < ratio · d2, or d1 = 0.

    nearest, second: distances [n] to the nearest training image and to the first other that is a different picture,
    in any one unit; ratio in (0, 1], theirs is 1/3. Distances to repeats of the nearest image are not d2: they would
    make the ratio 1 and hide the copy.
    """
    copies: np.ndarray = (nearest < ratio * second) | (nearest == 0)
    return copies


def carlini_copies(
    nearest: Float[np.ndarray, " n"], neighborhood: Float[np.ndarray, " n"], alpha: float
) -> Bool[np.ndarray, " n"]:
    """Carlini et al. (2023), section 5.1: a copy where d1 / (alpha · mean distance to the n nearest) ≤ 1.

    nearest: distances [n] to the nearest training image; neighborhood: mean distances [n] to the n nearest, the
    nearest among them; theirs are alpha = 0.5 and n = 50. Read here as: the n nearest of the image that is judged
    (the paper's words also allow the neighbours of the training image), repeats of the nearest left out.
    """
    return nearest <= alpha * neighborhood


def calibrated_threshold(distances: Float[np.ndarray, " m"], rate: float) -> float:
    """Vovk et al. (2005), conformal threshold: the ⌊(m + 1) · rate⌋-th smallest of m distances of new real images.

    A further new image falls below it with a probability of at most `rate`, whatever the distances' distribution.
    Raises NotMeasurable where m is too small for that rate, and where the threshold would be 0: nothing is below it.
    """
    rank = math.floor((len(distances) + 1) * rate + 1e-9)
    if rank < 1:
        needed = 2 * (math.ceil(1 / rate - 1e-9) - 1)
        raise NotMeasurable(
            f"a threshold with {rate:.3g} false positives takes {needed} held-out images or more, half of which "
            f"calibrate it; {len(distances)} of them do here: give more (--held-out DATA, --set data.held_out=N), "
            "or raise --set audit.false_positive_rate"
        )
    threshold = float(np.partition(distances, rank - 1)[rank - 1])
    if threshold == 0:
        raise NotMeasurable(
            f"{(distances == 0).sum()} of the {len(distances)} held-out images that calibrate the threshold are at "
            "distance 0 from a training image, as training images themselves are, so that the threshold would be 0 and "
            "find no copy: leave all training images out of the held-out ones (--held-out DATA)"
        )
    return threshold


def halves(pixels: UInt8[np.ndarray, "n c h w"], seed: int) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]:
    """Indices of the images that calibrate and of those that check, drawn by the seeded hash of each one's pixels.

    Which picture is in which half depends on the images alone, not on their order; repeats of one picture are spread
    over both. Of an odd number one more calibrates.
    """
    order = hashed_order(pixels, seed, "halves of the held-out images")
    middle = (len(order) + 1) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


def share_interval(count: int, n: int, level: float) -> tuple[Interval, str]:
    """Interval of a share and its name: Clopper and Pearson's below 5 copies, else Wilson's."""
    if count < FEW:
        return clopper_pearson(count, n, level), "Clopper-Pearson"
    return wilson(count, n, level), "Wilson"

"""Points of two classes in the plane, of exact shares, from a seed."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.registry import Registry
from leadline.rng import generator_for, stream_seed

NUM_CLUSTERS = 10
CLUSTER_WIDTH = 0.1
JITTER = 0.25
"""Standard deviation of a grid's points, as a part of their spacing: an exact grid would merge all at once."""
MOON_NOISE = 0.1

Drawn = tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]

TOYS: Registry[Callable[[int, int, int], Drawn]] = Registry("toy landscape")
"""(points, those of the majority, seed of the stream) -> points and labels."""


def toy(layout: str, num_points: int, share: float, seed: int, replicate: int = 0) -> Drawn:
    """Points float64 [n, 2] about [-1, 1]^2 and labels [n], 0 the majority with exactly round(share n) points.

    layout: clusters, grid or moons. share: from .5 to below 1, with at least one point of each class. replicate: a
    further drawing of the same seed.
    """
    draw = TOYS[layout]
    majority = round(share * num_points)
    if not (0.5 <= share < 1 and 0 < majority < num_points):
        raise LeadlineError(
            f"a toy needs a majority's share from .5 to below 1 and points of both classes: --share {share:g}, "
            f"--num-points {num_points} given"
        )
    return draw(num_points, majority, stream_seed(seed, f"toy-{layout}", replicate))


@TOYS.register("clusters")
def clusters(num_points: int, majority: int, seed: int) -> Drawn:
    """Ten round clusters at random places, each of one class; as many of each as its share allows."""
    generator = generator_for(seed, "clusters")
    others = max(1, round(NUM_CLUSTERS * (1 - majority / num_points)))
    labels = (torch.arange(num_points) >= majority).long()
    places = torch.where(
        labels == 0,
        torch.arange(num_points) % (NUM_CLUSTERS - others),
        NUM_CLUSTERS - others + torch.arange(num_points) % others,
    )
    centres = 2 * torch.rand(NUM_CLUSTERS, 2, generator=generator, dtype=torch.float64) - 1
    noise = torch.randn(num_points, 2, generator=generator, dtype=torch.float64)
    return centres[places] + CLUSTER_WIDTH * noise, labels


@TOYS.register("grid")
def grid(num_points: int, majority: int, seed: int) -> Drawn:
    """P1, Figure 3's grid, one image in each cell, slightly moved, its class by lot. num_points: a square number."""
    side = math.isqrt(num_points)
    if side**2 != num_points:
        raise LeadlineError(f"the grid needs a square number of points: --num-points {side**2}, not {num_points}")
    generator = generator_for(seed, "grid")
    line = (torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1
    places = torch.cartesian_prod(line, line)
    noise = torch.randn(num_points, 2, generator=generator, dtype=torch.float64)
    labels = (torch.randperm(num_points, generator=generator) >= majority).long()
    return places + JITTER * 2 / side * noise, labels


@TOYS.register("moons")
def moons(num_points: int, majority: int, seed: int) -> Drawn:
    """Two half circles, one in the other's hollow (scikit-learn's), a class each."""
    from sklearn.datasets import make_moons

    points, labels = make_moons((majority, num_points - majority), noise=MOON_NOISE, random_state=seed % 2**32)
    moved = torch.from_numpy(points).double() - torch.tensor([0.5, 0.25], dtype=torch.float64)
    return moved, torch.from_numpy(labels).long()

"""What takes the place of a mid-block's output, by mode; our reading of 2505.17560, which gives no equation.

h is the mid-block's input, M = M(h) its output, a in [0, 1] the strength. Every mode gives M bit for bit at a = 0.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Int32
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.rng import generator_for

MODES = ("blend", "elements", "channels", "attenuate")


def combine(mode: str, seed: int, h: Tensor, m: Tensor, a: Tensor) -> Tensor:
    """2505.17560, "percentage bypassed mid-block activations" (our reading), in one of four modes:

    blend      (1 - a) M + a h
    elements   round(a N) of the N activations of an image take h, the others M: the literal reading
    channels   the same over the c channels
    attenuate  (1 - a) M

    h, m: [n, c, ...], one type and device, mostly [n, c, h, w]; a: [n, 1, ...] or [1, 1, ...], of as many axes. Which
    elements or channels take h is drawn from the seed alone: the same for every image and step, and those of a smaller
    strength are among those of a larger one.
    """
    if mode == "attenuate":
        return ((1 - a) * m).to(m.dtype)
    if mode == "blend":
        # Half types are mixed in float32, so that the strength is not rounded to three digits.
        broad = torch.promote_types(m.dtype, torch.float32)
        mixed = torch.lerp(m.to(broad), h.to(broad), a.to(broad)).to(m.dtype)
        # The ends to the bit: 0 * (h - M) may overflow, and turns -0 into 0.
        return torch.where(a == 0, m, torch.where(a == 1, h, mixed))
    count = places(mode, m)
    rank = constant_ranking(mode, seed, count, str(m.device))
    chosen = rank.reshape(m.shape[1:] if mode == "elements" else (-1, *[1] * (m.ndim - 2)))
    return torch.where(chosen < torch.round(a * count), h, m)


def places(mode: str, m: Tensor) -> int:
    """N, of which "elements" and "channels" choose round(a N), for activations [n, c, ...]."""
    return int(math.prod(m.shape[1:]) if mode == "elements" else m.shape[1])


def check_choice(mode: str, highest: float, count: int | None) -> None:
    """Raise LeadlineError where a strength above 0 would choose none of the N = `count` elements or channels."""
    if count is None or mode not in ("elements", "channels") or highest == 0 or round(highest * count) > 0:
        return
    raise LeadlineError(
        f"mode {mode!r} at strength {highest:g}: round({highest:g} * {count}) = 0 of the {count} {mode} would take the "
        f"mid-block's input, so nothing would change: take a strength above {0.5 / count:.2g}, or mode 'blend'"
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constant_ranking(mode: str, seed: int, count: int, device: str) -> Int32[Tensor, " count"]:
    """`ranking`; a compiled graph holds it as a constant, since a generator cannot be traced."""
    return ranking(mode, seed, count, device)


@lru_cache(maxsize=16)
def ranking(mode: str, seed: int, count: int, device: str) -> Int32[Tensor, " count"]:
    """A random order of N = `count` places, 0 to N - 1: those ranked below round(a N) take the mid-block's input."""
    order = torch.randperm(count, generator=generator_for(seed, f"bypass {mode}"))
    return order.to(torch.int32).to(device)

"""What takes the place of a mid-block's output, by mode; our reading of 2505.17560, which gives no equation.

h is the mid-block's input, M = M(h) its output, a in [0, 1] the strength. Every mode gives M bit for bit at a = 0.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from leadline.rng import generator_for

MODES = ("blend", "elements", "channels", "attenuate")

Activations = Float[Tensor, "n c h w"]
Strength = Float[Tensor, "n|1 1 1 1"]


def combine(mode: str, seed: int, h: Tensor, m: Tensor, a: Tensor) -> Tensor:
    """2505.17560, "percentage bypassed mid-block activations" (our reading), in one of four modes:

    blend      (1 - a) M + a h
    elements   round(a N) of the N = c * h * w activations take h, the others M: the literal reading
    channels   the same over the c channels
    attenuate  (1 - a) M

    h, m: [n, c, h, w], one type and device; a: [n, 1, 1, 1] or [1, 1, 1, 1]. Which elements or channels take h is
    drawn from the seed alone: the same for every image and step, and those of a smaller strength are among those of a
    larger one.
    """
    if mode == "attenuate":
        return ((1 - a) * m).to(m.dtype)
    if mode == "blend":
        # Half types are mixed in float32, so that the strength is not rounded to three digits.
        broad = torch.promote_types(m.dtype, torch.float32)
        mixed = torch.lerp(m.to(broad), h.to(broad), a.to(broad)).to(m.dtype)
        # The ends to the bit: 0 * (h - M) may overflow, and turns -0 into 0.
        return torch.where(a == 0, m, torch.where(a == 1, h, mixed))
    shape = m.shape[1:] if mode == "elements" else (m.shape[1], 1, 1)
    rank = constant_ranking(mode, seed, int(shape[0]), int(shape[1]), int(shape[2]), str(m.device))
    return torch.where(rank < torch.round(a * rank.numel()), h, m)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def constant_ranking(mode: str, seed: int, c: int, h: int, w: int, device: str) -> Int32[Tensor, "c h w"]:
    """`ranking`; a compiled graph holds it as a constant, since a generator cannot be traced."""
    return ranking(mode, seed, c, h, w, device)


@lru_cache(maxsize=16)
def ranking(mode: str, seed: int, c: int, h: int, w: int, device: str) -> Int32[Tensor, "c h w"]:
    """A random order of the c * h * w places, 0 to N - 1: those ranked below round(a N) take the mid-block's input."""
    order = torch.randperm(c * h * w, generator=generator_for(seed, f"bypass {mode}"))
    return order.to(torch.int32).reshape(c, h, w).to(device)

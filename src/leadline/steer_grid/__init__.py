"""Prompts at growing strength of the bypass, from the same seeds: the papers' Figure 6, drawn and measured."""

from leadline.steer_grid.drawing import steer
from leadline.steer_grid.spec import GridSpec

__all__ = ["GridSpec", "steer"]

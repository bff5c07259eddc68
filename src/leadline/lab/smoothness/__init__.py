"""P1, Lemma 1 and Theorem 1, measured: the encoder's Jacobians, the energy's curvature in x and in z, against depth."""

from leadline.lab.smoothness.measuring import measure_smoothness
from leadline.lab.smoothness.pieces import SMOOTHNESS_SIGMAS, Smoothing

__all__ = ["SMOOTHNESS_SIGMAS", "Smoothing", "measure_smoothness"]

"""Closed-form denoisers, with the interface of the trained ones: known answers to test samplers and audits with."""

from leadline.theory.exact.delta import MultiDeltaDenoiser
from leadline.theory.exact.gaussian import GaussianDenoiser
from leadline.theory.exact.linear import LinearDenoiser
from leadline.theory.exact.mixture import MixtureDenoiser

__all__ = ["GaussianDenoiser", "LinearDenoiser", "MixtureDenoiser", "MultiDeltaDenoiser"]

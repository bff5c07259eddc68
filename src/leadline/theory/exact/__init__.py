"""Closed-form denoisers, with the interface of the trained ones: known answers to test samplers and audits with."""

from leadline.theory.exact.delta import MultiDeltaDenoiser

__all__ = ["MultiDeltaDenoiser"]

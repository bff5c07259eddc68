"""Closed-form denoisers, measures on any Denoiser, energy landscapes: pure functions that know no file and no run."""

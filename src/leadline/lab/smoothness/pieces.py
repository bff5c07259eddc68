"""What is computed of one denoiser at one noise level, as arrays per point: what an interrupted command keeps."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.lab.keeping import Arrays
from leadline.models.denoiser import Denoiser
from leadline.theory.jacobian import down_blocks, encoder, frobenius_norms, linearised, spectral_norms
from leadline.theory.noise import noisy
from leadline.theory.smoothness import RANK_TOLERANCE, curvature, latent_energy, steepness

ENCODER, ENERGY_IN_X, ENERGY_IN_Z = "encoder", "energy in x", "energy in z"
"""The three respects in which a denoiser is measured at a noise level."""
BATCH = 8
"""Points that are linearised together: bounds the memory, which holds the activations of two backward passes."""
SMOOTHNESS_SIGMAS = (21.108, 4.06, 1.501, 0.469, 0.116)
"""Five of P2's ten levels: a Jacobian costs as much as dozens of calls."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """What is measured. num_images: noisy points; num_latent: of them, where the energy in z is measured (0: nowhere).

    exact: the Gaussian and the multi-delta denoiser of the training data too. tolerance, max_steps: of Lanczos;
    num_probes: of Hutchinson's estimates; num_between: points inside a segment; rank_tolerance: of the encoder's
    singular values, relative to the largest.
    """

    sigmas: tuple[float, ...] = SMOOTHNESS_SIGMAS
    num_images: int = 8
    num_latent: int = 4
    seed: int = 0
    exact: bool = True
    tolerance: float | int = 1e-2
    max_steps: int = 80
    num_probes: int = 8
    num_between: int = 7
    rank_tolerance: float | int = RANK_TOLERANCE


def encoder_arrays(denoiser: Denoiser, images: Float[Tensor, "n c h w"], sigma: float | int, spec: Smoothing) -> Arrays:
    """Lemma 1's Jacobians at each point: arrays [levels, n], `size` [levels] and `image` [n], the points' own spread.

    spectral, converged, frobenius, error (of frobenius), spread (root mean square of z).
    """
    x = noisy(images, sigma, spec.seed)
    found: dict[str, list[np.ndarray]] = {}
    sizes = []
    for level in range(1, len(down_blocks(denoiser)) + 1):
        row: dict[str, list[np.ndarray]] = {}
        for first in range(0, len(x), BATCH):
            part = x[first : first + BATCH]
            at = linearised(encoder(denoiser, sigma, level), part)
            options = {"seed": spec.seed, "first": first}
            largest = spectral_norms(at, part, **options, tolerance=spec.tolerance, max_steps=spec.max_steps)
            whole = frobenius_norms(at, part, **options, num_probes=spec.num_probes)
            for name, values in (
                ("spectral", largest.values),
                ("converged", largest.converged),
                ("frobenius", whole.values),
                ("error", whole.errors),
                ("spread", spread(at.value)),
            ):
                row.setdefault(name, []).append(values)
        sizes.append(at.value[0].numel())
        for name, parts in row.items():
            found.setdefault(name, []).append(np.concatenate(parts))
    return {name: np.stack(rows) for name, rows in found.items()} | {"size": np.array(sizes), "image": spread(x)}


def energy_arrays(denoiser: Denoiser, images: Float[Tensor, "n c h w"], sigma: float | int, spec: Smoothing) -> Arrays:
    """Theorem 1 in x: arrays [n] lowest, highest, norm, converged, asymmetry, error; numbers pairs and segments."""
    x = noisy(images, sigma, spec.seed)
    parts = [
        curvature(
            denoiser,
            x[first : first + BATCH],
            sigma,
            seed=spec.seed,
            first=first,
            tolerance=spec.tolerance,
            max_steps=spec.max_steps,
            num_probes=spec.num_probes,
        )
        for first in range(0, len(x), BATCH)
    ]
    slopes = steepness(denoiser, x, sigma, num_between=spec.num_between)
    return {
        "lowest": np.concatenate([part.lowest for part in parts]),
        "highest": np.concatenate([part.highest for part in parts]),
        "norm": np.concatenate([part.norm for part in parts]),
        "converged": np.concatenate([part.converged for part in parts]),
        "asymmetry": np.concatenate([part.asymmetry for part in parts]),
        "error": np.concatenate([part.asymmetry_error for part in parts]),
        "pairs": np.array(slopes.pairs),
        "segments": np.array(slopes.segments),
    }


def latent_arrays(denoiser: Denoiser, images: Float[Tensor, "n c h w"], sigma: float | int, spec: Smoothing) -> Arrays:
    """Theorem 1 in z: arrays [levels + 1, n], level 0 being x: gradient, hessian, rank, spread; size [levels + 1]."""
    points = noisy(images, sigma, spec.seed)
    found = [latent_energy(denoiser, x[None], sigma, tolerance=spec.rank_tolerance) for x in points]
    columns = list(zip(*found, strict=True))
    return {
        "gradient": np.array([[one.gradient_norm for one in level] for level in columns]),
        "hessian": np.array([[one.hessian_norm for one in level] for level in columns]),
        "rank": np.array([[one.rank for one in level] for level in columns]),
        "spread": np.array([[one.spread for one in level] for level in columns]),
        "size": np.array([level[0].size for level in columns]),
    }


def spread(states: Float[Tensor, "n ..."]) -> Float[np.ndarray, " n"]:
    """Root mean square of the values of each row."""
    found: np.ndarray = states.flatten(1).to(torch.float64).square().mean(1).sqrt().cpu().numpy()
    return found

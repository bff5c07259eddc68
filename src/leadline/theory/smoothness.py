"""P1, Theorem 1, measured: how smooth the energy of a denoiser is, in x and in the hidden states of its encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import Denoiser, score
from leadline.theory.jacobian import (
    Linearised,
    encoded,
    linearised,
    probes,
    random_directions,
    squared_lengths,
    whole_jacobians,
)
from leadline.theory.lanczos import extremes, largest_size

RANK_TOLERANCE = 1e-3
"""Singular values below this part of the largest count as lost by the encoder: a pseudo-inverse would blow up what
single precision leaves of them."""
MOST_VALUES, MOST_STATES = 1024, 32768
"""Values of an image, and of a hidden state, up to which whole Jacobians are taken (128 MiB, single precision)."""


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """σ²H = I − (J + Jᵀ)/2 at n points, J = ∂D/∂x: the Hessian H of the energy, made dimensionless.

    lowest, highest: ends of its spectrum; a negative lowest: the energy is curved downwards in some direction.
    asymmetry: ‖J − Jᵀ‖_F / ‖J + Jᵀ‖_F, 0 where D is the denoiser of some density, with the standard error of its
    estimate. residual, converged: of the eigenvalues, as in `lanczos.Extremes`.
    """

    lowest: Float[np.ndarray, " n"]
    highest: Float[np.ndarray, " n"]
    residual: Float[np.ndarray, " n"]
    converged: Bool[np.ndarray, " n"]
    asymmetry: Float[np.ndarray, " n"]
    asymmetry_error: Float[np.ndarray, " n"]
    steps: int

    @property
    def norm(self) -> Float[np.ndarray, " n"]:
        """σ²‖H‖₂, the largest |eigenvalue|, from below; H's own norm is this over σ²."""
        return largest_size(self.lowest, self.highest)


@dataclass(frozen=True, kw_only=True)
class Latent:
    """The energy in the hidden state z, of `size` values, at one point. rank: of J, above the tolerance.

    gradient_norm: ‖(J⁺)ᵀ∇E‖; hessian_norm: ‖(J⁺)ᵀ H J⁺‖₂; spread: root of z's mean square, which undoes its scale.
    """

    gradient_norm: float
    hessian_norm: float
    rank: int
    size: int
    spread: float


def energy_gradient(denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: float | int) -> Float[Tensor, "n c h w"]:
    """P1, Theorem 1, with P2's score: ∇E(x) = (x − D(x; σ)) / σ², E = −log p(x; σ) in the denoiser's own reading."""
    with torch.no_grad():
        return -score(denoiser, x, sigma)


def curvature(
    denoiser: Denoiser,
    x: Float[Tensor, "n c h w"],
    sigma: float | int,
    *,
    seed: int = 0,
    first: int = 0,
    tolerance: float | int = 1e-2,
    max_steps: int = 80,
    num_probes: int = 8,
) -> Curvature:
    """P1, Theorem 1: the spectrum's ends of σ²H = I − (J + Jᵀ)/2 at each x, and how far J is from symmetric.

    A trained D is no exact gradient field, so the symmetric part of its Jacobian stands for the Hessian, by our
    reading, and the asymmetry is told beside it. Lanczos, from inside the spectrum: the norm is a lower bound.
    seed, first: of the starts and probes, and the number of the first image in a batch out of many.
    """
    jacobian = linearised(lambda image: denoiser(image, sigma), x)

    def product(v: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return v - (jacobian.push(v) + jacobian.pull(v)) / 2

    start = random_directions(x, seed, "curvature", first=first)
    found = extremes(product, start, tolerance=tolerance, max_steps=max_steps)
    asymmetry, error = _asymmetry(jacobian, list(probes(x, seed, num_probes, first)))
    return Curvature(
        lowest=found.lowest,
        highest=found.highest,
        residual=found.residual,
        converged=found.converged,
        asymmetry=asymmetry,
        asymmetry_error=error,
        steps=found.steps,
    )


def _asymmetry(
    jacobian: Linearised, directions: Sequence[Float[Tensor, "n c h w"]]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """‖J − Jᵀ‖_F / ‖J + Jᵀ‖_F by Hutchinson's probes, and its standard error (delta method, the ratio of two means)."""
    if len(directions) < 2:
        raise LeadlineError(f"a standard error needs 2 probes or more, not {len(directions)}")
    odd: list[np.ndarray] = []
    even: list[np.ndarray] = []
    for probe in directions:
        pushed, pulled = jacobian.push(probe), jacobian.pull(probe)
        for kept, vector in ((odd, pushed - pulled), (even, pushed + pulled)):
            kept.append(squared_lengths(vector))
    tiny = np.finfo(np.float64).tiny
    above, below = np.stack(odd), np.maximum(np.stack(even), tiny)
    share = above.mean(0) / below.mean(0)
    spread = (above - share * below).std(0, ddof=1) / np.sqrt(len(directions)) / below.mean(0)
    root = np.sqrt(share)
    return root, spread / np.maximum(2 * root, np.sqrt(tiny))


@dataclass(frozen=True, kw_only=True)
class Steepness:
    """σ² · ‖∇E(x) − ∇E(x')‖ / ‖x − x'‖, the largest found: lower bounds of the gradient's Lipschitz constant, times σ².

    pairs: over all pairs of the points; segments: over short steps along the segments from each point to the next.
    """

    pairs: float
    segments: float


def steepness(
    denoiser: Denoiser, x: Float[Tensor, "n c h w"], sigma: float | int, *, num_between: int = 7
) -> Steepness:
    """P1, Theorem 1: the gradient's Lipschitz constant, from below, over pairs of points and along segments.

    num_between: points inside each of the n − 1 segments. n is 2 or more, all different.
    """
    if len(x) < 2:
        raise LeadlineError(f"a Lipschitz constant needs 2 points or more, not {len(x)} (--num-images)")
    gradients = energy_gradient(denoiser, x, sigma)
    above = torch.pdist(gradients.flatten(1).to(torch.float64))
    below = torch.pdist(x.flatten(1).to(torch.float64))
    if bool((below == 0).any()):
        raise LeadlineError("a Lipschitz constant needs points that are all different")
    steps = torch.linspace(0, 1, num_between + 2, dtype=x.dtype, device=x.device)
    along = []
    for first, last, start, end in zip(x[:-1], x[1:], gradients[:-1], gradients[1:], strict=True):
        inside = torch.lerp(first, last, steps[1:-1].reshape(-1, 1, 1, 1))
        found = torch.cat([start[None], energy_gradient(denoiser, inside, sigma), end[None]])
        step = (last - first).to(torch.float64).norm() / (num_between + 1)
        along.append(float((found.diff(dim=0).flatten(1).to(torch.float64).norm(dim=1) / step).max()))
    return Steepness(pairs=float((above / below).max()) * sigma**2, segments=max(along) * sigma**2)


def latent_energy(
    denoiser: Denoiser, x: Float[Tensor, "1 c h w"], sigma: float | int, *, tolerance: float | int = RANK_TOLERANCE
) -> tuple[Latent, ...]:
    """P1, Theorem 1, E^(a) = E∘(φ^(a))⁻¹ at one x, for a = 0 (x itself) and each down block, by whole Jacobians.

    Our reading: the inverse is the pseudo-inverse J⁺ of the encoder's Jacobian J = ∂z^(a)/∂x, that is, lengths in z are
    measured by the metric JJᵀ; then ∇E^(a) = (J⁺)ᵀ∇E and, of the chain rule's two terms, the first is
    (J⁺)ᵀ H J⁺ with H as in `curvature`. The second, with the second derivatives of the inverse, is left out.
    Directions that the encoder shrinks below `tolerance` of its largest singular value are left out too: the more it
    loses, the fewer are looked at (rank), and the smaller of the rest, the larger is J⁺.
    Raises NotMeasurable without an encoder, and where the Jacobians would be too large to hold.
    """
    states = [x, *encoded(denoiser, x, sigma)]
    check_whole(x.numel(), max(state.numel() for state in states))
    identity = torch.eye(x.numel(), dtype=torch.float64)
    jacobians = [identity, *whole_jacobians(lambda image: encoded(denoiser, image, sigma), x)]
    (whole,) = whole_jacobians(lambda image: (denoiser(image, sigma),), x)
    whole = whole.to(identity)
    hessian = (identity - (whole + whole.T) / 2) / sigma**2
    gradient = energy_gradient(denoiser, x, sigma).flatten().to(identity)
    return tuple(
        pulled_back(jacobian, gradient, hessian, state, tolerance)
        for jacobian, state in zip(jacobians, states, strict=True)
    )


def check_whole(values: int, states: int) -> None:
    """Raise NotMeasurable where an image of so many values, or a hidden state, is too large for whole Jacobians."""
    if values > MOST_VALUES or states > MOST_STATES:
        raise NotMeasurable(
            f"the energy in z needs whole Jacobians, and an image has {values:,} values (at most {MOST_VALUES:,}), a "
            f"hidden state up to {states:,} (at most {MOST_STATES:,}): take a model of smaller images"
        )


def pulled_back(
    jacobian: Float[Tensor, "m d"],
    gradient: Float[Tensor, " d"],
    hessian: Float[Tensor, "d d"],
    state: Float[Tensor, "..."],
    tolerance: float | int = RANK_TOLERANCE,
) -> Latent:
    """(J⁺)ᵀ∇E and (J⁺)ᵀ H J⁺ (see `latent_energy`) by the singular value decomposition of J, in float64."""
    _, sizes, directions = torch.linalg.svd(jacobian.to(device="cpu", dtype=torch.float64), full_matrices=False)
    rank = int((sizes > tolerance * sizes[0]).sum())
    if rank == 0:
        raise NotMeasurable("the Jacobian of the encoder is 0: no direction of z moves with x")
    inverse = directions[:rank] / sizes[:rank, None]
    return Latent(
        gradient_norm=float((inverse @ gradient).norm()),
        hessian_norm=float(torch.linalg.matrix_norm(inverse @ hessian @ inverse.T, 2)),
        rank=rank,
        size=state.numel(),
        spread=float(state.detach().to(torch.float64).square().mean().sqrt()),
    )

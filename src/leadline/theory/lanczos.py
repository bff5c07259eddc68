"""Both ends of the spectrum of symmetric operators that are known by their products alone, many at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

Product = Callable[[Float[Tensor, "n ..."]], Float[Tensor, "n ..."]]
"""v -> A v, row i with the i-th of n symmetric operators."""
CHECK_EVERY = 3
"""Steps between two looks at the residual: a look costs n small eigenproblems."""


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """Lowest and highest eigenvalue of n symmetric operators, float64 each.

    Ritz values lie inside the spectrum: `highest` is a lower bound of the true one, `lowest` an upper bound. residual:
    the larger ‖A v − θ v‖ of the two ends (of the highest alone where only it was wanted), within which an eigenvalue
    lies; converged: whether it is at most tolerance · max|θ|.
    """

    lowest: Float[np.ndarray, " n"]
    highest: Float[np.ndarray, " n"]
    residual: Float[np.ndarray, " n"]
    converged: Bool[np.ndarray, " n"]
    steps: int

    @property
    def norm(self) -> Float[np.ndarray, " n"]:
        """The largest |eigenvalue|: the spectral norm, from below."""
        return largest_size(self.lowest, self.highest)


def largest_size(lowest: Float[np.ndarray, " n"], highest: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The larger of |lowest| and |highest|."""
    found: np.ndarray = np.maximum(np.abs(lowest), np.abs(highest))
    return found


def extremes(
    product: Product,
    start: Float[Tensor, "n ..."],
    *,
    tolerance: float | int = 1e-2,
    max_steps: int = 80,
    both_ends: bool = True,
) -> Extremes:
    """Lanczos (1950) with full reorthogonalisation, each operator from its own start; one product for all per step.

    After k products it has the best vector of the space that k steps of power iteration pass through, so it needs a
    fraction of their number and is never below them. start: a random vector each, not 0. Stops when every residual is
    at most tolerance · max|θ| of its operator, or after max_steps. The error of an eigenvalue is at most the residual,
    and of the order of its square over the gap to the next eigenvalue.
    """
    n = len(start)
    size = start[0].numel()
    flat = start.reshape(n, size)
    basis = [flat / flat.norm(dim=1, keepdim=True)]
    diagonal: list[Float[np.ndarray, " n"]] = []
    beside: list[Float[np.ndarray, " n"]] = []
    while True:
        last = basis[-1]
        image = product(last.reshape(start.shape)).reshape(n, size)
        diagonal.append(_numpy((image * last).sum(1)))
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough in single precision
            image = image - torch.einsum("knd,kn->nd", known, torch.einsum("knd,nd->kn", known, image))
        length = image.norm(dim=1, keepdim=True)
        # Where the space of all products is exhausted, what is left is rounding: it must not come in as a direction.
        rounding = torch.finfo(image.dtype).eps * 8 * max(1, len(basis))
        scale = torch.as_tensor(np.abs(diagonal).max(0), dtype=image.dtype, device=image.device)[:, None]
        spent = (length <= rounding * scale) | (length == 0)
        beside.append(_numpy(torch.where(spent, 0, length)[:, 0]))
        steps = len(basis)
        end = steps >= min(max_steps, size)
        if end or steps % CHECK_EVERY == 0 or bool(spent.all()):
            found = _ritz(np.stack(diagonal, 1), np.stack(beside, 1), tolerance, both_ends)
            if end or found.converged.all():
                return found
        basis.append(torch.where(spent, 0, image / torch.where(spent, 1, length)))


def _ritz(
    diagonal: Float[np.ndarray, "n k"], beside: Float[np.ndarray, "n k"], tolerance: float | int, both_ends: bool
) -> Extremes:
    """Ends of the spectra of the tridiagonal matrices; the last `beside` gives the residuals."""
    n, k = diagonal.shape
    # Once an operator's space is exhausted its further entries are 0, which may lie outside its spectrum: the first
    # Rayleigh quotient, which lies inside, takes their place.
    exhausted = np.cumsum(beside == 0, axis=1)
    after = np.concatenate([np.zeros((n, 1), dtype=bool), exhausted[:, :-1] > 0], axis=1)
    matrix = np.zeros((n, k, k))
    place = np.arange(k)
    matrix[:, place, place] = np.where(after, diagonal[:, :1], diagonal)
    matrix[:, place[1:], place[:-1]] = matrix[:, place[:-1], place[1:]] = beside[:, :-1]
    values, vectors = np.linalg.eigh(matrix)
    residuals = np.abs(beside[:, -1:] * vectors[:, -1, :])
    residual = np.maximum(residuals[:, 0], residuals[:, -1]) if both_ends else residuals[:, -1]
    largest = largest_size(values[:, 0], values[:, -1])
    return Extremes(
        lowest=values[:, 0],
        highest=values[:, -1],
        residual=residual,
        converged=residual <= tolerance * largest,
        steps=k,
    )


def _numpy(values: Float[Tensor, " n"]) -> Float[np.ndarray, " n"]:
    found: np.ndarray = values.detach().to(device="cpu", dtype=torch.float64).numpy()
    return found

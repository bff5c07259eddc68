"""Least squares from summed second moments: any number of rows in the memory of three square matrices."""

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError


class Moments:
    """P2 Eq. 5: what least squares needs of rows (x, target), summed in float64 batch by batch, never the rows.

    centre: [d], a point near the rows' mean: subtracted first, so that a mean far from 0 costs no digits.
    """

    def __init__(self, centre: Float[Tensor, " d"]) -> None:
        self.centre = centre.double()
        self.num_rows = 0
        self.x_sum = torch.zeros_like(self.centre)
        self.target_sum = torch.zeros_like(self.centre)
        self.x_x = torch.zeros((len(centre), len(centre)), dtype=torch.float64, device=centre.device)
        self.x_target = torch.zeros_like(self.x_x)

    def add(self, x: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> None:
        """Add n rows."""
        near_x, near_target = x.double() - self.centre, target.double() - self.centre
        self.num_rows += len(x)
        self.x_sum += near_x.sum(0)
        self.target_sum += near_target.sum(0)
        self.x_x.addmm_(near_x.T, near_x)
        self.x_target.addmm_(near_x.T, near_target)

    def __add__(self, other: "Moments") -> "Moments":
        """Of the rows of both, which have one centre; neither is changed."""
        both = Moments.__new__(Moments)
        both.centre, both.num_rows = self.centre, self.num_rows + other.num_rows
        for name in ("x_sum", "target_sum", "x_x", "x_target"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    @property
    def target_mean(self) -> Float[Tensor, " d"]:
        """The mean target: the best constant map."""
        return self.centre + self.target_sum / self.num_rows

    def solve(self, diagonal: float | int) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """W, b of least squares with `diagonal` added to the covariance of x, from one Cholesky factorisation.

        Can be called once: the covariances take the sums' own memory.
        """
        x_mean, target_mean = self.x_sum / self.num_rows, self.target_sum / self.num_rows
        self.x_x.div_(self.num_rows).addr_(x_mean, x_mean, alpha=-1).diagonal().add_(diagonal)
        self.x_target.div_(self.num_rows).addr_(x_mean, target_mean, alpha=-1)
        factor, failed = torch.linalg.cholesky_ex(self.x_x)
        if failed or not factor.isfinite().all():
            raise LeadlineError(
                "the noisy images do not span all directions, or are not finite: give more rows (num_draws) or a "
                "larger ridge"
            )
        weight = torch.cholesky_solve(self.x_target, factor).T
        return weight, self.centre + target_mean - weight @ (self.centre + x_mean)

"""Energy landscapes of soft k-NN (P1, Eq. 2, 3): energy and gradient flow, minima and basins, merged minima, toys.

Points are flat, [n, d]. Near a merger two minima lie close together: give float64 where that matters.
"""

from leadline.theory.energy.flow import Descent, Trajectory, descend, flow
from leadline.theory.energy.landscape import energy, gradient, hessian, lowest_curvature, spread_of_tau, votes
from leadline.theory.energy.merging import ExponentFit, fit_exponent, merged_counts, merged_odds
from leadline.theory.energy.minima import Critical, Minima, critical_points, delaunay_starts, distinct, minima
from leadline.theory.energy.toys import TOYS, toy

__all__ = [
    "TOYS",
    "Critical",
    "Descent",
    "ExponentFit",
    "Minima",
    "Trajectory",
    "critical_points",
    "delaunay_starts",
    "descend",
    "distinct",
    "energy",
    "fit_exponent",
    "flow",
    "gradient",
    "hessian",
    "lowest_curvature",
    "merged_counts",
    "merged_odds",
    "minima",
    "spread_of_tau",
    "toy",
    "votes",
]

"""Maps of a landscape in the plane: energy, basins, minima, flow lines."""

import numpy as np
import torch

from leadline.lab.keeping import Arrays
from leadline.lab.landscape.levels import of_basin, winners
from leadline.lab.landscape.points import Points
from leadline.theory.energy import energy, flow, minima, votes

RESOLUTION = 48
"""Points of a map along each side."""
MARGIN = 0.12
"""Room around the points, as a part of their range."""
FLOW_SIDE = 5
"""Flow lines start from this many places along each side of a map."""
FLOW_TIMES = (0.0, *(float(t) for t in np.geomspace(0.03, 40.0, 40)))
"""Times of the drawn flow lines, in units of tau / 2, the time in which a distance to one image falls by e."""


def principal_plane(points: Points) -> Points:
    """The points in the plane of their first two principal components, as a landscape of its own."""
    centred = points.values - points.values.mean(0)
    _, sizes, rows = torch.linalg.svd(centred, full_matrices=False)
    # The sign of a component is not determined: its largest entry is made positive.
    rows = rows[:2] * rows[:2].gather(1, rows[:2].abs().argmax(1, keepdim=True)).sign()
    explained = float((sizes[:2] ** 2).sum() / (sizes**2).sum())
    return Points(
        name=points.name,
        values=(centred @ rows.T).contiguous(),
        labels=points.labels,
        classes=points.classes,
        facts={"explained": explained},
    )


def plane_map(points: Points, tau: float) -> Arrays:
    """E, the class of the basin, minima and flow lines over a window around points of the plane.

    x, y [side]; energy, basin [side, side] (rows along y; the class, -1 a tie or not settled); minima [m, 2] with
    their class `winner`; flows [t, lines, 2] from an even grid.
    """
    data = points.values
    low, high = data.amin(0), data.amax(0)
    room = MARGIN * (high - low).amax()
    x, y = (torch.linspace(float(low[i] - room), float(high[i] + room), RESOLUTION, dtype=data.dtype) for i in (0, 1))
    places = torch.cartesian_prod(y, x).flip(1)
    found = minima(torch.cat([data, places]), data, tau)
    winner = winners(votes(found.points, data, points.labels, len(points.classes), tau)).numpy()
    basin = of_basin(winner, found.basin[len(data) :].numpy())
    inner = torch.linspace(0, RESOLUTION - 1, FLOW_SIDE + 2)[1:-1].round().long()
    chosen = torch.cartesian_prod(y[inner], x[inner]).flip(1)
    times = tau / 2 * torch.tensor(FLOW_TIMES, dtype=data.dtype)
    lines = flow(chosen, data, tau, times, largest_step=0.25)
    return {
        "x": x.numpy(),
        "y": y.numpy(),
        "energy": energy(places, data, tau).reshape(RESOLUTION, RESOLUTION).numpy(),
        "basin": basin.reshape(RESOLUTION, RESOLUTION),
        "minima": found.points.numpy(),
        "winner": winner,
        "flows": lines.points.numpy(),
    }

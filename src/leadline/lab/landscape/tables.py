"""Landscapes as tables and pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.lab.landscape.levels import Level, ancestors
from leadline.lab.landscape.merged import Merged
from leadline.lab.landscape.points import Points
from leadline.records import Panel, Table

MOST_MERGED = 40
"""Merged minima in the table, those of the most minima."""
SHOWN = 8
"""Training images of the panel."""


def levels_table(found: Sequence[Level]) -> Table:
    """The first landscape, tau by tau."""
    rows = []
    chain = ancestors(found)
    for level, ancestor in zip(found, chain, strict=True):
        size = np.bincount(ancestor[ancestor >= 0], minlength=len(level.minima))
        unsettled = int((level.images < 0).sum() + (level.queries < 0).sum())
        plane = len(level.morse) > 0
        rows.append(
            (
                level.tau,
                float(np.sqrt(level.tau / 2)),
                len(level.minima),
                int((size >= 2).sum()),
                int(size.max()),
                int((level.winner < 0).sum()),
                unsettled,
                *(map(int, level.morse) if plane else [None] * 3),
                int(level.morse[0] - level.morse[1] + level.morse[2]) if plane else None,
            )
        )
    return Table(
        name="levels",
        title="The first landscape, tau by tau",
        columns=(
            "τ",
            "σ = √(τ/2)",
            "minima",
            "merged minima",
            "finest minima in the largest",
            "minima with a tied vote",
            "starts not settled",
            "minima by Newton",
            "saddles",
            "maxima",
            "minima − saddles + maxima",
        ),
        rows=tuple(rows),
        note="Minima: those that the images, the queries and the minima of the level before flow to. The finest minima "
        "are those of the first τ. A complete set of fixed points in the plane has a last column of 1; elsewhere some "
        "were missed.",
    )


def merged_table(found: Sequence[Level], merged: Sequence[Merged]) -> Table:
    """Theorem 2 on the first landscape: the merged minima of the most minima, of both classes."""
    rows = []
    for level, here in zip(found, merged, strict=True):
        for k in np.flatnonzero((here.p > 0) & (here.q > 0)):
            p, q = int(here.p[k]), int(here.q[k])
            rows.append((level.tau, int(here.minimum[k]), p, q, p / q, float(here.vote[k]), float(here.flow[k])))
    largest = sorted(sorted(rows, key=lambda row: -(row[2] + row[3]))[:MOST_MERGED], key=lambda row: (row[0], row[1]))
    return Table(
        name="merged",
        title="Merged minima of both classes in the first landscape",
        columns=("τ", "minimum", "p", "q", "p/q", "odds of the soft vote", "odds of what flows there"),
        rows=tuple(largest),
        note="p, q: minima of the first τ of the followed class and of all others that have become this one. "
        "Theorem 2 says that the odds are (p/q)^S."
        + (f" The {MOST_MERGED} of the most minima, of {len(rows)}." if len(rows) > MOST_MERGED else ""),
    )


def recalled(points: Points, found: Sequence[Level]) -> tuple[Panel, ...]:
    """What the flow makes of some images as tau grows; of toys none."""
    if points.shape is None:
        return ()
    # Evenly spread over the images, as those of a class may lie together.
    chosen = np.unique(np.linspace(0, len(points.values) - 1, SHOWN).round().astype(int))
    shown = points.values[chosen]
    rows = [shown, *(_ends(level, chosen, shown) for level in found)]
    values = torch.stack(rows).reshape(len(rows), len(shown), *points.shape)
    tiles = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    names = tuple(points.classes[int(label)] for label in points.labels[chosen]) if points.labelled else ()
    return (
        Panel(
            name="recalled",
            title="Where the flow takes some training images",
            tiles=tiles,
            caption="Each column starts from the training image in the first row; below it the minimum that it flows "
            "to at each tau.",
            column_titles=names,
            row_titles=("training image", *(f"τ = {level.tau:.3g}" for level in found)),
        ),
    )


def _ends(
    level: Level, chosen: Int[np.ndarray, " k"], starts: Float[torch.Tensor, "k d"]
) -> Float[torch.Tensor, "k d"]:
    """The minimum of each of the chosen images; the image itself where it has not settled."""
    basin = torch.from_numpy(level.images[chosen])
    ends = torch.from_numpy(level.minima)[basin.clamp_min(0)]
    return torch.where((basin < 0)[:, None], starts, ends)

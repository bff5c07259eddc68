"""Theorem 2 on a landscape: what each merged minimum is made of, and the odds there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from leadline.lab.landscape.levels import Level, Queries, ancestors
from leadline.lab.landscape.points import Points
from leadline.theory.energy import merged_counts


@dataclass(frozen=True)
class Merged:
    """The merged minima of one landscape at one tau: those that hold two or more of the finest minima.

    minimum: its number. p, q: finest minima of the followed class and of all others in it. vote: odds of the class in
    the soft vote there. flow: its odds among the queries that end there, half a query added to both sides.
    """

    minimum: Int[np.ndarray, " k"]
    p: Int[np.ndarray, " k"]
    q: Int[np.ndarray, " k"]
    vote: Float[np.ndarray, " k"]
    flow: Float[np.ndarray, " k"]


def merged_minima(points: Points, found: Sequence[Level], queries: Queries) -> list[Merged]:
    """P1, Definition 1 and Theorem 2 at each tau; p and q count minima of the first one."""
    followed, finest = points.followed, found[0]
    decided = np.where(finest.winner < 0, -1, (finest.winner == followed).astype(np.int64))
    mine = (points.labels[queries.source] == followed).numpy()
    merged = []
    for level, ancestor in zip(found, ancestors(found), strict=True):
        num = len(level.minima)
        p, q = merged_counts(ancestor, decided, num)
        chosen = np.flatnonzero(p + q >= 2)
        share = level.votes[chosen, followed]
        others = np.delete(level.votes[chosen], followed, axis=1).sum(1)
        with np.errstate(over="ignore"):
            vote = np.divide(share, others, out=np.full(len(chosen), np.inf), where=others > 0)
        settled = level.queries >= 0
        ends = [np.bincount(level.queries[settled & side], minlength=num)[chosen] for side in (mine, ~mine)]
        flow = (ends[0] + 0.5) / (ends[1] + 0.5)
        merged.append(Merged(minimum=chosen, p=p[chosen], q=q[chosen], vote=vote, flow=flow))
    return merged

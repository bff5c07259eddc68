"""Landscapes -> how many minima, who holds them, who merges, as Measurements, tables and maps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit.intervals import wilson
from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.evaluating import package_versions
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.landscape.levels import Level, Queries, levels, of_basin
from leadline.lab.landscape.maps import plane_map, principal_plane
from leadline.lab.landscape.merged import Merged, merged_minima
from leadline.lab.landscape.points import NO_LABELS, Points
from leadline.lab.landscape.tables import levels_table, merged_table, recalled
from leadline.lab.summaries import mean_of
from leadline.progress import ProgressCallback, silent
from leadline.records import Measurement, TheoryResult
from leadline.theory.energy import fit_exponent, spread_of_tau
from leadline.theory.energy.flow import TOLERANCE
from leadline.theory.energy.minima import EPSILON

LEVEL = 0.95
OVER_LANDSCAPES = "Student t over landscapes"
WITHOUT: dict[str, None] = dict.fromkeys(("lower", "upper", "level", "method"))
"""A measurement's fields where it has no interval."""
OVER_WINNERS = "Wilson over landscapes"
OVER_QUERIES = "Wilson over queries, for these points"
OVER_MINIMA = "Wilson, minima taken as independent"
LEAST_COUNTED = 3
"""Landscapes below which a mean number of minima has no interval: of two, Student's reaches below one minimum."""
NUM_MAPS = 4
MOST_FOR_SADDLES = 400
"""Points in the plane up to which saddles and maxima are searched for too: the search grows with their square."""


def landscape(
    drawn: Sequence[Points],
    taus: Sequence[float] = (),
    *,
    num_taus: int = 12,
    num_queries: int = 500,
    seed: int = 0,
    kept: Kept | None = None,
    progress: ProgressCallback = silent,
) -> TheoryResult:
    """P1, Eq. 2, 3, Definition 1, Theorem 2: the energy landscape of points at each tau, numbers and maps.

    drawn: one landscape, or several drawings of one toy, over which values are averaged; the first is drawn and told
    in detail. taus: ascending; default: `num_taus` in even ratios, from nearly every image a minimum of its own to one
    minimum. num_queries: draws from the smoothed data whose basins are counted.
    """
    first = drawn[0]
    grid = _taus(drawn, taus, num_taus)
    if num_queries < 1:
        raise LeadlineError(f"at least one query is needed (--queries), not {num_queries}")
    settings: dict[str, Any] = {"num_queries": num_queries, "seed": seed, "tolerance": TOLERANCE, "epsilon": EPSILON}
    found: list[list[Level]] = []
    queries = [Queries.draw(points, num_queries, seed, replicate) for replicate, points in enumerate(drawn)]
    total = len(grid) * len(drawn)
    for replicate, points in enumerate(drawn):
        own = {**settings, "replicate": replicate}
        saddles = replicate == 0 and points.values.shape[1] == 2 and len(points.values) <= MOST_FOR_SADDLES

        def told(done: int, before: int = len(grid) * replicate) -> None:
            progress("landscape", before + done, total, f"tau = {grid[done - 1]:.3g}")

        found.append(levels(points, grid, queries[replicate], kept, own, told, saddles=saddles))
    odds = [merged_minima(*each) for each in zip(drawn, found, queries, strict=True)]
    measurements = _data_share(first)
    for number, tau in enumerate(grid.tolist()):
        measurements += _at_tau(drawn, found, number, tau)
        if first.labelled:
            measurements += _exponents([each[number] for each in odds], tau)
    maps, facts = _maps(first, grid, found[0], kept, progress)
    for number, tau in enumerate(facts["tau"]):
        if first.labelled and first.shape is None:
            measurements.append(_window_share(first, maps[f"map{number}_basin"], tau))
    return TheoryResult(
        measurements=tuple(measurements),
        tables=(levels_table(found[0]), *([merged_table(found[0], odds[0])] if first.labelled else [])),
        panels=recalled(first, found[0]),
        settings={
            "name": first.name,
            "points": first.facts,
            "digest": first.digest(),
            "n": len(first.values),
            "d": first.values.shape[1],
            "classes": list(first.classes) if first.labelled else [],
            "followed": first.classes[first.followed],
            "majority": first.majority,
            "tau": grid.tolist(),
            "replicates": len(drawn),
            **settings,
            "maps": facts,
            "packages": package_versions(),
        },
        kind="landscape",
        arrays=_arrays(first, found[0], maps),
    )


def _taus(drawn: Sequence[Points], taus: Sequence[float], num_taus: int) -> Float[np.ndarray, " t"]:
    if taus:
        grid = np.unique(np.asarray(taus, dtype=np.float64))
        if not (np.isfinite(grid).all() and (grid > 0).all()):
            raise LeadlineError(f"tau must be a positive number (--tau), not {', '.join(map(str, taus))}")
        return grid
    if num_taus < 2:
        raise LeadlineError(f"a grid of tau needs at least two values (--num-taus), not {num_taus}")
    ends = [spread_of_tau(points.values) for points in drawn]
    return np.geomspace(np.median([low for low, _ in ends]), max(high for _, high in ends), num_taus)


def _data_share(points: Points) -> list[Measurement]:
    if not points.labelled:
        return []
    mine = points.labels == points.followed
    return [_share("data", None, points, int(mine.sum()), len(mine))]


def _share(of: str, tau: float | None, points: Points, count: int, n: int, method: str | None = None) -> Measurement:
    ends = wilson(count, n, LEVEL) if method is not None else (None, None)
    return Measurement(
        name="share",
        value=count / n,
        lower=ends[0],
        upper=ends[1],
        level=LEVEL if method is not None else None,
        method=method,
        n=n,
        unit=f"share of the {UNITS[of]}",
        direction=f"more of class {points.classes[points.followed]}",
        group=points.classes[points.followed],
        params={"of": of} if tau is None else {"of": of, "tau": tau},
    )


UNITS = {"data": "points", "minima": "minima", "flow": "queries", "window": "window's area"}


def _at_tau(drawn: Sequence[Points], found: Sequence[Sequence[Level]], number: int, tau: float) -> list[Measurement]:
    """Number of minima, and the followed class's share of minima and of what flows, over all landscapes."""
    here = [each[number] for each in found]
    measured = [_count(here, tau)]
    if not drawn[0].labelled:
        return [*measured, Measurement.not_measurable("share", NO_LABELS, params={"tau": tau})]
    for of in ("minima", "flow"):
        tallies = [_tally(points, level, of) for points, level in zip(drawn, here, strict=True)]
        if any(n == 0 for _, n in tallies):
            reason = "no query has settled: fewer points, or another tau (--tau)"
            measured.append(Measurement.not_measurable("share", reason, params={"of": of, "tau": tau}))
        elif len(tallies) == 1:
            method = OVER_MINIMA if of == "minima" else OVER_QUERIES
            measured.append(_share(of, tau, drawn[0], *tallies[0], method))
        else:
            shares = np.array([count / n for count, n in tallies])
            measured.append(_mean_share(of, tau, drawn[0], shares))
    return measured


def _mean_share(of: str, tau: float, points: Points, shares: Float[np.ndarray, " r"]) -> Measurement:
    """The mean over landscapes with its interval; where one class has all in each of them, they are counted instead."""
    if np.isin(shares, (0, 1)).all():
        return _share(of, tau, points, int(shares.sum()), len(shares), OVER_WINNERS)
    group = points.classes[points.followed]
    unit, direction = f"share of the {UNITS[of]}", f"more of class {group}"
    mean = _mean("share", shares, tau, unit=unit, direction=direction, group=group, of=of)
    ends = (("lower", mean.lower), ("upper", mean.upper))
    return mean.model_copy(update={name: None if end is None else min(1.0, max(0.0, end)) for name, end in ends})


def _tally(points: Points, level: Level, of: str) -> tuple[int, int]:
    """How many minima, or queries by the class of the minimum they flow to, are of the followed class; of how many."""
    classes = level.winner if of == "minima" else of_basin(level.winner, level.queries)[level.queries >= 0]
    return int((classes == points.followed).sum()), len(classes)


def _mean(name: str, values: Float[np.ndarray, " r"], tau: float, **fields: Any) -> Measurement:
    """The value of one landscape, or the mean over several with its interval; none where all have the same value, as
    their spread is then not known."""
    measured = mean_of(name, values, level=LEVEL, tau=tau, **fields)
    if measured.method is None or np.ptp(values) == 0:
        return measured.model_copy(update=WITHOUT)
    return measured.model_copy(update={"method": OVER_LANDSCAPES})


def _count(here: Sequence[Level], tau: float) -> Measurement:
    """The number of minima, or its mean over three landscapes or more with its interval, from 1 on."""
    counts = np.array([float(len(level.minima)) for level in here])
    mean = _mean("num_minima", counts, tau, unit="minima", direction="a more rugged landscape")
    if mean.lower is None or len(counts) < LEAST_COUNTED:
        return mean.model_copy(update=WITHOUT)
    return mean.model_copy(update={"lower": max(1.0, mean.lower)})


def _exponents(merged: Sequence[Merged], tau: float) -> list[Measurement]:
    """Theorem 2's S that fits the soft vote, and the flow: over the merged minima of each landscape, then the mean over
    landscapes. The merged minima of one landscape share its points: alone it has a value and no interval."""
    measured = []
    for of in ("vote", "flow"):
        params = {"of": of, "tau": tau}
        fits, reason = [], ""
        for each in merged:
            try:
                fits.append(fit_exponent(each.p, each.q, getattr(each, of)))
            except NotMeasurable as error:
                reason = str(error)
        if not fits:
            measured.append(Measurement.not_measurable("odds_exponent", reason, params=params))
            continue
        direction = "odds further from even than the count of merged minima; 1: as the count"
        found = np.array([fit.exponent for fit in fits])
        measured.append(_mean("odds_exponent", found, tau, direction=direction, of=of))
        direction = "closer to (p / q)^S in each landscape; 1: the law holds exactly"
        found = np.array([fit.r_squared for fit in fits])
        explained = _mean("odds_explained", found, tau, direction=direction, of=of)
        measured.append(explained.model_copy(update=WITHOUT))
        measured.append(
            Measurement(
                name="num_merged",
                value=sum(fit.num for fit in fits),
                n=len(fits),
                unit="merged minima",
                direction="more merged minima behind the exponents, of all landscapes that have one",
                params=params,
            )
        )
    return measured


def _window_share(points: Points, basin: np.ndarray, tau: float) -> Measurement:
    """The followed class's part of the drawn window: a quadrature on the map's grid, without an interval."""
    return _share("window", tau, points, int((basin == points.followed).sum()), basin.size)


def _maps(
    points: Points, grid: Float[np.ndarray, " t"], found: Sequence[Level], kept: Kept | None, progress: ProgressCallback
) -> tuple[Arrays, dict[str, Any]]:
    """Maps at up to four tau, their numbers of minima in even ratios; of more than two dimensions: in the principal
    plane."""
    plane: Points = points
    facts: dict[str, Any] = {"plane": "the points' own"}
    if points.values.shape[1] > 2:
        plane = principal_plane(points)
        facts = {"plane": "first two principal components", "variance held": plane.facts["explained"]}
        low, high = spread_of_tau(plane.values)
        # In the plane the last merger comes well before the bound; a map of one minimum shows nothing.
        chosen = np.geomspace(low * 8, high / 8, NUM_MAPS)
    else:
        counts = np.log([len(level.minima) for level in found])
        wanted = np.linspace(counts[0], counts[-1], NUM_MAPS)
        chosen = grid[np.unique(np.abs(counts - wanted[:, None]).argmin(1))]
    arrays: Arrays = {"map_points": plane.values.numpy()}
    facts["tau"] = chosen.tolist()
    for number, tau in enumerate(facts["tau"]):

        def compute(tau: float = tau) -> Arrays:
            return plane_map(plane, tau)

        key = {"piece": "map", "points": plane.digest(), "tau": tau}
        made = compute() if kept is None else kept.piece(key, compute)
        arrays |= {f"map{number}_{name}": values for name, values in made.items()}
        progress("maps", number + 1, len(chosen), f"tau = {tau:.3g}")
    return arrays, facts


def _arrays(points: Points, found: Sequence[Level], maps: Arrays) -> Arrays:
    arrays: Arrays = {"labels": points.labels.numpy(), "tau": np.array([level.tau for level in found]), **maps}
    for number, level in enumerate(found):
        arrays |= {
            f"level{number}_minima": level.minima.astype(np.float32),
            f"level{number}_votes": level.votes,
            f"level{number}_images": level.images,
            f"level{number}_parents": level.parents,
        }
    return arrays

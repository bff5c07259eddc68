"""P1, Figure 3: thousands of grids abstracted level by level, beside the exact law."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from scipy.stats import norm

from leadline.audit.intervals import around, standard_error, wilson
from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.evaluating import package_versions
from leadline.lab.summaries import mean_of
from leadline.progress import ProgressCallback, silent
from leadline.records import Measurement, Table, TheoryResult
from leadline.rng import numpy_generator_for
from leadline.theory.abstraction import (
    Ties,
    abstract,
    expected_shares,
    largest_gain,
    levels_of,
    log_odds,
    random_grids,
)

CELLS_AT_ONCE = 2**22
"""Cells held at once: the replicates go through in parts of this size, each with a random stream of its own."""
DRAWN_SIDE = 96
"""Cells to a side of the grids that are shown, at most."""
NAMED_APART = 4
"""Shares that a mixture's name gives one by one; of more, equal ones are counted."""
DELTA, CERTAIN = "Student t over grids, on the log-odds", "Wilson over grids, all alike"


@dataclass(frozen=True, kw_only=True)
class AbstractionSpec:
    """What is simulated. mixtures: shares of the classes, one row of Figure 3 each, the class first that is followed.

    size: cells to a side; levels: None for as many as the size allows; replicates: grids per mixture.
    """

    mixtures: tuple[tuple[float, ...], ...]
    size: int = 64
    window: int = 2
    ties: Ties = "random"
    levels: int | None = None
    replicates: int = 2000
    seed: int = 0
    level: float = 0.95


def abstraction(spec: AbstractionSpec, progress: ProgressCallback = silent) -> TheoryResult:
    """Shares of every class at every level, with intervals over the grids, against the law; one grid of each to show.

    Raises LeadlineError where size and window allow no step, or fewer than the levels asked for.
    """
    levels = _levels(spec)
    found: list[Measurement] = []
    arrays: dict[str, np.ndarray] = {}
    worst, compared, why = 0.0, 0, ""
    for number, shares in enumerate(spec.mixtures):
        values = _simulated(spec, number, levels, progress)
        law, why = _law(spec, shares, levels)
        for followed in range(1 if len(shares) == 2 else len(shares)):
            of = {"mixture": mixture_name(shares), "start": shares[followed]}
            found += _over_levels(spec, values[..., followed], f"class {followed + 1}", of)
        arrays[f"mean_{number}"] = values.mean(0)
        if law is not None:
            arrays[f"law_{number}"], arrays[f"law_log_odds_{number}"] = law, log_odds(law)
            scores = _scores(values, law, spec)
            arrays[f"deviation_{number}"] = scores
            # Of two classes one says what the other does.
            apart = scores[:, :1] if len(shares) == 2 else scores
            finite = apart[np.isfinite(apart)]
            worst, compared = max(worst, float(np.abs(finite).max(initial=0))), compared + len(finite)
        for step, grid in enumerate(_shown(spec, shares, levels)):
            arrays[f"grid_{number}_{step}"] = grid
    found.append(_deviation(worst, compared, why))
    table = _law_table(spec)
    return TheoryResult(
        measurements=tuple(found),
        tables=() if table is None else (table,),
        settings=_settings(spec, levels),
        kind="abstraction",
        arrays=arrays,
    )


def even_rest(share: float, classes: int) -> tuple[float, ...]:
    """The share of the class that is followed, and the rest in equal parts."""
    if classes < 2:
        raise LeadlineError(f"two classes or more are needed, not {classes} (--classes)")
    return (share, *[(1 - share) / (classes - 1)] * (classes - 1))


def mixture_name(shares: Sequence[float]) -> str:
    """80/20, 50/25/25; of more than four parts equal ones that follow each other are counted: 50/199×0.2513."""
    percents = [f"{100 * share:.4g}" for share in shares]
    if len(percents) <= NAMED_APART:
        return "/".join(percents)
    runs = [(percent, len(list(alike))) for percent, alike in groupby(percents)]
    return "/".join(percent if count == 1 else f"{count}×{percent}" for percent, count in runs)


def _levels(spec: AbstractionSpec) -> int:
    if spec.replicates < 2:
        raise LeadlineError(f"an interval over grids needs two or more, not {spec.replicates} (--replicates)")
    if spec.window < 2:
        raise LeadlineError(f"a window must be 2 cells or more wide, not {spec.window} (--window)")
    most = levels_of(spec.size, spec.window)
    wanted = most if spec.levels is None else spec.levels
    if not 1 <= wanted <= most:
        raise LeadlineError(
            f"{spec.size} cells to a side can be abstracted by windows of {spec.window} {most} times, not {wanted}: "
            f"take a --size that is a multiple of {spec.window}^levels, or other --levels"
        )
    if not spec.mixtures or len({len(shares) for shares in spec.mixtures}) != 1:
        raise LeadlineError("mixtures of one number of classes are needed, at least one (--share, --shares)")
    names = [mixture_name(shares) for shares in spec.mixtures]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise LeadlineError(f"the mixture {repeated[0]} is given twice: leave one out (--share, --shares)")
    return wanted


def _simulated(
    spec: AbstractionSpec, number: int, levels: int, progress: ProgressCallback
) -> Float[np.ndarray, "replicates levels_and_first classes"]:
    """Share of every class in every grid at every level."""
    shares = spec.mixtures[number]
    at_once = max(1, CELLS_AT_ONCE // spec.size**2)
    parts = []
    for part, start in enumerate(range(0, spec.replicates, at_once)):
        # A mixture's grids do not depend on which others are simulated beside it.
        stream = numpy_generator_for(spec.seed, f"abstraction {mixture_name(shares)}", part)
        grids = random_grids(shares, (min(at_once, spec.replicates - start), spec.size, spec.size), stream)
        rows = [_shares_of(grids, len(shares))]
        for _ in range(levels):
            grids = abstract(grids, spec.window, stream, ties=spec.ties)
            rows.append(_shares_of(grids, len(shares)))
        parts.append(np.stack(rows, axis=1))
        progress(f"grids of {mixture_name(shares)}", start + len(grids), spec.replicates, f"{levels} levels")
    return np.concatenate(parts)


def _shares_of(grids: np.ndarray, classes: int) -> Float[np.ndarray, "n classes"]:
    return np.stack([(grids == value).mean((-2, -1)) for value in range(classes)], axis=-1)


def _law(
    spec: AbstractionSpec, shares: Sequence[float], levels: int
) -> tuple[Float[np.ndarray, "levels_and_first classes"] | None, str]:
    try:
        return expected_shares(shares, levels, window=spec.window, ties=spec.ties), ""
    except NotMeasurable as error:
        return None, str(error)


def _scores(
    values: Float[np.ndarray, "replicates levels classes"],
    law: Float[np.ndarray, "levels classes"],
    spec: AbstractionSpec,
) -> Float[np.ndarray, "levels classes"]:
    """(mean - law) / its standard error; by the law's variance p (1 - p) / cells where cells are independent, else by
    that of the grids. Not a number where the law leaves fewer than 5 cells of a class to expect in all grids."""
    cells = (spec.size // spec.window ** np.arange(len(law)))[:, None].astype(np.float64) ** 2
    independent = spec.ties in ("random", "keep")
    variance = law * (1 - law) / cells if independent else values.var(0, ddof=1)
    expected = np.minimum(law, 1 - law) * cells * len(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected >= 5, (values.mean(0) - law) / np.sqrt(variance / len(values)), np.nan)


def _over_levels(
    spec: AbstractionSpec, values: Float[np.ndarray, "replicates levels"], group: str, of: dict[str, Any]
) -> list[Measurement]:
    """The mean share at every level, its log-odds, and what each step adds."""
    found = []
    for step in range(values.shape[1]):
        now, params = values[:, step], {**of, "step": step}
        ends = share_interval(now, spec.level)
        for name, scaled, unit in (("share", float, ""), ("share_log_odds", _log_odds, "log-odds")):
            found.append(
                Measurement(
                    name=name,
                    value=scaled(float(now.mean())),
                    lower=scaled(ends[0]),
                    upper=scaled(ends[1]),
                    level=spec.level,
                    method=ends[2],
                    n=len(now),
                    unit=unit,
                    direction="larger: more cells of the class",
                    group=group,
                    params=params,
                )
            )
        if step:
            gain = mean_of(
                "share_difference",
                now - values[:, step - 1],
                level=spec.level,
                group=group,
                direction="larger: the step adds more cells of the class",
                method="Student t over grids",
                **params,
            )
            found.append(gain)
    return found


def _log_odds(share: float) -> float:
    return float(logit(share))


def share_interval(values: Float[np.ndarray, " n"], level: float) -> tuple[float, float, str]:
    """Interval of the mean of shares, one per grid, within (0, 1): Student's on the log-odds (delta method).

    Where all grids are wholly of one class: Wilson's, each grid one trial, whatever hangs together within a grid.
    """
    mean, n = float(values.mean()), len(values)
    error = standard_error(values)
    if mean in (0, 1) or error == 0:
        return (*wilson(round(mean * n), n, level), CERTAIN)
    lower, upper = around(math.log(mean / (1 - mean)), error / (mean * (1 - mean)), n, level)
    return float(expit(lower)), float(expit(upper)), DELTA


def _deviation(worst: float, compared: int, why: str) -> Measurement:
    """The largest |mean - law| in standard errors, and about what chance that has under the law.

    Šidák's, as of so many independent normal comparisons: those of one mixture's levels hang together, which makes the
    chance smaller, and means of rare cells are skewed, which makes it larger. It is no bound.
    """
    name = "largest_deviation_from_law"
    if not compared:
        return Measurement.not_measurable(name, why or "no class with 5 cells or more to expect: raise --replicates")
    chance = 1 - (1 - 2 * float(norm.sf(worst))) ** compared
    return Measurement(
        name=name,
        value=worst,
        unit="standard errors",
        direction="larger: simulation and law differ more",
        n=compared,
        params={"chance of as much, about": chance},
    )


def _shown(spec: AbstractionSpec, shares: Sequence[float], levels: int) -> list[np.ndarray]:
    """One grid and its levels: the upper-left part of a grid becomes the upper-left part of the next level."""
    side, steps = spec.size, levels
    while side > DRAWN_SIDE and steps > 1:
        side, steps = side // spec.window, steps - 1
    stream = numpy_generator_for(spec.seed, f"abstraction shown {mixture_name(shares)}")
    grids = [random_grids(shares, (side, side), stream)]
    for _ in range(steps):
        grids.append(abstract(grids[-1], spec.window, stream, ties=spec.ties))
    return grids


def _law_table(spec: AbstractionSpec) -> Table | None:
    """Of two classes: what one step adds by the law, in points and in log-odds."""
    if len(spec.mixtures[0]) != 2 or spec.ties not in ("random", "keep"):
        return None
    best, most = largest_gain(spec.window)
    rows = []
    for share in sorted({*(shares[0] for shares in spec.mixtures), best}):
        law = expected_shares((share, 1 - share), 1, window=spec.window)
        odds = log_odds(law)[:, 0]
        after = float(law[1, 0])
        # Of a share of 0 or 1 both log-odds are infinite.
        gain = round(float(odds[1] - odds[0]), 10) if np.isfinite(odds).all() else None
        rows.append((share, after, round(100 * (after - share), 10), float(odds[0]), gain))
    return Table(
        name="law",
        title=f"What one step adds by the exact law, windows of {spec.window}×{spec.window}",
        columns=("share", "after one step", "gain in points", "log-odds", "gain in log-odds"),
        rows=tuple(rows),
        note=f"In points the gain of a majority is largest at a share of {best:.4f}: {100 * most:.2f} points.",
    )


def _settings(spec: AbstractionSpec, levels: int) -> dict[str, Any]:
    return {
        **asdict(spec),
        "levels": levels,
        "mixtures": {mixture_name(shares): list(shares) for shares in spec.mixtures},
        "packages": package_versions(),
    }

"""Do the intervals contain the truth as often as they say? Simulated samples and classifiers with known shares.

    python benchmarks/coverage.py [--simulations 2000] [--only METHOD]

At a nominal 95 %, intervals that aim at it must cover 93 to 97 %; those that promise it (exact, simultaneous, valid at
every look) 95 % or more; those that over-cover where the share is near 0, or where runs hardly differ, 93 % or more. A
scenario fails where its coverage lies outside by more than two standard errors of the simulation. Prints a Markdown
table; the exit code is 1 when a scenario fails. What is not measurable has no interval and is left out.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from leadline.audit.anytime import anytime_interval, contains_always
from leadline.audit.confusion import corrected_shares
from leadline.audit.intervals import (
    Interval,
    clopper_pearson,
    corrected_share,
    share_interval,
    simultaneous,
    wilson,
)
from leadline.audit.prediction_powered import prediction_powered
from leadline.audit.replicates import between_runs
from leadline.errors import NotMeasurable
from leadline.rng import numpy_generator_for

AIMED, PROMISED, BOUNDARY = (0.93, 0.97), (0.95, 1.0), (0.93, 1.0)
TROUGH = (0.89, 1.0)
"""Of Wilson's interval where half an image is expected: why small groups get the exact one."""
CHEAP = 10
"""How many times more often what costs microseconds is simulated."""
LOOKS = np.unique(np.geomspace(10, 20_000, 400).astype(np.int64)).astype(np.float64)

Outcome = tuple[bool, float]
Simulate = Callable[[np.random.Generator, int], Sequence[Outcome]]


@dataclass(frozen=True)
class Scenario:
    """simulate: (generator, how often) -> whether the truth was covered, and the interval's width, each time."""

    method: str
    words: str
    band: Interval
    simulate: Simulate
    times: int = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--only", default="", help="methods whose name contains this")
    arguments = parser.parse_args()
    failed = 0
    print("| method | scenario | wanted | coverage | mean width | |\n|---|---|---|---|---|---|")
    started = time.perf_counter()
    for scenario in SCENARIOS:
        if arguments.only not in scenario.method:
            continue
        count = scenario.times * arguments.simulations
        outcomes = scenario.simulate(numpy_generator_for(0, scenario.method + scenario.words), count)
        coverage = float(np.mean([covered for covered, _ in outcomes]))
        error = float(np.sqrt(max(coverage * (1 - coverage), 1 / len(outcomes)) / len(outcomes)))
        (low, high), width = scenario.band, np.mean([width for _, width in outcomes])
        passed = low - 2 * error <= coverage <= high + 2 * error
        failed += not passed
        print(
            f"| {scenario.method} | {scenario.words} | {100 * low:.0f}-{100 * high:.0f} % "
            f"| {100 * coverage:.1f} ± {100 * error:.1f} | {width:.4f} | {'pass' if passed else 'FAIL'} |",
            flush=True,
        )
    print(f"\n{failed} failed; {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


def of_share(
    interval: Callable[[int, int], Interval], share: float, n: int, generator: np.random.Generator, times: int
) -> list[Outcome]:
    """One share of n images."""
    known = cache(interval)
    return [inside(known(int(count), n), share) for count in generator.binomial(n, share, times)]


def of_classes(shares: Sequence[float], n: int, generator: np.random.Generator, times: int) -> list[Outcome]:
    """Several shares of n images: whether all intervals contain theirs; mean width."""
    drawn = [simultaneous(counts.tolist()) for counts in generator.multinomial(n, shares, times)]
    return [together(np.array(intervals).T, shares) for intervals in drawn]


def of_corrected(
    share: float,
    rates: tuple[float, float],
    labelled: tuple[int, int],
    n: int,
    generator: np.random.Generator,
    times: int,
) -> list[Outcome]:
    """Two classes: sensitivity and specificity from `labelled` images of each kind."""
    positive = share * rates[0] + (1 - share) * (1 - rates[1])
    columns = [generator.binomial(n, positive, times)]
    columns += [generator.binomial(count, rate, times) for count, rate in zip(labelled, rates, strict=True)]
    found = (
        corrected_share(count, n, right, labelled[0], spared, labelled[1])
        for count, right, spared in zip(*columns, strict=True)
    )
    return [inside((m.lower, m.upper), share) for m in found if m.lower is not None and m.upper is not None]


def of_confusion(
    shares: Sequence[float],
    accuracy: float,
    abstained: float,
    rows: Sequence[int],
    n: int,
    read: str,
    generator: np.random.Generator,
    times: int,
) -> list[Outcome]:
    """K classes and images of none; errors spread evenly.

    read: "first": the first class among all images; "among": it among images of the first two classes; "joint": all
    shares together.
    """
    truth, num_classes = np.array(shares), len(rows)
    matrix = np.full((num_classes, num_classes), (1 - accuracy - abstained) / (num_classes - 1))
    np.fill_diagonal(matrix, accuracy)
    if abstained:
        matrix = np.column_stack([matrix, np.full(num_classes, abstained)])
    q = truth[:num_classes] @ matrix
    q[-1] += truth[num_classes:].sum()
    outcomes = []
    for index in range(times):
        observed, confusion = generator.multinomial(n, q), generator.multinomial(rows, matrix)
        try:
            found = corrected_shares(observed, confusion, seed=index)
        except NotMeasurable:
            continue
        if read == "joint":
            outcomes.append(together((found.lower, found.upper), np.append(truth, 0)[: num_classes + 1]))
            continue
        part = found.of([[0]]) if read == "first" else found.among([0, 1])
        wanted = truth[0] if read == "first" else truth[0] / truth[:2].sum()
        outcomes.append(inside((part.lower[0], part.upper[0]), wanted))
    return outcomes


def of_human_labels(
    share: float, rates: tuple[float, float], n: int, unlabelled: int, generator: np.random.Generator, times: int
) -> list[Outcome]:
    """A few labels beside many predictions by a classifier with those (unknown) rates."""
    outcomes = []
    for _ in range(times):
        y = generator.random(n + unlabelled) < share
        f = generator.random(n + unlabelled) < np.where(y, rates[0], 1 - rates[1])
        found = prediction_powered(y[:n].astype(np.float64), f[:n].astype(np.float64), f[n:].astype(np.float64))
        outcomes.append(inside((found.lower, found.upper), share))
    return outcomes


def of_looks(share: float, around: float, generator: np.random.Generator, times: int) -> list[Outcome]:
    """Up to 20,000 images, looked at 400 times: whether every interval contains the share; width of the last."""
    steps = np.diff(LOOKS, prepend=0).astype(np.int64)
    counts = generator.binomial(steps, share, (times, len(steps))).cumsum(1).astype(np.float64)
    held = contains_always(counts, LOOKS, share, around=around)
    lower, upper = anytime_interval(counts[0, -1], LOOKS[-1], around=around)
    return [(bool(covered), upper - lower) for covered in held]


def of_runs(
    share: float, between: float, runs: int, n: int, generator: np.random.Generator, times: int
) -> list[Outcome]:
    """Training runs whose shares differ by a normal with that standard deviation."""
    outcomes = []
    for _ in range(times):
        own = np.clip(generator.normal(share, between, runs), 0, 1)
        found = between_runs(generator.binomial(n, own).tolist(), [n] * runs)
        outcomes.append(inside((found.lower, found.upper), share))
    return outcomes


def inside(interval: Interval, share: float) -> Outcome:
    return bool(interval[0] <= share <= interval[1]), float(interval[1] - interval[0])


def together(bounds: Sequence[np.ndarray] | np.ndarray, shares: Sequence[float] | np.ndarray) -> Outcome:
    lower, upper = bounds
    return bool(((lower <= shares) & (shares <= upper)).all()), float((upper - lower).mean())


def exact_if_small(count: int, n: int) -> Interval:
    return share_interval(count, n)[0]


DIGITS = (0.09, 0.81, 0.03, *(0.0,) * 7, 0.07)
SCENARIOS = [
    *(
        Scenario(name, f"share {share}, n {n:,}", band, partial(of_share, interval, share, n), CHEAP)
        for name, interval, band, settings in (
            ("Wilson", wilson, AIMED, ((0.4168, 10_000), (0.1, 1000), (0.02, 1000), (0.0086, 1000), (0.01, 200))),
            ("Clopper-Pearson", clopper_pearson, PROMISED, ((0.1, 1000), (0.0086, 1000), (0.01, 200))),
            ("exact if below 10, else Wilson", exact_if_small, BOUNDARY, ((0.02, 1000), (0.0086, 1000), (0.01, 200))),
        )
        for share, n in settings
    ),
    *(
        Scenario(name, "share 0.00054, n 1,000", band, partial(of_share, interval, 0.00054, 1000), CHEAP)
        for name, interval, band in (
            ("Wilson", wilson, TROUGH),
            ("exact if below 10, else Wilson", exact_if_small, BOUNDARY),
        )
    ),
    *(
        Scenario(
            "simultaneous",
            f"{len(shares)} shares from {min(shares)}, n {n:,}",
            PROMISED,
            partial(of_classes, shares, n),
        )
        for shares, n in (((0.6, 0.3, 0.08, 0.02), 200), ((0.41, 0.575, 0.0086, 0.0064), 1000), ((0.1,) * 10, 1000))
    ),
    *(
        Scenario(
            "corrected, two classes",
            f"share {share}, Se {rates[0]}, Sp {rates[1]}, labelled {labelled[0]} + {labelled[1]}, n {n:,}",
            band,
            partial(of_corrected, share, rates, labelled, n),
        )
        for share, rates, labelled, n, band in (
            (0.4168, (0.9, 0.99), (100, 1000), 10_000, AIMED),
            (0.4168, (0.9, 0.99), (1000, 1000), 10_000, AIMED),
            (0.2, (0.95, 0.95), (50, 50), 1000, AIMED),
            (0.2, (0.7, 0.8), (200, 200), 1000, AIMED),
            (0.1, (0.8, 0.95), (200, 200), 1000, AIMED),
            (0.05, (0.95, 0.95), (1000, 1000), 1000, AIMED),
            (0.0086, (0.9, 0.99), (81, 3000), 10_000, AIMED),
            (0.01, (0.9, 0.99), (50, 50), 1000, BOUNDARY),
        )
    ),
    *(
        Scenario(
            "confusion matrix",
            f"K {len(rows)}, {words}, accuracy {accuracy}, unclassified {abstained}, labelled {rows[0]} to {rows[-1]} "
            f"a class, n {n:,}: {read}",
            PROMISED if read == "joint" else AIMED,
            partial(of_confusion, shares, accuracy, abstained, rows, n, read),
        )
        for words, shares, accuracy, abstained, rows, n, read in (
            ("10 % and none 2 %", (0.1, 0.88, 0.02), 0.92, 0.03, (50, 200), 1000, "among"),
            ("10 % and none 2 %", (0.1, 0.88, 0.02), 0.92, 0.03, (50, 200), 1000, "joint"),
            ("5 %", (0.05, 0.95, 0.0), 0.85, 0.05, (20, 20), 1000, "among"),
            ("1 %", (0.01, 0.95, 0.04), 0.97, 0.01, (500, 500), 5000, "among"),
            ("5 %", (0.05, 0.3, 0.65), 0.9, 0.0, (50, 100, 200), 1000, "first"),
            ("5 %", (0.05, 0.3, 0.65), 0.9, 0.0, (50, 100, 200), 1000, "joint"),
            ("2 %", (0.02, 0.08, 0.2, 0.3, 0.35, 0.05), 0.9, 0.04, (100,) * 5, 2000, "first"),
            ("1 %", (0.01, 0.09, 0.2, 0.3, 0.36, 0.04), 0.97, 0.01, (50,) * 5, 200, "first"),
            ("10 % of two of ten", DIGITS, 0.96, 0.02, (100,) * 10, 1000, "among"),
        )
    ),
    *(
        Scenario(
            "prediction-powered",
            f"share {share}, Se {rates[0]}, Sp {rates[1]}, labels {n}, unlabelled {unlabelled:,}",
            band,
            partial(of_human_labels, share, rates, n, unlabelled),
        )
        for share, rates, n, unlabelled, band in (
            (0.3, (0.9, 0.95), 200, 2000, AIMED),
            (0.1, (0.9, 0.95), 200, 10_000, AIMED),
            (0.3, (0.5, 0.5), 100, 2000, AIMED),
            (0.02, (0.9, 0.99), 200, 10_000, BOUNDARY),
        )
    ),
    *(
        Scenario("valid at every look", f"share {share}, expected {around}", PROMISED, partial(of_looks, share, around))
        for share, around in ((0.4168, 0.4168), (0.05, 0.1), (0.0086, 0.0086))
    ),
    *(
        Scenario(
            "between runs",
            f"share {share}, sd between runs {between}, {runs} runs of {n:,}",
            band,
            partial(of_runs, share, between, runs, n),
        )
        for share, between, runs, n, band in (
            (0.3, 0.05, 3, 10_000, AIMED),
            # Runs that differ little more than by sampling: the hold at a factor of 1 over-covers, by design.
            (0.3, 0.03, 3, 1000, BOUNDARY),
            (0.3, 0.03, 8, 1000, AIMED),
            (0.3, 0.0, 3, 1000, BOUNDARY),
        )
    ),
]


if __name__ == "__main__":
    sys.exit(main())

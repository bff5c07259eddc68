"""The labels of two sets of images of the same seeds, pair by pair: which changed, and is it more than chance?"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2
from statsmodels.stats.contingency_tables import SquareTable

from leadline.audit.intervals import Interval, clopper_pearson, wilson
from leadline.audit.judged import UNCLASSIFIED
from leadline.audit.labels import UNSURE
from leadline.audit.paired_tests import holm, mcnemar, newcombe_paired
from leadline.errors import LeadlineError, NotMeasurable, did_you_mean
from leadline.records import ImageLabels, Measurement, Table

METHOD = (
    "exact McNemar test; interval of the paired difference: Newcombe's method 10 and the exact conditional one joined"
)
Labels = ImageLabels | Sequence[str | int] | Shaped[np.ndarray, " n"]
"""Of each image a class name or number, UNCLASSIFIED (-1) being "unclassified"; an ImageLabels also tells its id."""


@dataclass(frozen=True, kw_only=True)
class PairedLabels:
    """Two labels of each image: those of the first set and of the second, in the first set's order.

    ids: as of the labels, or the images' numbers. alone: how many images only the first and only the second set has.
    """

    ids: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]
    alone: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def seen(self) -> list[str]:
        """Every label that an image of either set has, by name, "unclassified" last."""
        return sorted({*self.a, *self.b}, key=lambda name: (name == UNSURE, name))

    def moved(self, origins: Sequence[str], targets: Sequence[str]) -> list[int]:
        """Places of the pairs that are of one of the origins in the first set and of a target in the second."""
        return [place for place, (a, b) in enumerate(zip(self.a, self.b, strict=True)) if a in origins and b in targets]


def pair_up(labels_a: Labels, labels_b: Labels) -> PairedLabels:
    """The labels of the same images: by their ids where both sets have those, else place by place.

    Raises LeadlineError where one set alone has ids, an id stands twice or the sets without ids are not of one length,
    and NotMeasurable where no image is in both.
    """
    if isinstance(labels_a, ImageLabels) and isinstance(labels_b, ImageLabels):
        found = _by_id(labels_a, labels_b)
    elif isinstance(labels_a, ImageLabels) or isinstance(labels_b, ImageLabels):
        raise LeadlineError("one set of labels has ids and the other has none: give both as ImageLabels, or neither")
    else:
        first, second = ([_name(label) for label in labels] for labels in (labels_a, labels_b))
        if len(first) != len(second):
            raise LeadlineError(
                f"{len(first)} labels of the first set, {len(second)} of the second: pairs need one of each image in "
                "both, or ids to pair them by (ImageLabels)"
            )
        found = PairedLabels(ids=tuple(map(str, range(len(first)))), a=tuple(first), b=tuple(second))
    if not found.ids:
        raise NotMeasurable(
            "no image is in both sets, so nothing can be paired: draw both from the same seed (--set sample.seed)"
        )
    return found


def paired_flips(
    labels_a: Labels,
    labels_b: Labels,
    *,
    group: str | int | None = None,
    classes: Sequence[str] = (),
    level: float = 0.95,
) -> Measurement:
    """McNemar (1947), exact, of one class in two sets of the same seeds; interval of the paired difference.

    The value is the class's share in the second set less that in the first, over the images that both have, in
    [-1, 1]; "unclassified" is a label like all others. group: the class; None: of two classes the one that is rarer in
    the first set. classes: names that group may have although no image has that label. level: of the interval, in
    (0, 1); the interval is `paired_interval`, which never excludes 0 where the test does not.

    params: p (exact, two-sided, of as uneven a split of the pairs that differ), gained and lost (pairs of the class in
    the second set alone, and in the first alone), both, neither, share_a, share_b, and unpaired (images that one set
    alone has), where there are any. n counts pairs. Raises LeadlineError as `pair_up`, on a group that is no class,
    and without a group where there are more than two classes.
    """
    pairs = pair_up(labels_a, labels_b)
    name = _class_of(pairs, group, classes)
    first, second = (np.array([label == name for label in labels]) for labels in (pairs.a, pairs.b))
    n, both = len(pairs), int((first & second).sum())
    in_a, in_b = int(first.sum()), int(second.sum())
    lower, upper = paired_interval(both, in_b - both, in_a - both, n, level)
    return Measurement(
        name="paired_flips",
        value=(in_b - in_a) / n,
        lower=lower,
        upper=upper,
        level=level,
        method=METHOD,
        n=n,
        unit="share of the pairs",
        direction="above 0: more often in the second set than in the first",
        group=name,
        params={
            "p": mcnemar(first, second, level).p,
            "gained": in_b - both,
            "lost": in_a - both,
            "both": both,
            "neither": n - in_a - in_b + both,
            "share_a": in_a / n,
            "share_b": in_b / n,
            **({"unpaired": sum(pairs.alone)} if any(pairs.alone) else {}),
        },
    )


def paired_interval(both: int, gained: int, lost: int, n: int, level: float) -> Interval:
    """Newcombe's (1998) method 10 joined with the exact conditional interval: of q - p of paired shares, in [-1, 1].

    Arguments as `newcombe_paired`. The conditional one is (2π - 1)(gained + lost)/n, π in Clopper and Pearson's
    interval of gained of gained + lost: it has 0 within just where McNemar's exact test finds nothing at 1 - level.
    Alone it would take the number of changed pairs as known; joined, coverage is at least that of Newcombe's.
    """
    lower, upper = newcombe_paired(both, gained, lost, n, level)
    changed = gained + lost
    if changed == 0:
        return lower, upper
    low, high = ((2 * end - 1) * changed / n for end in clopper_pearson(gained, changed, level))
    return min(lower, low), max(upper, high)


def as_family(found: Sequence[Measurement], sets: Sequence[Hashable]) -> list[Measurement]:
    """Holm's (1979) p over several `paired_flips`, and their intervals at Bonferroni's level, so that all hold at once.

    sets: of each, what identifies its two sets of images. One class in the same two sets, or the one class and the only
    other, is one test however often it is there. params gain p_holm and tests, how many tests there are.
    """
    stands_for: list[int] = []
    for place, m in enumerate(found):
        alike = (i for i in range(place) if sets[i] == sets[place] and _is_same_test(found[i], m))
        stands_for.append(next(alike, place))
    distinct = sorted(set(stands_for))
    adjusted = dict(zip(distinct, holm([found[place].params["p"] for place in distinct]), strict=True))
    return [_in_family(m, adjusted[place], len(distinct)) for m, place in zip(found, stands_for, strict=True)]


def _is_same_test(one: Measurement, other: Measurement) -> bool:
    """Of the same two sets: the same class, or two classes that are all images of both sets between them."""
    mirrored = {"gained": "lost", "lost": "gained", "both": "neither", "neither": "both"}
    return one.group == other.group or all(one.params[a] == other.params[b] for a, b in mirrored.items())


def _in_family(m: Measurement, p_holm: float, tests: int) -> Measurement:
    p = m.params
    update: dict[str, Any] = {"params": {**p, "p_holm": p_holm, "tests": tests}}
    if tests > 1 and m.level is not None and m.n is not None:
        level = 1 - (1 - m.level) / tests
        lower, upper = paired_interval(p["both"], p["gained"], p["lost"], m.n, level)
        together = f", simultaneous for the {tests} tests (Bonferroni)"
        update |= {"lower": lower, "upper": upper, "method": f"{m.method}{together}"}
    return m.model_copy(update=update)


def flip_rate(labels_a: Labels, labels_b: Labels, *, level: float = 0.95) -> Measurement:
    """Share of the pairs whose two labels are not the same, whichever way they go, with Wilson's interval."""
    pairs = pair_up(labels_a, labels_b)
    changed = sum(a != b for a, b in zip(pairs.a, pairs.b, strict=True))
    lower, upper = wilson(changed, len(pairs), level)
    return Measurement(
        name="flip_rate",
        value=changed / len(pairs),
        lower=lower,
        upper=upper,
        level=level,
        method="Wilson",
        n=len(pairs),
        unit="share of the pairs",
        direction="larger: the two sets agree on fewer images",
        params={"changed": changed},
    )


def marginal_homogeneity(labels_a: Labels, labels_b: Labels) -> Measurement:
    """Stuart (1955) and Maxwell (1970): χ² = d'S⁻¹d, d the differences of all class counts but one, S their covariance.

    Of no difference between the two sets in the share of any label; of two labels it is McNemar's test without
    correction. S is regular where pairs lead from every label to every other; where they do not, the χ² of each
    such group of labels are summed, and so are their degrees of freedom. params: p, degrees, changed (pairs). The
    distribution is that of many changed pairs; for few, read the exact tests of the single classes.
    """
    pairs = pair_up(labels_a, labels_b)
    counts = _counts(pairs, pairs.seen)
    changed = int(counts.sum() - np.trace(counts))
    number, part = connected_components(counts - np.diag(np.diag(counts)), directed=False)
    statistic, degrees = 0.0, 0
    for labels in (np.flatnonzero(part == index) for index in range(number)):
        tested = SquareTable(counts[np.ix_(labels, labels)], shift_zeros=False).homogeneity()
        statistic += float(tested.statistic)
        degrees += int(tested.df)
    return Measurement(
        name="marginal_homogeneity",
        value=statistic,
        method="Stuart-Maxwell test, for many changed pairs",
        n=len(pairs),
        unit="chi-squared",
        direction="larger: the two sets differ more in the shares of their labels",
        params={"p": float(chi2.sf(statistic, degrees)) if degrees else 1.0, "degrees": degrees, "changed": changed},
    )


def flip_matrix(
    labels_a: Labels, labels_b: Labels, names: Sequence[str], sets: tuple[str, str] = ("first set", "second set")
) -> Table:
    """Pairs by their label in the first set (rows) and in the second (columns).

    names: the labels that come first, in their order; any others that were seen follow. sets: what the two are called.
    """
    pairs = pair_up(labels_a, labels_b)
    order = list(dict.fromkeys([*names, *pairs.seen]))
    rows = [(name, *row) for name, row in zip(order, _counts(pairs, order).tolist(), strict=True)]
    return Table(
        name="flip_matrix",
        title="labels of the same seeds",
        columns=(f"{sets[0]} \\ {sets[1]}", *order),
        rows=tuple(rows),
        note=f"Rows: the label in {sets[0]}; columns: in {sets[1]}.",
    )


def _by_id(labels_a: ImageLabels, labels_b: ImageLabels) -> PairedLabels:
    of: list[dict[str, str]] = []
    for labels in (labels_a, labels_b):
        of.append(dict(zip(labels.ids, labels.labels, strict=True)))
        if len(of[-1]) < len(labels.ids):
            twice, times = Counter(labels.ids).most_common(1)[0]
            raise LeadlineError(f"the id {twice!r} stands {times} times in one set: pairs need ids that are unique")
    common = [name for name in labels_a.ids if name in of[1]]
    return PairedLabels(
        ids=tuple(common),
        a=tuple(of[0][name] for name in common),
        b=tuple(of[1][name] for name in common),
        alone=(len(of[0]) - len(common), len(of[1]) - len(common)),
    )


def _name(label: str | int | np.integer) -> str:
    return UNSURE if not isinstance(label, str) and label == UNCLASSIFIED else str(label)


def _class_of(pairs: PairedLabels, group: str | int | None, classes: Sequence[str]) -> str:
    if group is not None:
        name, known = _name(group), {*classes, *pairs.seen}
        if name not in known:
            raise LeadlineError(f"no image is of class {name!r} (--group): {did_you_mean(name, known)}")
        return name
    named = [label for label in pairs.seen if label != UNSURE]
    if len(named) > 2:
        raise LeadlineError(
            f"the images are of {len(named)} classes ({', '.join(named)}): say which one's share to compare (--group)"
        )
    return min(named or [UNSURE], key=pairs.a.count)


def _counts(pairs: PairedLabels, order: Sequence[str]) -> Int[np.ndarray, "k k"]:
    place = {name: index for index, name in enumerate(order)}
    counts = np.zeros((len(order), len(order)), np.int64)
    np.add.at(counts, ([place[name] for name in pairs.a], [place[name] for name in pairs.b]), 1)
    return counts

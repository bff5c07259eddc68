"""Class shares corrected by a confusion matrix, with the uncertainty of both; what a classifier can support.

The model: q = Mᵀp, with q [J] the shares of the labels among the images, p [K + 1] the shares of the K true classes and
of images of none of them, and M's row k the probabilities of the J labels for images of class k. The labels are the K
classes and, where the classifier may abstain, "unclassified". An image of no class is taken to be always left
unclassified: so M is square, nothing is forced into a class, and p follows from q by one linear system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from leadline.audit.intervals import corrected_share, joint_level
from leadline.errors import LeadlineError, NotMeasurable
from leadline.rng import numpy_generator_for

REPLICATES = 2000


@dataclass(frozen=True)
class Shares:
    """values, lower, upper: [m] in [0, 1]; the m intervals hold together at the level that was asked for."""

    values: Float[np.ndarray, " m"]
    lower: Float[np.ndarray, " m"]
    upper: Float[np.ndarray, " m"]


@dataclass(frozen=True, kw_only=True)
class CorrectedShares(Shares):
    """Shares of the K true classes and, last, of images of no class, all of them of all n images.

    level: of the intervals. method: how they came about, in words. condition: the condition number of the inverted
    matrix; errors grow by up to that much. projected: whether the matrix alone gave a share below 0 or above 1.
    unclassified, unclassified_expected: the observed share of unclassified images, and the one that the corrected
    shares of the K classes imply. replicates: [b, K + 1], the shares of each bootstrap draw, not projected; none for
    two classes without unclassified images, whose interval has a closed form.
    """

    level: float
    method: str
    replicates: Float[np.ndarray, "b m"]
    condition: float
    projected: bool
    unclassified: float
    unclassified_expected: float

    def of(self, groups: Sequence[Sequence[int]]) -> Shares:
        """Shares, of all images, of groups of classes: each the sum of its members' (K stands for "no class").

        groups: disjoint, of one or more class numbers each. Their intervals hold together at `level` (Bonferroni).
        """
        numbers = [number for group in groups for number in group]
        m = len(self.values)
        if not groups or not all(groups) or len({*numbers}) < len(numbers) or not {*numbers} <= {*range(m)}:
            raise LeadlineError(f"groups must be disjoint and of class numbers from 0 to {m - 1}, not {groups}")
        if not len(self.replicates):
            both = np.array([{0, 1} <= {*group} for group in groups])
            return Shares(*(np.where(both, 1.0, [of[list(group)].sum() for group in groups]) for of in self._bounds()))
        sums = np.stack([self.replicates[:, list(group)].sum(1) for group in groups], 1)
        values = np.array([self.values[list(group)].sum() for group in groups])
        complementary = len(groups) == 2 and len(numbers) == m
        return _percentile(values, sums, 1 - (1 - self.level) / (1 if complementary else len(groups)))

    def among(self, classes: Sequence[int]) -> Shares:
        """Shares among the images of `classes` alone, p_k / Σ p: what can be compared with the training shares.

        classes: two or more class numbers below K, each once. Raises NotMeasurable where too few images are of them.
        """
        chosen = list(classes)
        if len(chosen) < 2 or len({*chosen}) < len(chosen) or not {*chosen} <= {*range(len(self.values) - 1)}:
            raise LeadlineError(
                f"shares among classes need two or more class numbers from 0 to {len(self.values) - 2}, not {chosen}"
            )
        if not len(self.replicates):
            return Shares(*(of[chosen] for of in self._bounds()))
        total, totals = float(self.values[chosen].sum()), self.replicates[:, chosen].sum(1)
        if total <= 0 or np.quantile(totals, (1 - self.level) / 2) <= 0:
            raise NotMeasurable(
                f"corrected for the classifier's error, the images of these classes make up {total:.3f} of all, with "
                "an interval that reaches 0: too few to say what they are; look at the samples"
            )
        ratios = self.replicates[:, chosen] / totals[:, None]
        return _percentile(self.values[chosen] / total, ratios, joint_level(self.level, len(chosen)))

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.values, self.lower, self.upper


@dataclass(frozen=True)
class ClassifierSupport:
    """How far a classifier can tell one class, at given shares of all classes.

    share: of the class; true_positive_share, false_positive_share: of all images, those of the class and those of the
    others that it labels as the class. sensitivity, specificity: 0 to 1, the second over the mix of the other classes
    (None where there are no others). labelled: images of the class that it was judged on. floor: half the width that
    the corrected share's interval keeps with infinitely many samples.
    """

    group: str
    share: float
    true_positive_share: float
    false_positive_share: float
    sensitivity: float
    specificity: float | None
    labelled: int
    floor: float


def corrected_shares(
    observed: Int[np.ndarray, " labels"],
    confusion: Int[np.ndarray, "K J"],
    level: float = 0.95,
    seed: int = 0,
    names: Sequence[str] | None = None,
    num_replicates: int = REPLICATES,
) -> CorrectedShares:
    """Rogan and Gladen (1978) for K classes: p = M⁻ᵀq, projected on the simplex; both sets are bootstrapped.

    observed: images per label, K classes and, where J = K + 1, last the unclassified. confusion: labelled images that
    the classifier never saw, by true class (rows) and label. names: of the classes, for error messages.

    The intervals are percentiles over Bayesian bootstrap draws (Rubin, 1981) of both sets: q and every row of M from
    Dirichlet(counts + 1/(J - 1)). So each row counts one more image, spread over its J - 1 wrong labels, as Lang and
    Reiczigel's does for two classes: a row of 14 images without error is not taken to be without error. Each draw is
    inverted but not projected, as a bootstrap of an estimate at its boundary is inconsistent (Andrews, 2000); only the
    ends are held in [0, 1]. All K + 1 (K where none can be unclassified) hold together. Two classes without
    unclassified images get `corrected_share`.

    Raises NotMeasurable, with the numbers, where a class has no labelled images or where the classes cannot be told
    apart: the matrix's determinant, for two classes Se + Sp - 1, is not clearly above 0. LeadlineError on other input.
    """
    num_classes, num_labels = confusion.shape
    words = _names(names, num_classes)
    _check(confusion, level, words)
    if len(observed) != num_labels or (observed < 0).any() or observed.sum() == 0:
        raise LeadlineError(
            f"observed must be counts of images, 0 or more, of the {num_labels} labels of the confusion matrix, and at "
            f"least one image must have been classified: {observed.tolist()} given"
        )
    if num_replicates < 100:
        raise LeadlineError(f"num_replicates must be 100 or more, not {num_replicates}: percentiles need some draws")
    n, rows = int(observed.sum()), confusion.sum(1)
    q, matrix = observed / n, confusion / rows[:, None]
    generator = numpy_generator_for(seed, "confusion bootstrap")
    drawn = _dirichlet(generator, confusion, num_replicates)
    _check_apart(matrix, drawn, confusion, level, words)
    raw = _inverted(matrix, q)
    values = on_simplex(raw)
    classes = values[:num_classes]
    abstains = matrix[:, num_classes] if num_labels > num_classes else np.zeros(num_classes)
    common: dict[str, Any] = {
        "values": values,
        "level": level,
        "condition": float(np.linalg.cond(matrix[:, :num_classes])),
        "projected": bool(np.abs(values - raw).max() > 1e-9),
        "unclassified": float(q[num_classes:].sum()),
        "unclassified_expected": float(classes @ abstains / classes.sum()) if classes.sum() > 0 else 0.0,
    }
    if num_labels == num_classes == 2:
        return _of_two(observed, confusion, common)
    shares = _inverted(drawn, _dirichlet(generator, observed, num_replicates))
    bounds = _percentile(values, shares, joint_level(level, num_labels))
    method = f"confusion matrix inverted; percentiles of {num_replicates:,} Bayesian bootstrap draws of both sets"
    return CorrectedShares(lower=bounds.lower, upper=bounds.upper, replicates=shares, method=method, **common)


def supports(
    confusion: Int[np.ndarray, "K J"],
    shares: Float[np.ndarray, " classes"],
    level: float = 0.95,
    names: Sequence[str] | None = None,
) -> list[ClassifierSupport]:
    """What a classifier with that confusion matrix can tell of each class where the classes have those shares.

    confusion: as for `corrected_shares`; shares: of the K classes, summing to 1. The false positives of class k are
    Σ_{j≠k} p_j·M[j, k]. The floor is z·√(Σ_j p_j²·v_j), v_j the variance that the finite row j brings into the share
    among the classes of `shares` (linearised, rows smoothed as for `corrected_shares`). Errors as there.
    """
    num_classes = len(confusion)
    words = _names(names, num_classes)
    _check(confusion, level, words)
    if shares.shape != (num_classes,) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise LeadlineError(f"supports needs the shares of {num_classes} classes that sum to 1, not {shares.tolist()}")
    rows = confusion.sum(1)
    matrix = confusion[:, :num_classes] / rows[:, None]
    weights = smoothed(confusion)
    smooth = weights / weights.sum(1, keepdims=True)
    if np.linalg.det(smooth[:, :num_classes]) <= 0:
        raise _alike(confusion, words, "its determinant, smoothed, is at most 0")
    contrasts = np.linalg.inv(smooth[:, :num_classes].T)
    contrasts = contrasts - shares[:, None] * contrasts[shares > 0].sum(0)
    mean = contrasts @ smooth[:, :num_classes].T
    variance = np.square(contrasts) @ smooth[:, :num_classes].T - np.square(mean)
    floors = norm.ppf((1 + level) / 2) * np.sqrt(variance @ (np.square(shares) / (weights.sum(1) + 1)))
    right = shares * matrix.diagonal()
    wrong = shares @ matrix - right
    return [
        ClassifierSupport(
            group=words[k],
            share=float(shares[k]),
            true_positive_share=float(right[k]),
            false_positive_share=float(wrong[k]),
            sensitivity=float(matrix[k, k]),
            specificity=1 - float(wrong[k] / (1 - shares[k])) if shares[k] < 1 else None,
            labelled=int(rows[k]),
            floor=float(floors[k]),
        )
        for k in range(num_classes)
    ]


def on_simplex(values: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Duchi et al. (2008), Algorithm 1: the nearest point, in Euclidean distance, with values >= 0 that sum to 1."""
    descending = np.sort(values)[::-1]
    thresholds = (np.cumsum(descending) - 1) / np.arange(1, len(values) + 1)
    positive = np.flatnonzero(descending > thresholds)[-1]
    projected: np.ndarray = np.maximum(values - thresholds[positive], 0.0)
    return projected


def _inverted(matrix: Float[np.ndarray, "*b K J"], q: Float[np.ndarray, "*b J"]) -> Float[np.ndarray, "*b m"]:
    num_classes = matrix.shape[-2]
    square = np.swapaxes(matrix[..., :num_classes], -1, -2)
    classes = np.linalg.solve(square, q[..., :num_classes, None])[..., 0]
    return np.concatenate([classes, 1 - classes.sum(-1, keepdims=True)], -1)


def smoothed(counts: Int[np.ndarray, "*rows J"]) -> Float[np.ndarray, "*rows J"]:
    """Counts with one more image for the J - 1 wrong labels of each row together."""
    weights: np.ndarray = counts + 1 / (counts.shape[-1] - 1)
    return weights


def _dirichlet(generator: np.random.Generator, counts: np.ndarray, num_draws: int) -> np.ndarray:
    draws: np.ndarray = generator.standard_gamma(smoothed(counts), (num_draws, *counts.shape))
    draws /= draws.sum(-1, keepdims=True)
    return draws


def _percentile(values: Float[np.ndarray, " m"], draws: Float[np.ndarray, "b m"], level: float) -> Shares:
    lower, upper = np.clip(np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0), 0, 1)
    # The value is projected, the draws are not: an interval never leaves out its own value for that.
    return Shares(values, np.minimum(lower, values), np.maximum(upper, values))


def _of_two(observed: np.ndarray, confusion: np.ndarray, common: dict[str, Any]) -> CorrectedShares:
    (found, missed), (wrong, spared) = confusion.tolist()
    first = corrected_share(observed[0], observed.sum(), found, found + missed, spared, wrong + spared, common["level"])
    if first.lower is None or first.upper is None:
        raise NotMeasurable(first.reason or "")
    return CorrectedShares(
        lower=np.array([first.lower, 1 - first.upper, 0.0]),
        upper=np.array([first.upper, 1 - first.lower, 0.0]),
        replicates=np.empty((0, 3)),
        method=first.method or "",
        **common,
    )


def _names(names: Sequence[str] | None, num_classes: int) -> list[str]:
    words = [f"class {k}" for k in range(num_classes)] if names is None else list(names)
    if len(words) != num_classes:
        raise LeadlineError(f"the confusion matrix has {num_classes} classes, but {len(words)} names were given")
    return words


def _check(confusion: np.ndarray, level: float, names: Sequence[str]) -> None:
    num_classes, num_labels = confusion.shape
    if num_classes < 2 or num_labels not in (num_classes, num_classes + 1) or (confusion < 0).any():
        raise LeadlineError(
            "a confusion matrix has counts of images, 0 or more, in K rows, 2 or more, and K columns or, with "
            f"unclassified images, K + 1: a matrix of {num_classes} x {num_labels} was given"
        )
    if not 0 < level < 1:
        raise LeadlineError(f"level must lie between 0 and 1 (audit.level, 0.95 by default), not {level}")
    empty = [name for name, images in zip(names, confusion.sum(1), strict=True) if images == 0]
    if empty:
        raise NotMeasurable(
            f"the classifier was judged on no labelled image of {', '.join(map(repr, empty))}, so how it labels them "
            "is unknown: add some of each class that it knows (--set data.held_out, --set data.labeler)"
        )


def _check_apart(
    matrix: np.ndarray, drawn: np.ndarray, confusion: np.ndarray, level: float, names: Sequence[str]
) -> None:
    """Raises NotMeasurable unless the determinant of the K x K part is above 0, in all draws but a tail, too."""
    num_classes = len(names)
    determinant = float(np.linalg.det(matrix[:, :num_classes]))
    reversed_share = float((np.linalg.det(drawn[:, :, :num_classes]) <= 0).mean())
    if determinant <= 0 or reversed_share > (1 - level) / 2:
        raise _alike(
            confusion,
            names,
            f"its determinant is {determinant:.3g}, and at most 0 in {reversed_share:.0%} of the bootstrap draws",
        )


def _alike(confusion: np.ndarray, names: Sequence[str], why: str) -> NotMeasurable:
    """The error for a matrix that is nearly singular, naming the two classes that are told apart worst."""
    matrix = confusion[:, : len(names)] / confusion.sum(1, keepdims=True)
    # The left singular vector of the smallest singular value says which rows cancel each other.
    weights = np.abs(np.linalg.svd(matrix)[0][:, -1])
    first, second = (int(k) for k in np.sort(np.argsort(-weights)[:2]))
    seen = " and ".join(f"{confusion[k].tolist()} of {names[k]!r}" for k in (first, second))
    return NotMeasurable(
        f"the classifier does not clearly tell {names[first]!r} from {names[second]!r}: of their labelled images it "
        f"gave the labels to {seen}, and of the confusion matrix {why}. Their shares cannot be corrected: take a "
        "better classifier, or judge it on more labelled images"
    )

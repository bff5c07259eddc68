"""Corrected shares of classes that hold at every look: all that fit the labels and the labeler's errors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linprog

from leadline.audit.anytime import METHOD, anytime_interval, centre
from leadline.audit.confusion import CorrectedShares, Shares, corrected_shares
from leadline.audit.intervals import clopper_pearson, joint_level
from leadline.errors import NotMeasurable


@dataclass(frozen=True, kw_only=True)
class CorrectedSequence(CorrectedShares):
    """`CorrectedShares` with the bounds of a region: p >= 0 of the K classes and of no class, Σ p = 1 and
    limits[0] · p <= limits[1]. Those of whatever groups hold together, and at every look. values: as there."""

    limits: tuple[Float[np.ndarray, "rows m"], Float[np.ndarray, " rows"]]

    def of(self, groups: Sequence[Sequence[int]]) -> Shares:
        """Shares of all images; groups as of `CorrectedShares.of`. The bounds are the region's least and largest."""
        return self._bounded([np.isin(np.arange(len(self.values)), group).astype(np.float64) for group in groups], None)

    def among(self, classes: Sequence[int]) -> Shares:
        """Shares among the images of `classes` alone. The bounds of the ratios are linear programs too (Charnes and
        Cooper 1962). Raises NotMeasurable where no image is of them."""
        chosen = np.isin(np.arange(len(self.values)), classes).astype(np.float64)
        if self.values @ chosen <= 0:
            raise NotMeasurable(
                "corrected for the classifier's error, no image is of these classes: look at the samples"
            )
        return self._bounded([np.eye(len(self.values))[index] for index in classes], chosen)

    def _bounded(self, wanted: Sequence[Float[np.ndarray, " m"]], whole: Float[np.ndarray, " m"] | None) -> Shares:
        total = 1.0 if whole is None else float(self.values @ whole)
        values = np.array([self.values @ one / total for one in wanted])
        lower = np.array([_least(one, *self.limits, whole) for one in wanted])
        upper = np.array([-_least(-one, *self.limits, whole) for one in wanted])
        # The value is that of rates taken as exact, projected: an interval never leaves out its own value for that.
        return Shares(values, np.clip(np.minimum(lower, values), 0, 1), np.clip(np.maximum(upper, values), 0, 1))


def corrected_sequence(
    observed: Int[np.ndarray, " J"],
    confusion: Int[np.ndarray, "K J"],
    training_shares: Float[np.ndarray, " K"],
    level: float = 0.95,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> CorrectedSequence:
    """All shares p with q = Mᵀp (see `corrected_shares`), q and M anywhere in a joint region that holds at every look.

    By Bonferroni, with alpha = 1 - level: the confidence sequence of each label's share at 1 - alpha/2 over the labels,
    and Clopper-Pearson of each cell of the confusion matrix at 1 - alpha/2 over the cells. The true shares solve
    Mᵀp = q, so that for each label j Σ p_k · lower M_kj <= upper q_j and Σ p_k · upper M_kj >= lower q_j; the bounds
    are linear programs over these, for two classes those of `anytime_corrected`. Conservative: all cells are rarely off
    at once. observed, confusion, names, values and errors: as of `corrected_shares`; training_shares: of the K classes,
    summing to 1, known before the first look. Not measurable also where no shares fit: then the labeler does not treat
    these images as it did the labelled ones.
    """
    found = corrected_shares(observed, confusion, level, seed, names)
    num_classes, num_labels = confusion.shape
    rows, n, half = confusion.sum(1), int(observed.sum()), (1 - level) / 2
    # Where the sequence is narrowest: at what this labeler would make of the training data.
    around = training_shares @ (confusion / rows[:, None])
    of_label = joint_level(1 - half, num_labels)
    of_cell = 1 - half / (num_classes * (num_labels if num_labels > 2 else 1))
    labels = np.array(
        [anytime_interval(int(c), n, of_label, around=centre(float(a))) for c, a in zip(observed, around, strict=True)]
    )
    cells = np.array(
        [[clopper_pearson(c, of, of_cell) for c in row] for row, of in zip(confusion.tolist(), rows, strict=True)]
    )
    # An image of no class is always left unclassified; where no label says so, there is none.
    none = np.zeros((1, num_labels, 2))
    if num_labels > num_classes:
        none[0, -1] = 1
    bounds = np.concatenate([cells, none])
    limits = np.concatenate([bounds[:, :, 0].T, -bounds[:, :, 1].T]), np.concatenate([labels[:, 1], -labels[:, 0]])
    if num_labels == num_classes:
        limits = np.vstack([limits[0], np.eye(num_classes + 1)[-1]]), np.append(limits[1], 0.0)
    known = {field.name: getattr(found, field.name) for field in fields(found)}
    method = f"confusion matrix; {METHOD}, and Clopper-Pearson of the matrix, together by Bonferroni"
    region = CorrectedSequence(**{**known, "method": method, "limits": limits})
    ends = region.of([[index] for index in range(num_classes + 1)])
    return CorrectedSequence(**{**known, "method": method, "limits": limits, "lower": ends.lower, "upper": ends.upper})


def _least(
    objective: Float[np.ndarray, " m"],
    matrix: Float[np.ndarray, "rows m"],
    ends: Float[np.ndarray, " rows"],
    whole: Float[np.ndarray, " m"] | None,
) -> float:
    """The least objective · p over the region, or of objective · p / whole · p: with p = y / t, whole · y = 1."""
    m = len(objective)
    if whole is None:
        found = linprog(objective, matrix, ends, np.ones((1, m)), [1.0])
    else:
        sums = np.array([[*np.ones(m), -1.0], [*whole, 0.0]])
        found = linprog(np.append(objective, 0.0), np.column_stack([matrix, -ends]), np.zeros(len(ends)), sums, [0, 1])
    if found.status != 0:
        raise NotMeasurable(
            "no shares of the classes fit the labels of the samples, whatever the labeler's errors on the labelled "
            "images leave open: it treats these images otherwise; label some by hand (leadline label)"
        )
    return float(found.fun)

"""How many samples and training images there are of each class: what all shares of an audit are made of."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from leadline.audit.context import AuditContext
from leadline.audit.judged import UNCLASSIFIED

OTHER, UNSURE, NONE = "other classes", "unclassified", "no class"
"""Groups of shares that are no class of the training data."""
RESERVED = frozenset({OTHER, UNSURE, NONE})
"""Names that no class may have."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Images of each class, the classes in the order of `class_names`.

    training: by the training images' own labels. samples: by the samples' labels; unsure: those that have none.
    """

    class_names: tuple[str, ...]
    training: Int[np.ndarray, " classes"]
    samples: Int[np.ndarray, " classes"]
    unsure: int

    @property
    def chosen(self) -> Int[np.ndarray, " chosen"]:
        """Indices of the classes that have training images: the training set's classes."""
        return np.flatnonzero(self.training)

    @property
    def names(self) -> list[str]:
        """The training set's classes."""
        return [self.class_names[index] for index in self.chosen]

    @property
    def shares(self) -> list[float]:
        """Share of each of the training set's classes in it."""
        return [int(count) / int(self.training.sum()) for count in self.training[self.chosen]]

    @property
    def recognised(self) -> int:
        """Samples of one of the training set's classes."""
        return int(self.samples[self.chosen].sum())

    @property
    def others(self) -> int:
        """Samples of classes that the training set has no image of."""
        return int(self.samples.sum()) - self.recognised

    @property
    def seen_others(self) -> list[int]:
        """Indices of the classes that samples show and no training image."""
        return [int(index) for index in np.flatnonzero((self.training == 0) & (self.samples > 0))]

    @property
    def total(self) -> int:
        """All samples."""
        return int(self.samples.sum()) + self.unsure


def class_counts(context: AuditContext) -> ClassCounts:
    """Count the audit's images; raises NotMeasurable where the samples cannot be labelled."""
    known = context.training.counts()
    labels = context.sample_labels()
    return ClassCounts(
        class_names=context.class_names,
        training=np.array([known.get(name, 0) for name in context.class_names]),
        samples=tallied(labels, len(context.class_names))[:-1],
        unsure=int((labels == UNCLASSIFIED).sum()),
    )


def tallied(labels: Int[np.ndarray, " n"], num_classes: int) -> Int[np.ndarray, " categories"]:
    """Images of each class and, last, of none: UNCLASSIFIED."""
    return np.bincount(np.where(labels == UNCLASSIFIED, num_classes, labels), minlength=num_classes + 1)

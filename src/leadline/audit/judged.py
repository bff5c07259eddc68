"""What all labelers share: when they decide, and how often they were right on labelled images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float, Int

from leadline.audit.intervals import wilson
from leadline.errors import LeadlineError
from leadline.records import Measurement, Table

UNCLASSIFIED = -1
FEW = 20
"""Images of a class below which its row of the confusion matrix is called too short."""


NOT_JUDGED = (
    "no labelled images to judge the given labeler on: give some whose classes it knows (--labeler DATA), or the "
    "column with the classes of the training data (--groups)"
)

AnyLabeler = TypeVar("AnyLabeler", bound="AttributeLabeler")


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributeLabeler(ABC):
    """An encoder that gives the probability of each class, and knows how often it is right.

    classes: what the labels index; shape: (channels, height, width) of the images it reads; confidence: the least
    probability that counts as sure. held_out_labels [n], held_out_probabilities [n, classes]: of the labelled images
    that it was judged on, the true class and what the labeler made of it; None: there were no such images. judged_on:
    which images these were, as words after "share of", or why there were none; judged_part: the part of the audit that
    they are. caution: what else to know of them, in sentences. images_per_class: how many labelled images of each class
    there were.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    confidence: float
    fingerprint: str
    held_out_labels: Int[np.ndarray, " n"] | None = None
    held_out_probabilities: Float[np.ndarray, "n classes"] | None = None
    judged_on: str = NOT_JUDGED
    judged_part: Literal["labeler", "held_out", "training"] = "labeler"
    caution: str = ""
    images_per_class: dict[str, int] = field(default_factory=dict)
    name: str = "labeler"

    @property
    @abstractmethod
    def description(self) -> str:
        """Network, where its weights come from and what it is given, in one sentence."""

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Images per call of `encode`."""

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, int]:
        """`probabilities`: one per class; `features`, where the labeler has any: their dimension."""

    @property
    @abstractmethod
    def doubt(self) -> str:
        """What is compared with `confidence`, in words."""

    @property
    def cross_fitted(self) -> bool:
        """Whether the judged images were labelled by parts of what labels all others, each by one not trained on it."""
        return False

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What stands beside its accuracy: how its probabilities come about."""

    @abstractmethod
    def encode(self, images: Float[np.ndarray, "n c h w"]) -> dict[str, np.ndarray]:
        """float images in [-1, 1] -> name of each output -> float32 [n, d]. Raises LeadlineError on another shape."""

    def decide(self, probabilities: Float[np.ndarray, "n classes"]) -> Int[np.ndarray, " n"]:
        """The most likely class, or UNCLASSIFIED where its probability is below `confidence`."""
        sure = probabilities.max(1, initial=0) >= self.confidence
        return np.where(sure, probabilities.argmax(1), UNCLASSIFIED)

    def accuracy(self, level: float) -> Measurement:
        """Share of the judged images whose most likely class is the true one, unsure ones included."""
        if self.held_out_labels is None or self.held_out_probabilities is None:
            return Measurement.not_measurable("labeler_accuracy", self.judged_on, params=self.details())
        right = int((self.held_out_probabilities.argmax(1) == self.held_out_labels).sum())
        n = len(self.held_out_labels)
        lower, upper = wilson(right, n, level)
        return Measurement(
            name="labeler_accuracy",
            value=right / n,
            lower=lower,
            upper=upper,
            level=level,
            method="Wilson",
            n=n,
            unit=f"share of {self.judged_on}",
            direction="larger: the labels can be trusted more",
            params=self.details(),
            computed_from={"labeler": self.fingerprint},
        )

    def confusion(self) -> Table | None:
        """Judged images by true class (rows) and by label, with those it was not sure of in the last column.

        None when there were no labelled images to judge it on.
        """
        if self.held_out_labels is None or self.held_out_probabilities is None:
            return None
        labels = self.decide(self.held_out_probabilities)
        rows = []
        for index, name in enumerate(self.classes):
            given = labels[self.held_out_labels == index]
            counts = np.bincount(given[given != UNCLASSIFIED], minlength=len(self.classes))
            rows.append((name, *counts.tolist(), int((given == UNCLASSIFIED).sum())))
        unsure = f"Unclassified: {self.doubt} of every class is below {self.confidence:g}."
        note = f"{self.caution} {unsure}" if self.caution else unsure
        few = {name: n for name, n in self.images_per_class.items() if n < FEW}
        if few:
            listed = ", ".join(f"{name}: {n}" for name, n in few.items())
            note += f" Too few images to learn or judge these classes by (fewer than {FEW}): {listed}."
        return Table(
            name="labeler_confusion",
            title=f"What the labeler makes of {self.judged_on}",
            columns=("true class", *self.classes, "unclassified"),
            rows=tuple(rows),
            note=note,
        )

    def _check(self, images: Float[np.ndarray, "n c h w"]) -> None:
        if images.shape[1:] != self.shape:
            raise LeadlineError(f"the labeler reads images of shape {self.shape}, not {images.shape[1:]}")


def tried(labeler: AnyLabeler) -> AnyLabeler:
    """The labeler, after two black images went through it: what does not fit shows before anything expensive.

    Raises LeadlineError.
    """
    try:
        labeler.encode(np.full((2, *labeler.shape), -1, np.float32))
    except LeadlineError:
        raise
    # The network is foreign: whatever it raises, the person gets to know what it was given.
    except Exception as error:
        raise LeadlineError(
            f"{labeler.description}, cannot read images of shape {labeler.shape} ({type(error).__name__}: {error})"
        ) from error
    return labeler

"""The class of an image that a model made: those of the training data, other classes, unclassified."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.audit.class_counts import OTHER, UNSURE
from leadline.audit.given import given_labeler
from leadline.audit.judged import UNCLASSIFIED, AttributeLabeler
from leadline.audit.labeler import train_labeler, without_overlap
from leadline.audit.preparing import device_or_default
from leadline.errors import LeadlineError
from leadline.lab.keeping import Kept
from leadline.progress import ProgressCallback
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Splits, scaled
from leadline.sampling import to_pixels


@dataclass(frozen=True)
class MadeClasses:
    """Names of the classes, in the order of their numbers: those that the training data has, and, where a labeler
    judges, what it calls another class and what it is not sure of."""

    names: tuple[str, ...]
    own: int
    labeler: AttributeLabeler | None = None

    @classmethod
    def of(cls, training: ImageSet, labeler: AttributeLabeler | None) -> "MadeClasses":
        """Raises LeadlineError where the training data has no labels, or the labeler does not know a class of it."""
        own = tuple(name for name, n in training.counts().items() if n)
        if not own:
            raise LeadlineError(
                f"{training.name} has no labels, and bias is of classes: name the column with them (--set data.groups=)"
            )
        unknown = [] if labeler is None else [name for name in own if name not in labeler.classes]
        if labeler is not None and unknown:
            raise LeadlineError(
                f"the labeler has no images of the training data's class {unknown[0]!r} (it knows "
                f"{', '.join(labeler.classes)}): raise --set data.labeler="
            )
        return cls(own if labeler is None else (*own, OTHER, UNSURE), len(own), labeler)

    def of_labels(self, images: ImageSet) -> Int[np.ndarray, " n"]:
        """The images' own classes."""
        if images.labels is None:
            raise LeadlineError(f"{images.name} has no labels: name the column with them (--set data.groups=)")
        number = np.array([self.names.index(name) if name in self.names else -1 for name in images.classes])
        found: np.ndarray = number[images.labels]
        return found

    def seen_in(self, images: ImageSet) -> Int[np.ndarray, " n"]:
        """The classes by the labeler, as of images that a model made."""
        return self.seen(torch.from_numpy(images.images()))

    def seen(self, images: Float[Tensor, "n c h w"]) -> Int[np.ndarray, " n"]:
        """The classes by the labeler, of images rounded to pixels as an audit reads them."""
        if self.labeler is None:
            raise LeadlineError("no labeler: images that a model made can be given no class")
        probabilities = self.labeler.encode(scaled(to_pixels(images).cpu().numpy()))["probabilities"]
        labels = self.labeler.decide(probabilities)
        own = self.names[: self.own]
        number = [own.index(name) if name in own else self.own for name in self.labeler.classes]
        return np.where(labels == UNCLASSIFIED, self.own + 1, np.array(number)[labels])


def labeler_for(splits: Splits, spec: AuditSpec, kept: Kept, progress: ProgressCallback) -> AttributeLabeler:
    """The labeler that an audit of a model of this data would use, kept beside the pieces.

    Raises LeadlineError where there are no images for it.
    """
    device = device_or_default(None)
    given = given_labeler(spec, shape=splits.train.shape, device=device, download=False)
    if given is not None:
        return given
    if splits.labeler is None:
        raise LeadlineError(
            "no images for the labeler that gives the models' images their classes: set some apart "
            "(--set data.labeler=1000)"
        )
    apart, _ = without_overlap(splits.labeler, {"training": splits.train})
    return train_labeler(
        apart,
        confidence=spec.confidence,
        epochs=spec.labeler_epochs,
        seed=spec.seed,
        cache=kept.folder,
        device=device,
        progress=progress,
    )

"""What the labeler makes of images whose class is known and that it was not trained on: its confusion matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from leadline.audit.class_counts import UNSURE, tallied
from leadline.audit.context import AuditContext, Part
from leadline.audit.judged import FEW, UNCLASSIFIED, AttributeLabeler
from leadline.errors import NotMeasurable
from leadline.records import ImageSet, Table

PARTS: dict[Part, str] = {"training": "training images", "held_out": "held-out images"}
JUDGED = "of the labeler's own"
NOTE = (
    "Images that the labeler was not trained on, by the labeler that labels the samples; shares are corrected by these "
    "counts. Unclassified: {doubt} of every class is below {confidence:g}."
)
CROSS_FITTED = (
    "The labeler's own images, {classes}: each was judged by the one of its networks that was not trained on it, the "
    "samples by all together. They stand in only for classes with fewer than {few} others."
)


@dataclass(frozen=True, kw_only=True)
class KnownImages:
    """Counts [K true classes, K + 1 labels], the last column the unclassified; rows without images are zeros.

    unsure: whether the labeler may leave an image unclassified. note: what the counts rest on, in sentences.
    """

    classes: tuple[str, ...]
    counts: Int[np.ndarray, "classes labels"]
    unsure: bool
    note: str

    @property
    def shown(self) -> Int[np.ndarray, " shown"]:
        """Indices of the true classes with at least one image."""
        return np.flatnonzero(self.counts.sum(1))

    @property
    def abstains(self) -> bool:
        """Whether an image may be labelled as none of the shown classes: unsure, or as a class without images, whose
        label can be judged as little as none."""
        return self.unsure or len(self.shown) < len(self.classes)

    def pooled(self, labels: Int[np.ndarray, " labels"]) -> Int[np.ndarray, " pooled"]:
        """Counts by label [K + 1] -> those of the shown classes and, where it abstains, last all others together."""
        shown = labels[self.shown]
        return np.append(shown, labels.sum() - shown.sum()) if self.abstains else shown

    def matrix(self) -> Int[np.ndarray, "shown pooled"]:
        """The rows of the shown classes, their columns as `pooled`."""
        return np.stack([self.pooled(self.counts[index]) for index in self.shown])

    def table(self) -> Table:
        """The confusion matrix, with what images it rests on."""
        rows = tuple((name, *counts) for name, counts in zip(self.classes, self.counts.tolist(), strict=True))
        return Table(
            name="labeler_confusion",
            title="What the labeler makes of images whose class is known",
            columns=("true class", *self.classes, UNSURE),
            rows=rows,
            note=self.note,
        )


def known_images(context: AuditContext) -> KnownImages:
    """All labelled images of the audit that the labeler was not trained on, each counted once.

    The training and held-out images of the generative model, whose overlap with the labeler's is removed beforehand;
    and the images that the labeler itself was judged on, where these are others. With cross-fitted networks the judged
    labels are those of single networks, the samples' those of all together: judged images then stand in only for
    classes with fewer than FEW others. Raises NotMeasurable without a labeler that labels the samples.
    """
    labeler = context.labeler
    if labeler is None or "labels" in context.missing:
        raise NotMeasurable(context.missing["labels"])
    place = {name: index for index, name in enumerate(labeler.classes)}
    counted: dict[str, Int[np.ndarray, "classes labels"]] = {}
    for part, words in PARTS.items():
        images: ImageSet | None = context.training if part == "training" else context.held_out
        if images is None or images.labels is None:
            continue
        true = np.array([place.get(name, UNCLASSIFIED) for name in images.classes])[images.labels]
        # Labels index the audit's classes, of which the labeler's are some in another order.
        to_labeler = np.array([place.get(name, UNCLASSIFIED) for name in context.class_names] + [UNCLASSIFIED])
        counted[words] = _confusion(true, to_labeler[context.labels_by_labeler(part)], len(place))
    judged = _judged(labeler)
    total = np.sum([*counted.values(), np.zeros_like(judged)], axis=0)
    few = total.sum(1) < FEW
    stand_ins = judged.sum(1).astype(bool) & (few if labeler.cross_fitted else True)
    if stand_ins.any():
        counted[JUDGED] = np.where(stand_ins[:, None], judged, 0)
    counts = np.sum(list(counted.values()), axis=0)
    sources = {words: table.sum(1) for words, table in counted.items()}
    note = _note(labeler, sources, counts, stand_ins)
    return KnownImages(classes=labeler.classes, counts=counts, unsure=labeler.confidence > 0, note=note)


def _confusion(
    true: Int[np.ndarray, " n"], found: Int[np.ndarray, " n"], num_classes: int
) -> Int[np.ndarray, "classes labels"]:
    """Counts by true class and label; images of classes that the labeler does not know are left out."""
    return np.stack([tallied(found[true == index], num_classes) for index in range(num_classes)])


def _judged(labeler: AttributeLabeler) -> Int[np.ndarray, "classes labels"]:
    """What it made of the images that it was judged on, where these are neither training nor held-out images."""
    empty = np.zeros((len(labeler.classes), len(labeler.classes) + 1), dtype=np.int64)
    if labeler.held_out_labels is None or labeler.held_out_probabilities is None or labeler.judged_part != "labeler":
        return empty
    found = labeler.decide(labeler.held_out_probabilities)
    return _confusion(labeler.held_out_labels, found, len(labeler.classes))


def _note(
    labeler: AttributeLabeler,
    sources: Mapping[str, Int[np.ndarray, " classes"]],
    counts: Int[np.ndarray, "classes labels"],
    stand_ins: np.ndarray,
) -> str:
    parts = [NOTE.format(doubt=labeler.doubt, confidence=labeler.confidence)]
    parts.append("Of them: " + ", ".join(f"{int(n.sum()):,} {words}" for words, n in sources.items() if n.any()) + ".")
    if labeler.caution:
        parts.append(labeler.caution)
    if labeler.cross_fitted and stand_ins.any():
        named = ", ".join(name for name, stands in zip(labeler.classes, stand_ins, strict=True) if stands)
        parts.append(CROSS_FITTED.format(classes=named, few=FEW))
    short = {name: int(row.sum()) for name, row in zip(labeler.classes, counts, strict=True) if row.sum() < FEW}
    if short:
        listed = ", ".join(f"{name}: {n}" for name, n in short.items())
        parts.append(f"Too few images to judge these classes by (fewer than {FEW}): {listed}.")
    return " ".join(parts)

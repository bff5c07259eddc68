"""What every metric is given, and the registry of metrics."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.audit.features import Encoder, Grouping, Outputs, encode
from leadline.audit.human_labels import HumanLabels
from leadline.audit.judged import UNCLASSIFIED, AttributeLabeler
from leadline.audit.pairs import PairDistances
from leadline.errors import NotMeasurable
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Measurement, Panel, Table
from leadline.registry import Registry

Part = Literal["samples", "training", "held_out"]
Need = Literal["labels", "features"]
Finding = Measurement | Table | Panel

LABELER = "labeler"
MOST_GROUPS = 32
"""Classes whose images are kept apart in distances over pairs: each takes the memory of one embedding."""
MISSING_HELD_OUT = (
    "no held-out real images: give images of the training data's kind that it does not contain (--held-out DATA)"
)


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """The inputs of an audit after all checks; what networks make of each part is computed once, when asked for.

    class_names: the training set's classes, then those that only the labeler knows. labels: of the samples, indices
    into class_names, UNCLASSIFIED (-1) where unsure; None: the labeler gives them. human: what a person said of some of
    the samples, where that is known. encoders: those that were asked
    for beside the labeler. spaces: the names of the feature spaces to compare in. missing: for each need that cannot
    be met, why.
    """

    samples: ImageSet
    training: ImageSet
    held_out: ImageSet | None
    spec: AuditSpec
    class_names: tuple[str, ...]
    labels: Int[np.ndarray, " n"] | None
    labels_origin: str
    labeler: AttributeLabeler | None
    human: HumanLabels | None = None
    encoders: tuple[Encoder, ...] = ()
    spaces: tuple[str, ...] = (LABELER,)
    missing: dict[Need, str]
    fingerprints: dict[str, str]
    device: torch.device
    cache: Path | None = None
    report: ProgressCallback = silent
    _passes: dict[tuple[str, bool], tuple[Outputs, dict[str, PairDistances]]] = field(default_factory=dict)

    def progress(self, text: str, done: int = 0, total: int = 0) -> None:
        """Say what the audit is at, and how far."""
        self.report(text, done, total, "")

    def part(self, name: Part) -> ImageSet:
        """The images of a part. Raises NotMeasurable when there are no held-out images."""
        if name == "held_out":
            if self.held_out is None:
                raise NotMeasurable(MISSING_HELD_OUT)
            return self.held_out
        return self.samples if name == "samples" else self.training

    def features(self, part: Part, space: str = LABELER, *, flipped: bool = False) -> Float[np.ndarray, "n d"]:
        """The features [n, d] of a part in one space, or of its mirror images. Raises NotMeasurable without them."""
        images = self.part(part)
        if space == LABELER and "features" in self.missing:
            raise NotMeasurable(self.missing["features"])
        return self._pass(part, images, flipped)[0][space]["features"]

    def pair_distances(self, part: Part) -> dict[str, PairDistances]:
        """Mean distances over all pairs of a part's images, by encoder, for the encoders that have taps."""
        return self._pass(part, self.part(part), False)[1]

    def sample_labels(self) -> Int[np.ndarray, " n"]:
        """Label of each sample: an index into `class_names`, or UNCLASSIFIED."""
        return self.labels if self.labels is not None else self.labels_by_labeler("samples")

    def predictions(self) -> Float[np.ndarray, "n columns"]:
        """Predictions of each sample: a column for each of `class_names`; the last says whether it is unclassified.

        The labeler's probabilities; 1 or 0 where labels were given instead, and for a class that the labeler does not
        know. Raises NotMeasurable where there are neither.
        """
        labels = self.sample_labels()
        predicted: np.ndarray = np.eye(len(self.class_names) + 1)[labels]  # UNCLASSIFIED, -1, is the last row
        if self.labels is None and self.labeler is not None:
            outputs = self._pass("samples", self.samples, False)[0]
            places = [self.class_names.index(name) for name in self.labeler.classes]
            predicted[:, places] = outputs[self.labeler.name]["probabilities"]
        return predicted

    def labels_by_labeler(self, part: Part) -> Int[np.ndarray, " n"]:
        """The labeler's label of each image of a part, as indices into `class_names`, or UNCLASSIFIED."""
        if self.labeler is None or "labels" in self.missing:
            raise NotMeasurable(self.missing["labels"])
        outputs = self._pass(part, self.part(part), False)[0]
        return self._decide(self.labeler, outputs[self.labeler.name]["probabilities"])

    def computed_from(self, *names: str) -> dict[str, str]:
        """Fingerprints of those inputs and networks that there are."""
        return {name: self.fingerprints[name] for name in names if name in self.fingerprints}

    def _pass(self, part: Part, images: ImageSet, flipped: bool) -> tuple[Outputs, dict[str, PairDistances]]:
        """All networks over a part, once."""
        key = (part, flipped)
        if key not in self._passes:
            networks = ((self.labeler,) if self.labeler is not None else ()) + self.encoders
            what = f"{'mirrored ' if flipped else ''}{part.replace('_', '-')} images"
            stage = f"reading {what} by {', '.join(encoder.name for encoder in networks)}"
            shown = replace(images, pixels=images.pixels[..., ::-1]) if flipped else images
            grouping = self._grouping(part) if "diversity" in self.spec.metrics and not flipped else None
            self._passes[key] = encode(
                shown,
                networks,
                grouping=grouping,
                seed=self.spec.seed,
                cache=self.cache,
                progress=lambda done, total: self.progress(stage, done, total),
            )
        return self._passes[key]

    def _grouping(self, part: Part) -> Grouping | None:
        """The class of each image, for distances within and between classes; none for held-out images."""
        if part == "held_out":
            return None
        labels = self.labels if part == "samples" else self.training.labels
        if len(self.class_names) > MOST_GROUPS:
            return KnownGroups(np.full(len(self.part(part)), UNCLASSIFIED), 0)
        if labels is not None:
            return KnownGroups(labels, len(self.class_names))
        if part == "samples" and self.labeler is not None and "labels" not in self.missing:
            return LabelerGroups(self.labeler, self.class_names, self._decide)
        return KnownGroups(np.full(len(self.part(part)), UNCLASSIFIED), 0)

    def _decide(
        self, labeler: AttributeLabeler, probabilities: Float[np.ndarray, "n classes"]
    ) -> Int[np.ndarray, " n"]:
        """The labeler's decisions as indices into `class_names`."""
        translate = np.array([self.class_names.index(name) for name in labeler.classes] + [UNCLASSIFIED])
        labels: np.ndarray = translate[labeler.decide(probabilities)]
        return labels


@dataclass(frozen=True)
class KnownGroups:
    """Groups that are known beforehand."""

    labels: Int[np.ndarray, " n"]
    num_groups: int

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.labels.astype("<i8").tobytes() + b"%d" % self.num_groups).hexdigest()[:16]

    def __call__(self, rows: slice, _: Mapping[str, Mapping[str, np.ndarray]]) -> Int[np.ndarray, " n"]:
        return self.labels[rows]


@dataclass(frozen=True)
class LabelerGroups:
    """Groups read off the labeler's probabilities in the same pass."""

    labeler: AttributeLabeler
    class_names: tuple[str, ...]
    decide: Callable[[AttributeLabeler, np.ndarray], np.ndarray]

    @property
    def num_groups(self) -> int:
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        return repr((self.labeler.fingerprint, self.labeler.confidence, self.class_names))

    def __call__(self, rows: slice, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> Int[np.ndarray, " n"]:
        return self.decide(self.labeler, outputs[self.labeler.name]["probabilities"][rows])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric: `measure(context)` yields findings. needs: what it cannot do without.

    reports: the measurements that it makes, named when it cannot be made at all.
    uses: what it works better with; the labeler is trained for needs and uses alike.
    """

    measure: Callable[[AuditContext], Iterable[Finding]]
    reports: tuple[str, ...]
    needs: frozenset[Need] = frozenset()
    uses: frozenset[Need] = frozenset()


METRICS: Registry[Metric] = Registry("metric")

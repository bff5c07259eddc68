"""What every metric is given, and the registry of metrics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.audit.features import Encoder, encode
from leadline.audit.labeler import UNCLASSIFIED, Labeler
from leadline.errors import NotMeasurable
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Measurement, Panel, Table
from leadline.registry import Registry

Part = Literal["samples", "training", "held_out"]
Need = Literal["labels", "features"]
Finding = Measurement | Table | Panel

MISSING_HELD_OUT = (
    "no held-out real images: give images of the training data's kind that it does not contain (--held-out DATA)"
)


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """The inputs of an audit after all checks; labels and features of each part are computed once, when asked for.

    class_names: the training set's classes, then those that only the labeler knows. labels: of the samples, indices
    into class_names, UNCLASSIFIED (-1) where unsure; None: the labeler gives them. missing: for each need that
    cannot be met, why.
    """

    samples: ImageSet
    training: ImageSet
    held_out: ImageSet | None
    spec: AuditSpec
    class_names: tuple[str, ...]
    labels: Int[np.ndarray, " n"] | None
    labels_origin: str
    labeler: Labeler | None
    missing: dict[Need, str]
    fingerprints: dict[str, str]
    device: torch.device
    cache: Path | None = None
    progress: Callable[[str], None] = field(default=lambda _: None)
    _encoded: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def part(self, name: Part) -> ImageSet:
        """The images of a part. Raises NotMeasurable when there are no held-out images."""
        if name == "held_out":
            if self.held_out is None:
                raise NotMeasurable(MISSING_HELD_OUT)
            return self.held_out
        return self.samples if name == "samples" else self.training

    def features(self, part: Part) -> Float[np.ndarray, "n d"]:
        """The labeler's features [n, d] of a part. Raises NotMeasurable when there is no labeler."""
        return self._labeler_outputs(part)["features"]

    def sample_labels(self) -> Int[np.ndarray, " n"]:
        """Label of each sample: an index into `class_names`, or UNCLASSIFIED."""
        return self.labels if self.labels is not None else self.labels_by_labeler("samples")

    def labels_by_labeler(self, part: Part) -> Int[np.ndarray, " n"]:
        """The labeler's label of each image of a part, as indices into `class_names`, or UNCLASSIFIED."""
        if self.labeler is None or "labels" in self.missing:
            raise NotMeasurable(self.missing["labels"])
        probabilities = self._labeler_outputs(part)["probabilities"]
        names = self.class_names
        translate = np.array([names.index(name) for name in self.labeler.classes] + [UNCLASSIFIED])
        labels: np.ndarray = translate[self.labeler.decide(probabilities)]
        return labels

    def computed_from(self, *names: str) -> dict[str, str]:
        """Fingerprints of those inputs that there are."""
        return {name: self.fingerprints[name] for name in names if name in self.fingerprints}

    def _labeler_outputs(self, part: Part) -> dict[str, np.ndarray]:
        if self.labeler is None:
            raise NotMeasurable(self.missing["features"])
        if part not in self._encoded:
            images = self.part(part)
            encoder: Encoder = self.labeler
            self.progress(f"labeler: reading {len(images):,} {part.replace('_', '-')} images")
            self._encoded[part] = encode(images, [encoder], cache=self.cache)[encoder.name]
        return self._encoded[part]


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

"""Fidelity of two sets of images of the same seeds: which of them is nearer to the training images, and where."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from jaxtyping import Float

from leadline.audit.fidelity import MEASURES, Comparison, Reference
from leadline.audit.kernel import mean_kernel_to_others, mean_kernels_across
from leadline.audit.left_out import frechet_without, recall_and_coverage_without
from leadline.audit.paired_tests import jackknifed
from leadline.audit.pairing import Found, Pair
from leadline.errors import LeadlineError
from leadline.records import Measurement

GIVEN = "; the training images taken as given"
IMAGES_PER_DIMENSION = 2
"""With fewer the jackknife takes the Fréchet distance's bias off too much: at 1.1 of them a difference of 0.63 was 1.17
on average, and its 95 % interval held it in 8 of 10 simulations."""
RATES = (-1.0, 1.0)
"""Between these two rates differ."""


def compare_fidelity(pair: Pair) -> Iterator[Measurement]:
    """Fréchet and kernel distance, precision, recall, density and coverage in every feature space."""
    for space in pair.base.spaces:
        params = {"set": "samples", "space": f"{space} features"}
        try:
            both = _InSpace(pair, space)
        except LeadlineError as error:
            yield from (pair.missing(name, str(error), **params) for name in MEASURES)
            continue
        for name, measure in MEASURES.items():
            pair.other.progress(f"paired tests: {name} in {space} features")
            in_balls = {} if name.endswith("distance") else {"k": both.reference.k}
            yield pair.difference(
                name,
                getattr(both, name),
                unit=measure.unit,
                direction=measure.direction,
                params={**params, **in_balls, **({"depends_on_n": True} if measure.depends_on_n else {})},
                sources=(space,),
            )


class _InSpace:
    """Both sets against the training images in one feature space."""

    def __init__(self, pair: Pair, space: str) -> None:
        self.pair = pair
        context = pair.base
        self.reference = Reference(context.features("training", space), context.spec.nearest_k, context.device)
        self.base, self.other = (Comparison(f, self.reference, pair.level) for f in pair.features(space))

    def values(self, name: str) -> tuple[float, float]:
        """The audits' own numbers."""
        compare = MEASURES[name].compare
        return compare(self.base)["value"], compare(self.other)["value"]

    def frechet_distance(self) -> Found:
        base, other = self.values("frechet_distance")
        n, dimension = self.base.features.shape
        blocks = self.pair.blocks(dimension)
        gaussian = self.reference.gaussian
        without, other_without = (frechet_without(c.features, gaussian, blocks) for c in (self.base, self.other))
        doubt = ""
        if n < IMAGES_PER_DIMENSION * dimension:
            doubt = (
                f"{n:,} images in {dimension:,} dimensions: the bias of fewer than {IMAGES_PER_DIMENSION} images per "
                "dimension is large and its correction rough; draw more (--num-images), or compare the kernel distance"
            )
        return self.pair.by_blocks_corrected(base, other, (without, other_without), blocks, doubt, GIVEN)

    def kernel_distance(self) -> Found:
        base, other = self.values("kernel_distance")
        linear = self._left_out_kernels(self.other) - self._left_out_kernels(self.base)
        method = f"jackknife over images, from each one's mean kernels; Student t{GIVEN}"
        return Found(base, other, jackknifed(other - base, linear, self.pair.level), method, self.pair.n)

    def _left_out_kernels(self, comparison: Comparison) -> Float[np.ndarray, " n"]:
        """What the distance is without each image, but for a constant: 2a/(n-1) - 2h/(n-2).

        h, a: the image's mean kernel with the others of its set, and with the training images.
        """
        n, device = self.pair.n, self.reference.device
        across, _ = mean_kernels_across(comparison.features, self.reference.features, device=device)
        return 2 * across / max(1, n - 1) - 2 * mean_kernel_to_others(comparison.features, device=device) / max(
            1, n - 2
        )

    def precision(self) -> Found:
        return self.pair.counted(self.base.number_holding > 0, self.other.number_holding > 0, GIVEN)

    def density(self) -> Found:
        k = self.reference.k
        return self.pair.averaged(self.base.number_holding / k, self.other.number_holding / k, GIVEN)

    def recall(self) -> Found:
        return self._by_blocks("recall")

    def coverage(self) -> Found:
        return self._by_blocks("coverage")

    def _by_blocks(self, name: str) -> Found:
        base, other = self.values(name)
        without, other_without = (found[name] for found in self._left_out)
        return self.pair.by_blocks(base, other, (without, other_without), self.pair.blocks(), GIVEN, limits=RATES)

    @cached_property
    def _left_out(self) -> list[dict[str, Float[np.ndarray, " b"]]]:
        """Recall and coverage of either set without each block."""
        blocks, training, k = self.pair.blocks(), self.reference.neighborhoods, self.reference.k
        found = (recall_and_coverage_without(c.neighborhoods, training, k, blocks) for c in (self.base, self.other))
        return [dict(zip(("recall", "coverage"), each, strict=True)) for each in found]

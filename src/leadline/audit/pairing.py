"""Two audits of images of the same seeds as a pair: what every paired difference is made from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline.audit.context import AuditContext
from leadline.audit.left_out import number_of_blocks
from leadline.audit.paired_tests import Inference, block_jackknifed, blocks_of, mcnemar, paired_t
from leadline.errors import LeadlineError, NotMeasurable
from leadline.records import Measurement

NAME = "paired_difference"
MCNEMAR = "exact McNemar; interval by Newcombe's paired method 10"
FEWEST_FOR_BLOCKS = 20
"""Images: of fewer a jackknife over blocks tells next to nothing."""


@dataclass(frozen=True)
class Found:
    """A number of both sets, and whether they differ; n: pairs of images behind the test.

    corrected: the difference without bias, where that was tested and not other - base.
    """

    base: float
    other: float
    tested: Inference
    method: str
    n: int
    params: dict[str, Any] = field(default_factory=dict)
    corrected: float | None = None

    @property
    def value(self) -> float:
        """The difference that was tested."""
        return self.other - self.base if self.corrected is None else self.corrected


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two audits that differ in their samples alone: the i-th image of both is of the same seed."""

    base: AuditContext
    other: AuditContext

    @property
    def level(self) -> float:
        return self.base.spec.level

    @property
    def n(self) -> int:
        return len(self.base.samples)

    def features(self, space: str) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
        """Of both sets' samples."""
        return self.base.features("samples", space), self.other.features("samples", space)

    def blocks(self, dimension: int = 1) -> Int[np.ndarray, " n"]:
        """Blocks of images for a jackknife, the same in both sets; dimension: of what is decomposed for each."""
        if self.n < FEWEST_FOR_BLOCKS:
            raise NotMeasurable(
                f"a jackknife over blocks of images needs {FEWEST_FOR_BLOCKS} images or more in each set, {self.n} "
                "given: draw more (--num-images)"
            )
        return blocks_of(self.base.samples.ids, number_of_blocks(self.n, dimension), self.base.spec.seed)

    def by_blocks(
        self,
        base: float,
        other: float,
        without: tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]],
        blocks: Int[np.ndarray, " n"],
        remark: str = "",
        *,
        limits: tuple[float, float] = (-inf, inf),
    ) -> Found:
        """Statistics of the base and the other set, whole and without each block; limits: of what they can differ."""
        sizes = np.bincount(blocks)
        _, tested = block_jackknifed(other - base, without[1] - without[0], sizes, self.level)
        lower, upper = max(limits[0], tested.lower), min(limits[1], tested.upper)
        return Found(base, other, Inference(lower, upper, tested.p), _by(sizes) + remark, self.n)

    def by_blocks_corrected(
        self,
        base: float,
        other: float,
        without: tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]],
        blocks: Int[np.ndarray, " n"],
        doubt: str = "",
        remark: str = "",
    ) -> Found:
        """As `by_blocks`, without the statistics' bias of order 1/n; the plain difference is in the params.

        doubt: why the sign is not to be relied on even so; where the correction turns it, it is not either.
        """
        sizes = np.bincount(blocks)
        plain = other - base
        corrected, tested = block_jackknifed(plain, without[1] - without[0], sizes, self.level, corrected=True)
        if not doubt and plain * corrected < 0:
            doubt = (
                f"the difference of the two values is {plain:.3g}, and {corrected:.3g} without the bias of so few "
                "images: its sign depends on the correction (--num-images)"
            )
        params = {"plain": plain, **({"doubt": doubt} if doubt else {})}
        method = f"{_by(sizes)}; corrected by the jackknife for the bias of {self.n:,} images{remark}"
        return Found(base, other, tested, method, self.n, params, corrected)

    def difference(
        self,
        of: str,
        find: Callable[[], Found],
        *,
        unit: str,
        direction: str,
        params: dict[str, Any],
        group: str | None = None,
        sources: tuple[str, ...] = (),
    ) -> Measurement:
        """The measurement of what `find` finds, or the reason why it cannot.

        of, params, group: name, params and group of the audits' own measurement; sources: networks behind it.
        """
        params = {"of": of, **params}
        try:
            found = find()
            tested = found.tested
            numbers = (found.value, tested.lower, tested.upper, tested.p)
            if not all(map(isfinite, numbers)):
                raise NotMeasurable(f"the test gave no finite numbers ({', '.join(f'{x:g}' for x in numbers)})")
        except LeadlineError as error:
            return Measurement.not_measurable(NAME, str(error), group=group, params=params)
        return Measurement(
            name=NAME,
            value=found.value,
            lower=tested.lower,
            upper=tested.upper,
            level=self.level,
            method=found.method,
            n=found.n,
            unit=unit,
            direction="above 0: more than in the base" + (f"; {direction}" if direction else ""),
            group=group,
            params={**params, "p": tested.p, "base": found.base, "other": found.other, **found.params},
            computed_from={
                "base": self.base.fingerprints["samples"],
                **self.other.computed_from("samples", "training", *sources),
            },
        )

    def missing(self, of: str, reason: str, **params: Any) -> Measurement:
        """A difference that cannot be tested."""
        return Measurement.not_measurable(NAME, reason, params={"of": of, **params})

    def counted(self, base: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], remark: str = "") -> Found:
        """Shares of images, by which of them count."""
        differing = {"gained": int((other & ~base).sum()), "lost": int((base & ~other).sum())}
        tested = mcnemar(base, other, self.level)
        return Found(float(base.mean()), float(other.mean()), tested, MCNEMAR + remark, len(base), differing)

    def averaged(self, base: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], remark: str = "") -> Found:
        """Means over images."""
        method = f"paired Student t over images{remark}"
        return Found(float(base.mean()), float(other.mean()), paired_t(base, other, self.level), method, len(base))


def _by(sizes: Int[np.ndarray, " b"]) -> str:
    return f"jackknife over {len(sizes)} blocks of images, the same in both sets; Student t"

"""Two audits of images of the same seeds as a pair: what every paired difference is made from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline.audit.context import AuditContext
from leadline.audit.left_out import number_of_blocks
from leadline.audit.paired_tests import Inference, block_jackknifed, blocks_of, mcnemar, paired_t
from leadline.errors import LeadlineError
from leadline.records import Measurement

NAME = "paired_difference"
MCNEMAR = "exact McNemar; interval by Newcombe's paired method 10"


@dataclass(frozen=True)
class Found:
    """A number of both sets, and whether they differ; n: pairs of images behind the test."""

    base: float
    other: float
    tested: Inference
    method: str
    n: int
    params: dict[str, Any] = field(default_factory=dict)


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
        return blocks_of(self.base.samples.ids, number_of_blocks(self.n, dimension), self.base.spec.seed)

    def by_blocks(
        self,
        base: float,
        other: float,
        without: tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]],
        blocks: Int[np.ndarray, " n"],
        remark: str = "",
    ) -> Found:
        """Statistics of the base and the other set, whole and without each block."""
        sizes = np.bincount(blocks)
        method = f"jackknife over {len(sizes)} blocks of images, the same in both sets; Student t{remark}"
        tested = block_jackknifed(other - base, without[1] - without[0], sizes, self.level)
        return Found(base, other, tested, method, self.n)

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
        except LeadlineError as error:
            return Measurement.not_measurable(NAME, str(error), group=group, params=params)
        tested = found.tested
        return Measurement(
            name=NAME,
            value=found.other - found.base,
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

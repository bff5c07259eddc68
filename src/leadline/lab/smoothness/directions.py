"""Which way each measure goes: from block to block within a model, and from the shallowest depth to the deepest."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.lab.keeping import Arrays
from leadline.lab.smoothness.pieces import ENCODER, ENERGY_IN_X
from leadline.lab.smoothness.values import JACOBIAN, LATENT, factor_of, jacobian_values, latent_values, way
from leadline.records import Measurement, Table

BLOCK_FACTOR, DEPTH_FACTOR = "block_factor", "depth_factor"
WAYS = ("falls", "grows", "not decided", "not measurable")
BY_BLOCK, BY_DEPTH = "from block to block", "from the shallowest to the deepest"
Levels = Mapping[str, Float[np.ndarray, "levels n"]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One subject at one noise level in one respect: its arrays, or the reason why there are none."""

    subject: str
    sigma: float
    what: str
    params: Mapping[str, Any]
    blocks: int | None
    values: int
    group: str
    trained: bool
    arrays: Arrays | None
    reason: str = ""

    def levels(self) -> Levels:
        """Its values by block, where it is a measure that has blocks."""
        if self.arrays is None or "size" not in self.arrays:
            return {}
        return latent_values(self.arrays) if "rank" in self.arrays else jacobian_values(self.arrays, self.values)

    def last(self, name: str) -> Float[np.ndarray, " n"]:
        """A measure at each point: after the last block, where it has blocks. There are arrays."""
        found: np.ndarray = self.levels()[name][-1] if name in JACOBIAN else (self.arrays or {})["norm"]
        return found


def between_blocks(cases: Sequence[Case]) -> list[Measurement]:
    """The factor of each measure from each block to the next, over the same points; of the energy in z from x on."""
    found = []
    for case in cases:
        for name, rows in case.levels().items():
            first = 0 if name in LATENT else 1
            for block, (before, after) in enumerate(pairwise(rows), first):
                step = {"of": name, "sigma": case.sigma, "from block": block, "to block": block + 1}
                found.append(factor_of(BLOCK_FACTOR, after, before, **dict(case.params), **step))
    return found


def between_depths(cases: Sequence[Case]) -> list[Measurement]:
    """Deepest over shallowest at each noise level, for the curvature in x and for the norms after the last block.

    Of several runs at one depth the geometric mean at each point. Empty for models of one depth.
    """
    trained = [case for case in cases if case.trained and case.blocks is not None]
    depths = sorted({case.blocks for case in trained if case.blocks is not None})
    if len(depths) < 2:
        return []
    found = []
    for sigma in dict.fromkeys(case.sigma for case in trained):
        at = [case for case in trained if case.sigma == sigma]
        for name in ("scaled_hessian_norm", *JACOBIAN):
            ends = [
                [case for case in at if case.blocks == depth and _has(case, name)] for depth in (depths[0], depths[-1])
            ]
            params = {"of": name, "sigma": sigma, "from depth": depths[0], "to depth": depths[-1]}
            if all(ends):
                found.append(_factor(ends[0], ends[1], name, params))
    return found


def _factor(shallow: Sequence[Case], deep: Sequence[Case], name: str, params: dict[str, Any]) -> Measurement:
    both = (*shallow, *deep)
    if reasons := [case.reason for case in both if case.arrays is None]:
        return Measurement.not_measurable(DEPTH_FACTOR, reasons[0], params=params)
    if len({case.group for case in both}) > 1:
        return Measurement.not_measurable(
            DEPTH_FACTOR,
            "the models were not measured at the same points: their held-out images differ; take runs of one data set",
            params=params,
        )
    before, after = (np.exp(np.mean([np.log(case.last(name)) for case in cases], axis=0)) for cases in (shallow, deep))
    return factor_of(DEPTH_FACTOR, after, before, **params, runs=f"{len(shallow)} and {len(deep)}")


def _has(case: Case, name: str) -> bool:
    """Whether a case is of the respect that a measure belongs to."""
    return case.what == (ENCODER if name in JACOBIAN else ENERGY_IN_X)


def directions_table(factors: Sequence[Measurement]) -> Table:
    """How many factors lie below 1, above it, and how many intervals hold it, for each measure."""
    rows: list[tuple[str | int | float | None, ...]] = [
        (name, over, *(counts[one] for one in WAYS), sum(counts.values())) for name, over, counts in _counted(factors)
    ]
    return Table(
        name="directions",
        title="Which way each measure goes",
        columns=("Measure", "Over", *WAYS, "of"),
        rows=tuple(rows),
        note="Counted by the factor's 95 % interval over the points; none is corrected for how many there are.",
    )


def _counted(factors: Sequence[Measurement]) -> Iterator[tuple[str, str, Counter[str]]]:
    for factor, over in ((BLOCK_FACTOR, BY_BLOCK), (DEPTH_FACTOR, BY_DEPTH)):
        chosen = [m for m in factors if m.name == factor]
        for name in dict.fromkeys(str(m.params["of"]) for m in chosen):
            yield name, over, Counter(way(m) for m in chosen if m.params["of"] == name)

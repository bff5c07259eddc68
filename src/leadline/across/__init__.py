"""What several runs say together: pairs of the same seeds, replicates over training seeds, looks at equal loss."""

from collections.abc import Callable, Iterable, Sequence

from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.registry import Registry
from leadline.runs import Run

Found = Measurement | Table | Panel
PARTS: Registry[Callable[[Sequence[Run]], Iterable[Found]]] = Registry("part of a comparison of runs")
"""Name -> what it finds in several finished runs; nothing where it does not apply."""


def measure_across(runs: Sequence[Run]) -> AuditResult:
    """All that the runs' finished audits say together; what cannot be measured is there with its reason.

    Reads what the runs have kept, image labels, samples and looks, and runs no network.
    """
    found = [item for part in PARTS.values() for item in part(runs)]
    return AuditResult(
        measurements=tuple(item for item in found if isinstance(item, Measurement)),
        tables=tuple(item for item in found if isinstance(item, Table)),
        panels=tuple(item for item in found if isinstance(item, Panel)),
    )

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
    return gathered(item for part in PARTS.values() for item in part(runs))


def gathered(items: Iterable[Found]) -> AuditResult:
    """Measurements, tables and panels, each kind in its order."""
    found = list(items)
    return AuditResult(
        measurements=tuple(item for item in found if isinstance(item, Measurement)),
        tables=tuple(item for item in found if isinstance(item, Table)),
        panels=tuple(item for item in found if isinstance(item, Panel)),
    )


# The parts register themselves, in the order of the names, and take PARTS from here.
from leadline.across import pairs as pairs  # noqa: E402
from leadline.across import replicates as replicates  # noqa: E402
from leadline.across import watched as watched  # noqa: E402

"""Audits: samples of a model against the data that it was trained on.

The names below are imported when first used: the formulas of intervals and of planning need no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.audit.auditing import AuditFailed as AuditFailed
    from leadline.audit.auditing import measure as measure
    from leadline.audit.context import METRICS as METRICS
    from leadline.audit.context import AuditContext as AuditContext
    from leadline.audit.context import Metric as Metric
    from leadline.audit.preparing import require_networks as require_networks

_HOMES = {
    # The registry is full once all metrics are imported, which `auditing` sees to.
    "METRICS": "leadline.audit.auditing",
    "AuditContext": "leadline.audit.context",
    "AuditFailed": "leadline.audit.auditing",
    "Metric": "leadline.audit.context",
    "measure": "leadline.audit.auditing",
    "require_networks": "leadline.audit.preparing",
}
__all__ = ["METRICS", "AuditContext", "AuditFailed", "Metric", "measure", "require_networks"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'leadline.audit' has no attribute {name!r}")

"""Audits: samples of a model against the data that it was trained on."""

from leadline.audit.auditing import AuditFailed, measure
from leadline.audit.context import METRICS, AuditContext, Metric
from leadline.audit.preparing import require_networks

__all__ = ["METRICS", "AuditContext", "AuditFailed", "Metric", "measure", "require_networks"]

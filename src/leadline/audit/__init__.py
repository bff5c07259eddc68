"""Audits: samples of a model against the data that it was trained on."""

from leadline.audit.auditing import AuditFailed, measure
from leadline.audit.context import METRICS, AuditContext, Metric

__all__ = ["METRICS", "AuditContext", "AuditFailed", "Metric", "measure"]

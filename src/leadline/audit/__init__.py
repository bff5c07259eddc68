"""Audits: samples of a model against the data that it was trained on."""

from leadline.audit.context import METRICS, AuditContext, Metric
from leadline.audit.measure import AuditFailed, measure

__all__ = ["METRICS", "AuditContext", "AuditFailed", "Metric", "measure"]

"""A finished audit judged: by the conditions of a gate, and beside an earlier audit."""

from collections.abc import Sequence
from pathlib import Path

from leadline.audit import METRICS
from leadline.audit.human_shares import HUMAN_METRIC
from leadline.comparison import as_text, compare
from leadline.errors import LeadlineError
from leadline.gate import Condition, check, parse
from leadline.recipe import AuditSpec
from leadline.records import AuditResult
from leadline.runs import Run, open_audit

MEASURED_BESIDE = {
    "labeler_accuracy": "",
    "share_sequence": "",
    "mean_pairwise_lpips": "diversity",
    "mean_pairwise_feature_distance": "diversity",
    **dict.fromkeys(HUMAN_METRIC.reports, ""),
}
"""Measurements that an audit makes only with some networks or human labels -> the metric that makes them, if any."""

Earlier = tuple[str, AuditResult]
"""What to call an earlier audit, and the audit."""


def read_conditions(texts: Sequence[str] | None, spec: AuditSpec | None = None) -> tuple[Condition, ...]:
    """The conditions of --fail-if, each name known and, where the audit's spec is given, measured by it."""
    makers = {name: metric for metric, entry in METRICS.items() for name in entry.reports} | MEASURED_BESIDE
    conditions = tuple(parse(text, makers) for text in texts or ())
    for condition in conditions:
        maker = makers[condition.name]
        if spec is not None and maker and maker not in spec.metrics:
            raise LeadlineError(
                f"--fail-if {condition.text!r}: {condition.name} is of the metric {maker}, which is not measured "
                f"(audit.metrics: {', '.join(spec.metrics)}): add it (--metrics), or leave the condition out"
            )
    return conditions


def read_earlier(path: Path | None) -> Earlier | None:
    """The audit of --compare, read before the new one is made: it may be about to be replaced."""
    return None if path is None else open_audit(path)


def judge(run: Run, conditions: Sequence[Condition], last: Earlier | None) -> tuple[list[str], list[str]]:
    """Compare a run's audit with the last one and check it; what comes of both is kept in the run folder.

    Returns what to print: all that is in order, and the sentences of the gate that failed.
    """
    said: list[str] = []
    failed: list[str] = []
    if last is not None:
        name, found = open_audit(run.folder)
        comparison = compare(last[1], found, names=(last[0], name))
        run.save_comparison(comparison)
        said.append(as_text(comparison))
    if conditions:
        verdicts = check(open_audit(run.folder)[1], conditions)
        run.save_gate(verdicts)
        for verdict in verdicts:
            sentences = [f"{run.title}: {sentence}" for sentence in verdict.sentences]
            (said if verdict.status == "passed" else failed).extend(sentences)
    return said, failed

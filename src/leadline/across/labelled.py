"""Whether two audits would have given one picture the same label, and what differs where they would not."""

from typing import Any

from leadline.recipe import AuditSpec
from leadline.records import AuditResult

LABELER = "the labeler"
"""How an audit's note of where its labels come from begins, where a labeler, which errs, gave them."""
GIVEN = "given labels"
WEIGHTS = "the labeler's weights"


def labelled_by(audit: AuditResult) -> dict[str, Any]:
    """What decides the labels of an audit, by name: their origin, the labeler's settings and its weights' fingerprint.

    Labels that were given depend on no setting. Epochs and seed are those of a labeler that was trained. A setting that
    an audit does not know came later, and was then as it is by default.
    """
    origin = audit.settings.get("labels", "") if audit.labels is None else audit.labels.origin
    weights = audit.settings.get("fingerprints", {}).get("labeler")
    if origin and not str(origin).startswith(LABELER):
        return {"labels": GIVEN}
    options = {name: _option(audit, name) for name in ("labeler_model", "prompts", "confidence")}
    if not (options["labeler_model"] or options["prompts"]):
        options |= {name: _option(audit, name) for name in ("labeler_epochs", "seed")}
    return {"labels": LABELER, **{f"audit.{name}": value for name, value in options.items()}, WEIGHTS: weights}


def labelled_unlike(first: AuditResult, second: AuditResult) -> str:
    """What differs in how two audits labelled, in words; empty where one picture would have one label.

    Weights that differ are named where no setting tells why.
    """
    one, other = labelled_by(first), labelled_by(second)
    apart = [name for name in one if name in other and one[name] != other[name]]
    told = [name for name in apart if name != WEIGHTS] or apart
    return ", ".join(f"{name}: {_words(one[name])} and {_words(other[name])}" for name in told)


def _option(audit: AuditResult, name: str) -> Any:
    value = audit.settings.get("audit", {}).get(name, AuditSpec.model_fields[name].default)
    return tuple(value) if isinstance(value, list) else value


def _words(value: Any) -> str:
    text = "; ".join(value) if isinstance(value, tuple) else value
    return "none" if text in ("", None) else str(text)

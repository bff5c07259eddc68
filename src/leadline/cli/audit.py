"""`leadline audit`: images against the training data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leadline.cli.console import console, finish
from leadline.options import (
    LABELER,
    RUNS,
    AllowTorchscript,
    AtMost,
    AuditOut,
    Compare,
    Download,
    Encoders,
    FailIf,
    Flips,
    Groups,
    HeldOut,
    HumanLabels,
    Images,
    LabelerData,
    LabelerModel,
    Labels,
    Metrics,
    Prompts,
    Set,
    Training,
    UntilGroup,
    UntilWidth,
    audit_changes,
    check_overrides,
    data_spec,
    refuse,
)

if TYPE_CHECKING:
    from leadline.audit.sequence import Rule
    from leadline.stages import Permitted

EXAMPLE = "Example: leadline audit runs/digits69-1a2b3c4d-s0 --until-width 0.02 --group 9 --at-most 20000"


def audit(
    samples: Images,
    training: Training = None,
    groups: Groups = None,
    held_out: HeldOut = None,
    labeler: LabelerData = None,
    labels: Labels = None,
    human_labels: HumanLabels = None,
    labeler_model: LabelerModel = None,
    prompts: Prompts = None,
    metrics: Metrics = None,
    encoders: Encoders = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
    flips: Flips = False,
    fail_if: FailIf = None,
    compare: Compare = None,
    until_width: UntilWidth = None,
    group: UntilGroup = None,
    at_most: AtMost = None,
    overrides: Set = None,
    out: AuditOut = None,
) -> None:
    """Measure images against the training data.

    Bias, memorization, diversity, fidelity, and the report. Of a finished audit, --fail-if and --compare measure
    nothing again. Options by --set: audit.level=0.99, data.classes=6,9 and so on. With --until-width, further images of
    a run's or a pipeline's model are drawn until a share is known that well, in a folder of their own (RUN-until); only
    bias is measured, by intervals that allow for having looked.
    """
    from leadline.recipe import Recipe, with_overrides

    check_overrides(overrides, "audit" if training is None else "audit, data or sample")
    changes = audit_changes(
        overrides, metrics=metrics, encoders=encoders, flips=flips, labeler_model=labeler_model, prompts=prompts
    )
    networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
    foreign = {"--groups": groups, "--held-out": held_out, "--labeler": labeler, "--labels": labels, "--out": out}
    rule = rule_of(until_width, group, at_most)
    if rule is not None:
        changes = of_bias_alone(changes, labels, human_labels)
    if training is None:
        refuse([name for name, value in foreign.items() if value is not None], "--train DATA")
        audit_of_run(samples, changes, fail_if, compare, networks, rule, human_labels)
        return
    whole = with_overrides(Recipe(data=data_spec(training, groups)), changes)
    from leadline.experiment import audit_images
    from leadline.judging import read_conditions, read_earlier

    conditions, last = read_conditions(fail_if, whole.audit), read_earlier(compare)
    place = out or RUNS / f"audit-{samples.resolve().name}"
    data: dict[str, Any] = {
        "train": whole.data,
        "held_out": held_out,
        "labeler": labeler,
        "spec": whole.audit,
        "sample": whole.sample,
    }
    with console() as progress:
        if rule is None:
            data |= {"labels": labels, "human_labels": human_labels}
            found = audit_images(samples, place, progress=progress, **data, **networks)
        else:
            from leadline.sequential import audit_pipeline_until

            found = audit_pipeline_until(samples, place, rule, progress=progress, **data, **networks)
    finish([found], found.report_file, conditions, last)


def rule_of(width: float | None, group: str | None, at_most: int | None) -> "Rule | None":
    """When to stop, by --until-width, --group and --at-most; None where images are not to be drawn."""
    from leadline.errors import LeadlineError

    if width is None:
        given = [name for name, value in (("--group", group), ("--at-most", at_most)) if value is not None]
        if given:
            raise LeadlineError(f"{', '.join(given)} need --until-width WIDTH beside it: no image is drawn without it")
        return None
    from leadline.audit.sequence import Rule

    return Rule(width=width, group=group) if at_most is None else Rule(width=width, group=group, at_most=at_most)


def of_bias_alone(changes: list[str], labels: Path | None, human_labels: Path | None) -> list[str]:
    """The changes of an audit whose images are drawn until a share is known; refuses what it would not look at."""
    from leadline.errors import LeadlineError

    only = {"audit.metrics": "bias", "audit.encoders": LABELER, "audit.flips": "false", "audit.stopping": "anytime"}
    for change in changes:
        field, _, value = change.partition("=")
        if field in only and value not in (only[field], json.dumps([only[field]])):
            raise LeadlineError(
                f"{field}={value}: --until-width measures bias alone, by the labeler; for the rest audit the run itself"
            )
    for flag, given in (("--labels", labels), ("--human-labels", human_labels)):
        if given is not None:
            raise LeadlineError(f"{flag} are of images that there are, --until-width draws others: leave one out")
    return [*changes, *(f"{field}={value}" for field, value in only.items())]


def audit_of_run(
    folder: Path,
    changes: list[str],
    fail_if: list[str] | None,
    compare: Path | None,
    networks: "Permitted",
    rule: "Rule | None" = None,
    human_labels: Path | None = None,
) -> None:
    """Audit a run against its own data; of a finished audit, only judge what it found."""
    from leadline.experiment import audit_run, finished_audit, recipe_of
    from leadline.judging import read_conditions, read_earlier

    anew = changes or rule is not None or human_labels is not None
    found = None if anew or not (fail_if or compare) else finished_audit(folder)
    spec = None if found is not None else recipe_of(folder, changes).audit
    conditions, last = read_conditions(fail_if, spec), read_earlier(compare)
    if found is None:
        with console() as progress:
            if rule is None:
                found = audit_run(folder, changes, progress, human_labels, **networks)
            else:
                from leadline.sequential import audit_run_until

                found = audit_run_until(folder, rule, changes, progress, **networks)
    finish([found], found.report_file, conditions, last)

"""`leadline plan`: how many images, labelled images and training runs a question about a share needs."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.errors import LeadlineError

EXAMPLE = "Example: leadline plan --share .0086 --detect .006 --power .8 --sensitivity .9 --specificity .99"


def plan(
    share: Annotated[float, typer.Option(help="Share of the group in the training data, between 0 and 1.")],
    detect: Annotated[
        float | None, typer.Option(help="Share in the samples that shall be told from it; else give --images.")
    ] = None,
    power: Annotated[float, typer.Option(help="Probability of telling them apart, from .5.")] = 0.8,
    level: Annotated[float, typer.Option(help="Level of the interval.")] = 0.95,
    sensitivity: Annotated[
        float | None, typer.Option(help="Share of the group's images that the classifier calls so; else perfect.")
    ] = None,
    specificity: Annotated[
        float | None, typer.Option(help="Share of all other images that it does not call so; else perfect.")
    ] = None,
    positives: Annotated[
        int | None, typer.Option(help="Labelled images of the group behind the sensitivity; else taken as known.")
    ] = None,
    negatives: Annotated[int | None, typer.Option(help="Labelled images of others behind the specificity.")] = None,
    replicates: Annotated[
        int | None, typer.Option(help="Training runs: the share is then that of the training.")
    ] = None,
    between_run_sd: Annotated[
        float | None, typer.Option(help="Standard deviation of the share between runs, as a share (.01: one point).")
    ] = None,
    images: Annotated[int | None, typer.Option(help="Images there are: what can they tell?")] = None,
    two_models: Annotated[
        bool, typer.Option("--two-models", help="Both shares are of samples: one model against another.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    out: Annotated[Path | None, typer.Option(help="Page with the curves to write; a JSON lies beside it.")] = None,
) -> None:
    """Say how many images, labelled images and training runs a question needs.

    And what the classifier makes impossible. No model and no data are needed: only the shares.
    """
    if as_json and out is not None:
        raise LeadlineError("--json prints what --out writes beside the page: give one of them")
    from leadline.audit.plan_question import Question
    from leadline.audit.plans import make_plan
    from leadline.report.plan import build_plan, plan_json, plan_text

    result = make_plan(
        Question(
            share=share,
            detect=detect,
            power=power,
            level=level,
            sensitivity=sensitivity,
            specificity=specificity,
            positives=positives,
            negatives=negatives,
            replicates=replicates,
            between_run_sd=between_run_sd,
            images=images,
            two_models=two_models,
        )
    )
    if as_json:
        print(plan_json(result), end="")
        return
    print(plan_text(result))
    if out is not None:
        print(build_plan(result, out))

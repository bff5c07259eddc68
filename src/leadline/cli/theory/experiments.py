"""`leadline theory ls` and `leadline theory run`: experiments that train their own models."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import finish_theory, lab_folder
from leadline.options import Out, Set, numbers

EXAMPLE = (
    "Example: leadline theory run growth --values 10,100,1000 --set train.steps=1000. First look: leadline theory run "
    "growth-debug"
)


def theory_ls() -> None:
    """List the experiments: what each shows, and its cost."""
    from leadline.lab.experiments import experiment, experiment_names

    for name in experiment_names():
        print(f"{name:20} {experiment(name).description}")


def theory_run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An experiment of `leadline theory ls`.")],
    values: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="Where the models stand: training images (growth, structure), channels of the first block (capacity), "
            "down blocks (depth).",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N,N,…", help="Training seeds: several give intervals between runs; default: 0."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--runs", metavar="RUN", help="A run folder in the models' place, repeatable: nothing is trained."
        ),
    ] = None,
    overrides: Set = None,
    out: Out = Path("runs"),
) -> None:
    """Train an experiment's models, measure them, and draw what was found.

    A model that is finished under --out is not trained again, one that was started is resumed, and what was measured
    is kept: interrupted, the same command goes on. --set changes a field of every model's recipe.
    """
    from dataclasses import replace

    from leadline.errors import LeadlineError
    from leadline.lab.experiments import experiment, experiment_folder, run_experiment

    given = [flag for flag, value in (("--values", values), ("--seeds", seeds), ("--set", overrides)) if value]
    if runs and given:
        raise LeadlineError(f"{', '.join(given)} and --runs: what is trained already is as it is; leave one out")
    wanted = experiment(name)
    wanted = replace(
        wanted,
        values=wanted.values if values is None else tuple(numbers("--values", values)),
        seeds=wanted.seeds if seeds is None else tuple(numbers("--seeds", seeds)),
        overrides=tuple(overrides or ()),
    )
    folder = lab_folder("run", [], out=experiment_folder(out, wanted))
    with console() as progress:
        found = run_experiment(wanted, out, runs=runs or (), progress=progress)
    finish_theory(found, folder)

"""`leadline theory linearity`: how linear models are, and how far their samples are from the training images."""

from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import (
    DataSet,
    LabOut,
    Models,
    NumImages,
    Seed,
    Sigmas,
    Train,
    finish_theory,
    lab_folder,
)

EXAMPLE = "Example: leadline theory linearity runs/mnist69-b2 runs/mnist69-b4 --sigma 40 10 4 1.5 .5 .1"


def linearity(
    models: Models,
    train: Train = None,
    overrides: DataSet = None,
    sigma: Sigmas = None,
    num_images: NumImages = 256,
    num_samples: Annotated[
        int, typer.Option("--samples", min=2, help="Samples of each model; a run's own where they are there.")
    ] = 500,
    sampler: Annotated[
        str, typer.Option(help="Of samples that are not there: ddim, euler, heun or ancestral.")
    ] = "ddim",
    steps: Annotated[int, typer.Option(min=1, help="Its steps.")] = 50,
    seed: Seed = 0,
    out: LabOut = None,
) -> None:
    """Measure how linear models are, and their generalization score.

    P2's Figure 1 for any checkpoints: the cosine of D(αx₁ + βx₂) and αD(x₁) + βD(x₂) over the noise level, beside the
    Gaussian and the multi-delta denoiser, and the distance of samples to the nearest training image. Models that differ
    in their number of training images or in depth are drawn along it. Interrupted, the same command goes on.
    """
    from leadline.lab.keeping import Kept
    from leadline.lab.linearity import Linear, compare_linearity
    from leadline.lab.sources import open_models
    from leadline.theory.noise import PAPER_SIGMAS

    spec = Linear(
        sigmas=tuple(sigma or PAPER_SIGMAS),
        num_images=num_images,
        num_samples=num_samples,
        seed=seed,
        sampler=sampler,
        steps=steps,
    )
    folder = lab_folder("linearity", models, train, overrides, out=out)
    with console() as progress:
        opened = open_models(models, train=train, overrides=overrides or (), progress=progress)
        found = compare_linearity(opened, spec, Kept(folder / ".kept"), progress=progress)
    finish_theory(found, folder)

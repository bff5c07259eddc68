"""`leadline theory denoisers`: a model beside the linear, the Gaussian and the multi-delta denoiser."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import DataSet, LabOut, NumImages, Seed, Sigmas, Train, finish_theory, lab_folder

EXAMPLE = "Example: leadline theory denoisers runs/mnist69-b2 --sigma 40 10 4 1.5 .5 .1 --num-images 256"


def denoisers(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Run folders, or diffusers pipeline folders with --train. None: the exact denoisers of --train alone.",
        ),
    ] = None,
    train: Train = None,
    overrides: DataSet = None,
    sigma: Sigmas = None,
    num_images: NumImages = 256,
    num_seeds: Annotated[
        int, typer.Option("--ways", min=2, help="Ways from noise to an image, each from its own seed.")
    ] = 16,
    num_rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=2,
            help="Noisy images per level that the linear map is fitted to; default: 4 per value of an image, 4,096 at "
            "least. More make its own error smaller.",
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="Of these ways: heun, euler or ddim.")] = "heun",
    seed: Seed = 0,
    out: LabOut = None,
) -> None:
    """Set a model beside the closed-form denoisers of its training set.

    P2's Figure 2 for any checkpoint: score differences over the noise level, the linear denoiser that is distilled from
    the model against the Gaussian one, effective k, samples and trajectories from the same noise. Interrupted, the same
    command goes on.
    """
    from leadline.data import load
    from leadline.errors import LeadlineError
    from leadline.lab.denoisers import Comparing, compare_denoisers
    from leadline.lab.keeping import Kept
    from leadline.lab.sources import data_spec, open_models
    from leadline.theory.noise import PAPER_SIGMAS

    if num_rows is not None and not models:
        raise LeadlineError("--rows is of the linear map distilled from a model: leave it out, or give models")
    spec = Comparing(
        sigmas=tuple(sigma or PAPER_SIGMAS),
        num_images=num_images,
        num_seeds=num_seeds,
        num_rows=num_rows,
        seed=seed,
        sampler=sampler,
    )
    paths = models or []
    folder = lab_folder("denoisers", paths, train, overrides, out=out)
    with console() as progress:
        opened = open_models(paths, train=train, overrides=overrides or (), progress=progress)
        data = load(data_spec(train, overrides or ()), progress) if train is not None and not paths else None
        found = compare_denoisers(opened, spec, Kept(folder / ".kept"), data=data, progress=progress)
    finish_theory(found, folder)

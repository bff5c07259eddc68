"""`leadline theory smoothness`: Lemma 1's Jacobians and the energy's curvature, by block and depth."""

from typing import Annotated, Literal

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import DataSet, LabOut, Models, Seed, Train, finish_theory, lab_folder

EXAMPLE = "Example: leadline theory smoothness runs/mnist69-964cd14c-s0 runs/mnist69-200b4714-s0 --sigma 4 1.5 .5"


def smoothness(
    models: Models,
    sigma: Annotated[
        list[float] | None,
        typer.Option(help="Noise levels, several after one flag; default: 21.108 4.06 1.501 .469 .116."),
    ] = None,
    num_images: Annotated[int, typer.Option(min=2, help="Noisy images at which is measured.")] = 8,
    num_latent: Annotated[
        int, typer.Option(min=0, help="Of them, where the energy in z is measured too, the dearest part; 0: nowhere.")
    ] = 4,
    compare: Annotated[
        Literal["exact", "none"],
        typer.Option(help="exact: the Gaussian and the multi-delta denoiser of the training data beside the models."),
    ] = "exact",
    train: Train = None,
    overrides: DataSet = None,
    seed: Seed = 0,
    out: LabOut = None,
) -> None:
    """Measure P1's Lemma 1 and Theorem 1: how smooth a model is, block by block and by depth.

    Norms of the encoder's Jacobian after each down block; the energy's curvature and a lower bound of its gradient's
    Lipschitz constant, in the image and in the hidden states; and which way each of them goes. About two minutes on
    2 cores for a small model at 16×16, most of it for the energy in z, in proportion to levels and images. It can be
    interrupted: started again, it goes on where it was.
    """
    from leadline.lab.keeping import Kept
    from leadline.lab.smoothness import SMOOTHNESS_SIGMAS, Smoothing, measure_smoothness
    from leadline.lab.sources import open_models

    spec = Smoothing(
        sigmas=tuple(sigma or SMOOTHNESS_SIGMAS),
        num_images=num_images,
        num_latent=num_latent,
        seed=seed,
        exact=compare == "exact",
    )
    folder = lab_folder("smoothness", models, train, overrides, out=out)
    with console() as progress:
        opened = open_models(models, train=train, overrides=overrides or (), progress=progress)
        found = measure_smoothness(opened, spec, Kept(folder / ".kept"), progress)
    finish_theory(found, folder)

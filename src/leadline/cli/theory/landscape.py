"""`leadline theory landscape`."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import DataSet, Seed, Train, finish_theory, lab_folder

EXAMPLE = (
    "Example: leadline theory landscape --toy grid --share .8, or on images: leadline theory landscape --train digits "
    "--set data.shares=6:0.9,9:0.1"
)
TOY, SHARE, NUM_TOYS, DRAWINGS = "clusters", 0.8, 100, 8


def landscape(
    toy: Annotated[
        str | None, typer.Option(help="Points in the plane: clusters, grid or moons; default: clusters.")
    ] = None,
    train: Train = None,
    overrides: DataSet = None,
    tau: Annotated[
        list[float] | None,
        typer.Option(help="Values of τ = 2σ², several after one flag; default: an even grid, see --num-taus."),
    ] = None,
    num_taus: Annotated[
        int | None,
        typer.Option(min=2, help="Values from where points are their own minima to where one remains; default: 12."),
    ] = None,
    share: Annotated[
        list[float] | None, typer.Option(help="A toy's share of the majority, from .5 to below 1; default: .8.")
    ] = None,
    num_points: Annotated[
        int | None, typer.Option(min=2, help="Points of a toy (default: 100), or images (default: all up to 500).")
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Drawings of a toy that values are averaged over; default: 8.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Noisy points whose flow is followed, at each τ.")] = 500,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of page, figures and JSON; default: runs/theory-landscape-NAME-HASH.")
    ] = None,
) -> None:
    """Draw the energy landscape of soft k-NN on points or images, and follow who holds its minima.

    E(x) = −τ log Σ exp(−|x − x_i|²/τ) at growing τ: maps, minima and basins by class, the largest class's share,
    merged minima against Theorem 2. Interrupted, the same command goes on.
    """
    from leadline.errors import LeadlineError
    from leadline.lab.keeping import Kept
    from leadline.lab.landscape import image_points, toy_points
    from leadline.lab.landscape import landscape as measure

    refused = {"--toy": toy, "--share": share, "--replicates": replicates} if train else {"--set": overrides}
    if given := [flag for flag, value in refused.items() if value]:
        other = "--train takes its points from data" if train else "a toy has no data fields"
        raise LeadlineError(f"{other}: leave out {' and '.join(given)}")
    if share and len(share) > 1:
        raise LeadlineError(f"--share takes one number here, the majority's share: {len(share)} given")
    if tau and num_taus is not None:
        raise LeadlineError("--num-taus is of the default grid: leave it out beside --tau")
    layout = toy or TOY
    folder = lab_folder("landscape", [], train or layout, overrides, out=out)
    with console() as progress:
        if train:
            drawn = [image_points(train, overrides or (), num_points, progress=progress)]
        else:
            part, number = share[0] if share else SHARE, num_points or NUM_TOYS
            drawn = [toy_points(layout, number, part, seed, each) for each in range(replicates or DRAWINGS)]
        found = measure(
            drawn,
            tau or (),
            num_taus=num_taus or 12,
            num_queries=queries,
            seed=seed,
            kept=Kept(folder / ".kept"),
            progress=progress,
        )
    finish_theory(found, folder)

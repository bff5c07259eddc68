"""`leadline watch`: looks at the snapshots of a training, as `train.watch_every` makes them while it runs."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console, finish
from leadline.options import AllowTorchscript, Download

EXAMPLE = "Example: leadline watch runs/mnist69-0f0f0f0f-s0 --images 256 --steps 25"


def watch(
    run: Annotated[Path, typer.Argument(help="Run folder of a training that kept snapshots (train.snapshots).")],
    images: Annotated[
        int | None, typer.Option(min=2, help="Images drawn at each look; default: the run's train.watch_images.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="DDIM steps of each image; default: train.watch_steps.")
    ] = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
) -> None:
    """Measure shares, copies, diversity and losses at each snapshot of a training.

    The same seeds at every snapshot; the report draws them over the steps. A training is watched as it goes with
    --set train.watch_every=500. Interrupted, the same command goes on.
    """
    from leadline.experiment import watch_run
    from leadline.stages import Permitted

    networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
    with console() as progress:
        found = watch_run(run, num_images=images, steps=steps, progress=progress, **networks)
    finish([found], found.report_file)

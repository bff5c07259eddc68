"""The flags that the theory commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadline.cli.console import tell

if TYPE_CHECKING:
    from leadline.records import TheoryResult

Models = Annotated[
    list[Path], typer.Argument(metavar="MODEL...", help="Run folders, or diffusers pipeline folders with --train.")
]
Train = Annotated[
    str | None,
    typer.Option("--train", metavar="DATA", help="Training data of a pipeline: digits, mnist:PATH, a path, hf:NAME."),
]
DataSet = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a field of --train: data.num_images=1000."),
]
Sigmas = Annotated[
    list[float] | None,
    typer.Option("--sigma", help="Noise levels, several after one flag; default: P2's ten, from 80 to .002."),
]
NumImages = Annotated[int, typer.Option(min=2, help="Images whose values are averaged.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of noise and choices.")]


def finish_theory(result: "TheoryResult", folder: Path) -> None:
    """Write the page, its figures and the JSON; print the answer and, last, the page's path."""
    from leadline.report.lab import build_lab

    tell(build_lab(result, folder))

"""The flags that the theory commands share."""

import hashlib
import json
import re
from collections.abc import Sequence
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
LabOut = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of page, figures and JSON; default: runs/theory-COMMAND-MODEL-HASH."),
]


def lab_folder(
    command: str,
    models: Sequence[Path],
    data: str | None = None,
    overrides: Sequence[str] | None = None,
    *,
    out: Path | None = None,
) -> Path:
    """`out`, or runs/theory-COMMAND-MODEL-HASH: the first model's folder, else the data; the hash tells what else is
    given apart. Raises LeadlineError where a page there would take the place of something else.
    """
    from leadline.report.lab import check_folder

    places = [path.expanduser().resolve() for path in models]
    first = places[0].name if places else data or "data"
    more = f"-and-{len(places) - 1}-more" if len(places) > 1 else ""
    called = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{first}{more}").strip("-.")
    given = json.dumps([[str(path) for path in places], data, list(overrides or ())])
    digest = hashlib.sha256(given.encode()).hexdigest()[:6]
    folder = out or Path("runs") / f"theory-{command}-{called}-{digest}"
    check_folder(folder)
    return folder


def finish_theory(result: "TheoryResult", folder: Path) -> None:
    """Write the page, its figures and the JSON; print the answer and, last, the page's path."""
    from leadline.report.lab import build_lab

    tell(build_lab(result, folder))

"""`leadline flips`: two sets of images of the same seeds, and what changes class between them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadline.cli.console import console, tell
from leadline.options import AllowTorchscript, Download

if TYPE_CHECKING:
    from leadline.stages import Permitted

EXAMPLE = (
    "Examples: leadline flips runs/digits69-ed27831e-s0 runs/digits69-a92be13e-s0; of one run, a checkpoint beside the "
    "end of its training: leadline flips runs/RUN@500 runs/RUN"
)
SET = "A run's folder, an audit's, or RUN@STEP: a snapshot of the run (train.snapshots), which draws the run's seeds."


def flips(
    first: Annotated[str, typer.Argument(metavar="A", help=SET)],
    second: Annotated[str, typer.Argument(metavar="B", help="As A: what is compared with it, image by image.")],
    group: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The one class to compare; default: each class.")
    ] = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
    out: Annotated[Path, typer.Option(help="The page to write; the JSON lies beside it.")] = Path("flips.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Compare two sets of images of the same seeds, pair by pair.

    Exact McNemar test and interval of each class's share, the matrix of labels, and the images that change class, in
    both directions. Images of a snapshot are drawn and labelled once and kept in RUN/checkpoints; interrupted, the same
    command goes on.
    """
    from leadline.flipping import flips as compare
    from leadline.report.pairs_page import build_pairs, check_page

    check_page(out)
    networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
    with console() as progress:
        found = compare(first, second, group=group, progress=progress, **networks)
    page = build_pairs(found, out)
    if as_json:
        print(page.with_suffix(".json").read_text(encoding="utf-8"), end="")
    else:
        tell(page)

"""`leadline theory abstraction`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import Seed, finish_theory, lab_folder

EXAMPLE = "Example: leadline theory abstraction --share .5 .6 .7 .8 .9 --size 64 --replicates 2000"
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)


def abstraction(
    share: Annotated[
        list[float] | None,
        typer.Option(help="Shares of the class that is followed, several after one flag; default: .5 .6 .7 .8 .9."),
    ] = None,
    shares: Annotated[
        list[str] | None,
        typer.Option(metavar="P,Q,...", help="Shares of all classes, repeatable: .5,.3,.2; the first is followed."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="Classes of each --share, the others in equal parts; default: 2.")
    ] = None,
    size: Annotated[int, typer.Option(min=2, help="Cells to a side of a grid.")] = 64,
    window: Annotated[int, typer.Option(min=2, help="Cells to a side of what one step makes one cell of.")] = 2,
    ties: Annotated[
        Literal["random", "keep", "majority", "minority"],
        typer.Option(help="random; keep: the first tied cell's class; the grid's majority or minority."),
    ] = "random",
    levels: Annotated[int | None, typer.Option(min=1, help="Steps; default: as many as the size allows.")] = None,
    replicates: Annotated[int, typer.Option(min=2, help="Grids per mixture.")] = 2000,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of page, figures and JSON.")] = Path("runs/theory-abstraction"),
) -> None:
    """Redraw P1's Figure 3, over thousands of grids and against its exact law.

    Grids of independent cells, each a minimum of some class, are abstracted level by level: every window becomes its
    most frequent class. The share of a class at each level, in per cent and in log-odds, and one grid of each mixture.
    """
    from leadline.errors import LeadlineError
    from leadline.lab.abstraction import AbstractionSpec, even_rest
    from leadline.lab.abstraction import abstraction as simulate

    if classes is not None and share is None and shares:
        raise LeadlineError("--classes is of --share; --shares names every class: leave out --classes")
    starts = share if share is not None else () if shares else SHARES
    mixtures = [even_rest(start, classes or 2) for start in starts] + [_parsed(text) for text in shares or ()]
    spec = AbstractionSpec(
        mixtures=tuple(mixtures),
        size=size,
        window=window,
        ties=ties,
        levels=levels,
        replicates=replicates,
        seed=seed,
    )
    folder = lab_folder("abstraction", [], out=out)
    with console() as progress:
        found = simulate(spec, progress)
    finish_theory(found, folder)


def _parsed(text: str) -> tuple[float, ...]:
    """`.5,.3,.2` as numbers."""
    from leadline.errors import LeadlineError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise LeadlineError(f"--shares takes one number per class (.5,.3,.2), not {text!r}") from None

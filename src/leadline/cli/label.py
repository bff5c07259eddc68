"""`leadline label`: a page on which a person labels some of the samples."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.options import Groups, Training, data_spec, refuse

EXAMPLE = (
    "Example: leadline label runs/digits69-1f2e3d4c-s0 --n 200, label on the page, save, then "
    "leadline audit runs/digits69-1f2e3d4c-s0 --human-labels human-labels-….json"
)


def label(
    samples: Annotated[Path, typer.Argument(help="A run, a folder of images, Parquet, or the audit of a pipeline.")],
    n: Annotated[int, typer.Option("--n", help="How many images to draw at random.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 0,
    classes: Annotated[
        str | None,
        typer.Option(help="Classes to choose from, separated by commas; default: those with training images."),
    ] = None,
    training: Training = None,
    groups: Groups = None,
    out: Annotated[Path | None, typer.Option("--out", help="The page; default: label.html in the run.")] = None,
) -> None:
    """Write a page on which a person labels some of the samples.

    One HTML file, which works offline and keeps its labels; it saves a JSON that `leadline audit --human-labels` reads.
    """
    if training is None:
        refuse(["--groups"] if groups is not None else [], "--train DATA")
    from leadline.labeling import label_task
    from leadline.report.label_page import build_label_page

    with console() as progress:
        task = label_task(
            samples,
            n=n,
            seed=seed,
            classes=None if classes is None else [name.strip() for name in classes.split(",")],
            train=None if training is None else data_spec(training, groups),
            progress=progress,
        )
        progress(f"writing a page of {n:,} images", 0, 0, "")
        own_folder = (samples / "run.json").exists()
        page = build_label_page(task, out or (samples if own_folder else Path()) / "label.html")
    print(
        f"{n:,} of {task.num_samples:,} images, drawn at random with seed {seed}, to be labelled as "
        f"{', '.join((*task.classes, task.none, task.unsure))}."
    )
    print(page)

"""`leadline theory bias-variance`: P1's Eq. 4 and 5 over the noise level."""

from pathlib import Path
from typing import Annotated

import typer

from leadline.cli.console import console
from leadline.cli.theory.common import DataSet, LabOut, NumImages, Seed, Sigmas, Train, finish_theory, lab_folder

EXAMPLE = "Example: leadline theory bias-variance --train digits --sigma 40 10 4 1.5 .5 .1"


def bias_variance(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Run folders; those that differ in their training seed only are replicates of one depth. None: soft "
            "k-NN on --train alone.",
        ),
    ] = None,
    train: Train = None,
    overrides: DataSet = None,
    sigma: Sigmas = None,
    num_images: NumImages = 64,
    draws: Annotated[int, typer.Option(min=2, help="Noises per image and noise level.")] = 8,
    replicates: Annotated[
        int, typer.Option(min=1, help="Training sets of soft k-NN, drawn from the data with replacement.")
    ] = 4,
    sampler: Annotated[
        str | None, typer.Option(help="Of the models' way down: heun, euler or ddim; default: heun.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Its steps from the top; from a lower level as many as are left; default: 18."),
    ] = None,
    encode_with: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Also encode images by this model, with --decode-with.")
    ] = None,
    decode_with: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="And decode them by this one: what changes class?")
    ] = None,
    seed: Seed = 0,
    out: LabOut = None,
) -> None:
    """Measure bias and variance of the class that is generated, for soft k-NN and for trained models.

    P1's Eq. 4 and 5: training images are made noisy, and the class of what is made from them is compared with their
    own. The variance is split into noise and training run. Interrupted, the same command goes on.
    """
    from leadline.data import load
    from leadline.errors import LeadlineError
    from leadline.lab.bias_variance import BiasVarianceSpec, measure_bias_variance
    from leadline.lab.exchange import Exchange
    from leadline.lab.keeping import Kept
    from leadline.lab.sources import data_spec, open_models
    from leadline.theory.noise import PAPER_SIGMAS

    given = [flag for flag, value in (("--sampler", sampler), ("--steps", steps)) if value is not None]
    if given and not models and encode_with is None:
        raise LeadlineError(f"soft k-NN uses no sampler: leave out {' and '.join(given)}, or give models")
    spec = BiasVarianceSpec(
        sigmas=tuple(sigma or PAPER_SIGMAS),
        num_images=num_images,
        draws=draws,
        replicates=replicates,
        seed=seed,
        sampler=sampler or "heun",
        steps=steps or 18,
    )
    if (encode_with is None) != (decode_with is None):
        raise LeadlineError("--encode-with and --decode-with go together: give both, or neither")
    pair = [] if encode_with is None or decode_with is None else [encode_with, decode_with]
    paths = models or []
    folder = lab_folder("bias-variance", [*paths, *pair], train, overrides, out=out)
    with console() as progress:
        opened = open_models(paths, train=train, overrides=overrides or (), progress=progress)
        both = open_models(pair, train=train, overrides=overrides or (), progress=progress)
        alone = train is not None and not opened and not both
        data = load(data_spec(train, overrides or ()), progress) if train is not None and alone else None
        found = measure_bias_variance(
            opened,
            spec,
            Kept(folder / ".kept"),
            data=data,
            exchange=Exchange(encoder=both[0], decoder=both[1]) if both else None,
            progress=progress,
        )
    finish_theory(found, folder)

"""`leadline steer-sweep`: a run's images at several settings of the bypass, each audited."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leadline.cli.console import console, tell
from leadline.options import AllowTorchscript, Download, Encoders, Set, audit_changes, check_overrides

if TYPE_CHECKING:
    from leadline.stages import Permitted

EXAMPLE = (
    'Example: leadline steer-sweep runs/digits69-1a2b3c4d-s0 --strength 0 .25 .5 1 --schedule "window(sigma_max=5, '
    'sigma_min=0.5)" --schedule 1 --confirm-seed 1'
)


def steer_sweep(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    strength: Annotated[
        list[float], typer.Option(help="Strengths of the bypass in [0, 1], several after one flag; 0 is always there.")
    ],
    schedule: Annotated[
        list[str] | None,
        typer.Option(help='Strength over the noise level, repeatable: "ramp(0, 1)", "1" (constant, the default).'),
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(help="blend (default), elements, channels, attenuate; repeatable.")
    ] = None,
    num_images: Annotated[int | None, typer.Option(min=3, help="Images per setting; default: the run's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all settings' images; default: the run's.")] = None,
    choose: Annotated[
        str,
        typer.Option(
            metavar="MEASURE[,SPACE]",
            help="By what the best setting is chosen: the kernel distance is not biased by the number of images, "
            "frechet_distance is.",
        ),
    ] = "kernel_distance",
    confirm_seed: Annotated[
        int | None, typer.Option(min=0, help="Draw the chosen setting and strength 0 again from this seed, and test.")
    ] = None,
    encoders: Encoders = None,
    download: Download = False,
    allow_torchscript: AllowTorchscript = False,
    overrides: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run folders; default: where RUN lies.")] = None,
) -> None:
    """Sample and audit a run at several settings of the bypass, from the same seeds.

    Every setting (strengths x schedules x modes) is a run folder of its own with RUN's model, tested against strength
    0 image by image, with Holm's correction over the settings. The page draws quality against memorization and bias.
    RUN itself serves as strength 0 where its images and its audit are the same; with another audit its images are
    linked into a folder of their own, and RUN stays as it is. Interrupted, the same command goes on; confirmations on
    several seeds are all kept and shown. Options by --set: those of the audit (audit.metrics=bias,fidelity).
    """
    check_overrides(overrides, "audit")
    changes = audit_changes(overrides, encoders=encoders)
    from leadline.across import measure_across
    from leadline.report import build
    from leadline.steer_sweep import steer_sweep as sweep_settings

    networks: Permitted = {"download": download, "allow_torchscript": allow_torchscript}
    with console() as progress:
        found = sweep_settings(
            source,
            strength,
            schedules=schedule or (),
            modes=mode or (),
            num_images=num_images,
            seed=seed,
            choose_by=choose,
            confirm_seed=confirm_seed,
            overrides=changes,
            root=out,
            progress=progress,
            **networks,
        )
    tell(build(found.runs, found.folder / "report.html", sweep=found.sweep, across=measure_across(found.runs)))

"""`leadline steer`: a text-to-image pipeline's pictures over prompts and strengths."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from leadline.cli.console import console, tell
from leadline.options import ENCODER_NAMES

EXAMPLE = (
    'Example: leadline steer stable-diffusion-v1-5/stable-diffusion-v1-5 --prompt "a woman" --prompt "a girl" --prompt '
    '"an actress" --strength 0 .25 .5 .75 1 --seed 7 --images 8'
)
STRENGTHS = ("0", ".25", ".5", ".75", "1")


def steer(
    pipeline: Annotated[
        str,
        typer.Argument(metavar="PIPELINE", help="Folder of a Stable Diffusion (XL) pipeline, or its hub name."),
    ],
    prompt: Annotated[list[str], typer.Option(help="What to draw, repeatable: a row of the grid each.")],
    strength: Annotated[
        list[str] | None,
        typer.Option(help="Strengths of the bypass in [0, 1], several after one flag; default: 0 .25 .5 .75 1."),
    ] = None,
    seed: Annotated[int, typer.Option(help="First seed; every prompt and strength starts from its noise.")] = 0,
    images: Annotated[int, typer.Option(help="Number of seeds: the distances are measured over all of them.")] = 1,
    schedule: Annotated[
        str, typer.Option(help='Strength over the noise level, times --strength: "ramp(0, 1)", "window(sigma_max=5)".')
    ] = "",
    mode: Annotated[str, typer.Option(help="blend, elements, channels or attenuate.")] = "blend",
    branch: Annotated[str, typer.Option(help="both, conditional or unconditional half of the guidance.")] = "both",
    freeu: Annotated[bool, typer.Option("--freeu", help="Also draw under FreeU, beside strength 0.")] = False,
    init_image: Annotated[
        Path | None, typer.Option(help="Image-to-image: start from the middle square of this picture.")
    ] = None,
    init_strength: Annotated[
        float | None, typer.Option(help="Share of the steps taken from there; default: 0.8 with --init-image.")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Scale of classifier-free guidance; up to 1: none.")] = 7.5,
    steps: Annotated[int, typer.Option(help="Sampler steps.")] = 50,
    sampler: Annotated[str, typer.Option(help="ddim, euler, heun or dpm++.")] = "ddim",
    size: Annotated[int | None, typer.Option(help="Height and width in px; default: the pipeline's own.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:WEIGHTS]",
            help=f"Network that compares the images, repeatable: {ENCODER_NAMES}. Default: lpips-alex where its "
            "weights are at hand; pixels always.",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the pipeline and the networks' weights that are not here.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of images and page; default: runs/steer-NAME.")] = None,
) -> None:
    """Draw prompts at several strengths of the bypass, from the same seeds.

    A labelled grid (grid.png), every image, and a page with the distance between the prompts' pictures at each
    strength. Interrupted, the same command goes on; prompts, strengths and seeds can be added to a folder.
    """
    from leadline.recipe import SteerSpec
    from leadline.report.prompts import build_prompts
    from leadline.steer_grid import GridSpec
    from leadline.steer_grid import steer as draw

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(pipeline).expanduser().resolve().name).strip("-.") or "pipeline"
    start = init_strength if init_strength is not None or init_image is None else 0.8
    bypassed: dict[str, Any] = {"schedule": schedule, "mode": mode, "branch": branch}
    spec = GridSpec(
        prompts=tuple(prompt),
        strengths=_numbers(strength or STRENGTHS),
        seed=seed,
        num_images=images,
        steer=SteerSpec(**bypassed),
        freeu=freeu,
        guidance=guidance,
        steps=steps,
        sampler=sampler,
        precision=precision,
        size=size,
        init_strength=start,
        encoders=tuple(encoder or ()),
    )
    folder = out or Path("runs") / f"steer-{name}"
    with console() as progress:
        found = draw(pipeline, spec, folder, init_image=init_image, download=download, progress=progress)
    tell(build_prompts(found, name, folder))


def _numbers(texts: "list[str] | tuple[str, ...]") -> tuple[float, ...]:
    """0, .25 or 0,.25,.5 as numbers."""
    from leadline.errors import LeadlineError

    try:
        return tuple(float(part) for text in texts for part in text.split(","))
    except ValueError:
        raise LeadlineError(f"--strength takes numbers from 0 to 1 (0 .25 .5), not {' '.join(texts)!r}") from None

"""Draw prompts at several strengths of the bypass from the same seeds, and measure how far apart the images are."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from leadline.audit.encoders import load_encoder
from leadline.audit.encoders.perceptual import ALEXNET
from leadline.audit.features import Encoder
from leadline.audit.preparing import device_or_default
from leadline.audit.prompt_distance import prompt_distances
from leadline.data.convert import Converter, Unscalable
from leadline.errors import LeadlineError
from leadline.files import file_digest, locked
from leadline.progress import ProgressCallback, silent
from leadline.records import AuditResult, Measurement, Table, scaled
from leadline.steer_grid.spec import PRECISIONS, Column, GridSpec, by_flag
from leadline.steer_grid.store import Store, read_image
from leadline.steering import steered
from leadline.text.generating import bypass_strengths, check_sampling, cut_prompts, generate, own_size, prepared
from leadline.text.loading import load_scheduler, load_text_pipeline, pipeline_fingerprint, pipeline_folder, quiet

PIXELS, LPIPS = "pixels", "lpips-alex"
FREEU = {
    768: ("Stable Diffusion 1.5", {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}),
    1024: ("Stable Diffusion 2.1", {"b1": 1.4, "b2": 1.6, "s1": 0.9, "s2": 0.2}),
    2048: ("Stable Diffusion XL", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
}
"""Width of the text embeddings that a U-Net reads -> model, and the numbers that FreeU's authors give for it."""


def steer(
    source: str,
    spec: GridSpec,
    out: Path,
    *,
    init_image: Path | None = None,
    device: str | None = None,
    download: bool = False,
    progress: ProgressCallback = silent,
) -> AuditResult:
    """Draw the spec's images into `out` and measure how far apart the prompts' images are, setting by setting.

    source: a pipeline folder or a hub name. init_image: where image-to-image starts, cut to the middle square. Images
    that are there are kept, so that an interrupted call goes on; images of other settings are refused. Panel `grid`:
    the first seed's images, prompts x settings; table `schedule`: the strengths at the sampler's steps. Raises
    LeadlineError, as far as it can before the model is loaded, and all else before the first image is drawn.
    """
    if (init_image is None) != (spec.init_strength is None):
        raise LeadlineError("--init-image and --init-strength belong together: give both or neither")
    picture = None if init_image is None else read_image(init_image, "give a picture (--init-image)")
    folder = pipeline_folder(source, download=download)
    progress("reading the pipeline's files", 0, 0, "")
    where = device_or_default(device)
    drawn_by = {
        "pipeline": pipeline_fingerprint(folder),
        "init": None if init_image is None else file_digest(init_image)[:16],
        **asdict(spec) | {"steer": spec.steer.model_dump(mode="json", exclude={"strength"})},
        "device": where.type,
        **{name: version(name) for name in ("torch", "diffusers")},
    }
    for name in ("prompts", "strengths", "seed", "num_images", "freeu", "encoders", "level", "size"):
        del drawn_by[name]  # in the images' names, no part of them, or not known yet
    with locked(out / ".lock"):
        store = Store(out / "images", spec)
        store.check(drawn_by)
        schedule, whole = _schedule(load_scheduler(str(folder)), spec)
        progress("loading the pipeline", 0, 0, "")
        loaded = load_text_pipeline(str(folder), device=where, dtype=PRECISIONS[spec.precision])
        pipe = prepared(loaded, sampler=spec.sampler, image_to_image=picture is not None)
        size = _size(pipe, spec)
        drawn_by["size"] = size
        store.check(drawn_by)
        encoders, told = _encoders(spec, size, where, download)
        for column in spec.columns:
            with _set_up(pipe, spec, column):
                pass  # what cannot be bypassed is said here, before anything is drawn
        cut = _cut_prompts(pipe, spec)
        converter = Converter("--init-image", 3, (size, size), "crop")
        start = None if picture is None else torch.from_numpy(scaled(_converted(converter, picture)[None]))
        store.write_settings(drawn_by)
        _draw(pipe, spec, store, size, start, progress)
        found = _measure(encoders, spec, store, progress)
    settings = {
        "pipeline": source,
        "class": type(loaded).__name__,
        "device": str(where),
        "size": f"{size}×{size} px",
        "init image": None if init_image is None else f"{init_image.name}, {converter.describe()}",
        "columns": {spec.label(column): None if column.freeu else column.strength for column in spec.columns},
        "wholly bypassed": whole,
        "FreeU": _freeu_words(pipe) if spec.freeu else None,
        "cut prompts": cut,
        **told,
        **{name: value for name, value in asdict(spec).items() if name not in ("size", "encoders")},
        "steer": drawn_by["steer"],
        "packages": {name: version(name) for name in ("leadline", "torch", "diffusers", "transformers")},
        "pipeline fingerprint": drawn_by["pipeline"],
    }
    return AuditResult(tuple(found), tables=(schedule,), panels=(store.panel(),), settings=settings)


def _draw(
    pipe: Any,
    spec: GridSpec,
    store: Store,
    size: int,
    start: Float[torch.Tensor, "1 c h w"] | None,
    progress: ProgressCallback,
) -> None:
    """Draw what lacks, one image at a time, so that its bits do not depend on which others were there."""
    every = [(column, seed, prompt) for column in spec.columns for seed in spec.seeds for prompt in spec.prompts]
    absent = [one for one in every if not store.file(one[0], one[2], one[1]).exists()]
    done = len(every) - len(absent)
    progress("drawing", done, len(every), "")
    for column, seed, prompt in absent:
        with quiet(), _set_up(pipe, spec, column):
            images = generate(
                pipe,
                [prompt],
                seed=seed,
                indices=[0],
                steps=spec.steps,
                guidance=spec.guidance,
                init=start,
                init_strength=spec.init_strength,
                size=size if start is None else None,
            )
        store.write(store.file(column, prompt, seed), images[0].numpy())
        done += 1
        progress("drawing", done, len(every), spec.label(column))


def _measure(
    encoders: list[Encoder], spec: GridSpec, store: Store, progress: ProgressCallback
) -> Iterator[Measurement]:
    columns = {spec.label(column): column for column in spec.columns}
    untouched = next((label for label, column in columns.items() if column == Column()), None)
    for encoder in encoders:
        yield from prompt_distances(
            encoder,
            lambda label, prompt, seed: store.read(columns[label], prompt, seed),
            settings=list(columns),
            prompts=spec.prompts,
            seeds=spec.seeds,
            compared_with=untouched,
            level=spec.level,
            progress=partial(_told, progress, encoder.name),
        )


def _told(progress: ProgressCallback, name: str, done: int, total: int) -> None:
    progress(f"comparing by {name}", done, total, "")


@contextmanager
def _set_up(pipe: Any, spec: GridSpec, column: Column) -> Iterator[None]:
    """The pipeline under a column's setting."""
    with _freeu(pipe) if column.freeu else nullcontext(), steered(pipe, spec.sampling(column.strength).steer):
        yield


@contextmanager
def _freeu(pipe: Any) -> Iterator[None]:
    """FreeU (2309.11497) with its authors' numbers for this width of U-Net; of an unknown one, those of SD 1.5."""
    pipe.enable_freeu(**_freeu_numbers(pipe)[1])
    try:
        yield
    finally:
        pipe.disable_freeu()


def _freeu_numbers(pipe: Any) -> tuple[str, dict[str, float]]:
    width = pipe.unet.config["cross_attention_dim"]
    return FREEU.get(width if isinstance(width, int) else 0, FREEU[768])


def _freeu_words(pipe: Any) -> str:
    model, numbers = _freeu_numbers(pipe)
    words = ", ".join(f"{name} {value:g}" for name, value in numbers.items())
    width = pipe.unet.config["cross_attention_dim"]
    if isinstance(width, int) and width in FREEU:
        return f"{words} (its authors' numbers for {model})"
    return f"{words} (none are published for this U-Net; FreeU's numbers for {model} are taken)"


def _schedule(scheduler: Any, spec: GridSpec) -> tuple[Table, str | None]:
    """Strengths at the noise levels of the sampler's steps, and the column under which the mid-block gives nothing.

    Raises LeadlineError where the scheduler does not take the steps, and where a column would bypass nothing.
    """
    bypassed = [column for column in spec.columns if column.strength > 0]
    levels = check_sampling(spec.sampling(0.0), scheduler, option=by_flag)
    found = {
        spec.label(column): bypass_strengths(spec.sampling(column.strength).steer, levels, option=by_flag)
        for column in bypassed
    }
    table = Table(
        name="schedule",
        title="Strength of the bypass at the sampler's steps",
        columns=("call of the U-Net", "noise level σ", *found),
        rows=tuple(zip(range(1, len(levels) + 1), levels.tolist(), *(s.tolist() for s in found.values()), strict=True)),
    )
    blend = spec.steer.mode == "blend" and spec.steer.branch == "both"
    return table, next((label for label, values in found.items() if blend and (values == 1).all()), None)


def _cut_prompts(pipe: Any, spec: GridSpec) -> list[str]:
    """Prompts longer than the text encoders read, with a warning: their end has no effect."""
    cut = cut_prompts(pipe, spec.prompts)
    for prompt, (_, most) in cut.items():
        warnings.warn(f"the prompt {prompt[:60]!r}... has more than the {most} tokens that are read", stacklevel=1)
    return list(cut)


def _encoders(spec: GridSpec, size: int, device: torch.device, download: bool) -> tuple[list[Encoder], dict[str, Any]]:
    """Pixels and the networks that compare images; what the page says of them."""
    names = list(dict.fromkeys(spec.encoders))
    told: dict[str, Any] = {}
    if not names:
        if download or ALEXNET.published.cached.is_file():
            names = [LPIPS]
        else:
            told["no perceptual distance"] = (
                f"the weights of {LPIPS} are not on this machine: fetch them (--download), or name a network "
                "(--encoder NAME:WEIGHTS)"
            )
    chosen = [name for name in names if name != PIXELS] + [PIXELS]
    found = [load_encoder(name, shape=(3, size, size), device=device, download=download) for name in chosen]
    return found, {"encoders": {encoder.name: encoder.description for encoder in found}, **told}


def _size(pipe: Any, spec: GridSpec) -> int:
    size, factor = spec.size or own_size(pipe), int(pipe.vae_scale_factor)
    if size % factor:
        raise LeadlineError(f"--size {size}: this pipeline draws multiples of {factor} px")
    return size


def _converted(converter: Converter, image: Image.Image) -> UInt8[np.ndarray, "c h w"]:
    try:
        return converter(image)
    except Unscalable as error:
        raise LeadlineError(f"--init-image: {error}: save it with 8 bits a channel") from None

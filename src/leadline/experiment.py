"""run(recipe) -> Run: data, training, samples, audit; skips what is complete and resumes what was started."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

from leadline.audit import METRICS, measure, require_networks
from leadline.audit.human_labels import check_labelled
from leadline.data import load, load_images
from leadline.errors import LeadlineError
from leadline.fitting import device_name
from leadline.models.pretrained import load_pipeline
from leadline.models.unet import build_unet
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec, DataSpec, ModelSpec, Recipe, SampleSpec, TextSpec, with_overrides
from leadline.records import ImageSet, Splits
from leadline.runs import Run, is_main_process, num_processes
from leadline.sampling import SAMPLERS, check, draw, drawn_as
from leadline.stages import (
    Permitted,
    audit_stage,
    default_device,
    draw_prompted,
    given_pipeline,
    same_audit,
    sample_stage,
    samples_of,
    save_measured,
    train_stage,
)
from leadline.text.building import check_text, noise_schedule
from leadline.text.drawing import requests_for
from leadline.text.generating import bypass_strengths, check_sampling
from leadline.text.loading import load_scheduler
from leadline.text.training import check_training
from leadline.training import ladder
from leadline.watching import Watcher, kept_models, warn_if_unwatched, watch_kept


def run(
    recipe: Recipe,
    root: Path,
    *,
    until: str = "audit",
    name: str | None = None,
    overrides: Sequence[str] = (),
    human_labels: Path | None = None,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """One experiment, in `root / recipe.folder_name()`, up to and with stage `until` (train, sample, audit).

    name: of another folder in `root` than that. What is complete is skipped, what was started is resumed, a model of
    the same training elsewhere under `root` is taken over. human_labels: of some of its samples, as of `measure`.
    Raises LeadlineError, before anything expensive, when a part of the recipe cannot work.
    """
    if num_processes() > 1 and until != "train":
        raise LeadlineError(
            "several processes share the training only: `accelerate launch -m leadline train RECIPE`, then "
            "`leadline run RECIPE` goes on from the finished model"
        )
    folder = root / (name or recipe.folder_name())
    finished = finished_audit(folder)
    drawn = (folder / "run.json").exists() and Run.open(folder).header.status in ("sampled", "complete")
    if until == "audit" and not (finished and same_audit(finished, recipe.audit, human_labels)):
        require_networks(recipe.audit, **permitted)
        if human_labels is not None and drawn:
            check_labelled(human_labels, samples_of(Run.open(folder)))
    splits = load(recipe.data, progress)
    download = permitted.get("download", False)
    check_recipe(recipe, splits, drawn=drawn, download=download)
    main = is_main_process()
    title = f"{recipe.name}, {model_title(recipe)}"
    result = Run.create(folder, title=title, recipe=recipe.model_dump(mode="json"), overrides=tuple(overrides))
    with result.lock() if main else nullcontext():
        check_same_data(result, splits)
        if result.header.status == "complete" and same_audit(result, recipe.audit, human_labels):
            warn_if_unwatched(result, recipe)
            progress("complete already, nothing to do", 0, 0, "")
            return result
        if main:
            result.update(data=describe_splits(splits), recipe=recipe.model_dump(mode="json"))
        train_stage(result, recipe, splits, root / ".cache", progress, **permitted)
        if until == "train":
            return result
        sample_stage(result, recipe, splits, progress, download=download)
        if until == "sample":
            return result
        audit_stage(result, recipe.audit, splits, root / ".cache", progress, human_labels, **permitted)
    return result


def members(recipe: Recipe, blocks: Sequence[int], seeds: Sequence[int]) -> list[Recipe]:
    """The recipe at every depth with every training seed; a recipe's other fields stay."""
    return [
        recipe.model_copy(
            update={
                "model": ModelSpec(**{**recipe.model.model_dump(), "blocks": depth}),
                "train": recipe.train.model_copy(update={"seed": seed}),
            }
        )
        for depth in blocks
        for seed in seeds
    ]


def sweep(
    recipes: Sequence[Recipe],
    root: Path,
    *,
    overrides: Sequence[str] = (),
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> list[Run]:
    """Several experiments one after the other, all checked before the first is started. Arguments as of `run`."""
    for recipe in recipes:
        check_recipe(recipe, load(recipe.data), download=permitted.get("download", False))
    results = []
    for number, recipe in enumerate(recipes, 1):

        def numbered(stage: str, done: int, total: int, detail: str, number: int = number) -> None:
            progress(f"run {number} of {len(recipes)}, {stage}", done, total, detail)

        done = run(recipe, root, overrides=overrides, progress=numbered, **permitted)
        results.append(done)
    return results


def check_recipe(recipe: Recipe, splits: Splits, *, drawn: bool = False, download: bool = False) -> None:
    """Raise LeadlineError when model, images, sampler or metrics do not fit together.

    drawn: the images are there, so that a pipeline that was given may be gone. download: as of `train_stage`.
    """
    channels, height, width = splits.train.shape
    if height != width:
        raise LeadlineError(f"square images are expected, {height}×{width} px were given: --set data.fit=pad or crop")
    if recipe.text is None:
        with torch.device("meta"):
            build_unet(recipe.model, channels, height)
        levels = ladder(recipe.train)
        check(recipe.sample, levels)
        taken = SAMPLERS[recipe.sample.sampler].grid(levels, recipe.sample.steps)[:-1]
        bypass_strengths(recipe.sample.steer, taken.double().numpy())
    else:
        check_text_recipe(recipe, recipe.text, splits)
        if not drawn:
            given = given_pipeline(recipe)
            check_sampling(recipe.sample, load_scheduler(given, download=download) if given else noise_schedule())
    for name in recipe.audit.metrics:
        METRICS[name]


def check_text_recipe(recipe: Recipe, text: TextSpec, splits: Splits) -> None:
    """Raise LeadlineError when a text-to-image model, its images and what is asked of it do not fit together."""
    if recipe.model != ModelSpec():
        raise LeadlineError("model.… is of the unconditional depth family, and this is a text-to-image model: text.…")
    if not text.pipeline:
        check_text(text, splits.train.shape)
        check_training(recipe.train)
    requests_for(recipe.sample, splits.train, splits.held_out)


def check_same_data(result: Run, splits: Splits) -> None:
    """Raise LeadlineError when the run was made from other images: a path may have changed what it holds.

    Held-out images count too where the samples started from them.
    """
    recipe = result.recipe
    parts = {"train": ("training", splits.train)}
    if recipe is not None and recipe.sample.init_strength is not None and splits.held_out is not None:
        parts["held_out"] = ("held-out", splits.held_out)
    for name, (words, images) in parts.items():
        known = result.header.data.get(name, {}).get("fingerprint")
        given = images.fingerprint()
        if known is not None and known != given:
            raise LeadlineError(
                f"{result.folder} was made from other {words} images (content {known}, now {given}): the data set has "
                "changed since; restore it, or start in another folder (--out)"
            )


def sample_model(source: Path, out: Path, overrides: Sequence[str] = (), progress: ProgressCallback = silent) -> None:
    """Draw images from a run's model or a diffusers pipeline folder into `out`.

    overrides: of sample.…; all else is as the run draws, and of a pipeline the defaults.
    """
    result = Run.open(source) if (source / "run.json").exists() else None
    recipe = with_overrides((None if result is None else result.recipe) or Recipe(), list(overrides))
    if result is not None and recipe.text is not None:
        splits = load(recipe.data, progress)
        check_same_data(result, splits)
        draw_prompted(result, recipe, recipe.sample, splits, out, progress)
    else:
        folder = source if result is None else result.model_folder
        draw(load_pipeline(folder, default_device()), recipe.sample, out, progress=progress)


def audit_run(
    folder: Path,
    overrides: Sequence[str],
    progress: ProgressCallback = silent,
    human_labels: Path | None = None,
    **permitted: Unpack[Permitted],
) -> Run:
    """Audit a run's samples against its own data, with the run's own audit spec but for `overrides`.

    human_labels: as of `measure`.
    """
    recipe, whole = recipe_of(folder, overrides), folder.resolve()
    return run(recipe, whole.parent, name=whole.name, human_labels=human_labels, progress=progress, **permitted)


def watch_run(
    folder: Path,
    *,
    num_images: int | None = None,
    steps: int | None = None,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """Look at a run's snapshots and its finished model as `train.watch_every` does while it trains; skips looks made.

    num_images, steps: of the bank; default: train.watch_images and train.watch_steps of the run's recipe. Raises
    LeadlineError when the run keeps no snapshots, or was looked at with another bank.
    """
    recipe, result = recipe_of(folder, []), Run.open(folder)
    models = kept_models(result, recipe)
    splits = load(recipe.data, progress)
    with result.lock():
        check_same_data(result, splits)
        cache = folder.resolve().parent / ".cache"
        watch = Watcher(result, recipe, splits, cache, progress, num_images=num_images, steps=steps, **permitted)
        watch_kept(watch, models, default_device())
    return result


def recipe_of(folder: Path, overrides: Sequence[str]) -> Recipe:
    """A run's own recipe but for `overrides`. Raises LeadlineError when there is none."""
    if not (folder / "run.json").exists():
        raise LeadlineError(f"{folder} is no run: say what the model was trained on with --train DATA (digits, a path)")
    recipe = Run.open(folder).recipe
    if recipe is None:
        raise LeadlineError(f"{folder} is itself an audit: give the images that it was made of, with --train DATA")
    return with_overrides(recipe, list(overrides))


def finished_audit(folder: Path) -> Run | None:
    """The run or audit in `folder` where there is a whole audit to be read, without measuring anything; else None."""
    if not (folder / "run.json").exists():
        return None
    found = Run.open(folder)
    previous = found.audit()
    whole = found.header.status == "complete" and previous is not None and "fingerprint" in previous.settings
    return found if whole else None


def audit_images(
    samples: Path,
    out: Path,
    *,
    train: DataSpec,
    held_out: str | None = None,
    labeler: str | None = None,
    labels: Path | None = None,
    human_labels: Path | None = None,
    spec: AuditSpec,
    sample: SampleSpec,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """Audit a folder of images, Parquet, another run's samples or a diffusers pipeline folder (sampled first) in `out`.

    train: the training data; held_out, labeler: further data sets (leadline.data.parse_source) for what `train` leaves
    without; labels, human_labels: as of `measure`. Raises LeadlineError, before anything expensive, on what does not
    fit together.
    """
    require_networks(spec, **permitted)
    splits = load(train, progress)
    given: dict[str, Any] = {
        name: load_images(source, like=splits.train, progress=progress, max_unreadable_share=train.max_unreadable_share)
        for name, source in (("held_out", held_out), ("labeler", labeler))
        if source is not None
    }
    splits = replace(splits, **given)
    result = Run.create(out, title=f"audit of {samples.name}", kind="audit")
    with result.lock():
        check_same_data(result, splits)
        images, origin = images_to_audit(samples, result, splits, sample, train.max_unreadable_share, progress)
        result.update(data=describe_splits(splits), samples=origin)
        cache = out.parent / ".cache"
        save_measured(
            result,
            spec,
            lambda: measure(
                images,
                splits,
                labels=labels,
                human_labels=human_labels,
                spec=spec,
                cache=cache,
                progress=progress,
                **permitted,
            ),
        )
        result.update(status="complete", device=device_name(default_device()))
    return result


def images_to_audit(
    samples: Path,
    result: Run,
    splits: Splits,
    spec: SampleSpec,
    max_unreadable_share: float,
    progress: ProgressCallback,
) -> tuple[ImageSet, dict[str, Any]]:
    """The images, and where they came from."""
    origin: dict[str, Any] = {"source": str(samples)}
    if (samples / "run.json").exists():
        source = Run.open(samples)
        images = samples_of(source)
        if images.init is not None and not _same_held_out(source, splits):
            images = replace(images, init=None)
            origin["notes"] = {"init": "not compared with their starts: the held-out images are not those of the run"}
        origin["recipe"] = source.header.recipe
        origin["sample"] = (source.header.recipe or {}).get("sample")
    elif (samples / "model_index.json").exists():
        denoiser = load_pipeline(samples, default_device())
        if denoiser.shape != splits.train.shape:
            raise LeadlineError(
                f"the pipeline makes images of {size(denoiser.shape)}, the training data has "
                f"{size(splits.train.shape)}: make them equal with --set data.image_size= and data.channels="
            )
        draw(denoiser, spec, result.samples_folder, progress=progress)
        images = samples_of(result)
        origin["sample"] = spec.model_dump(mode="json")
    else:
        images = load_images(
            str(samples), like=splits.train, progress=progress, max_unreadable_share=max_unreadable_share
        )
        origin["notes"] = images.notes
        origin["sample"] = drawn_as(samples)
    return images, {**origin, "fingerprint": images.fingerprint(), "n": len(images)}


def _same_held_out(source: Run, splits: Splits) -> bool:
    known = source.header.data.get("held_out", {}).get("fingerprint")
    return splits.held_out is not None and splits.held_out.fingerprint() == known


def describe_splits(splits: Splits) -> dict[str, Any]:
    """What the run's record keeps of its data: content, realised counts, notes."""
    described: dict[str, Any] = {"notes": splits.notes}
    for name in ("train", "held_out", "labeler"):
        part: ImageSet | None = getattr(splits, name)
        if part is not None:
            counts = part.counts()
            described[name] = {"name": part.name, "fingerprint": part.fingerprint(), "n": len(part), "counts": counts}
    return described


def model_title(recipe: Recipe) -> str:
    """The model in words: 4 blocks, EDM; 2 blocks (large); 3 blocks, width matched; text to image, U-Net 64-128."""
    if recipe.text is not None:
        own = f"U-Net {'-'.join(map(str, recipe.text.unet_channels))}"
        return f"text to image, {Path(given_pipeline(recipe)).name or own}"
    return recipe.model.words + (", EDM" if recipe.train.objective == "edm" else "")


def size(shape: tuple[int, int, int]) -> str:
    """3×64×64."""
    return "×".join(str(n) for n in shape)

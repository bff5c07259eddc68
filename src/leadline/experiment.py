"""run(recipe) -> Run: data, training, samples, audit; skips what is complete and resumes what was started."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from leadline.audit import METRICS, AuditFailed, measure, require_networks
from leadline.data import load, load_images
from leadline.data.shards import read_shards
from leadline.errors import LeadlineError
from leadline.files import atomic_folder, file_digest
from leadline.models.denoiser import ddpm_sigmas
from leadline.models.pretrained import load_pipeline, save_pipeline
from leadline.models.unet import build_unet, count_parameters
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec, DataSpec, ModelSpec, Recipe, SampleSpec, fingerprint, with_overrides
from leadline.records import AuditResult, ImageSet, Splits
from leadline.runs import Run, adopt_model, find_trained, is_main_process, num_processes
from leadline.sampling import check, draw, drawn_as
from leadline.training import device_name, train


class Permitted(TypedDict, total=False):
    """How the audit's networks may be had, as of `leadline.measure`: both False unless given."""

    download: bool
    allow_torchscript: bool


class NotSaved(LeadlineError):
    """An audit that was carried out and could not be written; `result` holds it, and the message lists it."""

    def __init__(self, result: AuditResult, error: OSError) -> None:
        super().__init__(f"the audit is done but could not be saved; what it measured:\n{result}\n{error}")
        self.result = result


def run(
    recipe: Recipe,
    root: Path,
    *,
    until: str = "audit",
    overrides: Sequence[str] = (),
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """One experiment, in `root / recipe.folder_name()`, up to and with stage `until` (train, sample, audit).

    What is complete is skipped, what was started is resumed, a model of the same training elsewhere under `root` is
    taken over. Raises LeadlineError, before anything expensive, when a part of the recipe cannot work.
    """
    if num_processes() > 1 and until != "train":
        raise LeadlineError(
            "several processes share the training only: `accelerate launch -m leadline train RECIPE`, then "
            "`leadline run RECIPE` goes on from the finished model"
        )
    folder = root / recipe.folder_name()
    finished = finished_audit(folder)
    if until == "audit" and not (finished and same_audit(finished, recipe.audit)):
        require_networks(recipe.audit, **permitted)
    splits = load(recipe.data, progress)
    check_recipe(recipe, splits)
    main = is_main_process()
    title = f"{recipe.name}, {model_title(recipe)}"
    result = Run.create(folder, title=title, recipe=recipe.model_dump(mode="json"), overrides=tuple(overrides))
    with result.lock() if main else nullcontext():
        check_same_data(result, splits)
        if result.header.status == "complete" and same_audit(result, recipe.audit):
            progress("complete already, nothing to do", 0, 0, "")
            return result
        if main:
            result.update(data=describe_splits(splits), recipe=recipe.model_dump(mode="json"))
        train_stage(result, recipe, splits.train, progress)
        if until == "train":
            return result
        sample_stage(result, recipe.sample, progress)
        if until == "sample":
            return result
        audit_stage(result, recipe.audit, splits, root / ".cache", progress, **permitted)
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
        check_recipe(recipe, load(recipe.data))
    results = []
    for number, recipe in enumerate(recipes, 1):

        def numbered(stage: str, done: int, total: int, detail: str, number: int = number) -> None:
            progress(f"run {number} of {len(recipes)}, {stage}", done, total, detail)

        done = run(recipe, root, overrides=overrides, progress=numbered, **permitted)
        results.append(done)
    return results


def check_recipe(recipe: Recipe, splits: Splits) -> None:
    """Raise LeadlineError when model, images, sampler or metrics do not fit together."""
    channels, height, width = splits.train.shape
    if height != width:
        raise LeadlineError(f"square images are expected, {height}×{width} px were given: --set data.fit=pad or crop")
    with torch.device("meta"):
        build_unet(recipe.model, channels, height)
    check(recipe.sample, ddpm_sigmas())
    for name in recipe.audit.metrics:
        METRICS[name]


def check_same_data(result: Run, splits: Splits) -> None:
    """Raise LeadlineError when the run was made from other images: a path may have changed what it holds."""
    known = result.header.data.get("train", {}).get("fingerprint")
    given = splits.train.fingerprint()
    if known is not None and known != given:
        raise LeadlineError(
            f"{result.folder} was made from other training images (content {known}, now {given}): the data set has "
            "changed since; restore it, or start in another folder (--out)"
        )


def train_stage(result: Run, recipe: Recipe, images: ImageSet, progress: ProgressCallback) -> None:
    """Train, resume, or take over a finished model of the same training."""
    if not result.model_folder.exists() and num_processes() == 1:
        twin = find_trained(result.folder.parent, recipe)
        if twin is not None and twin.folder != result.folder:
            adopt_model(result, twin)
    if not result.model_folder.exists():
        with timed(result, "train"):
            trained = train(
                recipe.model,
                recipe.train,
                images,
                checkpoint=result.checkpoint_file,
                curve=result.curve_file,
                progress=progress,
            )
            if not is_main_process():
                return
            with atomic_folder(result.model_folder) as folder:
                save_pipeline(trained.unet, trained.scheduler, folder)
        result.update(
            status="trained",
            device=trained.device,
            model={"parameters": count_parameters(trained.unet), "precision": trained.precision},
        )
    if is_main_process():
        # The finished model is safe: the checkpoint, four times its size, has done its work.
        result.checkpoint_file.unlink(missing_ok=True)
        if result.header.status == "started":
            result.update(status="trained")


def sample_stage(result: Run, spec: SampleSpec, progress: ProgressCallback) -> None:
    """Draw the images that are not there yet."""
    if result.header.status in ("started", "trained"):
        with timed(result, "sample"):
            denoiser = load_pipeline(result.model_folder, default_device())
            draw(denoiser, spec, result.samples_folder, progress=progress)
        result.update(status="sampled")


def samples_of(result: Run) -> ImageSet:
    """The images that a run has drawn, in the order of their indices."""
    pixels, columns = read_shards(result.samples_folder)
    ids = tuple(f"{seed}/{index}" for seed, index in zip(columns["seed"], columns["index"], strict=True))
    return ImageSet(name=f"samples of {result.title}", pixels=pixels, ids=ids)


def sample_model(source: Path, out: Path, spec: SampleSpec, progress: ProgressCallback = silent) -> None:
    """Draw images from a run's model or a diffusers pipeline folder into `out`."""
    folder = Run.open(source).model_folder if (source / "run.json").exists() else source
    draw(load_pipeline(folder, default_device()), spec, out, progress=progress)


def audit_run(
    folder: Path, overrides: Sequence[str], progress: ProgressCallback = silent, **permitted: Unpack[Permitted]
) -> Run:
    """Audit a run's samples against its own data, with the run's own audit spec but for `overrides`."""
    return run(recipe_of(folder, overrides), folder.resolve().parent, progress=progress, **permitted)


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


def audit_stage(
    result: Run,
    spec: AuditSpec,
    splits: Splits,
    cache: Path,
    progress: ProgressCallback,
    **permitted: Unpack[Permitted],
) -> None:
    """Measure, unless the same audit is there already."""
    if not same_audit(result, spec):
        images = samples_of(result)
        save_measured(
            result,
            spec,
            lambda: measure(images, splits, spec=spec, cache=cache, progress=progress, **permitted),
        )
    result.update(status="complete")


def audit_fingerprint(spec: AuditSpec) -> str:
    """8 hex digits of the spec, and of what lies behind the paths in it: other weights are another audit."""
    named = (text.partition(":")[2] for text in (*spec.encoders, spec.labeler_model))
    contents = [file_digest(file) for path in named if path for file in weight_files(Path(path).expanduser())]
    if not contents:
        return fingerprint(spec)
    return hashlib.sha256(" ".join([fingerprint(spec), *contents]).encode()).hexdigest()[:8]


def weight_files(path: Path) -> list[Path]:
    """A file of weights, or the safetensors and configurations of a folder; nothing where there is neither."""
    if path.is_file():
        return [path]
    return sorted(file for pattern in ("*.safetensors", "*.json") for file in path.glob(pattern))


def same_audit(result: Run, spec: AuditSpec) -> bool:
    """Whether the run holds the finished audit of that spec."""
    previous = result.audit()
    return previous is not None and previous.settings.get("fingerprint") == audit_fingerprint(spec)


def save_measured(result: Run, spec: AuditSpec, measured: Callable[[], AuditResult]) -> None:
    """Carry out an audit and save it. When a metric has a fault, what the others found is saved before it is raised.

    Raises NotSaved, which holds what was found, when it cannot be written.
    """
    found: AuditResult | None = None
    fault: AuditFailed | None = None
    try:
        with timed(result, "audit"):
            try:
                found = measured()
                found = replace(found, settings={**found.settings, "fingerprint": audit_fingerprint(spec)})
            except AuditFailed as failure:
                found, fault = failure.result, failure
        result.save_audit(found)
    except OSError as error:
        if found is None:
            raise
        raise NotSaved(found, error) from error
    if fault is not None:
        raise fault


def audit_images(
    samples: Path,
    out: Path,
    *,
    train: DataSpec,
    held_out: str | None = None,
    labeler: str | None = None,
    labels: Path | None = None,
    spec: AuditSpec,
    sample: SampleSpec,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """Audit a folder of images, Parquet, another run's samples or a diffusers pipeline folder (sampled first) in `out`.

    train: the training data; held_out, labeler: further data sets (leadline.data.parse_source) for what `train` leaves
    without. Raises LeadlineError, before anything expensive, on what does not fit together.
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
            lambda: measure(images, splits, labels=labels, spec=spec, cache=cache, progress=progress, **permitted),
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
    """The member of the family in words: 4 blocks; 2 blocks (large); 3 blocks, parameters matched."""
    spec = recipe.model
    text = f"{spec.blocks} blocks" + (" (large)" if spec.wide else "")
    return text + (f", {' and '.join(spec.match)} matched" if spec.match else "")


def size(shape: tuple[int, int, int]) -> str:
    """3×64×64."""
    return "×".join(str(n) for n in shape)


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def timed(result: Run, stage: str) -> Iterator[None]:
    """Add the block's wall time to the header, also when it is interrupted."""
    started = time.monotonic()
    try:
        yield
    finally:
        if is_main_process():
            result.add_seconds(stage, time.monotonic() - started)

"""The stages of a run, each skipped where it is complete: training, samples, audit. An audit that is there is kept."""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch

from leadline.audit import AuditFailed, measure
from leadline.audit.human_labels import human_labels_digest
from leadline.audit.human_shares import with_human
from leadline.data.shards import read_shards
from leadline.errors import LeadlineError
from leadline.files import atomic_folder, file_digest
from leadline.fitting import device_name
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import load_pipeline, save_pipeline
from leadline.models.unet import count_parameters
from leadline.progress import ProgressCallback
from leadline.recipe import AuditSpec, Recipe, SampleSpec, fingerprint
from leadline.records import AuditResult, ImageSet, Splits
from leadline.runs import Run, adopt_model, find_trained, is_main_process, num_processes
from leadline.sampling import draw
from leadline.text.drawing import INIT, PROMPTED, draw_text, requests_for
from leadline.text.generating import own_size
from leadline.text.loading import load_text_pipeline, pipeline_fingerprint, pipeline_folder
from leadline.text.training import train_text
from leadline.training import train
from leadline.watching import warn_if_unwatched, watcher


class Permitted(TypedDict, total=False):
    """How the audit's networks may be had, as of `leadline.measure`: both False unless given."""

    download: bool
    allow_torchscript: bool


class NotSaved(LeadlineError):
    """An audit that was carried out and could not be written; `result` holds it, and the message lists it."""

    def __init__(self, result: AuditResult, error: OSError) -> None:
        super().__init__(f"the audit is done but could not be saved; what it measured:\n{result}\n{error}")
        self.result = result


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that has been trained: how it is written to a folder, and what the run's record keeps of it."""

    save: Callable[[Path], object]
    device: str
    facts: dict[str, Any]


def train_stage(
    result: Run,
    recipe: Recipe,
    splits: Splits,
    cache: Path,
    progress: ProgressCallback,
    **permitted: Unpack[Permitted],
) -> None:
    """Train, resume, or take over a finished model of the same training; one that is given is looked at instead.

    cache: of the audits of a training that is watched. permitted: of them, and whether a pipeline that is given by its
    name on the hub may be fetched.
    """
    if given := given_pipeline(recipe):
        if result.header.status == "started":
            download = permitted.get("download", False)
            facts = {"pipeline": given, "fingerprint": same_pipeline(result, recipe, download=download)}
            result.update(status="trained", device=device_name(default_device()), model=facts)
        return
    if not result.model_folder.exists() and num_processes() == 1:
        twin = find_trained(result.folder.parent, recipe)
        if twin is not None and twin.folder != result.folder:
            adopt_model(result, twin)
    if not result.model_folder.exists():
        with timed(result, "train"):
            look = watcher(result, recipe, splits, cache, progress, **permitted)
            trained = train_model(result, recipe, splits.train, progress, look)
            if not is_main_process():
                return
            with atomic_folder(result.model_folder) as folder:
                trained.save(folder)
        result.update(status="trained", device=trained.device, model=trained.facts)
    if is_main_process():
        warn_if_unwatched(result, recipe)
        # The finished model is safe: the checkpoint, four times its size, has done its work.
        result.checkpoint_file.unlink(missing_ok=True)
        if result.header.status == "started":
            result.update(status="trained")


def train_model(
    result: Run,
    recipe: Recipe,
    images: ImageSet,
    progress: ProgressCallback,
    look: Callable[[Denoiser, int], object] | None = None,
) -> Model:
    """The recipe's model, trained from where the run's checkpoint is. look: as of `train`."""
    places: dict[str, Any] = {
        "checkpoint": result.checkpoint_file,
        "curve": result.curve_file,
        "progress": progress,
    }
    if recipe.text is None:
        trained = train(recipe.model, recipe.train, images, snapshots=result.snapshot_folder, look=look, **places)
        return Model(
            save=lambda folder: save_pipeline(trained.unet, trained.scheduler, folder),
            device=trained.device,
            facts={"parameters": count_parameters(trained.unet), "precision": trained.precision},
        )
    found = train_text(recipe.text, recipe.train, images, **places)
    return Model(
        save=lambda folder: found.pipeline.save_pretrained(folder, safe_serialization=True),
        device=found.device,
        facts={
            "parameters": sum(found.parameters.values()),
            "parts": found.parameters,
            "precision": found.precision,
        },
    )


def given_pipeline(recipe: Recipe) -> str:
    """The text-to-image pipeline that a recipe is given instead of training one; empty where there is none."""
    return "" if recipe.text is None else recipe.text.pipeline


def sample_stage(
    result: Run, recipe: Recipe, splits: Splits, progress: ProgressCallback, *, download: bool = False
) -> None:
    """Draw the images that are not there yet. download: as of `train_stage`."""
    if result.header.status in ("started", "trained"):
        spec, folder = recipe.sample, result.samples_folder
        with timed(result, "sample"):
            if recipe.text is None:
                draw(load_pipeline(result.model_folder, default_device()), spec, folder, progress=progress)
            else:
                draw_prompted(result, recipe, spec, splits, folder, progress, download=download)
        result.update(status="sampled")


def draw_prompted(
    result: Run,
    recipe: Recipe,
    spec: SampleSpec,
    splits: Splits,
    folder: Path,
    progress: ProgressCallback,
    *,
    download: bool = False,
) -> None:
    """Draw images into `folder` from the text-to-image model of a run; prompts and starts are the splits'."""
    source = given_pipeline(recipe) or str(result.model_folder)
    given = same_pipeline(result, recipe, download=download)
    pipe = load_text_pipeline(source, device=default_device(), download=download)
    side, shape = own_size(pipe), splits.train.shape
    if shape != (3, side, side):
        raise LeadlineError(
            f"{source} draws images of 3×{side}×{side}, the training data has {'×'.join(map(str, shape))}: make them "
            f"equal with --set data.image_size={side} and data.channels=3"
        )
    draw_text(pipe, spec, requests_for(spec, splits.train, splits.held_out), folder, given=given, progress=progress)


def same_pipeline(result: Run, recipe: Recipe, *, download: bool = False) -> str:
    """Fingerprint of the pipeline that a recipe is given; empty where it trains its own.

    Raises LeadlineError where its files are no longer those that the run began with: images of two models would be
    audited as one. download: as of `train_stage`.
    """
    source = given_pipeline(recipe)
    if not source:
        return ""
    found = pipeline_fingerprint(pipeline_folder(source, download=download))
    known = result.header.model.get("fingerprint", found)
    if found != known:
        raise LeadlineError(
            f"{result.folder} was begun with another content of {source} (fingerprint {known}, now {found}): restore "
            "it, or start in another folder (--out)"
        )
    return found


def samples_of(result: Run) -> ImageSet:
    """The images that a run has drawn, in the order of their indices, with what was asked for where there were prompts.

    `init` counts in the held-out images of the run's own data.
    """
    pixels, columns = read_shards(result.samples_folder)
    ids = tuple(f"{seed}/{index}" for seed, index in zip(columns["seed"], columns["index"], strict=True))
    asked = columns.get(PROMPTED)
    classes = () if asked is None else tuple(sorted(set(asked)))
    place = {name: index for index, name in enumerate(classes)}
    return ImageSet(
        name=f"samples of {result.title}",
        pixels=pixels,
        classes=classes,
        ids=ids,
        prompted=None if asked is None else np.array([place[name] for name in asked], dtype=np.int64),
        init=np.array(columns[INIT], dtype=np.int64) if INIT in columns else None,
    )


def audit_stage(
    result: Run,
    spec: AuditSpec,
    splits: Splits,
    cache: Path,
    progress: ProgressCallback,
    human_labels: Path | None = None,
    **permitted: Unpack[Permitted],
) -> None:
    """Measure, unless the same audit is there already; of one that lacks these human labels, what they say alone.

    human_labels: as of `measure`.
    """
    if not same_audit(result, spec, human_labels):
        images = samples_of(result)
        if human_labels is None and (lost := human_labels_of(result)):
            warnings.warn(
                f"{result.folder}: the last audit had human labels ({lost['origin']}), this one has none: give them "
                "again (--human-labels FILE)",
                stacklevel=2,
            )

        def measured(spec: AuditSpec) -> AuditResult:
            return measure(
                images, splits, human_labels=human_labels, spec=spec, cache=cache, progress=progress, **permitted
            )

        previous = result.audit() if same_audit(result, spec) else None

        def all_of_it() -> AuditResult:
            if previous is not None:
                with suppress(AuditFailed):  # then the whole audit says what it is
                    if (joined := with_human(previous, measured(of_human_labels(spec)))) is not None:
                        return joined
            return measured(spec)

        save_measured(result, spec, all_of_it)
    result.update(status="complete")


def of_human_labels(spec: AuditSpec) -> AuditSpec:
    """The audit of that spec without any metric: what the human labels say alone."""
    return spec.model_copy(update={"metrics": (), "encoders": ("labeler",)})


AUDIT_VERSION = 2
"""Of what an audit finds. Raise it whenever the same images and settings would get another value, interval or param
than before, or a new measurement: finished audits of an older version are then measured again when asked for."""


def audit_fingerprint(spec: AuditSpec) -> str:
    """8 hex digits of AUDIT_VERSION, the spec and what lies behind the paths in it: other weights are another audit."""
    named = (text.partition(":")[2] for text in (*spec.encoders, spec.labeler_model))
    contents = [file_digest(file) for path in named if path for file in weight_files(Path(path).expanduser())]
    parts = [f"version {AUDIT_VERSION}", fingerprint(spec), *contents]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]


def weight_files(path: Path) -> list[Path]:
    """A file of weights, or the safetensors and configurations of a folder; nothing where there is neither."""
    if path.is_file():
        return [path]
    return sorted(file for pattern in ("*.safetensors", "*.json") for file in path.glob(pattern))


def same_audit(result: Run, spec: AuditSpec, human_labels: Path | None = None) -> bool:
    """Whether the run holds the finished audit of that spec and, where some are given, with these human labels.

    An audit that has human labels holds all that one without them does.
    """
    previous = result.audit()
    if previous is None or previous.settings.get("fingerprint") != audit_fingerprint(spec):
        return False
    return human_labels is None or human_labels_of(result).get("content") == human_labels_digest(human_labels)


def human_labels_of(result: Run) -> dict[str, Any]:
    """What a run's audit says of the human labels that it had; empty where it had none."""
    previous = result.audit()
    return {} if previous is None else previous.settings.get("human_labels", {})


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

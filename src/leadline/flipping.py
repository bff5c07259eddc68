"""Two sets of images of the same seeds beside each other: runs, audits, or what a snapshot of a run draws."""

from pathlib import Path
from typing import Unpack

from leadline.across import gathered
from leadline.across.pairing import drawn_by, pairing
from leadline.across.pairs import compare, labelled_audit
from leadline.audit import measure, require_networks
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import check_same_data, describe_splits, images_to_audit
from leadline.fitting import device_name
from leadline.progress import ProgressCallback, silent
from leadline.records import AuditResult, Measurement
from leadline.runs import Run
from leadline.stages import Permitted, default_device, same_audit, save_measured


def flips(
    first: str,
    second: str,
    *,
    group: str | None = None,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> AuditResult:
    """What changes class from the first set of images to the second, as `leadline.across.pairs.compare` gives it.

    first, second: a run's folder, an audit's, or RUN@STEP, a snapshot of the run (train.snapshots): it draws the images
    of the run's own seeds, which are kept with their labels in RUN/checkpoints. group: the one class to compare.
    Raises LeadlineError where the two cannot be paired.
    """
    parts = [split_step(text) for text in (first, second)]
    runs = [Run.open(folder) for folder, _ in parts]
    snapshots = [_snapshot(run, step) for run, (_, step) in zip(runs, parts, strict=True)]
    if runs[0].folder.resolve() == runs[1].folder.resolve() and snapshots[0] == snapshots[1]:
        raise LeadlineError(f"{first} and {second} are the same images: give two sets")
    for run, step in zip(runs, snapshots, strict=True):
        if step is None:
            labelled_audit(drawn_by(run))
    drawn = [
        drawn_by(run if step is None else audit_snapshot(run, step, progress, **permitted))
        for run, step in zip(runs, snapshots, strict=True)
    ]
    found = compare([pairing(*drawn)], group)
    failed = next((m for m in found if isinstance(m, Measurement) and m.name == "paired_flips" and m.reason), None)
    if failed is not None:
        raise LeadlineError(f"{first} and {second} cannot be paired: {failed.reason}")
    return gathered(found)


def split_step(text: str) -> tuple[Path, int | None]:
    """RUN@STEP in parts; a folder that is there under the whole name is taken as it is."""
    folder, at, step = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text), None
    if not step.isdecimal():
        raise LeadlineError(f"{text}: after the @ stands the number of training steps of a snapshot (RUN@500)")
    return Path(folder), int(step)


def _snapshot(run: Run, step: int | None) -> int | None:
    """The step, None where it is the end of the training. Raises LeadlineError where the run has no such snapshot."""
    if step is None:
        return None
    recipe = run.recipe
    if recipe is None:
        raise LeadlineError(f"{run.folder} is an audit of images, with no snapshots: give a run's folder before the @")
    if step == recipe.train.steps:
        return None
    kept = [known for known in recipe.train.snapshots if run.snapshot_folder(known).exists()]
    if step not in kept:
        raise LeadlineError(
            f"{run.folder} has no snapshot after {step} steps, it has {', '.join(map(str, kept)) or 'none'}: train "
            f"with --set train.snapshots={step} to keep one"
        )
    return step


def audit_snapshot(run: Run, step: int, progress: ProgressCallback = silent, **permitted: Unpack[Permitted]) -> Run:
    """The audit of images that a snapshot draws, of the run's own seeds, labelled as the run's own; made once.

    Only the shares are measured. Interrupted, it goes on from the images that are there.
    """
    recipe = run.recipe
    if recipe is None:
        raise LeadlineError(f"{run.folder} has no recipe, so how its images were drawn is not known")
    spec = recipe.audit.model_copy(update={"metrics": ("bias",), "encoders": ("labeler",)})
    require_networks(spec, **permitted)
    result = Run.create(run.checkpoint_folder(step), title=f"{run.title}, after {step:,} steps", kind="audit")

    def told(stage: str, done: int, total: int, detail: str) -> None:
        progress(f"{run.folder.name} after {step:,} steps, {stage}", done, total, detail)

    with result.lock():
        if result.header.status == "complete" and same_audit(result, spec):
            told("drawn and labelled already", 0, 0, "")
            return result
        splits = load(recipe.data, told)
        check_same_data(run, splits)
        snapshot = run.snapshot_folder(step)
        images, origin = images_to_audit(
            snapshot, result, splits, recipe.sample, recipe.data.max_unreadable_share, told
        )
        known = {"recipe": recipe.model_dump(mode="json"), "step": step}
        result.update(data=describe_splits(splits), samples={**origin, **known})
        cache = run.folder.parent / ".cache"
        save_measured(result, spec, lambda: measure(images, splits, spec=spec, cache=cache, progress=told, **permitted))
        result.update(status="complete", device=device_name(default_device()))
    return result

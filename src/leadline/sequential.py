"""Audits that go on until the answer is sharp enough: draw, label, look, and stop at a wanted width."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Int

from leadline.audit import measure, require_networks
from leadline.audit.context import LABELER, AuditContext
from leadline.audit.preparing import device_or_default, load_networks, prepare, read_inputs
from leadline.audit.sequence import Look, Rule, Watched, looks_at, sequence_findings
from leadline.data import load, load_images
from leadline.data.shards import read_rows
from leadline.errors import LeadlineError
from leadline.experiment import check_same_data, describe_splits, model_title, recipe_of, size
from leadline.files import atomic_folder, link_or_copy
from leadline.fitting import device_name
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import load_pipeline
from leadline.progress import ProgressCallback, duration, silent
from leadline.recipe import AuditSpec, DataSpec, SampleSpec
from leadline.records import AuditResult, ImageSet, Measurement, Splits, Table
from leadline.runs import Run
from leadline.sampling import check, draw, drawn_as
from leadline.stages import Permitted, default_device, same_audit, samples_of, save_measured

SUFFIX = "until"
"""End of the name of the folder beside a run in which further images of its model are drawn."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model whose images are drawn until a share is known. folder: of the run or pipeline; title: its name;
    first: a run whose own images are the first ones."""

    folder: Path
    title: str
    model: Path
    sample: SampleSpec
    splits: Splits
    first: Run | None = None


def audit_run_until(
    folder: Path,
    rule: Rule,
    overrides: Sequence[str] = (),
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """Draw further images of a run's model, in `<run>-until` beside it, until `rule` says stop; then audit their bias.

    Images go on where the run's own ended, which come first; the run stays as it is. overrides: of audit.…; Started
    again, it goes on where it was, also with another rule. Raises LeadlineError before anything is drawn.
    """
    recipe = recipe_of(folder, overrides)
    if recipe.text is not None:
        raise LeadlineError(
            "--until-width draws from models without prompts: with prompts the shares are those of the prompts; give "
            "as many as are wanted with --set sample.num_images"
        )
    run = Run.open(folder)
    if not run.model_folder.exists():
        raise LeadlineError(
            f"{folder} has no finished model (its status is {run.header.status}): leadline run it first"
        )
    splits = load(recipe.data, progress)
    check_same_data(run, splits)
    source = Source(
        folder=folder,
        title=f"{recipe.name}, {model_title(recipe)}",
        model=run.model_folder,
        sample=recipe.sample,
        splits=splits,
        first=run,
    )
    out = folder.resolve().with_name(f"{folder.resolve().name}-{SUFFIX}")
    return _audit_until(source, out, rule, recipe.audit, progress, **permitted)


def audit_pipeline_until(
    folder: Path,
    out: Path,
    rule: Rule,
    *,
    train: DataSpec,
    held_out: str | None = None,
    labeler: str | None = None,
    spec: AuditSpec,
    sample: SampleSpec,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Run:
    """The same of a diffusers pipeline folder, in `out`. Arguments as of `leadline.experiment.audit_images`."""
    if not (folder / "model_index.json").exists():
        raise LeadlineError(
            f"--until-width draws images, and {folder} is neither a run nor a diffusers pipeline folder: give one of "
            "these, or audit the images that there are without it"
        )
    splits = load(train, progress)
    given: dict[str, Any] = {
        name: load_images(data, like=splits.train, progress=progress, max_unreadable_share=train.max_unreadable_share)
        for name, data in (("held_out", held_out), ("labeler", labeler))
        if data is not None
    }
    source = Source(
        folder=folder, title=folder.resolve().name, model=folder, sample=sample, splits=replace(splits, **given)
    )
    return _audit_until(source, out, rule, spec, progress, **permitted)


def _audit_until(
    source: Source, out: Path, rule: Rule, spec: AuditSpec, progress: ProgressCallback, **permitted: Unpack[Permitted]
) -> Run:
    # The other metrics' intervals hold for a number of images that hangs on nothing that the images showed.
    spec = spec.model_copy(update={"metrics": ("bias",), "encoders": (LABELER,), "stopping": "anytime"})
    require_networks(spec, **permitted)
    training = source.splits.train
    names = [name for name, count in training.counts().items() if count]
    rule.check_group(names)
    # A shard is a look; images that are fewer than a shard are one.
    every = min(source.sample.shard_size, source.sample.num_images)
    if rule.at_most < every:
        raise LeadlineError(
            f"--at-most {rule.at_most} is less than the {every} images of one look: give at least those"
        )
    result = Run.create(out, title=f"{source.title}, sequential audit", kind="audit")
    with result.lock():
        check_same_data(result, source.splits)
        if _is_done(result, spec, rule):
            progress("complete already, nothing to do", 0, 0, "")
            return result
        cache = out.parent / ".cache"
        context = _ready(source.splits, spec, cache, progress, **permitted)
        denoiser = load_pipeline(source.model, default_device())
        if denoiser.shape != training.shape:
            raise LeadlineError(
                f"the model makes images of {size(denoiser.shape)}, the training data has {size(training.shape)}: make "
                "them equal with --set data.image_size= and data.channels="
            )
        drawing = source.sample.model_copy(update={"shard_size": every})
        check(drawing, denoiser.sigmas)
        result.update(data=describe_splits(source.splits))
        if source.first is not None:
            _take_over(source.first, result.samples_folder, every)
        watched = _watched(training, spec.level)
        last = _draw_until(denoiser, drawing, result.samples_folder, context, watched, rule, progress)
        images = samples_of(result)
        origin = {
            "source": str(source.folder),
            "sample": {**drawing.model_dump(mode="json"), "num_images": last.n},
            "fingerprint": images.fingerprint(),
            "n": len(images),
        }
        result.update(samples=origin)
        save_measured(
            result,
            spec,
            lambda: _with_looks(
                measure(images, source.splits, spec=spec, cache=cache, progress=progress, **permitted),
                watched,
                rule,
                every,
            ),
        )
        result.update(status="complete", device=device_name(default_device()))
    return result


def _is_done(result: Run, spec: AuditSpec, rule: Rule) -> bool:
    """Whether the folder holds the finished audit of that spec and rule."""
    previous = result.audit()
    return previous is not None and previous.settings.get("until") == asdict(rule) and same_audit(result, spec)


def _ready(
    splits: Splits, spec: AuditSpec, cache: Path, progress: ProgressCallback, **permitted: Unpack[Permitted]
) -> AuditContext:
    """The audit as it stands before the first image: the labeler trained. Raises LeadlineError without one."""
    blank = ImageSet(name="no samples yet", pixels=np.zeros((1, *splits.train.shape), np.uint8))
    inputs = read_inputs(blank, splits, None, None, None, progress)
    download, allow = permitted.get("download", False), permitted.get("allow_torchscript", False)
    networks = load_networks(spec, inputs.training.shape, None, device_or_default(None), download, allow)
    context = prepare(inputs, None, spec, cache, networks, progress)
    if "labels" in context.missing:
        raise LeadlineError(
            f"--until-width needs labels for images that are yet to be drawn: {context.missing['labels']}"
        )
    return context


def _watched(training: ImageSet, level: float) -> Watched:
    counts = {name: count for name, count in training.counts().items() if count}
    total = sum(counts.values())
    return Watched(names=tuple(counts), shares=tuple(count / total for count in counts.values()), level=level)


def _take_over(run: Run, folder: Path, every: int) -> None:
    """The run's own whole shards as the first ones, by hard links where the file system has them."""
    drawn = drawn_as(run.samples_folder)
    if folder.exists() or drawn is None:
        return
    with atomic_folder(folder) as begun:
        for file in sorted(run.samples_folder.glob("shard-*.parquet"))[: drawn["num_images"] // every]:
            link_or_copy(str(file), str(begun / file.name))


def _draw_until(
    denoiser: Denoiser,
    drawing: SampleSpec,
    folder: Path,
    context: AuditContext,
    watched: Watched,
    rule: Rule,
    progress: ProgressCallback,
) -> Look:
    """Draw shard by shard, label, look; the last look, which is sharp enough or that of the most images.

    What lies in the folder is taken whole: a stop comes from the last look alone, so that a killed run and one that is
    asked for another width go on alike.
    """
    every = drawing.shard_size
    classes = [context.class_names.index(name) for name in watched.names]
    n = max(every, _begun(folder, every))
    labels = np.empty(0, np.int64)
    started, before = time.monotonic(), _shards(folder) * every
    while True:
        draw(denoiser, drawing.model_copy(update={"num_images": n}), folder, progress=progress)
        labels = np.concatenate([labels, _labels(context, folder, range(len(labels), n))])
        look = looks_at(labels, classes, watched, every, first=n)[-1]
        sharp = watched.width(look, rule) <= rule.width
        spent = (time.monotonic() - started) / (n - before) if n > before else None
        progress(_told(look, watched, rule, every, spent), 0, 0, "")
        if sharp or n + every > rule.at_most:
            return look
        n += every


def _shards(folder: Path) -> int:
    return len(list(folder.glob("shard-*.parquet")))


def _begun(folder: Path, every: int) -> int:
    """How many images the last drawing in the folder was to reach, or were taken over."""
    drawn = drawn_as(folder)
    return max(_shards(folder) * every, 0 if drawn is None else drawn["num_images"])


def _labels(context: AuditContext, folder: Path, rows: range) -> Int[np.ndarray, " n"]:
    """The labeler's labels of further images."""
    images = ImageSet(name="further samples", pixels=read_rows(folder, rows)[0])
    # The audit at the end reads all of them at once: what is kept of parts would only fill the cache.
    return replace(context, samples=images, cache=None, report=silent, _passes={}).sample_labels()


def _told(look: Look, watched: Watched, rule: Rule, every: int, spent: float | None) -> str:
    """`look 7: 3,500 images, 9.6 % '9' (8.0 to 11.4), width 3.33 points, wanted 2; about 7,200 more, 5 min left`."""
    index = watched.decides(look, rule)
    lower, upper = (100 * end for end in look.intervals[index])
    width = 100 * watched.width(look, rule)
    share = f"{100 * look.counts[index] / look.recognised:.1f} %" if look.recognised else "none recognised,"
    text = (
        f"look {look.n // every}: {look.n:,} images, {share} {watched.names[index]!r} ({lower:.1f} to {upper:.1f}), "
        f"width {width:.2f} points, wanted {100 * rule.width:g}"
    )
    if watched.width(look, rule) <= rule.width:
        return f"{text}: sharp enough"
    if look.n + every > rule.at_most:
        return f"{text}: not sharp enough, and {rule.ended(look.n)}"
    more = min(watched.more_images(look, rule), rule.at_most - look.n)
    return f"{text}; about {float(f'{more:.2g}'):,.0f} more" + (
        "" if spent is None else f", {duration(spent * more)} left"
    )


def _with_looks(found: AuditResult, watched: Watched, rule: Rule, every: int) -> AuditResult:
    """The audit of all images with the looks that led to them, counted from the labels that it gave them."""
    if found.labels is None:
        raise LeadlineError("the audit labelled no image: its metric bias says why")
    place = {name: index for index, name in enumerate(watched.names)}
    labels = np.array([place.get(name, len(place)) for name in found.labels.labels])
    looks = looks_at(labels, range(len(place)), watched, every)
    sources = {name: print_ for name, print_ in found.settings["fingerprints"].items() if name != "held_out"}
    told = list(sequence_findings(looks, watched, rule, sources))
    return replace(
        found,
        measurements=(*found.measurements, *(item for item in told if isinstance(item, Measurement))),
        tables=(*found.tables, *(item for item in told if isinstance(item, Table))),
        settings={**found.settings, "until": asdict(rule)},
    )

"""Two sets of images of the same seeds against the same training data: what differs, tested pair by pair."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from leadline.audit import auditing  # noqa: F401  enters all metrics
from leadline.audit.context import LABELER, METRICS, AuditContext, Need
from leadline.audit.paired_metrics import COMPARED
from leadline.audit.pairing import Pair
from leadline.audit.preparing import checked, device_or_default, load_networks, prepare, read_inputs
from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.recipe import AuditSpec
from leadline.records import ImageSet, Measurement, Splits

VERSION = 2
"""Raised when what is tested, or how, changes: tests that were kept are then made anew."""
OTHER_LABELER = (
    "the labelers of the two sets are not the same: an image of one of the sets is, to the byte, among the labeler's, "
    "which leaves it out; give other labelled images (--labeler DATA)"
)


def paired_audit(
    base: ImageSet,
    other: ImageSet,
    splits: Splits,
    *,
    spec: AuditSpec,
    cache: Path | None = None,
    progress: ProgressCallback = silent,
    download: bool = False,
    allow_torchscript: bool = False,
) -> tuple[Measurement, ...]:
    """Other minus base of what an audit with `spec` measures of each, with the interval and p-value of paired tests.

    base, other: samples of the same seeds and indices, in the same order, told by their ids. splits, spec, cache,
    download, allow_torchscript: as of the audits (`measure`), whose features and labeler are taken from the cache.

    Of spec.metrics: shares of the classes, nearness to the training images, copy rates, mean distances over all
    pairs, Vendi score, Fréchet and kernel distance, precision, recall, density and coverage of the samples, agreement
    with the prompts, nearness to the images they started from. Each is a Measurement `paired_difference` of the group
    and with the params of the audits' own, and the params of (its name), p (two-sided, of no difference, of this one
    test: see `paired_tests.holm`), base and other (the audits' own values), and for shares gained and lost (images
    that count in the other set alone, and in the base alone); n counts pairs. The Fréchet distance's bias depends on
    the spread of the set, so that of a difference does not cancel: its value is corrected, with plain (other - base)
    in the params and, where its sign is not to be relied on, doubt (why). What cannot be tested is not measurable,
    with the reason. The tests tell what other seeds would change; the trained model, its training data, labeler and
    encoders are taken as given.

    Raises LeadlineError, before anything expensive, when the sets are not pairs.
    """
    checked(spec, None)
    _check_paired(base, other)
    with _kept(cache) as folder:
        pair = _prepared(base, other, splits, spec, folder, progress, download, allow_torchscript)
        found: list[Measurement] = []
        for name in spec.metrics:
            pair.other.progress(f"paired tests: {name}")
            found += COMPARED[name](pair) if name in COMPARED else _without_test(pair, name)
    return tuple(found)


def _check_paired(base: ImageSet, other: ImageSet) -> None:
    """Raises LeadlineError where the i-th images are not of one seed and index."""
    if not base.ids or not other.ids:
        nameless = base.name if not base.ids else other.name
        raise LeadlineError(
            f"paired tests need the ids of all images, to know which are of one seed: {nameless!r} has none"
        )
    for index, (first, second) in enumerate(zip(base.ids, other.ids, strict=False)):
        if first != second:
            raise LeadlineError(
                f"paired tests need images of the same seeds in the same order, but image {index} is {first!r} in "
                f"{base.name!r} and {second!r} in {other.name!r}: draw both with one seed (--set sample.seed)"
            )
    if len(base) != len(other):
        raise LeadlineError(
            f"paired tests need as many images in both sets: {base.name!r} has {len(base):,}, {other.name!r} "
            f"{len(other):,} (--set sample.num_images)"
        )
    if base.shape != other.shape:
        raise LeadlineError(
            f"paired tests need images of one size: those of {base.name!r} are {base.shape}, of {other.name!r} "
            f"{other.shape} (channels, height, width)"
        )
    for column, what in (
        ("prompted", "prompts that ask for the same classes"),
        ("init", "the same images to start from"),
    ):
        first, second = getattr(base, column), getattr(other, column)
        if (first is None) != (second is None) or (first is not None and not np.array_equal(first, second)):
            raise LeadlineError(f"paired tests need {what}, but {base.name!r} and {other.name!r} have others")


@contextmanager
def _kept(cache: Path | None) -> Iterator[Path]:
    """The cache's folder, or one for this time, so that no network sees the training images twice."""
    if cache is not None:
        yield cache
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def _prepared(
    base: ImageSet,
    other: ImageSet,
    splits: Splits,
    spec: AuditSpec,
    cache: Path,
    progress: ProgressCallback,
    download: bool,
    allow_torchscript: bool,
) -> Pair:
    """The audits' own contexts."""
    inputs = [read_inputs(images, splits, None, None, None, progress) for images in (base, other)]
    shape = inputs[0].training.shape
    networks = load_networks(spec, shape, None, device_or_default(None), download, allow_torchscript)
    first, second = (prepare(each, None, spec, cache, networks, progress) for each in inputs)
    if first.fingerprints.get(LABELER) != second.fingerprints.get(LABELER):
        first, second = _without_labeler(first), _without_labeler(second)
    return Pair(base=first, other=second)


def _without_labeler(context: AuditContext) -> AuditContext:
    missing: dict[Need, str] = {"labels": OTHER_LABELER, "features": OTHER_LABELER}
    return replace(context, missing={**missing, **context.missing})


def _without_test(pair: Pair, metric: str) -> Iterator[Measurement]:
    reason = f"the metric {metric!r} has no paired test: compare the intervals of the two audits"
    return (pair.missing(name, reason) for name in METRICS[metric].reports)

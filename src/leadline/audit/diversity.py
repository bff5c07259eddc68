"""Diversity: mean distances between all pairs of images, in closed form, with errors that know pairs share images."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from leadline.audit.context import LABELER, METRICS, MOST_GROUPS, AuditContext, Finding, Metric
from leadline.audit.encoders.weights import fingerprint_of
from leadline.audit.intervals import around
from leadline.audit.pairs import PairDistances, PairSums
from leadline.audit.rows import float64_rows
from leadline.audit.vendi import choose, vendi_score
from leadline.errors import LeadlineError
from leadline.records import Measurement

Part = Literal["samples", "training"]
Images = torch.Tensor | np.ndarray

DIFFER = "larger: the images differ more from each other"
PARTS: tuple[Part, ...] = ("samples", "training")
MOST_CLASSES = 12
"""Classes up to which every two of them are compared: 66 numbers."""
SMALLEST_SIDE = {"alex": 31, "vgg": 16, "squeeze": 17}
"""Pixels that LPIPS's networks need, so that their last map is not empty."""


def mean_pairwise_distance(features: Float[np.ndarray, "n d"], *, unit_length: bool = False) -> tuple[float, float]:
    """2N/(N-1) · (mean|e|² - |mean e|²): the mean squared distance over all pairs; its error 2·sd(h)/√N.

    features: float [n, d], n of 2 or more, arrays or memory maps; with unit_length brought to length 1 row by row.
    Returns (mean, standard error), both 0 or more, in squared units of the features. h_i is the mean squared distance
    of i to the others, from the sums alone: memory of one chunk, time linear in n. The error is that of a U-statistic
    (Hoeffding, 1948): it counts images, not pairs; two images have one distance and leave it 0. Sums are in fp64
    about the first image's features, so a common offset costs no digits.
    """
    to_others = mean_distances_to_others(features, unit_length=unit_length)
    return max(0.0, float(to_others.mean())), 2 * float(to_others.std(ddof=1)) / math.sqrt(len(features))


def mean_distances_to_others(
    features: Float[np.ndarray, "n d"], *, unit_length: bool = False
) -> Float[np.ndarray, " n"]:
    """h_i = (n|e_i|² + Σ|e|² - 2 e_i·Σe)/(n-1): mean squared distance of each image to the others, float64 [n].

    Arguments and errors as `mean_pairwise_distance`, the mean of them.
    """
    n = len(features)
    if n < 2:
        raise LeadlineError(f"a mean over pairs needs 2 images or more, {n} given")
    _, first = next(float64_rows(features[:1], unit_length=unit_length))
    total, squares = np.zeros_like(first[0]), np.empty(n)
    for rows, chunk in float64_rows(features, unit_length=unit_length):
        total += (chunk - first).sum(0)
        squares[rows] = np.square(chunk - first).sum(1)
    to_others = np.empty(n)
    for rows, chunk in float64_rows(features, unit_length=unit_length):
        to_others[rows] = (n * squares[rows] + squares.sum() - 2 * (chunk - first) @ total) / (n - 1)
    return to_others


def mean_pairwise_lpips(
    images: Images | Iterable[Images], lpips_model: torch.nn.Module, *, level: float = 0.95, batch_size: int = 32
) -> Measurement:
    """Zhang et al. (2018), Eq. 1: mean LPIPS over all pairs of images, exact, one pass of the network per image.

    images: float [n, 3, h, w] in [-1, 1], n of 2 or more, or an iterable of such batches, all of one size.
    lpips_model: an `lpips.LPIPS` in evaluation mode, any network and version, with or without its weights; it runs
    where it is and is left as it was. batch_size: images per call. The interval is Student's t with the error of a
    U-statistic (see PairSums). Raises LeadlineError on anything else.
    """
    _check_model(lpips_model)
    model: Any = lpips_model
    heads = [lin.model[-1].weight.detach().flatten() for lin in model.lins] if model.lpips else None
    weight = next(lpips_model.parameters())
    sums, digest, n = PairSums(heads, 0), hashlib.sha256(), 0
    for batch in _batches(images, batch_size):
        _check_images(batch, n, model.pnet_type)
        n += len(batch)
        digest.update(batch.float().cpu().contiguous().numpy().tobytes())
        with torch.inference_mode():
            shown = batch.to(weight.device, weight.dtype)
            sums.add(list(model.net(model.scaling_layer(shown) if model.version == "0.1" else shown)))
    if n < 2:
        raise LeadlineError(f"a mean over pairs needs 2 images or more, {n} given")
    return _pair_measurement(
        _all(sums.result()),
        name="mean_pairwise_lpips",
        unit=f"LPIPS ({model.pnet_type})" if model.lpips else f"LPIPS ({model.pnet_type}) without its weights",
        level=level,
        params={"net": model.pnet_type, "version": model.version},
        computed_from={"images": digest.hexdigest()[:16], "lpips": fingerprint_of({}, lpips_model.state_dict())},
    )


def measure_diversity(context: AuditContext) -> Iterator[Finding]:
    """How much the samples differ from each other, and the training images beside them.

    In every feature space the mean squared distance of unit vectors over all pairs, and the Vendi score of equally
    many samples and training images. Where an encoder has taps, mean LPIPS or the same distance without its weights:
    over all pairs, within each class and between classes. The total alone misleads: it falls as one class takes over.
    """
    for part in PARTS:
        for space in context.spaces:
            yield _or_reason(_distance, "mean_pairwise_distance", context, part, space)
        for space, found in context.pair_distances(part).items():
            yield from _of_taps(context, part, space, found)
    for part in PARTS:
        for space in context.spaces:
            yield _or_reason(_vendi, "vendi_score", context, part, space)


METRICS.register("diversity")(
    Metric(
        measure=measure_diversity,
        reports=("mean_pairwise_distance", "vendi_score"),
        uses=frozenset({"features", "labels"}),
    )
)


def _or_reason(
    measure: Callable[[AuditContext, Part, str], Measurement], name: str, context: AuditContext, part: Part, space: str
) -> Measurement:
    """A number in one feature space, or why there is none: the other spaces are measured all the same."""
    try:
        return measure(context, part, space)
    except LeadlineError as error:
        return Measurement.not_measurable(name, str(error), params=where(part, space))


def _distance(context: AuditContext, part: Part, space: str) -> Measurement:
    n = len(context.part(part))
    if n < 2:
        raise LeadlineError(f"a mean over pairs needs 2 images or more, the {part} are {n}: give more")
    value, error = mean_pairwise_distance(context.features(part, space), unit_length=True)
    return Measurement(
        name="mean_pairwise_distance",
        value=value,
        **_interval(value, error if n > 2 else math.nan, n - 1, context.spec.level),
        method="all pairs in closed form; Student t with the U-statistic's error 2·sd(h)/√n; unbiased at any n",
        n=n,
        unit="squared distance of unit vectors",
        direction=DIFFER,
        params={**where(part, space), "standard_error": error},
        computed_from=context.computed_from(part, space),
    )


def _vendi(context: AuditContext, part: Part, space: str) -> Measurement:
    images = context.part(part)
    n = min(len(context.part(other)) for other in PARTS)
    if n < 2:
        raise LeadlineError(
            "the Vendi score grows with the number of images, so it is that of equally many samples and training "
            f"images, 2 or more of each: there are {len(context.samples)} and {len(context.training)}, give more"
        )
    features = context.features(part, space)
    chosen = choose(images, n, context.spec.seed)
    value, error = vendi_score(features if n == len(images) else features[chosen])
    bounds = _interval(math.log(value), error if n > 2 else math.nan, n - 1, context.spec.level)
    if bounds:
        bounds["lower"] = min(value, max(1.0, math.exp(bounds["lower"])))
        bounds["upper"] = max(value, min(float(n), math.exp(bounds["upper"])))
    return Measurement(
        name="vendi_score",
        value=value,
        **bounds,
        method="exp of the entropy of the eigenvalues of K/n; Student t on the log scale with the error sd/√n of what "
        "each image adds (delta method): how the score of n images varies, not how far it is from that of more",
        n=n,
        unit="effective number of images",
        direction=f"{DIFFER}; grows with n, so compare at equal n alone",
        params={
            **where(part, space),
            "chosen_of": len(images),
            "depends_on_n": True,
            "standard_error_of_log": error,
        },
        computed_from=context.computed_from(*PARTS, space),
    )


@dataclass(frozen=True)
class _Mean:
    """A mean over pairs: of n images, its error seen in `kept` of them (of two classes, in the fewer)."""

    pairs: Literal["all", "within", "between"]
    value: float
    error: float
    n: int
    kept: int
    group: str | None = None


def _of_taps(context: AuditContext, part: Part, space: str, found: PairDistances) -> Iterator[Measurement]:
    """Mean distances over all pairs, within each class and between every two classes."""
    name, unit = name_and_unit(space, found)
    common: dict[str, Any] = {
        "name": name,
        "unit": unit,
        "level": context.spec.level,
        "params": where(part, space),
    }
    names = context.class_names[: len(found.counts)]
    yield _pair_measurement(_all(found), **common, computed_from=context.computed_from(part, space))
    if len(context.class_names) > MOST_GROUPS:
        reason = (
            f"distances within classes are kept for up to {MOST_GROUPS} classes, and there are "
            f"{len(context.class_names):,}: audit fewer classes at a time"
        )
        yield Measurement.not_measurable(common["name"], reason, params={**common["params"], "pairs": "within"})
    by_labeler = (LABELER,) if part == "samples" and context.labels is None else ()
    common["computed_from"] = context.computed_from(part, space, *by_labeler)
    for mean in _within(found, names):
        yield _pair_measurement(mean, **common)
    if len(names) <= MOST_CLASSES:
        for mean in _between(found, names):
            yield _pair_measurement(mean, **common)
    else:
        reason = (
            f"{len(names)} classes are {math.comb(len(names), 2):,} pairs of classes, and pairs are compared up to "
            f"{MOST_CLASSES} classes: audit fewer classes at a time"
        )
        params = {**common["params"], "pairs": "between"}
        yield Measurement.not_measurable(common["name"], reason, params=params)


def name_and_unit(space: str, found: PairDistances) -> tuple[str, str]:
    """What a mean distance by an encoder's taps is called, and its unit."""
    if found.calibrated:
        return "mean_pairwise_lpips", f"LPIPS ({space.removeprefix('lpips-')})"
    return "mean_pairwise_feature_distance", f"{space} feature distance, uncalibrated"


def _all(found: PairDistances) -> _Mean:
    return _Mean("all", found.total, found.total_error, found.n, found.kept)


def _within(found: PairDistances, names: Sequence[str]) -> Iterator[_Mean]:
    columns = found.within.tolist(), found.within_error.tolist(), found.counts.tolist(), found.kept_counts.tolist()
    return (_Mean("within", *row) for row in zip(*columns, names, strict=True))


def _between(found: PairDistances, names: Sequence[str]) -> Iterator[_Mean]:
    """Of every two classes that both have images."""
    counts, kept = found.counts.tolist(), found.kept_counts.tolist()
    for a, b in combinations(np.flatnonzero(found.counts).tolist(), 2):
        value, error = float(found.between[a, b]), float(found.between_error[a, b])
        group = f"{names[a]} × {names[b]}"
        yield _Mean("between", value, error, counts[a] + counts[b], min(kept[a], kept[b]), group)


def _pair_measurement(
    mean: _Mean, *, name: str, unit: str, level: float, params: dict[str, Any], computed_from: dict[str, str]
) -> Measurement:
    params = {**params, "pairs": mean.pairs}
    if math.isnan(mean.value):
        whose = "there are" if mean.group is None else f"of {mean.group!r} there are"
        reason = f"a mean over pairs needs 2 images or more, {whose} {mean.n}: give more"
        return Measurement.not_measurable(name, reason, group=mean.group, params=params)
    method = "all pairs in closed form"
    if math.isnan(mean.error):
        method += "; no interval: too few images to see their spread"
    else:
        params["standard_error"] = mean.error
        method += "; Student t with the U-statistic's error "
        method += (
            f"√(var(h_a)/n_a + var(h_b)/n_b), h over {mean.kept:,} images or more of each class"
            if mean.pairs == "between"
            else f"2·sd(h)/√n, h over {mean.kept:,} of {mean.n:,} images"
        )
    return Measurement(
        name=name,
        value=mean.value,
        **_interval(mean.value, mean.error, mean.kept - 1, level),
        method=method,
        n=mean.n,
        unit=unit,
        direction=DIFFER,
        group=mean.group,
        params=params,
        computed_from=computed_from,
    )


def _interval(value: float, error: float, degrees: int, level: float) -> dict[str, Any]:
    """Student's interval of something that is 0 or more; none where its error is not known."""
    if math.isnan(error):
        return {}
    lower, upper = around(value, error, degrees + 1, level)
    return {"lower": max(0.0, lower), "upper": upper, "level": level}


def where(part: Part, space: str) -> dict[str, Any]:
    """The params that say of which images and in which feature space."""
    return {"set": part, "space": f"{space} features"}


def _check_model(model: torch.nn.Module) -> None:
    """Raises LeadlineError on what is no LPIPS, or not one whose mean has the closed form."""
    from lpips import LPIPS  # here: it takes seconds to import

    if not isinstance(model, LPIPS):
        raise LeadlineError(f"lpips_model must be an lpips.LPIPS, not {type(model).__name__}")
    if any(module.training for module in model.modules()):
        raise LeadlineError("lpips_model is in training mode, in which LPIPS drops features at random: call .eval()")
    if model.spatial:
        raise LeadlineError("lpips_model gives maps, not distances: make it with spatial=False")


def _batches(images: Images | Iterable[Images], size: int) -> Iterator[torch.Tensor]:
    if size < 1:
        raise LeadlineError(f"batch_size must be 1 or more, not {size}")
    for given in [images] if isinstance(images, torch.Tensor | np.ndarray) else images:
        for start in range(0, len(given), size):
            batch = given[start : start + size]
            # A copy of an array: torch warns of those that cannot be written to, such as memory maps.
            yield batch.detach() if isinstance(batch, torch.Tensor) else torch.from_numpy(np.array(batch))


def _check_images(batch: torch.Tensor, before: int, net: str) -> None:
    """Raises LeadlineError on what LPIPS does not take. before: images that came earlier."""
    if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
        raise LeadlineError(
            f"LPIPS takes floats of shape [n, 3, h, w] in [-1, 1], not {batch.dtype} of shape {list(batch.shape)}: "
            "scale bytes by x / 127.5 - 1, repeat a grey channel three times"
        )
    side = SMALLEST_SIDE[net.removesuffix("16")]  # vgg16 is another name of vgg
    if min(batch.shape[2:]) < side:
        raise LeadlineError(
            f"LPIPS ({net}) needs images of {side} pixels a side or more, {list(batch.shape[2:])} given: enlarge them"
        )
    # Not a number is not <= 1 either; the last digits of a scaling to [-1, 1] may be beyond.
    wrong = ~(batch.abs() <= 1 + 1e-6).flatten(1).all(1)
    if wrong.any():
        index = int(wrong.int().argmax())
        low, high = batch[index].aminmax()
        raise LeadlineError(
            f"image {before + index} runs from {float(low):g} to {float(high):g}, but LPIPS takes values in [-1, 1]: "
            "scale by 2 * x - 1 from [0, 1], by x / 127.5 - 1 from [0, 255]"
        )

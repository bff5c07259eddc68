"""What the pages of the experiments share: numbers against the axis, what an end-to-end change says, how many runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadline.records import Measurement, TheoryResult
from leadline.report.content import Cell, Plot, TableView
from leadline.report.drawings import point
from leadline.report.lab.lines import Series, bound, verdict
from leadline.report.plots import Line, draw
from leadline.report.words import brief_cell, counted, interval_note, measurement_text, number, plain, short

GL = "generalization_score"
COPIES = "nearest_copy_rate"
WORDS = {"trained": "trained", "gaussian": "Gaussian", "multi-delta": "multi-delta"}
DEFINED = (
    "The generalization score is |x − nearest training image| / |x|: 0 for a copy. The norm in the denominator is from "
    "mid-grey, so scores can be compared within one data set alone; held-out real images of it are the baseline."
)
COPY_RULE = (
    "Copies: images whose nearest training image is nearer than a third of the distance to the second nearest, "
    "distinct one."
)
COSINE = (
    "Linearity is the cosine of D(αx₁ + βx₂; σ) and αD(x₁; σ) + βD(x₂; σ), α = β = 1/√2 (our reading), of two held-out "
    "images with their own noise at σ. It is near 1 wherever the output is mostly its mean, as at high σ: the Gaussian "
    "denoiser, which is affine, shows how near. About the training mean every affine map has 1."
)


@dataclass(frozen=True)
class Axis:
    """Where models stand: a params key, in words, and what else is fixed there. log: drawn by even factors."""

    key: str
    words: str
    fixed: Mapping[str, Any]
    log: bool = True


def at(result: TheoryResult, series: Series, axis: Axis) -> dict[int, Measurement]:
    """The measurements of a series by their place on the axis, ascending; one of no sigma is its mean over levels."""
    found = {
        int(m.params[axis.key]): m
        for m in result.find(series.name, **axis.fixed, **series.params)
        if axis.key in m.params and ("sigma" in m.params) == ("sigma" in series.params)
    }
    return dict(sorted(found.items()))


def along(
    result: TheoryResult,
    wanted: Sequence[Series],
    axis: Axis,
    *,
    name: str,
    caption: str,
    y_label: str,
    factor: int = 1,
) -> list[Plot]:
    """One plot of the series against the axis; none where none has a value."""
    lines, told = [], []
    for style, series in enumerate(wanted):
        points = tuple(p for x, m in at(result, series, axis).items() if (p := point(x, m)) is not None)
        if points:
            lines.append(Line(label=series.label, points=points, style=style))
            told.append(f"{series.label}: {', '.join(f'{number(p.y * factor)} at {short(p.x)}' for p in points)}")
    if not lines:
        return []
    places = sorted({p.x for line in lines for p in line.points})
    return [
        draw(
            lines,
            name=name,
            alt=f"{caption} {'. '.join(told)}.",
            caption=caption,
            x_label=axis.words,
            y_label=y_label,
            x_ticks=places if axis.log else (),
            factor=factor,
        )
    ]


def axis_table(
    result: TheoryResult, columns: Sequence[Series], axis: Axis, *, key: str, caption: str, note: str = ""
) -> TableView:
    """A row per place on the axis and a column per series."""
    found = [at(result, series, axis) for series in columns]
    places = sorted({place for by_place in found for place in by_place})
    rows = [(Cell(text=f"{place:,}"), *(brief_cell(by_place.get(place)) for by_place in found)) for place in places]
    intervals = interval_note([m for by_place in found for m in by_place.values()])
    return TableView(
        key=key,
        caption=plain(caption),
        columns=(axis.words, *(plain(series.label) for series in columns)),
        rows=tuple(rows),
        note=" ".join(filter(None, (intervals, note))),
    )


def ends(result: TheoryResult, series: Series, axis: Axis, changes: Sequence[Measurement]) -> str:
    """`0.12 (…) at 10, 0.71 (…) at 10,000: rises`, by the interval of the change; empty where nothing was measured.

    A number that is a bound is said to be: `at least 40 (…) at 3`.
    """
    known = {place: m for place, m in at(result, series, axis).items() if m.value is not None}
    if not known:
        return ""
    first, last = min(known), max(known)
    told = [f"{bound(known[place])} {measurement_text(known[place])} at {place:,}".strip() for place in (first, last)]
    if first == last:
        return told[0]
    decided = verdict(changes[0], "rises", "falls") if changes else "not decided: there is no interval"
    return f"{', '.join(told)}: {decided}"


def levels_words(result: TheoryResult) -> str:
    """`averaged over 10 noise levels`."""
    numbers = {m.params["num_sigmas"] for m in result if "num_sigmas" in m.params}
    return f"averaged over {counted(max(numbers), 'noise level')}" if numbers else "averaged over the noise levels"


def runs_words(result: TheoryResult) -> str:
    """What the intervals do not hold, or do."""
    runs = result.settings["runs_per_point"]
    if runs > 1:
        return f"{runs} training runs per point: intervals between runs"
    return "one training run per point: another seed may move it"


def runs_caveat(result: TheoryResult) -> str:
    """The same, whole."""
    if result.settings["runs_per_point"] > 1:
        return (
            "Intervals are over training runs that differ in their seed alone, where a point has several; of a change "
            "from end to end they take both ends as independent."
        )
    return (
        "One training run per point: intervals are over images, pairs of images or samples of that run, and say "
        "nothing of another training seed (--seeds 0,1,2)."
    )


def facts(result: TheoryResult) -> list[str]:
    """A line below the title."""
    measuring = result.settings["measuring"]
    return [
        counted(len(result.settings["members"]), "model"),
        f"{counted(measuring['num_images'], 'noisy image')} at most, held out from all of them",
        f"training steps: {', '.join(dict.fromkeys(str(m['steps']) for m in result.settings['members'].values()))}",
    ]

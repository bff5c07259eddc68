"""Drawings of a steering sweep: quality against memorization and bias, and every measurement over the strength."""

from collections.abc import Sequence
from dataclasses import dataclass

from leadline.comparison import label
from leadline.frontier import PairedTest, Setting, SteerSweep, family
from leadline.records import Measurement
from leadline.report.content import Plot
from leadline.report.drawings import point
from leadline.report.fidelity import MEASURES as QUALITY
from leadline.report.fidelity import title_of
from leadline.report.findings import CALIBRATED
from leadline.report.plots import Level, Line, Point, draw, folded
from leadline.report.scatter import Path, Spot, draw_paths
from leadline.report.spaces import MOST_SPACES, anchor, in_space
from leadline.report.words import POINTS, SHARES, interval_text, like, measurement_text, quoted

PROMPTED = ("prompt_agreement", "init_distance")
MEMORIZATION = ("nearest_distance", "nearest_similarity", "nearest_copy_rate", "authentic_rate")
BIAS = ("share",)
TOPICS = {
    "quality": (*QUALITY, *PROMPTED),
    "memorization": MEMORIZATION,
    "bias": BIAS,
    "diversity": ("mean_pairwise_distance", "mean_pairwise_lpips", "mean_pairwise_feature_distance", "vendi_score"),
}
"""What a measurement is about -> the names of such measurements, in the order of the page."""
RATES = SHARES | POINTS | {"prompt_agreement"}
"""Parts of one whole: their differences are written in percentage points."""
MOST_DOSES = 16
"""Measurements that are drawn over the strength; the table has them all."""
AXIS_WIDTH = 40
"""Characters in a line of an axis' title."""
DODGE = 0.012
"""Distance on the axis of strengths of two kinds at one strength."""


@dataclass(frozen=True)
class Axis:
    """A measurement as an axis of the frontier. of: strength 0's own, which says what is looked up."""

    of: Measurement

    @property
    def title(self) -> str:
        """`Fréchet distance in labeler features`, `share of 9, %`, with what a larger value means where it is said."""
        title = words(self.of) + (", %" if self.of.name in SHARES else "")
        # What follows the first clause is about the number of images, the same for all.
        told = self.of.direction.partition(";")[0]
        return "\n".join((folded(title, AXIS_WIDTH), *([folded(f"({told})", AXIS_WIDTH)] if told else [])))

    @property
    def factor(self) -> int:
        """100 for what is written in per cent."""
        return 100 if self.of.name in SHARES else 1


def words(m: Measurement) -> str:
    """A measurement, or a paired difference of it, in words: share of 9; Fréchet distance in labeler features."""
    name, space, params = str(m.params.get("of", m.name)), m.params.get("space"), m.params
    if name in BIAS:
        return f"share of {quoted(m.group or '')}"
    title = title_of(name, space) if name in QUALITY else name.replace("_", " ").replace("lpips", "LPIPS")
    title = title if title.startswith("Fr") else title[0].lower() + title[1:]
    tags = [f"k = {params['k']}"] if name in MEMORIZATION and "k" in params else []
    tags += [str(params["rule"])] if "rule" in params else []
    tags += [str(params["pairs"])] if params.get("pairs", "all") != "all" else []
    tags += [m.group] if m.group else []
    return title + in_space(space) + (f" ({', '.join(tags)})" if tags else "")


def begun(text: str) -> str:
    """The text as a sentence begins."""
    return text[0].upper() + text[1:]


def frontier_plots(sweep: SteerSweep, group: str | None, training: Measurement | None) -> list[Plot]:
    """Quality against memorization and against the share of `group`, in the first feature spaces.

    Quality is what the setting was chosen by, else the first measure of it. training: that class's share in the
    training data.
    """
    values = sweep.zero.values
    others = [_first(values, "nearest_distance") or _first(values, "nearest_copy_rate")]
    others.append(next((m for m in values if m.name == "share" and m.group == group), None))
    quality = [m for m in values if m.name == _quality(sweep) and m.value is not None and m.group is None]
    level = None
    if training is not None and training.value is not None:
        level = Level(y=training.value, label=f"training data {like(training, training.value)}")
    drawn = [
        _frontier(sweep, Axis(other), Axis(of), level if other.name in BIAS else None)
        for of in quality[:MOST_SPACES]
        for other in others
        if other is not None
    ]
    return [plot for plot in drawn if plot is not None]


def _quality(sweep: SteerSweep) -> str:
    """The measure that stands for quality: what the setting was chosen by, else the first that there is."""
    chosen = () if sweep.choice is None else (sweep.choice.name,)
    return next((name for name in (*chosen, *QUALITY, *PROMPTED) if _first(sweep.zero.values, name) is not None), "")


def _first(values: Sequence[Measurement], name: str) -> Measurement | None:
    return next((m for m in values if m.name == name and m.value is not None), None)


def _frontier(sweep: SteerSweep, x: Axis, y: Axis, level: Level | None) -> Plot | None:
    start = _spot(sweep.zero, x, y)
    if start is None:
        return None
    paths = []
    for kind, settings in sweep.kinds.items():
        spots = tuple(spot for setting in settings if (spot := _spot(setting, x, y)) is not None)
        if spots:
            paths.append(Path(label=kind, spots=spots))
    told = "; ".join(
        f"{setting.words}: {_told(setting, x)}, {_told(setting, y)}"
        for setting in sweep.settings
        if _spot(setting, x, y) is not None
    )
    return draw_paths(
        start,
        paths,
        name=f"frontier-{anchor(family(x.of))}-{anchor(family(y.of))}",
        alt=f"{words(y.of)} against {words(x.of)}. {told}.",
        caption=f"{begun(words(y.of))} against {words(x.of)}, a point for each setting with the intervals of both, its "
        "strength beside it; cross: strength 0. Filled: one of the two differs from strength 0 in the paired test "
        "(Holm); hollow: neither does." + (" Dashed: the share in the training data." if level is not None else ""),
        x_label=x.title,
        y_label=y.title,
        level=level,
        x_factor=x.factor,
    )


def _spot(setting: Setting, x: Axis, y: Axis) -> Spot | None:
    """The setting's place; None where one of the two has no finite value."""
    at, height = setting.value(x.of), setting.value(y.of)
    places = point(0, at), point(0, height)
    if places[0] is None or places[1] is None:
        return None
    strong = any(differs(setting, axis) for axis in (x, y))
    return Spot(x=places[0], y=places[1], label=f"{setting.steer.strength:g}", strong=strong)


def differs(setting: Setting, axis: Axis) -> bool:
    """Whether the setting's measurement differs from that of strength 0."""
    tested = setting.test(family(axis.of))
    return tested is not None and tested.differs


def _told(setting: Setting, axis: Axis) -> str:
    found = setting.value(axis.of)
    value = "not measured" if found is None else measurement_text(found)
    return f"{axis.of.name} {value}{', differs' if differs(setting, axis) else ''}"


def dose_plots(sweep: SteerSweep, group: str | None) -> list[Plot]:
    """Differences from strength 0 over the strength, a line per schedule and mode; no more than the first few."""
    drawn = [_dose(sweep, name, of) for name, of in doses(sweep, group).items()]
    return [plot for plot in drawn if plot is not None]


def doses(sweep: SteerSweep, group: str | None) -> dict[str, Measurement]:
    """What is drawn over the strength: of neighbours the nearest, of copies one rule, of classes the answer's; nothing
    that is 0 at every setting."""
    found: dict[str, Measurement] = {}
    once: set[tuple[str, str | None]] = set()
    for name, difference in sweep.families.items():
        of, space = str(difference.params["of"]), difference.params.get("space")
        of_class = of in BIAS and difference.group not in (group, "unclassified")
        part = difference.params.get("pairs", "all") != "all" or (difference.group is not None and of not in BIAS)
        other_rule = difference.params.get("rule", CALIBRATED) != CALIBRATED
        if of_class or part or other_rule or (of not in BIAS and (of, space) in once):
            continue
        if any(tested.difference.value for _, tested in sweep.tests(name)):
            once.add((of, space))
            found[name] = difference
    ordered = sorted(found.items(), key=lambda item: _place(str(item[1].params["of"])))
    return dict(ordered[:MOST_DOSES])


def _place(of: str) -> int:
    """Quality first, what has no topic last."""
    return next((place for place, names in enumerate(TOPICS.values()) if of in names), len(TOPICS))


def _dose(sweep: SteerSweep, name: str, of: Measurement) -> Plot | None:
    kinds = sweep.kinds
    factor = 100 if of.params["of"] in RATES else 1
    lines, told = [], []
    for style, (kind, settings) in enumerate(kinds.items()):
        shift = (style - (len(kinds) - 1) / 2) * DODGE
        tested = [(setting, found) for setting in settings if (found := setting.test(name)) is not None]
        points = [
            p for setting, found in tested if (p := _dose_point(setting.steer.strength + shift, found)) is not None
        ]
        if points:
            # Through 0 at strength 0, by definition.
            lines.append(Line(label=kind, points=(Point(x=0.0, y=0.0, hollow=True), *points), style=style))
            told += [f"{setting.words}: {difference_text(found)}" for setting, found in tested]
    if not lines:
        return None
    unit = "percentage points" if factor == 100 else of.unit
    zero = sweep.zero.value(of)
    at_zero = "" if zero is None or zero.value is None else f" At strength 0 it is {measurement_text(zero)}."
    return draw(
        lines,
        name=f"dose-{anchor(name)}",
        alt=f"Difference of {label(of)} from strength 0. {'; '.join(told)}.",
        caption=f"{begun(words(of))}: difference from strength 0 over the strength of the bypass, on the same seeds"
        f"{f' ({unit})' if unit else ''}.{at_zero} Bars: paired intervals; filled: differs after Holm.",
        x_label="strength of the bypass",
        y_label=folded(f"difference of {words(of)}", AXIS_WIDTH),
        x_ticks=sorted({setting.steer.strength for setting in sweep.settings}),
        levels=[Level(y=0.0, label="no difference")],
        factor=factor,
    )


def _dose_point(x: float, tested: PairedTest) -> Point | None:
    found = point(x, tested.difference)
    return (
        None
        if found is None
        else Point(x=x, y=found.y, lower=found.lower, upper=found.upper, hollow=not tested.differs)
    )


def shown_as(difference: Measurement) -> Measurement:
    """A paired difference under the name by which the page writes its numbers: shares in percentage points."""
    points = difference.params.get("of") in RATES
    return difference.model_copy(update={"name": "share_difference" if points else "paired_difference"})


def difference_text(tested: PairedTest) -> str:
    """`−1.7 (95 % interval −2.5 to −0.9), differs`, or why there is none."""
    d = shown_as(tested.difference)
    if d.value is None:
        return measurement_text(d)
    interval = interval_text(d)
    return signed(d) + (f" ({interval})" if interval else "") + (", differs" if tested.differs else "")


def signed(d: Measurement) -> str:
    """The difference with its sign."""
    if d.value is None:
        return "not measurable"
    text = like(d, d.value)
    return f"+{text}" if d.value > 0 and not text.startswith("+") else text

"""Watched trainings: since when no share differs from the training data's, and runs compared at equal loss or fidelity.

The images of a bank start from the same noise at every look and in every run, so that two looks are compared pair by
pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.stats import norm

from leadline.across import PARTS, Found
from leadline.across.pairing import differing
from leadline.audit.flips import as_family, paired_flips
from leadline.audit.intervals import Interval, joint_level, share_interval, wilson
from leadline.comparison import mover
from leadline.data.shards import read_shards
from leadline.errors import LeadlineError, NotMeasurable
from leadline.looks import TRAINING_LOSS, Look, unlike
from leadline.recipe import Recipe, fingerprint
from leadline.records import ImageLabels, Measurement, Panel, Table
from leadline.runs import Run

AT_EQUAL = "share_difference_at_equal"
STANDINGS = "watched_shares"
STRIP = "watched "
"""Beginning of the name of a run's strip; its folder's name follows."""
STEPS = "steps"
BASES = (STEPS, TRAINING_LOSS, "kernel_distance")
"""What two runs have in common at the looks that are compared."""
MOST_CLASSES = 4
SEEDS, MOST_LOOKS = 8, 10
"""Rows and most columns of a strip."""
ALONE, JOINT = "each look by itself", "all looks jointly"
BELOW, NOT_SHOWN, ABOVE, UNKNOWN = "below", "not shown", "above", "not measurable"
NOT_RECOGNISED = "not recognised"
"""Group of the images that are labelled as no class of the training data."""
AT_LEVEL = 0.95
"""Coverage where the looks do not name one."""


@dataclass(frozen=True)
class Watched:
    """A run with its recipe, if any, and its looks, at least one, by rising step."""

    run: Run
    recipe: Recipe | None
    looks: tuple[Look, ...]

    @property
    def name(self) -> str:
        return self.run.folder.name


@dataclass(frozen=True)
class Equal:
    """Two looks that are alike in `basis`, with the value there: of a loss or distance, the best that both reach."""

    basis: str
    reached: float
    looks: tuple[Look, Look]
    values: tuple[float, float]


@PARTS.register("watched")
def measure_watched(runs: Sequence[Run]) -> Iterator[Found]:
    """Of each watched run where its shares stand and a strip of its bank; of several the differences at equal looks.

    Runs that took over one training are counted once. Nothing where no run was watched.
    """
    found: list[Watched] = []
    for run in runs:
        try:
            looks, recipe = run.looks(), run.recipe
        except LeadlineError as error:
            yield Measurement.not_measurable(AT_EQUAL, str(error), params={"run_a": run.folder.name})
            continue
        if looks and looks not in [other.looks for other in found]:
            found.append(Watched(run, recipe, looks))
    if not found:
        return
    yield standings(found)
    for watched in found:
        strip = bank_strip(watched)
        if strip is not None:
            yield strip
    if len(runs) > 1:
        yield from compared(found)


def standings(found: Sequence[Watched]) -> Table:
    """Where the share of each class stands against the training data's as the same labeler sees it, and since when.

    A share is that among the images that the labeler recognised, of the bank and of the training data alike: what it
    gets wrong in both cancels. recognised: of the bank at the last look. Each look by itself: at the look's own level.
    Jointly: at the Bonferroni level over all looks of the run, which is right however much they hang together. lower,
    upper: of the difference at the last look.
    """
    rows: list[tuple[str | int | float | None, ...]] = []
    for watched in found:
        steps = [look.step for look in watched.looks]
        for group, known in minorities(watched.looks):
            last = watched.looks[-1].find("labeled_difference", group)
            told = {} if last is None or last.value is None else last.params
            n = None if last is None or last.value is None else last.n
            shares = (known, told.get("training_share_as_labeled"), told.get("share"), n)
            for words, looks in ((ALONE, 1), (JOINT, len(steps))):
                intervals = [_difference(look, group, looks) for look in watched.looks]
                standing = _standing(steps, [_side(interval) for interval in intervals])
                ends = intervals[-1] or (None, None)
                rows.append((watched.name, group, *shares, words, *standing, len(steps), *ends))
    columns = (
        "run",
        "class",
        "training share",
        "training share as labeled",
        "last share",
        "recognised",
        "intervals",
        "state",
        "since",
        "before",
        "until",
        "looks",
        "lower",
        "upper",
    )
    return Table(
        name=STANDINGS,
        title="Since when no difference from the training data is shown",
        columns=columns,
        rows=tuple(rows),
        note="both as labelled by one labeler; looks at one training share their seeds and hang together; jointly: "
        "Bonferroni over the looks, whose wider intervals cease to show a difference sooner",
    )


def minorities(looks: Sequence[Look]) -> list[tuple[str, float]]:
    """The training data's classes but the largest, the rarest first, with their shares; no more than the first few."""
    shares = next((shares for look in looks if (shares := look.training_shares())), {})
    return list(shares.items())[:-1][:MOST_CLASSES]


def _difference(look: Look, group: str, looks: int) -> Interval | None:
    """Interval of a class's share less the training set's, both as labelled, at Bonferroni's level of so many looks.

    MOVER, as the look's own: the share's part is made anew by `share_interval`, which is exact for the few images of an
    early look; the training set's is what the look's own interval has beyond Wilson's, by the normal quantiles' ratio.
    """
    m = look.find("labeled_difference", group)
    if m is None or m.value is None or m.n is None or m.lower is None or m.upper is None:
        return None
    own = joint_level(m.level or AT_LEVEL, len(look.training_shares()))
    level = 1 - (1 - own) / looks
    share, count = m.params["share"], round(m.params["share"] * m.n)
    low, high = wilson(count, m.n, own)
    wider = float(norm.isf((1 - level) / 2) / norm.isf((1 - own) / 2))
    above, below = (
        wider * max(whole**2 - part**2, 0.0) ** 0.5
        for whole, part in ((m.value - m.lower, share - low), (m.upper - m.value, high - share))
    )
    known = share - m.value
    return mover(share, share_interval(count, m.n, level)[0], known, (known - below, known + above))


def _side(difference: Interval | None) -> str:
    """Whether the interval of a difference lies below 0, above it, or on it."""
    if difference is None:
        return UNKNOWN
    lower, upper = difference
    return BELOW if upper < 0 else ABOVE if lower > 0 else NOT_SHOWN


def _standing(steps: Sequence[int], sides: Sequence[str]) -> tuple[str, int, str | None, int | None]:
    """The side of the last look, the first step of the looks up to it that agree, and the side and step before them."""
    spans = [(side, [step for step, _ in group]) for side, group in groupby(zip(steps, sides, strict=True), _second)]
    state, own = spans[-1]
    if len(spans) == 1:
        return state, own[0], None, None
    before, other = spans[-2]
    return state, own[0], before, other[-1]


def _second(pair: tuple[int, str]) -> str:
    return pair[1]


def bank_strip(watched: Watched) -> Panel | None:
    """The first seeds of the bank over the looks; None where none of its images are there any more."""
    columns: dict[int, np.ndarray] = {}
    labels: list[tuple[str, ...]] = []
    names: list[str] = []
    for look in spaced(watched.looks, MOST_LOOKS):
        try:
            pixels, told = read_shards(watched.run.bank_folder(look.step), limit=SEEDS)
        except LeadlineError:
            continue
        if columns and pixels.shape != next(iter(columns.values())).shape:
            continue
        columns[look.step] = pixels
        names = [f"seed {seed}, image {index}" for seed, index in zip(told["seed"], told["index"], strict=True)]
        labels.append((look.labels or ("",) * len(pixels))[: len(pixels)])
    if not columns:
        return None
    return Panel(
        name=f"{STRIP}{watched.name}",
        title="The same seeds over the training",
        tiles=np.stack(list(columns.values()), axis=1),
        caption="The first images of the bank in the order of their seeds, none chosen; below each its label.",
        captions=tuple(label for row in zip(*labels, strict=True) for label in row),
        column_titles=tuple(f"step {step:,}" for step in columns),
        row_titles=tuple(names),
    )


def spaced(looks: Sequence[Look], most: int) -> list[Look]:
    """At most so many of the looks, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(looks) - 1, min(most, len(looks))).round().astype(int)
    return [looks[place] for place in dict.fromkeys(places.tolist())]


def compared(found: Sequence[Watched]) -> Iterator[Measurement]:
    """The shallowest run of each recipe and training seed against each deeper one, at equal steps, loss and fidelity.

    All tests are one family: Holm's p, and intervals at Bonferroni's level. The loss is of other images than the bank,
    so that the looks are chosen without a look at the labels that are compared; the fidelity is of the bank's own.
    """
    if len(found) < 2:
        reason = (
            f"only one training was watched ({found[0].name}): watch the others too (--set train.watch_every=500, or "
            "`leadline watch RUN` at their snapshots)"
        )
        yield Measurement.not_measurable(AT_EQUAL, reason)
        return
    pairs = _pairs(found)
    left = [each for each in found if each not in [one for pair in pairs for one in pair]]
    apart = list(_apart(left, found))
    if not pairs and not apart:
        reason = (
            "no two of the watched trainings have one recipe, one training seed and unlike depths: watch such "
            "(leadline sweep)"
        )
        yield Measurement.not_measurable(AT_EQUAL, reason)
    made = [m for shallow, deep in pairs for basis in BASES for m in _at_equal(shallow, deep, basis)]
    tests = [m for m in made if m.value is not None]
    # Looks that are alike in two ways are one comparison, and its tests are in the family once.
    sets = [tuple(m.params[name] for name in ("run_a", "step_a", "run_b", "step_b")) for m in tests]
    yield from as_family(tests, sets)
    yield from (m for m in [*made, *apart] if m.value is None)


def _pairs(found: Sequence[Watched]) -> list[tuple[Watched, Watched]]:
    """Of runs that were trained alike but for their depth the shallowest with each that has more blocks."""
    families: dict[str, list[Watched]] = {}
    for each in sorted(found, key=_blocks):
        if each.recipe is not None:
            families.setdefault(_trained(each.recipe), []).append(each)
    return [(own[0], each) for own in families.values() for each in own[1:] if _blocks(each) > _blocks(own[0])]


def _blocks(watched: Watched) -> int:
    return 0 if watched.recipe is None else watched.recipe.model.blocks


def _trained(recipe: Recipe) -> str:
    """What decides a training, its seed included, but for the depth. The bank's sampling is among a look's settings."""
    text = () if recipe.text is None else (recipe.text,)
    return fingerprint(recipe.data, recipe.model, recipe.train, *text, leave_out={"model.blocks", "train.snapshots"})


def _apart(left: Sequence[Watched], found: Sequence[Watched]) -> Iterator[Measurement]:
    """Of each run in no pair what sets it apart from the first of another depth that has its training seed."""
    told: list[set[str]] = []
    for each, other in ((each, other) for each in left for other in found):
        if each.recipe is None or other.recipe is None or any(each.name in names for names in told):
            continue
        if each.recipe.train.seed != other.recipe.train.seed or _blocks(each) == _blocks(other):
            continue
        told.append({each.name, other.name})
        fields = differing(each.recipe, other.recipe, ("data", "model", "train", "text"))
        reason = (
            f"{each.name} and {other.name} differ in more than their depth "
            f"({', '.join(name for name in fields if name != 'model.blocks')}): watch runs that differ in model.blocks "
            "alone (leadline sweep)"
        )
        yield Measurement.not_measurable(AT_EQUAL, reason, params={"run_a": each.name, "run_b": other.name})


def _at_equal(shallow: Watched, deep: Watched, basis: str) -> Iterator[Measurement]:
    """The paired differences of the minority classes' shares, and of the not recognised, deep minus shallow."""
    params = {"basis": basis, "run_a": shallow.name, "run_b": deep.name}
    try:
        if differing := unlike(shallow.looks[-1].settings, deep.looks[-1].settings):
            raise NotMeasurable(f"the runs were looked at with unlike settings ({differing}): watch them alike")
        equal = equal_looks(shallow.looks, deep.looks, basis)
        one, other = (_labels(look) for look in equal.looks)
    except NotMeasurable as error:
        yield Measurement.not_measurable(AT_EQUAL, str(error), params=params)
        return
    steps = {"step_a": equal.looks[0].step, "step_b": equal.looks[1].step}
    values = {"reached": equal.reached, "value_a": equal.values[0], "value_b": equal.values[1]}
    level = float(equal.looks[0].settings.get("audit.level", AT_LEVEL))
    groups = (*(name for name, _ in minorities(shallow.looks)), NOT_RECOGNISED)
    for group in groups:
        flips = paired_flips(one, other, group=group, classes=groups, level=level)
        changes = {
            "name": AT_EQUAL,
            "unit": "share of all images of the bank",
            "direction": f"above 0: more often by {deep.name}",
            "params": {**params, **steps, **values, **flips.params},
        }
        yield flips.model_copy(update=changes)


def equal_looks(first: Sequence[Look], other: Sequence[Look], basis: str) -> Equal:
    """The last look that both have at one step; or of a loss or distance, each run's first look that reaches the best
    value that both reach. Raises NotMeasurable where there is none."""
    if basis == STEPS:
        both = {look.step: look for look in first}
        common = [(both[look.step], look) for look in other if look.step in both]
        if not common:
            raise NotMeasurable("the runs have no look at one step in common: watch them every so many steps alike")
        step = float(common[-1][0].step)
        return Equal(basis, step, common[-1], (step, step))
    known = [_values(looks, basis) for looks in (first, other)]
    reached = max(min(value for _, value in values) for values in known)
    (one, value), (two, second) = (next(pair for pair in values if pair[1] <= reached) for values in known)
    return Equal(basis, reached, (one, two), (value, second))


def _values(looks: Sequence[Look], basis: str) -> list[tuple[Look, float]]:
    """The looks at which the basis could be measured, with its value there."""
    where = {} if basis == TRAINING_LOSS else {"set": "samples"}
    found = [(look, look.find(basis, **where)) for look in looks]
    values = [(look, m.value) for look, m in found if m is not None and m.value is not None]
    if not values:
        reasons = (m.reason for _, m in found if m is not None and m.reason)
        raise NotMeasurable(next(reasons, f"{basis} was measured at no look: look again (leadline watch)"))
    return values


def _labels(look: Look) -> ImageLabels:
    if not look.labels:
        raise NotMeasurable("the banks' images have no labels: give the data labelled images for a labeler")
    known = look.training_shares()
    labels = tuple(label if label in known else NOT_RECOGNISED for label in look.labels)
    return ImageLabels(ids=look.ids, labels=labels)

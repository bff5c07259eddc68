"""Shares of images that are drawn until they are known well enough: the looks, and what may be said at the end."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from leadline.audit.anytime import METHOD, anytime_interval, centre, images_needed
from leadline.audit.context import Finding
from leadline.audit.intervals import Interval, joint_level, wilson
from leadline.errors import LeadlineError, did_you_mean
from leadline.records import Measurement, Table

SEQUENCE, LOOKS = "share_sequence", "looks"
"""Names of the measurement and of the table that tell of the looks."""
OF_RECOGNISED = "share of the recognised images"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When to stop: at intervals no wider than `width`, of `group` or, where it is None, of every class; or with
    `at_most` images. Raises LeadlineError where no drawing could keep to it."""

    width: int | float
    group: str | None = None
    at_most: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.width < 1:
            raise LeadlineError(
                f"--until-width is a part of 1, 0.02 for two percentage points, between 0 and 1, not {self.width:g}"
            )
        if self.at_most < 1:
            raise LeadlineError(f"--at-most must be 1 or more images, not {self.at_most}")

    def ended(self, n: int) -> str:
        """Why no more than `n` images are drawn, though they are not enough."""
        if n > self.at_most:
            return f"{n:,} images were there already, more than the {self.at_most:,} that may be drawn (--at-most)"
        return f"{n:,} images were drawn, the most that was asked for (--at-most)"

    def check_group(self, names: Sequence[str]) -> None:
        """Raise LeadlineError where the group is none of the classes of the training data, or where these are one."""
        if len(names) < 2:
            raise LeadlineError(
                f"all training images are of one class ({', '.join(names)}), so there is no share to wait for: audit "
                "more classes (--groups, data.classes)"
            )
        if self.group is not None and self.group not in names:
            raise LeadlineError(
                f"--group {self.group}: no class of the training data: {did_you_mean(self.group, names)}"
            )


@dataclass(frozen=True, kw_only=True)
class Look:
    """The first n images. recognised: those of a class of the training data; counts, intervals: one per such class,
    of the share among those; all intervals of all looks hold together."""

    n: int
    recognised: int
    counts: tuple[int, ...]
    intervals: tuple[Interval, ...]

    @property
    def widths(self) -> tuple[float, ...]:
        """Upper minus lower end."""
        return tuple(upper - lower for lower, upper in self.intervals)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The classes that are looked at, their shares in the training data, and the level at which all shall hold."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    level: float

    @property
    def each(self) -> float:
        """Bonferroni's level of one class."""
        return joint_level(self.level, len(self.names))

    def width(self, look: Look, rule: Rule) -> float:
        """The width that is to fall: of the rule's group, else of the class whose interval is widest."""
        return max(look.widths) if rule.group is None else look.widths[self.names.index(rule.group)]

    def decides(self, look: Look, rule: Rule) -> int:
        """The class whose width that is."""
        return look.widths.index(max(look.widths)) if rule.group is None else self.names.index(rule.group)

    def more_images(self, look: Look, rule: Rule) -> int:
        """About how many further images the rule takes, if the shares stay as they are and as many are recognised."""
        if look.recognised == 0:
            return max(rule.at_most - look.n, 0)
        needed = max(
            images_needed(count / look.recognised, rule.width, self.each, around=centre(share))
            for index, (count, share) in enumerate(zip(look.counts, self.shares, strict=True))
            if rule.group is None or index == self.names.index(rule.group)
        )
        return max(round(needed * look.n / look.recognised) - look.n, 0)


def looks_at(
    labels: Int[np.ndarray, " n"], classes: Sequence[int], watched: Watched, every: int, first: int = 0
) -> list[Look]:
    """Looks after every so many images, and after the last. classes: the labels that `watched` names, in that order.

    first: leave out the looks before that many images.
    """
    ends = [n for n in (*range(every, len(labels), every), len(labels)) if n >= first]
    running = np.stack([np.cumsum(labels == label) for label in classes], 1)
    found = []
    for n in ends:
        counts = tuple(int(count) for count in running[n - 1])
        recognised = sum(counts)
        intervals = tuple(
            anytime_interval(count, recognised, watched.each, around=centre(share))
            for count, share in zip(counts, watched.shares, strict=True)
        )
        found.append(Look(n=n, recognised=recognised, counts=counts, intervals=intervals))
    return found


def sequence_findings(
    looks: Sequence[Look], watched: Watched, rule: Rule, computed_from: Mapping[str, str]
) -> Iterator[Finding]:
    """`share_sequence` of each class, as of the last look, and the table of all looks."""
    last = looks[-1]
    width = watched.width(last, rule)
    sharp = width <= rule.width
    deciding = watched.names[watched.decides(last, rule)]
    told = f"the interval of {deciding!r} is {100 * width:.2f} points wide, {100 * rule.width:g} were wanted"
    because = told if sharp else f"{rule.ended(last.n)}, and {told}"
    for index, (name, share) in enumerate(zip(watched.names, watched.shares, strict=True)):
        fields: dict[str, Any] = {
            "n": last.recognised,
            "group": name,
            "unit": OF_RECOGNISED,
            "computed_from": dict(computed_from),
            "params": {
                "training_share": share,
                "looks": len(looks),
                "images": last.n,
                "wanted_width": rule.width,
                "waited_for": rule.group or "every class",
                "sharp": sharp,
                "stopped_because": because,
            },
        }
        if last.recognised == 0:
            reason = f"none of the {last.n:,} images was recognised as one of the training data's classes: look at them"
            yield Measurement.not_measurable(SEQUENCE, reason, **fields)
            continue
        lower, upper = last.intervals[index]
        yield Measurement(
            name=SEQUENCE,
            value=last.counts[index] / last.recognised,
            lower=lower,
            upper=upper,
            level=watched.level,
            method=METHOD + _jointly(len(watched.names)),
            **fields,
        )
    yield _table(looks, watched)


def _table(looks: Sequence[Look], watched: Watched) -> Table:
    rows = [
        (number, look.n, name, count, look.recognised, *_shares(count, look.recognised, interval, watched.each))
        for number, look in enumerate(looks, 1)
        for name, count, interval in zip(watched.names, look.counts, look.intervals, strict=True)
    ]
    return Table(
        name=LOOKS,
        title="Looks",
        columns=("look", "images", "class", "of the class", "recognised", *SHARE_COLUMNS),
        rows=tuple(rows),
        note="Shares of the images that were recognised as a class of the training data. lower, upper: they hold at "
        "all looks together. Wilson: the interval of a single look at a number of images fixed beforehand; not valid "
        "when looked at repeatedly.",
    )


SHARE_COLUMNS = ("share", "lower", "upper", "Wilson lower", "Wilson upper")


def _shares(count: int, n: int, interval: Interval, level: float) -> tuple[float | None, ...]:
    if n == 0:
        return (None, *interval, None, None)
    return (count / n, *interval, *wilson(count, n, level))


def _jointly(num_classes: int) -> str:
    return f", simultaneous for the {num_classes} classes (Bonferroni)" if num_classes > 2 else ""

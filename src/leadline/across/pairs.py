"""Pairs of the same seeds: what two models make of the same noise, for two depths, strengths of bypass or checkpoints.

Image i of a seed starts from the same noise in every run, so each image of one set has its partner in the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from leadline.across import PARTS, Found
from leadline.across.labelled import labelled_unlike
from leadline.across.pairing import Drawn, Pairing, drawn_by, pairings
from leadline.audit.flips import (
    PairedLabels,
    as_family,
    flip_matrix,
    flip_rate,
    marginal_homogeneity,
    pair_up,
    paired_flips,
)
from leadline.audit.labels import UNSURE
from leadline.data.shards import read_rows
from leadline.errors import LeadlineError
from leadline.recipe import AuditSpec
from leadline.records import AuditResult, ImageLabels, Measurement, Panel
from leadline.runs import Run, open_runs

MOST_GALLERIES = 12
"""Pairs of runs whose galleries are read and shown; `leadline flips` shows those of any other."""


@PARTS.register("pairs")
def pairs_of_runs(runs: Sequence[Run]) -> Iterator[Found]:
    """Shares, pair by pair, of every two sets that differ in one thing, the galleries of flips, and Holm's p.

    The shallowest model beside each deeper one of the same training seed, no bypass beside each bypass, each checkpoint
    that was audited beside the last. What cannot be paired for want of an audit or of its labels is not measurable.
    """
    drawn: list[Drawn] = []
    for run in runs:
        try:
            drawn += map(drawn_by, [run, *open_runs(run.checkpoints_folder)])
        # A run folder may come from anywhere; what is wrong in it is told, and the other runs are compared.
        except (OSError, ValueError, LookupError, TypeError) as error:
            yield Measurement.not_measurable("paired_flips", f"{run.folder.name} cannot be read: {error}")
    yield from compare(pairings(drawn))


def compare(pairs: Sequence[Pairing], group: str | None = None) -> list[Found]:
    """All that two sets of the same seeds say, for each pair of them, as one family of tests over pairs and classes.

    group: the one class to compare; None: each class of the training data, and "unclassified" where an image is.
    """
    found = [item for number, each in enumerate(pairs, 1) for item in _compared(each, number, group)]
    tested = [(place, item) for place, item in enumerate(found) if isinstance(item, Measurement) and _is_test(item)]
    family = as_family([m for _, m in tested], [m.params["pair"] for _, m in tested])
    for (place, _), m in zip(tested, family, strict=True):
        found[place] = m
    return found


def _is_test(m: Measurement) -> bool:
    return m.name == "paired_flips" and m.value is not None


def _compared(pair: Pairing, number: int, group: str | None) -> Iterator[Found]:
    params = {"pair": number, **pair.params}
    try:
        audits = (labelled_audit(pair.first), labelled_audit(pair.second))
        if apart := labelled_unlike(*audits):
            raise LeadlineError(f"the two sets were not labelled alike ({apart}): audit both alike")
        labels = tuple(audit.labels for audit in audits if audit.labels is not None)
        made = _Made(pair, params, audits[1].settings, labels, pair_up(*labels), _training_counts(pair.second), group)
    except (ValueError, TypeError) as error:
        yield Measurement.not_measurable("paired_flips", str(error), params=params)
        return
    sources = {name: str(audit.settings["fingerprints"]["samples"]) for name, audit in zip("ab", audits, strict=True)}
    for m in made.measurements():
        yield m.model_copy(update={"params": {**params, **m.params}, "computed_from": sources})
    table = flip_matrix(made.pairs.a, made.pairs.b, list(made.counts), (pair.a, pair.b))
    yield table.model_copy(update={"name": f"{table.name}_{number}"})
    if number > MOST_GALLERIES:
        return
    try:
        yield from made.galleries()
    except LeadlineError as error:
        yield Measurement.not_measurable("flip_gallery", str(error), params=params)


@dataclass(frozen=True)
class _Made:
    """Two sets of images whose labels are paired. settings: of the second one's audit; counts: training images."""

    pair: Pairing
    params: dict[str, Any]
    settings: dict[str, Any]
    labels: tuple[ImageLabels, ...]
    pairs: PairedLabels
    counts: dict[str, int]
    group: str | None

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """The classes that flips are followed between: all others and the most frequent, or a group and all others."""
        if self.group is not None:
            return [self.group], [name for name in self.counts if name != self.group]
        majority = max(self.counts, key=self.counts.__getitem__)
        return [name for name in self.counts if name != majority], [majority]

    @property
    def words(self) -> tuple[str, str]:
        """The same in words: `9`, `8 or 9`, `another class`."""
        first, second = (
            "another class" if 2 < len(side) == len(self.counts) - 1 else " or ".join(side) for side in self.sides
        )
        return first, second

    @property
    def ways(self) -> dict[str, list[int]]:
        """Places of the pairs that flip from the first side to the second, and of those that flip back."""
        here, there = self.sides
        return {"forward": self.pairs.moved(here, there), "reverse": self.pairs.moved(there, here)}

    def measurements(self) -> Iterator[Measurement]:
        """The share of each class, pair by pair; how many labels changed, and which way; a test of all labels."""
        level = float(self._option("level"))
        a, b, alone = self.pairs.a, self.pairs.b, sum(self.pairs.alone)
        unsure = [UNSURE] if UNSURE in self.pairs.seen else []
        for name in [*self.counts, *unsure] if self.group is None else [self.group]:
            m = paired_flips(a, b, group=name, classes=list(self.counts), level=level)
            share = self.counts.get(name, 0) / sum(self.counts.values())
            more: dict[str, Any] = {} if name == UNSURE else {"training_share": share}
            more |= {"unpaired": alone} if alone else {}
            yield m.model_copy(update={"params": {**m.params, **more}})
        rate = flip_rate(a, b, level=level)
        here, there = self.words
        told = {"here": here, "there": there, **{way: len(places) for way, places in self.ways.items()}}
        yield rate.model_copy(update={"params": {**rate.params, **told}})
        if len(self.pairs.seen) > 2:
            yield marginal_homogeneity(a, b)

    def galleries(self) -> Iterator[Panel]:
        """The pairs that flip, and those that flip back: always both. Raises LeadlineError without the images."""
        if not all(self.sides):
            return
        for way, places in self.ways.items():
            shown = places[: int(self._option("num_panels"))]
            yield self._gallery(way, places, shown)

    def _option(self, name: str) -> Any:
        """An option of the audit; as by default where an audit is from before it was there."""
        return self.settings.get("audit", {}).get(name, AuditSpec.model_fields[name].default)

    def _gallery(self, way: str, places: Sequence[int], shown: Sequence[int]) -> Panel:
        origin, target = self.words if way == "forward" else self.words[::-1]
        found, n = f"{len(places):,}", f"{len(self.pairs):,} pairs"
        caption = f"{found} of {n}; none is shown (audit.num_panels is 0)." if places else f"0 found among {n}."
        if shown:
            some = len(shown) < len(places)
            caption = (
                f"{f'The first {len(shown)} of {found}' if some else f'All {found}'}, in the order of their seeds."
            )
        panel = Panel(
            name=f"flips-{self.params['pair']}-{way}",
            title=f"{self.pair.a} → {self.pair.b}: from {origin} to {target}",
            tiles=np.zeros((0, 2, 1, 1, 1), np.uint8),
            caption=caption,
            column_titles=(self.pair.a, self.pair.b),
        )
        if not shown:
            return panel
        ids = [self.pairs.ids[place] for place in shown]
        drawn = (self.pair.first, self.pair.second)
        tiles = [_pictures(each.run, held, ids) for each, held in zip(drawn, self.labels, strict=True)]
        if tiles[0].shape != tiles[1].shape:
            raise LeadlineError(
                f"images of {tiles[0].shape[1:]} and {tiles[1].shape[1:]} (channels, height, width) cannot stand side "
                "by side"
            )
        labels = [(self.pairs.a[place], self.pairs.b[place]) for place in shown]
        return replace(
            panel,
            tiles=np.stack(tiles, axis=1),
            captions=tuple(label for both in labels for label in both),
            row_titles=tuple(ids),
        )


def labelled_audit(drawn: Drawn) -> AuditResult:
    """The finished audit with its labels. Raises LeadlineError where one is missing, or its number of images was not
    fixed beforehand."""
    folder, audit = drawn.run.folder, drawn.run.audit()
    if audit is None:
        raise LeadlineError(
            f"{folder} has no finished audit (its status is {drawn.run.header.status}): start its command again"
        )
    if audit.labels is None or "samples" not in audit.settings.get("fingerprints", {}):
        raise LeadlineError(
            f"the audit in {folder} kept no labels of its images: audit it again (leadline audit {folder})"
        )
    if audit.settings.get("audit", {}).get("stopping", "fixed") != "fixed":
        raise LeadlineError(
            f"the images in {folder} were drawn until a share was known well enough, and McNemar's test holds for a "
            "number of images that was fixed beforehand: pair the run's own images, or draw as many again from another "
            "seed for both sides (leadline sample RUN --set sample.seed=), audit those and pair them"
        )
    return audit


def _training_counts(drawn: Drawn) -> dict[str, int]:
    known = {str(name): int(count) for name, count in drawn.training.get("counts", {}).items() if count}
    if not known:
        raise LeadlineError(
            f"{drawn.run.folder} has no record of the classes of its training data: audit it with --groups"
        )
    return known


def _pictures(run: Run, labels: ImageLabels, ids: Sequence[str]) -> UInt8[np.ndarray, "n c h w"]:
    """The run's images of these ids. Raises LeadlineError where they are not in its folder."""
    folder = run.samples_folder
    if not folder.exists():
        raise LeadlineError(f"the images of {run.folder} are not in its folder, so the flips among them are not shown")
    place = {name: row for row, name in enumerate(labels.ids)}
    pixels, columns = read_rows(folder, [place[name] for name in ids])
    there = [f"{seed}/{index}" for seed, index in zip(columns.get("seed", ()), columns.get("index", ()), strict=True)]
    if there != list(ids):
        raise LeadlineError(
            f"{folder} holds other images than were audited: audit it again (leadline audit {run.folder})"
        )
    return pixels

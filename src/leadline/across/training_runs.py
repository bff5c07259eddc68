"""Finished runs that differ in their training seed only, and such sets that differ in their depth only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from leadline.across.labelled import LABELER
from leadline.audit.intervals import joint_level
from leadline.errors import NotMeasurable
from leadline.recipe import Recipe, fingerprint
from leadline.records import AuditResult, Measurement
from leadline.runs import Run

BEHIND = {"share", "share_lower", "share_upper", "floor"}
"""Params of a corrected difference that tell its share, and half the width that more samples would leave."""
OF_LOOKS = (
    "the number of images was chosen by what they showed (audit.stopping=anytime), and their spread is that of no "
    "fixed number: audit the runs whole (leadline audit RUN)"
)


@dataclass(frozen=True)
class Replicate:
    """One finished run."""

    folder: str
    recipe: Recipe
    audit: AuditResult

    @property
    def seed(self) -> int:
        return self.recipe.train.seed

    def compared(self, group: str) -> Measurement:
        """Its share of the class against the training data's, as the audit has it."""
        return next(m for m in self.audit.find("share_difference") if m.group == group)

    @property
    def labelled(self) -> bool:
        """Whether a labeler named the classes; False where the labels were given."""
        return any(str(m.params.get("labels", "")).startswith(LABELER) for m in self.shares())

    def corrected(self, group: str) -> Measurement:
        """The same, corrected for the labeler's error. Raises NotMeasurable where it is not known."""
        found = next((m for m in self.audit.find("corrected_difference") if m.group == group), None)
        if found is None or (found.value is not None and not set(found.params) >= BEHIND):
            raise NotMeasurable(f"{self.folder} was audited by an older leadline: audit it again")
        if found.value is None:
            raise NotMeasurable(f"{self.folder} has no share corrected for the labeler's errors: {found.reason}")
        return found

    def judged_by(self) -> tuple[Any, ...]:
        """What its shares depend on beside the model and the labels: training data, classes, level."""
        shares = self.shares()
        return shares[0].computed_from.get("training"), frozenset(m.group for m in shares), self.recipe.audit.level

    def shares(self) -> list[Measurement]:
        """The shares that are compared with the training data's, one for each of its classes."""
        known = {m.group for m in self.audit.find("share", set="training")}
        return [m for m in self.audit.find("share_difference") if m.group in known]


@dataclass(frozen=True)
class Replicates:
    """All runs of one recipe but for the training seed, by seed. words: their model."""

    words: str
    runs: tuple[Replicate, ...]

    @property
    def recipe(self) -> Recipe:
        return self.runs[0].recipe

    @property
    def depth(self) -> int | None:
        """Number of down blocks; None of a text-to-image model."""
        return None if self.recipe.text is not None else self.recipe.model.blocks

    @property
    def groups(self) -> list[str]:
        """The classes, in the audit's order."""
        return list(dict.fromkeys(str(m.group) for m in self.runs[0].shares()))

    @property
    def level(self) -> float:
        """Level of each class's interval, so that those of all hold together."""
        return joint_level(self.recipe.audit.level, len(self.groups))

    def params(self) -> dict[str, Any]:
        """What tells its measurements from those of other recipes."""
        return {
            "model": self.words,
            "depth": self.depth,
            "runs": len(self.runs),
            "seeds": [run.seed for run in self.runs],
            "folders": [run.folder for run in self.runs],
        }

    def counts(self, group: str) -> tuple[list[int], list[int]]:
        """Of each run its images of the class and its recognised images. Raises NotMeasurable where one has none."""
        if any(run.recipe.audit.stopping == "anytime" for run in self.runs):
            raise NotMeasurable(OF_LOOKS)
        found = [run.compared(group) for run in self.runs]
        for run, m in zip(self.runs, found, strict=True):
            if m.value is None or not m.n or "share" not in m.params:
                raise NotMeasurable(
                    f"{run.folder} has no share of {group}: {m.reason or 'it was audited by an older leadline'}"
                )
        return [round(m.params["share"] * (m.n or 0)) for m in found], [m.n or 0 for m in found]


def image_labels(
    runs: Sequence[Replicate], group: str, groups: Sequence[str]
) -> tuple[Bool[np.ndarray, "runs images"], Bool[np.ndarray, "runs images"]] | None:
    """Of every noise that a run started from, by run: whether its image is of the class, whether it was recognised.

    groups: the classes that count as recognised. False where a run did not draw the image. None where a run kept no
    labels image by image, or labels that do not give the share of its audit: they are of another question, such as a
    product of attributes.
    """
    kept = [run.audit.labels for run in runs]
    ids = {name: place for place, name in enumerate(dict.fromkeys(i for one in kept if one for i in one.ids))}
    of_class, recognised = (np.zeros((len(runs), len(ids)), dtype=bool) for _ in range(2))
    for row, (run, one) in enumerate(zip(runs, kept, strict=True)):
        if one is None:
            return None
        places, words = [ids[name] for name in one.ids], np.array(one.labels)
        of_class[row, places], recognised[row, places] = words == group, np.isin(words, groups)
        share = of_class[row].sum() / max(1, recognised[row].sum())
        if abs(share - run.compared(group).params["share"]) > 1e-9:
            return None
    return of_class, recognised


def grouped(runs: Sequence[Run]) -> list[Replicates]:
    """Finished runs with shares, in sets that differ in their training seed only, by rising depth."""
    sets: dict[str, list[Replicate]] = {}
    for run in runs:
        replicate = _opened(run)
        if replicate is not None:
            recipe = replicate.recipe
            sets.setdefault(f"{recipe.name} {recipe.fingerprint()}", []).append(replicate)
    ordered = sorted(sets.values(), key=lambda found: (found[0].recipe.model.blocks, _words(found[0].recipe)))
    words = [_words(found[0].recipe) for found in ordered]
    return [
        Replicates(
            words=word if words.count(word) == 1 else f"{word} ({found[0].recipe.fingerprint()})",
            runs=tuple(sorted(found, key=lambda run: run.seed)),
        )
        for word, found in zip(words, ordered, strict=True)
    ]


def _opened(run: Run) -> Replicate | None:
    """None where there is nothing to replicate: foreign images, no finished audit, no shares.

    A folder that is damaged has its reason in the report.
    """
    try:
        recipe, audit = run.recipe, run.audit()
    except (OSError, ValueError):
        return None
    if recipe is None or audit is None:
        return None
    replicate = Replicate(run.folder.resolve().name, recipe, audit)
    return replicate if replicate.shares() else None


def _words(recipe: Recipe) -> str:
    if recipe.text is not None:
        return ", ".join(filter(None, (recipe.name, recipe.sample.steer.words)))
    return ", ".join(filter(None, (f"{recipe.model.blocks} blocks", member(recipe))))


def member(recipe: Recipe) -> str:
    """What tells one series over depth from another: large; width matched; a bypass."""
    matched = f"{' and '.join(recipe.model.match)} matched" if recipe.model.match else ""
    return ", ".join(filter(None, ("large" if recipe.model.wide else "", matched, recipe.sample.steer.words)))


def over_depth(sets: Sequence[Replicates]) -> list[list[Replicates]]:
    """Sets of one recipe but for the depth, where there are two depths or more."""
    found: dict[str, list[Replicates]] = {}
    for each in sets:
        recipe = each.recipe
        if each.depth is not None:
            specs = (recipe.data, recipe.model, recipe.train, recipe.sample)
            alike = fingerprint(*specs, leave_out={"train.seed", "model.blocks"})
            found.setdefault(f"{recipe.name} {alike}", []).append(each)
    return [series for series in found.values() if len(series) > 1]

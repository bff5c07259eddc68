"""What an experiment of the theory lab is: member recipes along one axis, what is measured, a debug twin, a cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from leadline.errors import LeadlineError
from leadline.lab.keeping import Kept
from leadline.lab.smoothness import SMOOTHNESS_SIGMAS
from leadline.lab.sources import LabModel
from leadline.progress import ProgressCallback
from leadline.recipe import DataSpec, Recipe, with_overrides
from leadline.records import TheoryResult
from leadline.registry import Registry
from leadline.theory.noise import PAPER_SIGMAS


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How much is measured of each model. num_images: noisy points, half as many pairs of them; num_points: those of
    the smoothness measures, which are dearer, at smooth_sigmas; num_shown: images per row of a panel."""

    sigmas: tuple[float, ...] = PAPER_SIGMAS
    smooth_sigmas: tuple[float, ...] = SMOOTHNESS_SIGMAS
    num_images: int = 256
    num_samples: int = 500
    num_points: int = 8
    num_shown: int = 8
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training run of an experiment. value: its place on the axis."""

    value: int
    recipe: Recipe

    @property
    def seed(self) -> int:
        """Its training seed."""
        return self.recipe.train.seed


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained member, opened. folder: of its run."""

    member: Member
    model: LabModel
    folder: Path


Measure = Callable[["Experiment", Sequence[Subject], Kept, ProgressCallback], TheoryResult]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Member recipes, and what is measured of them.

    kind: of its page. sentence: what it shows. cost: of the defaults. axis: the params key that tells members apart
    (num_train, channels, depth), `axis_title` in words; field: the recipe field behind it; unit: 100 `images`, 2
    `blocks`; place: where a model that is given stands on it. recipe: value -> member. small: the debug twin's values.
    one: whether there is one value only.
    """

    name: str
    kind: str
    sentence: str
    cost: str
    axis: str
    axis_title: str
    unit: str
    field: str
    values: tuple[int, ...]
    small: tuple[int, ...]
    recipe: Callable[[int], Recipe]
    place: Callable[[LabModel], int]
    measure: Measure
    measuring: Measuring = Measuring()
    seeds: tuple[int, ...] = (0,)
    overrides: tuple[str, ...] = ()
    one: bool = False

    @property
    def description(self) -> str:
        """One line: what it shows, and its cost."""
        return f"{self.sentence} {self.cost}"

    def members(self) -> list[Member]:
        """The training runs: every value with every seed. Raises LeadlineError on what cannot be one experiment."""
        for flag, chosen in (("--values", self.values), ("--seeds", self.seeds)):
            if not chosen or len(set(chosen)) < len(chosen):
                raise LeadlineError(f"{flag} of {self.name}: one number or more, each once, not {list(chosen)}")
        if self.one and len(self.values) > 1:
            raise LeadlineError(f"{self.name} is about one model: one number by --values; replicates by --seeds")
        for name, flag in (("train.seed", "--seeds"), (self.field, "--values")):
            if any(override.partition("=")[0] == name for override in self.overrides):
                raise LeadlineError(f"--set {name}: the members of {self.name} differ in it: say which by {flag}")
        found = []
        for value in self.values:
            recipe = with_overrides(self.recipe(value), list(self.overrides))
            for seed in self.seeds:
                train = recipe.train.model_copy(update={"seed": seed})
                found.append(Member(value=value, recipe=recipe.model_copy(update={"train": train})))
        return found


NARROW = (8, 16, 16, 16, 16, 16)
"""Channels of each block of a debug twin's nets."""
EXPERIMENTS: Registry[Callable[[], Experiment]] = Registry("experiment")


def experiment(name: str) -> Experiment:
    """The experiment of that name, or the debug twin for `<name>-debug`. Raises LeadlineError on an unknown name."""
    base = name.removesuffix("-debug")
    found = EXPERIMENTS[base]()
    return debug(found) if name != base else found


def experiment_names() -> list[str]:
    """All names, each followed by its debug twin's."""
    return [twin for name in EXPERIMENTS for twin in (name, f"{name}-debug")]


def debug(whole: Experiment) -> Experiment:
    """The same road on scikit-learn's embedded digits in under a minute on 2 cores: its numbers mean nothing."""
    return replace(
        whole,
        name=f"{whole.name}-debug",
        sentence=f"Debug twin of {whole.name}: the same road on 8×8 digits, numbers without meaning.",
        cost="Under a minute on 2 cores.",
        values=whole.small,
        recipe=partial(_small, whole.recipe),
        measuring=Measuring(
            sigmas=(1.0, 0.1),
            smooth_sigmas=(1.0,),
            num_images=16,
            num_samples=12,
            num_points=2,
            num_shown=4,
        ),
    )


def _small(recipe: Callable[[int], Recipe], value: int) -> Recipe:
    """A member of a debug twin: its place on the axis is its own, but its net is narrow, its images few and 8×8 px."""
    whole = recipe(value)
    snapshots = (4,) if whole.train.snapshots else ()
    small = {"steps": 12, "batch_size": 8, "warmup_steps": 2, "log_every": 4, "snapshots": snapshots}
    return whole.model_copy(
        update={
            "name": f"{whole.name}-debug",
            "description": f"A member of a debug twin, of {whole.name}: numbers without meaning.",
            "data": DataSpec(dataset="digits", num_images=min(whole.data.num_images or 100, 100), held_out=32),
            "model": whole.model.model_copy(update={"channels": whole.model.channels or NARROW[: whole.model.blocks]}),
            "train": whole.train.model_copy(update=small),
            "sample": whole.sample.model_copy(update={"num_images": 12, "steps": 4, "shard_size": 12}),
        }
    )

"""Train what an experiment lacks, open its members, measure them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import check_recipe, run
from leadline.lab.evaluating import package_versions
from leadline.lab.experiments.spec import Experiment, Member, Subject
from leadline.lab.keeping import Kept
from leadline.lab.sources import open_model
from leadline.progress import ProgressCallback, silent
from leadline.recipe import Recipe, fingerprint
from leadline.records import Splits, TheoryResult
from leadline.runs import find_trained


def run_experiment(
    wanted: Experiment, root: Path, *, runs: Sequence[Path] = (), progress: ProgressCallback = silent
) -> TheoryResult:
    """Train the experiment's members in run folders under `root`, measure them, say what was found.

    A member that is finished, in a run of whatever name of the same training, is not trained again; one that was
    started is resumed; what was measured is kept in `experiment_folder`. runs: run folders in the members' place.
    Raises LeadlineError, before the first training, where a member cannot work.
    """
    if runs:
        subjects = [_given(wanted, path, progress) for path in runs]
    else:
        members = wanted.members()
        check_members(members, progress)
        folders = [_trained(wanted, members, number, root, progress) for number in range(len(members))]
        subjects = [
            Subject(member=member, model=open_model(folder, progress=progress), folder=folder)
            for member, folder in zip(members, folders, strict=True)
        ]
    subjects = on_shared_points(_named(wanted, _replicates(subjects)))
    found = wanted.measure(wanted, subjects, Kept(experiment_folder(root, wanted) / ".kept"), progress)
    return replace(found, kind=f"experiment-{wanted.kind}", settings={**found.settings, **_settings(wanted, subjects)})


def experiment_folder(root: Path, wanted: Experiment) -> Path:
    """Where an experiment's page lies, and what was measured for it."""
    return root / f"theory-{wanted.name}"


def check_members(members: Sequence[Member], progress: ProgressCallback = silent) -> None:
    """Raise LeadlineError where model, images and sampler of a member do not fit together."""
    loaded: dict[str, Splits] = {}
    for member in members:
        data = member.recipe.data
        key = fingerprint(data)
        if key not in loaded:
            loaded[key] = load(data, progress)
        if loaded[key].held_out is None:
            raise LeadlineError("models are measured at held-out images, and there are none: --set data.held_out=256")
        check_recipe(member.recipe, loaded[key])


def on_shared_points(subjects: Sequence[Subject]) -> list[Subject]:
    """The same models in the order of the axis, all with the held-out images that none of them was trained on.

    They are the held-out images of the model with the most training images. Raises LeadlineError where the models are
    not of one data set and shape, or where fewer than two such images are left.
    """
    largest = max((s.model for s in subjects), key=lambda model: len(model.splits.train)).splits
    for subject in subjects:
        data = subject.model.splits.train
        if (data.name, data.shape) != (largest.train.name, largest.train.shape):
            raise LeadlineError(
                f"{subject.folder} is of {data.name}, {'×'.join(map(str, data.shape))}, another of "
                f"{largest.train.name}, {'×'.join(map(str, largest.train.shape))}: an experiment compares its models "
                "at the same images"
            )
    seen = {name for s in subjects for name in s.model.splits.train.ids}
    unseen = [i for i, name in enumerate(largest.held_out.ids if largest.held_out else ()) if name not in seen]
    if largest.held_out is None or len(unseen) < 2:
        raise LeadlineError(
            "fewer than two held-out images are left that none of the models was trained on: --set data.held_out=256"
        )
    shared = largest.held_out.take(unseen)
    return [
        replace(s, model=replace(s.model, splits=replace(s.model.splits, held_out=shared)))
        for s in sorted(subjects, key=lambda s: (s.member.value, s.member.seed))
    ]


def nested(subjects: Sequence[Subject]) -> bool:
    """Whether every training set is a part of the next larger one."""
    by_size = sorted((set(s.model.splits.train.ids) for s in subjects), key=len)
    return all(smaller <= larger for smaller, larger in pairwise(by_size))


def _trained(
    wanted: Experiment, members: Sequence[Member], number: int, root: Path, progress: ProgressCallback
) -> Path:
    """The run folder of a member, trained."""

    def numbered(stage: str, done: int, total: int, detail: str) -> None:
        progress(f"member {number + 1} of {len(members)}, {stage}", done, total, detail)

    recipe = members[number].recipe
    twin = find_trained(root, recipe)
    if twin is not None:
        return twin.folder
    return run(recipe, root, until="train", overrides=wanted.overrides, progress=numbered).folder


def _given(wanted: Experiment, path: Path, progress: ProgressCallback) -> Subject:
    """A run folder as a member."""
    model = open_model(path, progress=progress)
    if model.recipe is None:
        raise LeadlineError(f"{path} is no run: --runs takes folders that `leadline run` or `sweep` made")
    return Subject(member=Member(value=wanted.place(model), recipe=model.recipe), model=model, folder=path)


def _replicates(subjects: Sequence[Subject]) -> Sequence[Subject]:
    """The same subjects. Raises LeadlineError where two at one place differ in more than the training seed."""
    for one, other in ((a, b) for a in subjects for b in subjects if a.member.value == b.member.value):
        if _but_seed(one.member.recipe) != _but_seed(other.member.recipe):
            raise LeadlineError(
                f"{one.folder} and {other.folder} stand at one place, but differ in more than the training seed: "
                "leave one out"
            )
    if len({(s.member.value, s.member.seed) for s in subjects}) < len(subjects):
        raise LeadlineError("--runs gives a training twice: leave one out")
    return subjects


def _but_seed(recipe: Recipe) -> str:
    return fingerprint(recipe.data, recipe.model, recipe.train, leave_out={"train.seed"})


def _named(wanted: Experiment, subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects with models that are called by their place: 1,000 images; of several seeds, with the seed."""
    at = Counter(s.member.value for s in subjects)
    several = max(at.values()) > 1
    return [
        replace(
            s,
            model=replace(
                s.model,
                name=f"{s.member.value:,} {wanted.unit}" + (f", training seed {s.member.seed}" if several else ""),
            ),
        )
        for s in subjects
    ]


def _settings(wanted: Experiment, subjects: Sequence[Subject]) -> dict[str, Any]:
    """What decided the numbers, for the record."""
    shared = subjects[0].model.splits.held_out
    return {
        "experiment": wanted.name,
        "axis": wanted.axis,
        "axis_title": wanted.axis_title,
        "unit": wanted.unit,
        "overrides": list(wanted.overrides),
        "measuring": asdict(wanted.measuring),
        "runs_per_point": min(Counter(s.member.value for s in subjects).values()),
        "nested": nested(subjects),
        "held_out": {} if shared is None else {"n": len(shared), "fingerprint": shared.fingerprint()},
        "members": {
            s.model.name: {
                **s.model.facts,
                "weights": s.model.digest,
                "training": s.member.recipe.training_fingerprint(),
                "steps": s.member.recipe.train.steps,
                "training_seed": s.member.seed,
            }
            for s in subjects
        },
        "packages": package_versions(),
    }

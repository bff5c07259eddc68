"""Which settings a steering sweep has: the recipe of each, refused before anything is drawn where it cannot work."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit import METRICS
from leadline.audit.context import LABELER
from leadline.errors import LeadlineError
from leadline.experiment import check_recipe
from leadline.frontier import Choice, in_space
from leadline.recipe import Recipe, SampleSpec, SteerSpec, with_overrides
from leadline.records import Splits
from leadline.runs import Run
from leadline.sampling import SAMPLERS, check
from leadline.schedules import as_schedule, constant, strengths
from leadline.stages import audit_fingerprint, given_pipeline
from leadline.steering.levels import levels_of
from leadline.text.generating import bypass_strengths, check_sampling, with_sampler
from leadline.text.loading import load_scheduler
from leadline.training import ladder as ladder_of

Levels = Float[np.ndarray, " _"]
LEAST_IMAGES = 3
"""Of fewer hardly a test has degrees of freedom."""
SPACELESS = ("prompt_agreement", "init_distance")
"""Measures to choose by that are not measured in feature spaces."""


def finished_run(folder: Path) -> Run:
    """The run in `folder`. Raises LeadlineError when it has no model, or is not finished."""
    found = Run.open(folder)
    if found.recipe is None:
        raise LeadlineError(f"{folder} is an audit of images, with no model to draw from: give a run's folder")
    if found.header.status != "complete":
        raise LeadlineError(
            f"{folder} is not finished (its status is {found.header.status}): `leadline run` with its recipe goes on"
        )
    return found


def changed(base: Run, overrides: Sequence[str], num_images: int | None, seed: int | None) -> Recipe:
    """The run's recipe at strength 0, with the sweep's own audit, number of images and seed."""
    own = base.recipe
    if own is None:
        raise LeadlineError(f"{base.folder} has no recipe")
    recipe = with_overrides(own, list(overrides))
    if recipe.training_fingerprint() != own.training_fingerprint():
        raise LeadlineError(
            f"--set {', '.join(overrides)}: a sweep draws from the model that {base.folder} has; only its audit.… can "
            "be changed"
        )
    fields = {"num_images": num_images, "seed": seed}
    sample = SampleSpec(
        **{
            **dict(recipe.sample),
            **{name: value for name, value in fields.items() if value is not None},
            "steer": SteerSpec(),
        }
    )
    if sample.num_images < LEAST_IMAGES:
        raise LeadlineError(f"--num-images {sample.num_images}: a paired test needs {LEAST_IMAGES} images or more")
    return recipe.model_copy(update={"sample": sample})


def members(
    recipe: Recipe, strengths: Sequence[float], schedules: Sequence[str] = (), modes: Sequence[str] = ()
) -> list[Recipe]:
    """The recipe at strength 0, then at every strength above it with every schedule in every mode, none twice."""
    wrong = [strength for strength in strengths if not 0 <= strength <= 1]
    if wrong:
        raise LeadlineError(f"--strength {wrong[0]:g}: a strength lies in [0, 1]")
    above = sorted({float(strength) for strength in strengths} - {0.0})
    if not above:
        raise LeadlineError("--strength: give a strength above 0, which is compared with 0 (--strength 0 .25 .5 1)")
    steers: list[SteerSpec] = []
    for mode in modes or ["blend"]:
        for schedule in schedules or [""]:
            kind: dict[str, Any] = {"schedule": plain_schedule(schedule), "mode": mode}
            steers += [SteerSpec(strength=strength, **kind) for strength in above]
    return [recipe, *(with_sample(recipe, steer=steer) for steer in dict.fromkeys(steers))]


def plain_schedule(text: str) -> str:
    """One text for all that say the same; empty for a strength that is constant anyway."""
    if not text.strip():
        return ""
    schedule = as_schedule(text)
    return "" if schedule == constant(1.0) else str(schedule)


def check_member(recipe: Recipe, splits: Splits, ladder: Levels, taken: Levels) -> None:
    """Raise LeadlineError when a setting cannot be drawn, or changes nothing at any noise level that is taken."""
    steer = recipe.sample.steer
    # A bypass is put on for all levels that the model knows, whichever of them the sampler takes.
    strengths(constant(steer.strength) & as_schedule(steer.schedule or 1.0), ladder)
    bypass_strengths(steer, taken, option=lambda _, schedule: f"--schedule {schedule}")
    check_recipe(recipe, splits, drawn=True)


def noise_levels(recipe: Recipe, model: Path, *, download: bool = False) -> tuple[Levels, Levels]:
    """All noise levels that the model in a folder knows, and those that the sampler takes, in its order.

    Raises LeadlineError where the sampler does not fit the model.
    """
    spec = recipe.sample
    if recipe.text is None:
        levels = ladder_of(recipe.train)
        check(spec, levels)
        return levels.numpy(), SAMPLERS[spec.sampler].grid(levels, spec.steps)[:-1].double().numpy()
    scheduler = load_scheduler(given_pipeline(recipe) or str(model), download=download)
    taken = check_sampling(spec, scheduler)
    return levels_of(with_sampler(scheduler, spec.sampler)).grid, taken


def check_choice(wanted: Choice, recipe: Recipe, spaces: Sequence[str], splits: Splits) -> None:
    """Raise LeadlineError when the audit will not have what the best setting is to be chosen by.

    spaces: names of the feature spaces that the audit compares in.
    """
    maker = next((name for name, metric in METRICS.items() if wanted.name in metric.reports), None)
    if maker is None or maker not in recipe.audit.metrics:
        names = ",".join([*recipe.audit.metrics, *([maker] if maker else [])])
        raise LeadlineError(
            f"--choose {wanted.name}: it is of the metric {maker}, which the run's audit does not have: add "
            f"--set audit.metrics={names}, or choose by another measure"
        )
    if wanted.name in SPACELESS:
        _check_spaceless(wanted, recipe)
        return
    told = recipe.audit.labeler_model or recipe.audit.prompts or splits.labeler is not None
    there = [space for space in spaces if space != LABELER or told]
    if not any(in_space(f"{space} features", wanted.space) for space in there):
        asked = f"name one of these, or add --encoder {wanted.space}" if wanted.space else "add one (--encoder)"
        raise LeadlineError(
            f"--choose {wanted.words}: the audit compares in the features of {', '.join(there) or 'no network'}: "
            f"{asked}"
        )


def _check_spaceless(wanted: Choice, recipe: Recipe) -> None:
    if wanted.space:
        raise LeadlineError(
            f"--choose {wanted.name},{wanted.space}: {wanted.name} is not measured in feature spaces: leave the part "
            "after the comma out"
        )
    if recipe.text is None:
        raise LeadlineError(f"--choose {wanted.name}: only text-to-image models have it: choose by another measure")
    if wanted.name == "init_distance" and recipe.sample.init_strength is None:
        raise LeadlineError(
            f"--choose {wanted.name}: the run's images started from no image (sample.init_strength): choose by another "
            "measure"
        )


def check_confirm_seed(seed: int, recipe: Recipe) -> None:
    """Raise LeadlineError where a chosen setting cannot be confirmed on a seed."""
    if seed < 0:
        raise LeadlineError(f"--confirm-seed {seed}: a seed is 0 or more")
    if seed == recipe.sample.seed:
        raise LeadlineError(
            f"--confirm-seed {seed} is the seed that the settings are compared on: give another, so that what was "
            "chosen is judged on images that it was not chosen by"
        )


def sweep_fingerprint(recipes: Sequence[Recipe]) -> str:
    """8 hex digits of all settings and of what they are measured by."""
    names = [recipe.folder_name() for recipe in recipes]
    return hashlib.sha256(" ".join([*names, audit_fingerprint(recipes[0].audit)]).encode()).hexdigest()[:8]


def with_sample(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with other fields of its samples."""
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update=fields)})

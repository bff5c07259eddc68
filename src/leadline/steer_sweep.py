"""steer_sweep(run, strengths): a run's images at several settings of the bypass, from the same seeds, each audited and
tested against strength 0."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from leadline.audit import METRICS, require_networks
from leadline.audit.paired import holm, paired_audit
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import check_recipe, check_same_data, finished_audit, model_title, run
from leadline.files import locked
from leadline.frontier import Choice, Confirmation, PairedTest, Setting, SteerSweep, adjusted, alone, choice_of, choose
from leadline.models.denoiser import ddpm_sigmas
from leadline.progress import ProgressCallback, duration, silent
from leadline.recipe import Recipe, SampleSpec, SteerSpec, with_overrides
from leadline.records import ImageSet, Splits
from leadline.runs import Run, adopt_model, open_sweep, save_sweep
from leadline.sampling import SAMPLERS
from leadline.schedules import as_schedule, constant, strengths
from leadline.stages import Permitted, audit_fingerprint, same_audit, samples_of

LEAST_IMAGES = 2
"""Fewer pairs show no spread."""


@dataclass(frozen=True)
class Swept:
    """A finished sweep: what was found, the runs in the order of its settings, and the sweep's own folder."""

    sweep: SteerSweep
    runs: tuple[Run, ...]
    folder: Path


def steer_sweep(
    source: Path,
    strengths: Sequence[float],
    *,
    schedules: Sequence[str] = (),
    modes: Sequence[str] = (),
    num_images: int | None = None,
    seed: int | None = None,
    choose_by: str = "frechet_distance",
    confirm_seed: int | None = None,
    overrides: Sequence[str] = (),
    root: Path | None = None,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Swept:
    """Sample and audit a finished run at every strength with every schedule in every mode, and test each against 0.

    source: the run's folder. strengths: in [0, 1]; 0 is always there. schedules: texts as of `leadline.schedules`,
    constant unless given; modes: of `SteerSpec`, blend unless given. num_images, seed: of the samples, the run's own
    unless given. choose_by: MEASURE or MEASURE,SPACE, by which the best setting is chosen. confirm_seed: the chosen
    setting and strength 0 are drawn again from this seed and tested once more. overrides: of the audit. root: folder of
    the settings' run folders (default: where the run lies).

    Every setting is a run folder of its own; what is complete is skipped. Where the run itself is strength 0, it serves
    as that, and is audited anew if its audit is another than the sweep's. Raises LeadlineError, before anything is
    drawn, when a part cannot work.
    """
    base = finished_run(source)
    recipe = changed(base, overrides, num_images, seed)
    recipes = members(recipe, strengths, schedules, modes)
    wanted = choice_of(choose_by)
    check_choice(wanted, recipe)
    if confirm_seed is not None and confirm_seed == recipe.sample.seed:
        raise LeadlineError(
            f"--confirm-seed {confirm_seed} is the seed that the settings are compared on: give another, so that what "
            "was chosen is judged on images that it was not chosen by"
        )
    require_networks(recipe.audit, **permitted)
    splits = load(recipe.data, progress)
    check_same_data(base, splits)
    for member in recipes:
        check_member(member, splits)

    sweeping = _Sweeping(base, recipe, splits, root or source.resolve().parent, progress, permitted)
    folder = sweeping.root / f"steer-{recipe.name}-{sweep_fingerprint(recipes)}"
    with locked(folder / ".lock"):
        runs = sweeping.run_all(recipes, "setting")
        settings = sweeping.test_all(folder, runs)
        sweep = sweeping.record(settings).model_copy(update={"choice": choose(settings, wanted)})
        chosen = sweep.chosen
        if confirm_seed is not None and chosen is not None and chosen.steer.strength:
            fresh = _with(recipe, seed=confirm_seed)
            confirmation = sweeping.confirm([fresh, _with(fresh, steer=chosen.steer)])
            sweep = sweep.model_copy(update={"confirmation": confirmation})
        save_sweep(folder, sweep)
    return Swept(sweep=sweep, runs=tuple(runs), folder=folder)


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
    return [recipe, *(_with(recipe, steer=steer) for steer in dict.fromkeys(steers))]


def plain_schedule(text: str) -> str:
    """One text for all that say the same; empty for a strength that is constant anyway."""
    if not text.strip():
        return ""
    schedule = as_schedule(text)
    return "" if schedule == constant(1.0) else str(schedule)


def check_member(recipe: Recipe, splits: Splits) -> None:
    """Raise LeadlineError when a setting cannot be drawn, or changes nothing at any noise level of the sampler."""
    check_recipe(recipe, splits)
    steer = recipe.sample.steer
    if not steer.strength:
        return
    ladder = ddpm_sigmas()
    whole = constant(steer.strength) & as_schedule(steer.schedule or 1.0)
    strengths(whole, ladder)
    if recipe.text is not None:
        return
    levels = SAMPLERS[recipe.sample.sampler].grid(ladder, recipe.sample.steps)[:-1]
    if not strengths(whole, levels).any():
        raise LeadlineError(
            f"--schedule {steer.schedule!r}: the strength is 0 at all {len(levels)} noise levels of the sampler "
            f"({float(levels[0]):.3g} to {float(levels[-1]):.3g}), so nothing would change: widen it"
        )


def check_choice(wanted: Choice, recipe: Recipe) -> None:
    """Raise LeadlineError when the audit will not have what the best setting is to be chosen by."""
    maker = next((name for name, metric in METRICS.items() if wanted.name in metric.reports), None)
    if maker is None or maker not in recipe.audit.metrics:
        names = ",".join([*recipe.audit.metrics, *([maker] if maker else [])])
        raise LeadlineError(
            f"--choose {wanted.name}: it is of the metric {maker}, which the run's audit does not have: add "
            f"--set audit.metrics={names}, or choose by another measure"
        )
    encoders = [text.partition(":")[0] for text in recipe.audit.encoders]
    fits = [
        name for name in encoders if wanted.space and (wanted.space.startswith(name) or name.startswith(wanted.space))
    ]
    if wanted.space and not fits:
        raise LeadlineError(
            f"--choose {wanted.name},{wanted.space}: the audit compares in the features of {', '.join(encoders)}: "
            f"name one of these, or add --encoder {wanted.space}"
        )


def sweep_fingerprint(recipes: Sequence[Recipe]) -> str:
    """8 hex digits of all settings and of what they are measured by."""
    names = [recipe.folder_name() for recipe in recipes]
    return hashlib.sha256(" ".join([*names, audit_fingerprint(recipes[0].audit)]).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Sweeping:
    """What every setting of one sweep is made with. recipe: that of strength 0."""

    base: Run
    recipe: Recipe
    splits: Splits
    root: Path
    progress: ProgressCallback
    permitted: Permitted

    def run_all(self, recipes: Sequence[Recipe], noun: str) -> list[Run]:
        """Sample and audit each, with its number and the time that all may take."""
        found = {recipe.folder_name(): self._finished(recipe) for recipe in recipes}
        spent = [done.header.seconds for done in found.values() if done is not None]
        missing = sum(done is None for done in found.values())
        for number, recipe in enumerate(recipes, 1):
            title = f"{noun} {number} of {len(recipes)} ({recipe.sample.steer.words or 'strength 0'})"
            if found[recipe.folder_name()] is not None:
                self.progress(f"{title}: complete already", 0, 0, "")
                continue

            def numbered(
                stage: str, at: int, total: int, detail: str, title: str = title, left: str = _time_left(spent, missing)
            ) -> None:
                self.progress(f"{title}, {stage}", at, total, ", ".join(filter(None, (detail, left))))

            made = self._run(recipe, numbered)
            found[recipe.folder_name()] = made
            spent.append(made.header.seconds)
            missing -= 1
        return [done for done in found.values() if done is not None]

    def _finished(self, recipe: Recipe) -> Run | None:
        """The finished run of a recipe: the base itself where it is just that, else its own folder's."""
        own = self.base.recipe
        if own is not None and own.folder_name() == recipe.folder_name() and same_audit(self.base, recipe.audit):
            return self.base
        found = finished_audit(self.root / recipe.folder_name())
        return found if found is not None and same_audit(found, recipe.audit) else None

    def _run(self, recipe: Recipe, progress: ProgressCallback) -> Run:
        """Sample and audit one recipe, with the base's model."""
        folder = self.root / recipe.folder_name()
        title = ", ".join(filter(None, (recipe.name, model_title(recipe), recipe.sample.steer.words)))
        member = Run.create(folder, title=title, recipe=recipe.model_dump(mode="json"))
        with member.lock():
            if not member.model_folder.exists() and self.base.model_folder.exists():
                adopt_model(member, self.base, linked=True)
        return run(recipe, self.root, progress=progress, **self.permitted)

    def test_all(self, folder: Path, runs: Sequence[Run]) -> tuple[Setting, ...]:
        """Every setting beside the first, strength 0; each is kept as soon as it is tested, and not tested again."""
        before = open_sweep(folder)
        known = {setting.folder: setting for setting in (before.settings if before is not None else ())}
        zero = runs[0]
        images = samples_of(zero)
        settings = [self._setting(zero)]
        for number, other in enumerate(runs[1:], 1):
            setting = self._setting(other, zero)
            kept = known.get(setting.folder)
            if kept is not None and kept.tests and kept.computed_from == setting.computed_from:
                setting = setting.model_copy(update={"tests": kept.tests})
            else:
                self.progress(
                    f"testing setting {number} of {len(runs) - 1} ({setting.words}) against strength 0", 0, 0, ""
                )
                setting = setting.model_copy(update={"tests": self._tests(images, other)})
            settings.append(setting)
            save_sweep(folder, self.record(settings))
        return adjusted(settings, self.recipe.audit.level, holm)

    def confirm(self, recipes: Sequence[Recipe]) -> Confirmation:
        """Strength 0 and the chosen setting from a fresh seed, and one test between them."""
        zero, chosen = self.run_all(recipes, "confirmation")
        tests = self._tests(samples_of(zero), chosen)
        return Confirmation(
            seed=recipes[0].sample.seed,
            zero=self._setting(zero),
            chosen=self._setting(chosen, zero).model_copy(update={"tests": tests}),
        )

    def record(self, settings: Sequence[Setting]) -> SteerSweep:
        """What is known so far."""
        return SteerSweep(
            title=f"{self.recipe.name}, {model_title(self.recipe)}",
            seed=self.recipe.sample.seed,
            num_images=self.recipe.sample.num_images,
            level=self.recipe.audit.level,
            settings=tuple(settings),
        )

    def _setting(self, member: Run, zero: Run | None = None) -> Setting:
        """What the member's audit measured of its samples."""
        found, recipe = member.audit(), member.recipe
        if found is None or recipe is None:
            raise LeadlineError(f"{member.folder} has lost its audit: start the same command again")
        sources = {"samples": found, **({} if zero is None else {"strength 0": zero.audit()})}
        prints = {name: a.settings["fingerprints"]["samples"] for name, a in sources.items() if a is not None}
        return Setting(
            steer=recipe.sample.steer,
            folder=member.folder.name,
            values=tuple(m for m in found if m.params.get("set", "samples") == "samples"),
            computed_from={**prints, "audit": audit_fingerprint(self.recipe.audit)},
        )

    def _tests(self, images: ImageSet, other: Run) -> tuple[PairedTest, ...]:
        differences = paired_audit(
            images,
            samples_of(other),
            self.splits,
            spec=self.recipe.audit,
            cache=self.root / ".cache",
            progress=self.progress,
            **self.permitted,
        )
        return alone(differences, self.recipe.audit.level)


def _time_left(seconds: Sequence[Mapping[str, float]], number: int) -> str:
    """How long that many settings may take, by what others took to be drawn and audited; empty at first."""
    if not seconds:
        return ""
    mean = sum(times.get("sample", 0.0) + times.get("audit", 0.0) for times in seconds) / len(seconds)
    return f"all settings: about {duration(mean * number)}"


def _with(recipe: Recipe, **fields: Any) -> Recipe:
    """The recipe with other fields of its samples."""
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update=fields)})

"""steer_sweep(run, strengths): a run's images at several settings of the bypass, from the same seeds, each audited and
tested against strength 0."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from leadline.audit import require_networks
from leadline.audit.paired import VERSION, paired_audit
from leadline.audit.paired_tests import holm
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import check_same_data, finished_audit, model_title, run
from leadline.files import locked
from leadline.frontier import Confirmation, PairedTest, Setting, SteerSweep, adjusted, alone, choice_of, choose
from leadline.progress import ProgressCallback, duration, silent
from leadline.recipe import Recipe
from leadline.records import ImageSet, Splits
from leadline.runs import SWEEP, Run, adopt_model, adopt_samples, open_sweep, save_sweep
from leadline.stages import Permitted, audit_fingerprint, same_audit, samples_of
from leadline.steer_settings import (
    changed,
    check_choice,
    check_confirm_seed,
    check_member,
    finished_run,
    members,
    noise_levels,
    sweep_fingerprint,
    with_sample,
)

Tests = tuple[PairedTest, ...]
Tested = tuple[str, frozenset[tuple[str, str]]]
"""Name of a setting's run folder, and fingerprints of all that its tests depend on."""


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
    choose_by: str = "kernel_distance",
    confirm_seed: int | None = None,
    overrides: Sequence[str] = (),
    root: Path | None = None,
    progress: ProgressCallback = silent,
    **permitted: Unpack[Permitted],
) -> Swept:
    """Sample and audit a finished run at every strength with every schedule in every mode, and test each against 0.

    source: the run's folder. strengths: in [0, 1]; 0 is always there. schedules: texts as of `leadline.schedules`,
    constant unless given; modes: of `SteerSpec`, blend unless given. num_images, seed: of the samples, the run's own
    unless given. choose_by: MEASURE or MEASURE,SPACE, by which the best setting is chosen: the kernel distance, which
    is not biased by the number of images, unless another is named. confirm_seed: the chosen setting and strength 0 are
    drawn again from this seed and tested once more; confirmations on other seeds stay in the record. overrides: of the
    audit. root: folder of the settings' run folders (default: where the run lies).

    Every setting is a run folder of its own; what is complete is skipped. Where the run itself is strength 0, it serves
    as that. A run folder that holds another audit is left as it is: its images are linked into a folder that has the
    audit's fingerprint in its name. Raises LeadlineError, before anything is drawn, when a part cannot work.
    """
    base = finished_run(source)
    recipe = changed(base, overrides, num_images, seed)
    recipes = members(recipe, strengths, schedules, modes)
    wanted = choice_of(choose_by)
    if confirm_seed is not None:
        check_confirm_seed(confirm_seed, recipe)
    spaces = require_networks(recipe.audit, **permitted)
    splits = load(recipe.data, progress)
    check_same_data(base, splits)
    check_choice(wanted, recipe, spaces, splits)
    ladder, taken = noise_levels(recipe, base.model_folder, download=permitted.get("download", False))
    for member in recipes:
        check_member(member, splits, ladder, taken)

    sweeping = _Sweeping(base, recipe, splits, root or source.resolve().parent, progress, permitted)
    folder = sweeping.root / f"steer-{recipe.name}-{sweep_fingerprint(recipes)}"
    with locked(folder / ".lock"):
        before = open_sweep(folder)
        runs = sweeping.run_all(recipes, "setting")
        sweep = sweeping.test_all(folder, runs, before)
        sweep = sweep.model_copy(update={"choice": choose(sweep.settings, wanted)})
        save_sweep(folder, sweep)
        chosen = sweep.chosen
        if confirm_seed is not None and chosen is not None and chosen.steer.strength:
            fresh = with_sample(recipe, seed=confirm_seed)
            made = sweeping.confirm([fresh, with_sample(fresh, steer=chosen.steer)])
            kept = {each.of: each for each in (*sweep.confirmations, made)}
            sweep = sweep.model_copy(update={"confirmations": tuple(kept.values())})
            save_sweep(folder, sweep)
    return Swept(sweep=sweep, runs=tuple(runs), folder=folder)


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
        if _is_of(self.base, recipe) and same_audit(self.base, recipe.audit):
            return self.base
        found = finished_audit(self.root / self._name(recipe))
        return self._of_base(found) if found is not None and same_audit(found, recipe.audit) else None

    def _of_base(self, member: Run) -> Run:
        """The member; a LeadlineError where a pipeline that was given had another content then than for the base."""
        ours, theirs = (each.header.model.get("fingerprint") for each in (self.base, member))
        if theirs is not None and theirs != ours:
            raise LeadlineError(
                f"{member.folder} was drawn by another content of its pipeline than {self.base.folder} (fingerprint "
                f"{theirs}, there {ours}): remove it, or choose another folder (--out)"
            )
        return member

    def _name(self, recipe: Recipe) -> str:
        """Name of a recipe's run folder: with the audit's fingerprint where the usual one holds another audit."""
        name = recipe.folder_name()
        held = self._held(name)
        if held is None or held.audit() is None or same_audit(held, recipe.audit):
            return name
        return f"{name}-{audit_fingerprint(recipe.audit)}"

    def _held(self, name: str) -> Run | None:
        """The run in a folder, where there is one."""
        folder = self.root / name
        return Run.open(folder) if (folder / "run.json").exists() else None

    def _run(self, recipe: Recipe, progress: ProgressCallback) -> Run:
        """Sample and audit one recipe, with the base's model, and with images that were drawn by it before."""
        name = self._name(recipe)
        title = ", ".join(filter(None, (recipe.name, model_title(recipe), recipe.sample.steer.words)))
        member = Run.create(self.root / name, title=title, recipe=recipe.model_dump(mode="json"))
        with member.lock():
            if not member.model_folder.exists() and self.base.model_folder.exists():
                adopt_model(member, self.base, linked=True)
            if not member.header.model and "fingerprint" in self.base.header.model:
                # What the run compares a given pipeline with before it draws.
                member.update(model=self.base.header.model)
            self._of_base(member)
            drawn = self._drawn(recipe)
            if drawn is not None and member.header.status in ("started", "trained"):
                check_same_data(drawn, self.splits)
                adopt_samples(member, drawn)
        return run(recipe, self.root, name=name, progress=progress, **self.permitted)

    def _drawn(self, recipe: Recipe) -> Run | None:
        """A run of the same recipe, whatever its audit, that has its images."""
        for found in (self.base, self._held(recipe.folder_name())):
            if found is not None and _is_of(found, recipe) and found.header.status in ("sampled", "complete"):
                return found
        return None

    def test_all(self, folder: Path, runs: Sequence[Run], before: SteerSweep | None) -> SteerSweep:
        """Every setting beside the first, strength 0; each is kept as soon as it is tested, and not tested again.

        before: what the folder held: what was chosen and confirmed then stays in the record.
        """
        zero, *others = runs
        known = kept_tests(self.root)
        settings = [self._setting(zero), *(self._known(self._setting(other, zero), known) for other in others)]
        sweep = self._record(settings, before)
        for number, other in enumerate(others, 1):
            if not settings[number].tests:
                words = f"testing setting {number} of {len(others)} ({settings[number].words}) against strength 0"
                self.progress(words, 0, 0, "")
                tests = self._tests(samples_of(zero), other)
                settings[number] = settings[number].model_copy(update={"tests": tests})
                sweep = self._record(settings, before)
                save_sweep(folder, sweep)
        return sweep

    def confirm(self, recipes: Sequence[Recipe]) -> Confirmation:
        """Strength 0 and the chosen setting from a fresh seed, and one test between them."""
        zero, chosen = self.run_all(recipes, "confirmation")
        setting = self._known(self._setting(chosen, zero), kept_tests(self.root))
        if not setting.tests:
            setting = setting.model_copy(update={"tests": self._tests(samples_of(zero), chosen)})
        return Confirmation(seed=recipes[0].sample.seed, zero=self._setting(zero), chosen=setting)

    def _record(self, settings: Sequence[Setting], before: SteerSweep | None) -> SteerSweep:
        """What is known so far."""
        level = self.recipe.audit.level
        return SteerSweep(
            title=f"{self.recipe.name}, {model_title(self.recipe)}",
            seed=self.recipe.sample.seed,
            num_images=self.recipe.sample.num_images,
            level=level,
            settings=adjusted(settings, level, holm),
            choice=None if before is None else before.choice,
            confirmations=() if before is None else before.confirmations,
        )

    def _setting(self, member: Run, zero: Run | None = None) -> Setting:
        """What the member's audit measured of its samples."""
        found, recipe = member.audit(), member.recipe
        if found is None or recipe is None or not same_audit(member, self.recipe.audit):
            raise LeadlineError(
                f"{member.folder} has lost its audit, or was audited otherwise meanwhile: start the same command again"
            )
        prints = {"audit": audit_fingerprint(self.recipe.audit), "tests": str(VERSION)}
        sources = {"": found, **({} if zero is None else {"strength 0: ": zero.audit()})}
        for source, audit in sources.items():
            if audit is not None:
                prints |= {source + name: text for name, text in audit.settings["fingerprints"].items()}
        return Setting(
            steer=recipe.sample.steer,
            folder=member.folder.name,
            values=tuple(m for m in found if m.params.get("set", "samples") == "samples"),
            computed_from=prints,
        )

    def _known(self, setting: Setting, known: Mapping[Tested, Tests]) -> Setting:
        """The setting with the tests of just these images, where they were made before."""
        tests = known.get(_tested(setting), ())
        differences = [tested.difference for tested in tests]
        return setting.model_copy(update={"tests": alone(differences, self.recipe.audit.level)})

    def _tests(self, images: ImageSet, other: Run) -> Tests:
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


def kept_tests(root: Path) -> dict[Tested, Tests]:
    """The tests that the sweeps under a folder hold. One that cannot be read is passed over with a warning."""
    found: dict[Tested, Tests] = {}
    for file in sorted(root.glob(f"*/{SWEEP}")):
        try:
            sweep = open_sweep(file.parent)
        except LeadlineError as error:
            warnings.warn(f"passed over when looking for tests that were made: {error}", stacklevel=2)
            continue
        if sweep is not None:
            tested = (*sweep.others, *(confirmation.chosen for confirmation in sweep.confirmations))
            found |= {_tested(setting): setting.tests for setting in tested if setting.tests}
    return found


def _tested(setting: Setting) -> Tested:
    return setting.folder, frozenset(setting.computed_from.items())


def _is_of(found: Run, recipe: Recipe) -> bool:
    """Whether a run's images are those of the recipe, whatever its audit."""
    return found.recipe is not None and found.recipe.folder_name() == recipe.folder_name()

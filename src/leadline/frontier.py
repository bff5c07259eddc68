"""What settings of the bypass change beside strength 0, on the same seeds: one record of a whole sweep, kept as JSON.

Nothing here imports torch: the report reads this and draws it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from leadline.comparison import IDENTITY, label
from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SteerSpec
from leadline.records import SCHEMA_VERSION, Measurement

Holm = Callable[[Sequence[float]], list[float]]
"""The p values of one family of tests -> those adjusted by Holm (1979)."""
SMALLER = "smaller"
BETTER: dict[str, Literal["smaller", "larger"]] = {
    "frechet_distance": "smaller",
    "kernel_distance": "smaller",
    "precision": "larger",
    "recall": "larger",
    "density": "larger",
    "coverage": "larger",
    "prompt_agreement": "larger",
    "init_distance": "smaller",
}
"""Measures of quality that a setting can be chosen by -> which of two values is the better one."""


class Kept(BaseModel):
    """Base of what is kept: frozen; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class PairedTest(Kept):
    """One paired difference from strength 0.

    family: what was measured, the same text for every setting: frechet_distance [labeler features].
    p_holm: its p after Holm's correction over the settings; None: not measurable, or the only test of its kind.
    differs: whether that p, or without one the test's own, is below 1 - level.
    """

    family: str
    difference: Measurement
    p_holm: float | None = None
    differs: bool = False

    @property
    def p(self) -> float | None:
        """The test's own two-sided p."""
        found: float | None = self.difference.params.get("p")
        return found


class Setting(Kept):
    """A setting of the bypass: what its samples measured, and how they differ from those of strength 0.

    folder: name of its run folder. computed_from: fingerprints of all that the tests depend on.
    """

    steer: SteerSpec
    folder: str
    values: tuple[Measurement, ...]
    tests: tuple[PairedTest, ...] = ()
    computed_from: dict[str, str] = {}

    @property
    def words(self) -> str:
        """`bypass 0.5 (constant, blend)`, `strength 0`."""
        return self.steer.words or "strength 0"

    def test(self, wanted: str) -> PairedTest | None:
        """The test of a family, None where there is none."""
        return next((tested for tested in self.tests if tested.family == wanted), None)

    def value(self, like: Measurement) -> Measurement | None:
        """This setting's own measurement of what a paired difference compares."""
        of = like.params.get("of", like.name)
        wanted = {key: like.params[key] for key in IDENTITY if key in like.params and key != "set"}
        return next(
            (
                m
                for m in self.values
                if (m.name, m.group) == (of, like.group) and all(m.params.get(k) == v for k, v in wanted.items())
            ),
            None,
        )


class Choice(Kept):
    """The setting with the best value of one measure, in one feature space where it has those.

    index: its place, 0 for strength 0; None: none has a value. reason: why, or which settings have none.
    """

    name: str
    space: str | None = None
    index: int | None = None
    reason: str = ""

    @property
    def better(self) -> str:
        """smaller or larger: which of two values is the better one."""
        return BETTER[self.name]

    @property
    def words(self) -> str:
        """`frechet_distance [labeler features]`."""
        return self.name + (f" [{self.space}]" if self.space else "")

    def test(self, setting: Setting) -> PairedTest | None:
        """The setting's test of the measure."""
        return next(
            (t for t in setting.tests if t.difference.params["of"] == self.name and self._is(t.difference)), None
        )

    def value(self, setting: Setting) -> Measurement | None:
        """The setting's own value of the measure, over all images."""
        return next((m for m in setting.values if m.name == self.name and self._is(m)), None)

    def _is(self, m: Measurement) -> bool:
        return m.group is None and m.params.get("space") == self.space


class Confirmation(Kept):
    """Strength 0 and a chosen setting, drawn afresh from another seed, and one test between them."""

    seed: int
    zero: Setting
    chosen: Setting

    @property
    def of(self) -> tuple[int, SteerSpec]:
        """What was confirmed: there is one of each seed and setting."""
        return self.seed, self.chosen.steer


class SteerSweep(Kept):
    """A sweep over settings of the bypass, whole.

    settings: strength 0 first. confirmations: all that were ever made, in their order, of whatever was chosen then.
    """

    schema_version: int = SCHEMA_VERSION
    title: str
    seed: int
    num_images: int
    level: float
    settings: tuple[Setting, ...]
    choice: Choice | None = None
    confirmations: tuple[Confirmation, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> "SteerSweep":
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema version {self.schema_version}, this leadline reads {SCHEMA_VERSION}")
        if not self.settings or self.settings[0].steer.strength:
            raise ValueError("the first setting must have strength 0")
        if self.choice is not None and not 0 <= (self.choice.index or 0) < len(self.settings):
            raise ValueError(f"the choice is of setting {self.choice.index}, there are {len(self.settings)}")
        return self

    @property
    def zero(self) -> Setting:
        """Strength 0: what every other setting is compared with."""
        return self.settings[0]

    @property
    def others(self) -> tuple[Setting, ...]:
        """The settings above strength 0."""
        return self.settings[1:]

    @property
    def chosen(self) -> Setting | None:
        """The chosen setting, strength 0 included; None where nothing could be chosen."""
        index = None if self.choice is None else self.choice.index
        return None if index is None else self.settings[index]

    @property
    def confirmed(self) -> tuple[Confirmation, ...]:
        """The confirmations of the chosen setting."""
        chosen = self.chosen
        return () if chosen is None else tuple(c for c in self.confirmations if c.chosen.steer == chosen.steer)

    @property
    def kinds(self) -> dict[str, list[Setting]]:
        """The settings above strength 0 by schedule and mode, by rising strength."""
        found: dict[str, list[Setting]] = {}
        for setting in self.others:
            found.setdefault(setting.steer.kind, []).append(setting)
        return {kind: sorted(held, key=lambda setting: setting.steer.strength) for kind, held in found.items()}

    @property
    def families(self) -> dict[str, Measurement]:
        """All that was tested: family -> the first difference that has a value, else the first."""
        found: dict[str, Measurement] = {}
        for tested in (tested for setting in self.others for tested in setting.tests):
            known = found.get(tested.family)
            if known is None or (known.value is None and tested.difference.value is not None):
                found[tested.family] = tested.difference
        return found

    def tests(self, wanted: str) -> Iterator[tuple[Setting, PairedTest]]:
        """The tests of one family, with their settings."""
        for setting in self.others:
            tested = setting.test(wanted)
            if tested is not None:
                yield setting, tested

    @property
    def by_chance(self) -> float:
        """How many families Holm's procedure marks at some setting on average where no setting changes anything: at
        most 1 - level of those that were tested, related or not."""
        return (1 - self.level) * sum(difference.value is not None for difference in self.families.values())


def family(difference: Measurement) -> str:
    """What a paired difference, or a measurement of samples, is of: share [9]; nearest_distance [pixels, k = 1]."""
    params = {key: value for key, value in difference.params.items() if key != "set"}
    return label(difference.model_copy(update={"name": params.get("of", difference.name), "params": params}))


def choice_of(text: str) -> Choice:
    """`kernel_distance` or `kernel_distance,inception`. Raises LeadlineError on a measure without a better side."""
    name, comma, space = (part.strip() for part in text.partition(","))
    if name not in BETTER:
        raise LeadlineError(f"--choose {text!r}: a setting cannot be chosen by {name!r}: {did_you_mean(name, BETTER)}")
    if comma and not space:
        raise LeadlineError(f"--choose {text!r}: a feature space is expected after the comma, such as labeler")
    return Choice(name=name, space=space or None)


def choose(settings: Sequence[Setting], wanted: Choice) -> Choice:
    """The setting with the best value, the first of equals; all of them read in one space.

    That is the one, of those that fit the wanted one, in which the most settings have a value, the first of equals.
    """
    found = [m for s in settings for m in s.values if m.name == wanted.name and m.group is None]
    spaces = dict.fromkeys(m.params.get("space") for m in found if in_space(m.params.get("space"), wanted.space))
    read = {space: _values(settings, wanted.model_copy(update={"space": space})) for space in spaces}
    if not any(read.values()):
        told = next((m.reason for m in found if m.params.get("space") in spaces), None) or "no setting's audit has it"
        return wanted.model_copy(update={"reason": f"{wanted.words} has no value: {told}"})
    space, values = max(read.items(), key=lambda item: len(item[1]))
    sign = 1 if wanted.better == SMALLER else -1
    index = min(values, key=lambda place: (sign * values[place], place))
    without = [setting.words for place, setting in enumerate(settings) if place not in values]
    reason = f"without a value, and left out: {', '.join(without)}" if without else ""
    return wanted.model_copy(update={"space": space, "index": index, "reason": reason})


def in_space(space: str | None, wanted: str | None) -> bool:
    """Whether a feature space (inception-v3-compat features) is the one that was named (inception); None: any is."""
    return wanted is None or (space is not None and space.lower().startswith(wanted.lower()))


def _values(settings: Sequence[Setting], choice: Choice) -> dict[int, float]:
    """Place of each setting that has a value of the measure in the choice's own space -> the value."""
    found = {place: choice.value(setting) for place, setting in enumerate(settings)}
    return {place: m.value for place, m in found.items() if m is not None and m.value is not None}


def is_better(difference: Measurement) -> bool | None:
    """Whether a paired difference of a measure of quality goes the better way; None where its sign is in doubt."""
    if difference.params.get("doubt"):
        return None
    goes_up = (difference.value or 0.0) > 0
    return goes_up == (BETTER[str(difference.params["of"])] != SMALLER)


def adjusted(settings: Sequence[Setting], level: float, holm: Holm) -> tuple[Setting, ...]:
    """The settings with Holm's p: every family is adjusted over the settings that it was tested at.

    Strength 0, which has no tests, stays as it is.
    """
    ps: dict[str, list[float]] = {}
    for tested in (tested for setting in settings for tested in setting.tests):
        if tested.p is not None:
            ps.setdefault(tested.family, []).append(tested.p)
    corrected = {name: iter(holm(found)) for name, found in ps.items()}

    def marked(tested: PairedTest) -> PairedTest:
        if tested.p is None:
            return tested
        p = next(corrected[tested.family])
        return tested.model_copy(update={"p_holm": p, "differs": p < 1 - level})

    return tuple(
        setting.model_copy(update={"tests": tuple(marked(tested) for tested in setting.tests)}) for setting in settings
    )


def alone(differences: Sequence[Measurement], level: float) -> tuple[PairedTest, ...]:
    """Tests that stand alone: no correction over settings."""
    return tuple(
        PairedTest(family=family(d), difference=d, differs=d.params.get("p", 1.0) < 1 - level) for d in differences
    )

"""A look at a model in training: what was measured on its fixed bank of images after so many steps. Kept as JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leadline.errors import LeadlineError
from leadline.recipe import SampleSpec, TrainSpec
from leadline.records import Measurement

TRAINING_LOSS, HELD_OUT_LOSS = "training_loss", "held_out_loss"
"""Mean loss of the averaged weights on the bank of noised images, of the training data and held out."""
UNRECOGNISED = "unrecognised_share"
"""Share of the bank's images that are labelled as no class of the training data."""


class Look(BaseModel):
    """One look. settings: all that decided the bank and its audit; two looks of unlike settings are not compared.

    ids, labels: what each image of the bank was labelled as; empty where nothing could label them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    step: int = Field(ge=1)
    settings: dict[str, Any] = {}
    measurements: tuple[Measurement, ...]
    ids: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _a_label_for_each_image(self) -> "Look":
        if len(self.labels) not in (0, len(self.ids)):
            raise ValueError(f"{len(self.ids)} images but {len(self.labels)} labels: one label for each, or none")
        return self

    def find(self, name: str, group: str | None = None, **params: Any) -> Measurement | None:
        """The first measurement of that name, of that group and with those params where given; one with a value first.

        None where there is none.
        """
        found = [
            m
            for m in self.measurements
            if m.name == name
            and (group is None or m.group == group)
            and all(m.params.get(key) == value for key, value in params.items())
        ]
        return min(found, key=lambda m: m.value is None, default=None)

    def training_shares(self) -> dict[str, float]:
        """Class of the training data -> its share there, the rarest first. Empty where no share could be measured."""
        known = {
            m.group: m.value
            for m in self.measurements
            if m.name == "share" and m.params.get("set") == "training" and m.group is not None and m.value is not None
        }
        return dict(sorted(known.items(), key=lambda item: item[1]))


def watched_steps(spec: TrainSpec) -> list[int]:
    """The steps after which a training is looked at: every watch_every, and the last. Empty where it is not watched."""
    if not spec.watch_every:
        return []
    return sorted({*range(spec.watch_every, spec.steps + 1, spec.watch_every), spec.steps})


def bank_spec(spec: SampleSpec, num_images: int, steps: int) -> SampleSpec:
    """How the bank is drawn: the first images of the run's own seed, by DDIM, without bypass.

    Runs of one sampling seed have one bank, and the bank of the finished model can be held beside the run's samples.
    """
    return SampleSpec(
        num_images=num_images,
        seed=spec.seed,
        sampler="ddim",
        steps=steps,
        clip_x0=spec.clip_x0,
        batch_size=spec.batch_size,
        shard_size=num_images,
    )


def check_same_bank(looks: tuple[Look, ...], settings: dict[str, Any]) -> None:
    """Raise LeadlineError where there are looks already that are of another bank or another audit."""
    for look in looks:
        if differing := unlike(look.settings, settings):
            raise LeadlineError(
                f"the run was looked at before with other settings ({differing}): keep them (--set train.watch_images, "
                "train.watch_steps; of `leadline watch` --images, --steps), or remove watch.jsonl from its folder"
            )


def unlike(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What differs between the settings of two looks, in words; empty where nothing does.

    A setting that one of them does not know came later, and was then as it is by default.
    """
    return ", ".join(
        f"{name}: {one[name]} and {other[name]}" for name in one if one[name] != other.get(name, one[name])
    )

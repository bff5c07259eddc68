"""What a plan is asked, checked as a whole: flags that need each other, and none that would be left unused."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from leadline.audit.planning import (
    MAX_IMAGES,
    UNLIMITED,
    check_question,
    detectable,
    detectable_estimated,
    estimated_power,
    exact_power,
    images_needed,
    images_needed_estimated,
)
from leadline.audit.planning_runs import MAX_RUNS
from leadline.errors import LeadlineError

PERFECT, KNOWN, ESTIMATED = "perfect", "rates known", "rates estimated"
"""How the images are counted: without error; by a classifier whose rates are known; as well as the labelled images
tell."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What `leadline plan` is asked: fields as its flags. None where a flag was not given. Checked when it is made."""

    share: float
    detect: float | None = None
    power: float = 0.8
    level: float = 0.95
    sensitivity: float | None = None
    specificity: float | None = None
    positives: int | None = None
    negatives: int | None = None
    replicates: int | None = None
    between_run_sd: int | float | None = None
    images: int | None = None
    two_models: bool = False

    def __post_init__(self) -> None:
        check_question(self.share, self.detect, self.power, self.level, *self.rates)
        for name in ("positives", "negatives", "replicates", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LeadlineError(f"--{name} must be 1 or more, not {value}")
        if self.images is not None and self.images > MAX_IMAGES:
            raise LeadlineError(f"--images must be {MAX_IMAGES:,} at most, not {self.images:,}")
        if self.replicates is not None and self.replicates > MAX_RUNS:
            raise LeadlineError(f"--replicates must be {MAX_RUNS:,} at most, not {self.replicates:,}")
        if self.detect is None and self.images is None:
            raise LeadlineError(
                "a plan needs the share that is to be told from the training share (--detect .006), or the number of "
                "images, to see what they can tell (--images 10000)"
            )
        self._check_together()

    def _check_together(self) -> None:
        """What one flag needs of another; nothing that was given is left unused."""
        if (self.positives is None) != (self.negatives is None):
            raise LeadlineError(
                "the labelled images behind the classifier's rates are of two kinds: give both --positives, those of "
                "the group, and --negatives, all others"
            )
        if self.positives is not None and not self.classifier:
            raise LeadlineError(
                "--positives and --negatives say what --sensitivity and --specificity rest on: give these"
            )
        if self.between_run_sd is not None and self.replicates is None:
            raise LeadlineError("--between-run-sd is of training runs: say how many there shall be (--replicates 3)")
        if self.replicates is not None and self.detect is None:
            raise LeadlineError("a plan of several runs (--replicates) needs the share to be found in them (--detect)")
        if self.two_models and self.detect is None:
            raise LeadlineError("--two-models compares two shares: --share of the one, --detect of the other")
        if self.two_models and (self.replicates is not None or self.positives is not None):
            raise LeadlineError(
                "--two-models plans one run of each model, counted by one classifier whose errors both share: "
                "leave out --replicates, --positives and --negatives"
            )

    @property
    def classifier(self) -> bool:
        """Whether the images are counted by a classifier that errs."""
        return self.sensitivity is not None or self.specificity is not None

    @property
    def rates(self) -> tuple[float, float]:
        """(sensitivity, specificity); 1 where not given."""
        return (
            1.0 if self.sensitivity is None else self.sensitivity,
            1.0 if self.specificity is None else self.specificity,
        )

    def needed(self, counting: str) -> int | None:
        """Images with which `detect` is told from the training share; None where no number is enough."""
        wanted = (self.share, self.told)
        if counting == ESTIMATED:
            return images_needed_estimated(*wanted, *self.labelled, self.power, self.level, *self.rates)
        return images_needed(*wanted, self.power, self.level, *self._rates_of(counting))

    def power_at(self, counting: str, images: Int[np.ndarray, " n"]) -> list[float]:
        """Power at each number of images."""
        wanted = (self.share, self.told)
        if counting == ESTIMATED:
            return [estimated_power(*wanted, float(n), *self.labelled, self.level, *self.rates) for n in images]
        return [float(p) for p in exact_power(*wanted, images, self.level, *self._rates_of(counting))]

    def detectable_at(self, counting: str, images: int) -> tuple[float | None, float | None]:
        """(largest share below, smallest above) that is told from the training share."""
        wanted = (self.power, self.level)
        if counting == ESTIMATED:
            return detectable_estimated(self.share, images, *self.labelled, *wanted, *self.rates)
        return detectable(self.share, images, *wanted, *self._rates_of(counting))

    def _rates_of(self, counting: str) -> tuple[float, float]:
        return (1.0, 1.0) if counting == PERFECT else self.rates

    @property
    def countings(self) -> tuple[str, ...]:
        """The ways of counting that the question has."""
        return (PERFECT, *((KNOWN,) if self.classifier else ()), *((ESTIMATED,) if self.positives is not None else ()))

    @property
    def labelled(self) -> tuple[int | float, int | float]:
        """(positives, negatives) behind the rates; unlimited where they are taken as known."""
        return (
            UNLIMITED if self.positives is None else self.positives,
            UNLIMITED if self.negatives is None else self.negatives,
        )

    @property
    def told(self) -> float:
        """The share to detect. Raises LeadlineError where none was given."""
        if self.detect is None:
            raise LeadlineError("this part of a plan needs the share to detect (--detect)")
        return self.detect

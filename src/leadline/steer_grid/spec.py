"""What a grid of prompts and strengths is made of, checked when it is built."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SteerSpec
from leadline.schedules import Schedule, as_schedule, constant, strengths
from leadline.text.generating import GUIDANCE, TEXT_SAMPLERS

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One setting of the model: a strength of the bypass, or FreeU without one."""

    strength: float = 0.0
    freeu: bool = False

    @property
    def label(self) -> str:
        """How it is called on the page, and the name of its folder but for the space."""
        return "FreeU" if self.freeu else f"strength {self.strength!r}".removesuffix(".0")


@dataclass(frozen=True, kw_only=True)
class GridSpec:
    """What `steer` draws: every prompt at every strength from the seeds seed, seed + 1, ...; checked when built.

    strengths: of the bypass, each in [0, 1]; with steer.schedule the factor of its strengths. freeu: FreeU beside
    them. encoders: NAME[:WEIGHTS] of the networks that compare the images; none: LPIPS where its weights are at hand.
    size: height and width in px; default: the pipeline's own. init_strength: share of the steps that are taken from
    an init image. Raises LeadlineError.
    """

    prompts: tuple[str, ...]
    strengths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    seed: int = 0
    num_images: int = 1
    steer: SteerSpec = field(default_factory=SteerSpec)
    freeu: bool = False
    guidance: float = GUIDANCE
    steps: int = 50
    sampler: str = "ddim"
    precision: str = "fp32"
    size: int | None = None
    init_strength: float | None = None
    encoders: tuple[str, ...] = ()
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.prompts or any(not prompt.strip() for prompt in self.prompts):
            raise LeadlineError('at least one prompt is needed, and none may be empty: --prompt "a woman"')
        for flag, values in (("--prompt", self.prompts), ("--strength", self.strengths)):
            twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if twice is not None:
                raise LeadlineError(f"{flag} {twice!r} is given twice: leave one out")
        outside = [strength for strength in self.strengths if not 0 <= strength <= 1]
        if outside or not self.strengths:
            raise LeadlineError(f"--strength {', '.join(map(str, outside)) or '(none)'}: expected numbers from 0 to 1")
        least = {"--images": (self.num_images, 1), "--seed": (self.seed, 0), "--size": (self.size or 1, 1)}
        for flag, (value, fewest) in least.items():
            if value < fewest:
                raise LeadlineError(f"{flag} {value}: expected {fewest} or more")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise LeadlineError(f"--guidance {self.guidance}: expected a finite number of 0 or more")
        if self.sampler not in TEXT_SAMPLERS:
            raise LeadlineError(f"--sampler {self.sampler}: {did_you_mean(self.sampler, TEXT_SAMPLERS)}")
        if self.precision not in PRECISIONS:
            raise LeadlineError(f"--precision {self.precision}: {did_you_mean(self.precision, PRECISIONS)}")
        share = 1.0 if self.init_strength is None else self.init_strength
        if not (0 < share <= 1 and int(self.steps * share) >= 1):
            raise LeadlineError(
                f"--steps {self.steps} with --init-strength {share:g}: expected a strength above 0 and at most 1, and "
                "so many steps that one at least is left"
            )
        if self.steer.branch != "both" and self.guidance <= 1:
            raise LeadlineError(
                f"--branch {self.steer.branch} is a half of classifier-free guidance, which --guidance "
                f"{self.guidance:g} switches off: give more than 1, or leave out --branch"
            )
        # Over all noise levels: a model's own are not known yet.
        strengths(self.schedule(max(self.strengths)), [0.0, *np.geomspace(1e-3, 1e4, 200), math.inf])

    def at(self, column: Column) -> SteerSpec:
        """The bypass of a column."""
        return self.steer.model_copy(update={"strength": column.strength})

    def schedule(self, strength: float) -> Schedule:
        """Strength over the noise level at a factor of the spec's schedule."""
        return constant(strength) & as_schedule(self.steer.schedule or 1.0)

    @property
    def seeds(self) -> range:
        """The seeds of the images of one prompt at one strength."""
        return range(self.seed, self.seed + self.num_images)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The strengths from small to large; FreeU after strength 0."""
        bypassed = [Column(strength=strength) for strength in sorted(self.strengths)]
        at = 1 if bypassed[0].strength == 0 else 0
        return (*bypassed[:at], *([Column(freeu=True)] if self.freeu else []), *bypassed[at:])

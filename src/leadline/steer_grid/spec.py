"""What a grid of prompts and strengths is made of, checked when it is built."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SampleSpec, SteerSpec
from leadline.schedules import as_schedule, constant, strengths
from leadline.text.generating import GUIDANCE, check_asked

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def by_flag(field: str, value: object = "") -> str:
    """--branch conditional"""
    return f"--{field.rpartition('.')[2].replace('_', '-')} {value}".strip()


@dataclass(frozen=True, kw_only=True)
class Column:
    """One setting of the model: a strength of the bypass, or FreeU without one."""

    strength: float = 0.0
    freeu: bool = False

    @property
    def folder(self) -> str:
        """Name of the folder of its images."""
        return "FreeU" if self.freeu else f"strength-{self.number}"

    @property
    def number(self) -> str:
        """The strength in full: 0, 0.25."""
        return repr(self.strength).removesuffix(".0")


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
        least = {
            "--images": (self.num_images, 1),
            "--seed": (self.seed, 0),
            "--steps": (self.steps, 1),
            "--size": (self.size or 1, 1),
        }
        for flag, (value, fewest) in least.items():
            if value < fewest:
                raise LeadlineError(f"{flag} {value}: expected {fewest} or more")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise LeadlineError(f"--guidance {self.guidance}: expected a finite number of 0 or more")
        if self.precision not in PRECISIONS:
            raise LeadlineError(f"--precision {self.precision}: {did_you_mean(self.precision, PRECISIONS)}")
        if self.init_strength is not None and not 0 < self.init_strength <= 1:
            raise LeadlineError(f"--init-strength {self.init_strength:g}: expected above 0 and at most 1")
        check_asked(self.sampling(max(self.strengths)), option=by_flag)
        # Over all noise levels: a model's own are not known yet.
        whole = constant(max(self.strengths)) & as_schedule(self.steer.schedule or 1.0)
        strengths(whole, [0.0, *np.geomspace(1e-3, 1e4, 200), math.inf])

    def sampling(self, strength: float) -> SampleSpec:
        """How the images of a strength are drawn, in the words of a run."""
        return SampleSpec(
            sampler=self.sampler,
            steps=self.steps,
            guidance=self.guidance,
            init_strength=self.init_strength,
            steer=self.steer.model_copy(update={"strength": strength}),
        )

    def label(self, column: Column) -> str:
        """How a column is called on the page: FreeU, strength 0.5, and under a schedule factor 0.5."""
        return "FreeU" if column.freeu else f"{'factor' if self.steer.schedule else 'strength'} {column.number}"

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

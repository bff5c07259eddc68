"""What turns a network into a Denoiser: 2206.00364, Eq. 7 for every kind of checkpoint, read from its scheduler."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import karras_sigmas

SUPPORTED = (
    "supported are diffusers' schedulers over a ladder of alphas_cumprod (DDPM, DDIM, PNDM, DEIS, Euler, Heun, LMS, "
    "K-DPM2, DPM-Solver++, SA-Solver, UniPC, with their ancestral, parallel and inverse forms, without flow matching), "
    "the EDM schedulers, and ScoreSdeVeScheduler; none of a consistency-distilled model"
)
CONSISTENCY_SCHEDULERS = ("LCMScheduler", "TCDScheduler", "CMStochasticIterativeScheduler")
"""Of networks whose output is the end of a whole way, not the mean of the images that x may come from."""
EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
"""Their timestep is 2206.00364's c_noise = ln(sigma) / 4."""

Levels = Float[Tensor, " n"]


@dataclass(frozen=True)
class Coefficients:
    """2206.00364, Eq. 7: D(x; sigma) = skip x + out F(scale x + shift; timestep), one number per noise level.

    All float64 on the CPU, [n]; shift is 0 but for models of images in [0, 1].
    """

    skip: Levels
    out: Levels
    scale: Levels
    timestep: Levels
    shift: float = 0.0


class Preconditioning(ABC):
    """One kind of checkpoint.

    Attributes:
        sigmas: float64 [t], ascending: the levels that its scheduler names; the range that the model was trained on.
        rungs: whether the timestep of sigmas[t] is t. Else it is a function of sigma alone.
    """

    sigmas: Float[Tensor, " t"]
    rungs: bool = False
    left_out: str = ""

    def coefficients(self, sigma: Levels) -> Coefficients:
        """Those of each level. Raises NotMeasurable outside the schedule's range: the model was not trained there."""
        low, high = float(self.sigmas[0]), float(self.sigmas[-1])
        outside = ~((sigma >= low * (1 - 1e-6)) & (sigma <= high * (1 + 1e-6)))
        if outside.any():
            raise NotMeasurable(
                f"sigma {float(sigma[outside][0]):g} is outside the model's schedule, {low:.4g} to {high:.4g}"
                f"{self.left_out}: not measurable there"
            )
        return self.at(sigma)

    @abstractmethod
    def at(self, sigma: Levels) -> Coefficients:
        """`coefficients` of levels that are known to be within reach, float64 on the CPU."""


class Ladder(Preconditioning):
    """A variance-preserving model with a ladder of alphas_cumprod, of epsilon-, v- or sample-prediction.

    F is fed x / sqrt(1 + sigma^2) at the step t of sigma, whole on the ladder to the bit and linear in log sigma
    between two rungs. v = sqrt(abar) eps - sqrt(1 - abar) x0 (2202.00512, section 4). A ladder whose last level is
    infinite (zero terminal signal-to-noise ratio) is taken without it.
    """

    rungs = True

    def __init__(self, alphas_cumprod: Float[Tensor, " t"], prediction: str, *, zero_terminal: bool = False) -> None:
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise LeadlineError(f"prediction type {prediction!r}: epsilon, v_prediction or sample expected")
        abar = alphas_cumprod.to("cpu", torch.float64)
        if zero_terminal or abar[-1] == 0:
            abar = abar[:-1]
            self.left_out = " (its last level, of zero terminal signal-to-noise ratio, is infinite and left out)"
        self.prediction = prediction
        self.sigmas = ((1 - abar) / abar).sqrt()
        if not (len(abar) > 1 and torch.isfinite(self.sigmas).all() and torch.all(self.sigmas.diff() > 0)):
            raise LeadlineError(
                "the scheduler's noise levels must rise from step to step and stay finite, as a DDPM schedule's do"
            )

    def timestep(self, sigma: Levels) -> Levels:
        """The step of each level."""
        upper = torch.searchsorted(self.sigmas, sigma).clamp(1, len(self.sigmas) - 1)
        left, right = self.sigmas[upper - 1].log(), self.sigmas[upper].log()
        share = ((sigma.log() - left) / (right - left)).clamp(0, 1)
        # A level of the ladder itself must give its step to the bit, whatever the logarithms' rounding.
        share = torch.where(sigma == self.sigmas[upper], 1.0, torch.where(sigma == self.sigmas[upper - 1], 0.0, share))
        return (upper - 1) + share

    def at(self, sigma: Levels) -> Coefficients:
        scale = (1 + sigma**2).rsqrt()
        skip, out = {
            "epsilon": (torch.ones_like(sigma), -sigma),
            "v_prediction": (scale**2, -sigma * scale),
            "sample": (torch.zeros_like(sigma), torch.ones_like(sigma)),
        }[self.prediction]
        return Coefficients(skip, out, scale, self.timestep(sigma))


class Karras(Preconditioning):
    """2206.00364, Table 1, last column: sigma_data is the spread of the images, the timestep is ln(sigma) / 4.

    sign: of `out`; diffusers' v_prediction has -1. sigmas: default 1,000 levels of Eq. 5 from .002 to 80.
    """

    def __init__(
        self, sigma_data: float | int = 0.5, *, sign: int = 1, sigmas: Float[Tensor, " t"] | None = None
    ) -> None:
        self.sigma_data, self.sign = sigma_data, sign
        self.sigmas = karras_sigmas(0.002, 80.0) if sigmas is None else sigmas

    def at(self, sigma: Levels) -> Coefficients:
        total = sigma**2 + self.sigma_data**2
        return Coefficients(
            skip=self.sigma_data**2 / total,
            out=self.sign * sigma * self.sigma_data / total.sqrt(),
            scale=total.rsqrt(),
            timestep=sigma.log() / 4,
        )


class Score(Preconditioning):
    """2011.13456, Appendix C: a network that gives the score of images in [0, 1], where sigma is half as large.

    D = x + sigma^2 * score in either scale; the score in [0, 1] at sigma / 2 is twice that in [-1, 1].
    """

    def __init__(self, sigma_min: float | int, sigma_max: float | int, count: int) -> None:
        ends = torch.tensor([2 * sigma_min, 2 * sigma_max], dtype=torch.float64).log()
        self.sigmas = torch.linspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64).exp()

    def at(self, sigma: Levels) -> Coefficients:
        half = torch.full_like(sigma, 0.5)
        return Coefficients(torch.ones_like(sigma), sigma**2 / 2, half, sigma / 2, shift=0.5)


def preconditioning_of(scheduler: Any) -> Preconditioning:
    """The kind of model that a diffusers scheduler is for. Raises LeadlineError for one that is not known."""
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    prediction = config.get("prediction_type") or "epsilon"
    if name in EDM_SCHEDULERS:
        return Karras(config["sigma_data"], sign=_sign(name, prediction), sigmas=_edm_ladder(config))
    if name == "ScoreSdeVeScheduler":
        return Score(config["sigma_min"], config["sigma_max"], config["num_train_timesteps"])
    if name in CONSISTENCY_SCHEDULERS:
        raise LeadlineError(
            f"{name} is of a consistency model, whose output is the end of its way from x, not the mean of the images "
            f"that x may come from, so it is no denoiser D(x; sigma): {SUPPORTED}; take the model that it was "
            "distilled from"
        )
    abar = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(abar, Tensor) or config.get("use_flow_sigmas") or prediction == "flow_prediction":
        raise LeadlineError(f"{name}: how its model is to be read as a denoiser is not known: {SUPPORTED}")
    ladder = Ladder(abar, prediction, zero_terminal=bool(config.get("rescale_betas_zero_snr")))
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        # diffusers feeds such a model ln(sigma) / 4, and its v is EDM's with sigma_data 1.
        low = config.get("sigma_min") or float(ladder.sigmas[0])
        high = config.get("sigma_max") or float(ladder.sigmas[-1])
        return Karras(1.0, sign=-1, sigmas=karras_sigmas(low, high, len(ladder.sigmas)))
    return ladder


def _sign(name: str, prediction: str) -> int:
    signs = {"epsilon": 1, "v_prediction": -1}
    if prediction not in signs:
        raise LeadlineError(f"{name}: prediction type {prediction!r}: epsilon or v_prediction expected")
    return signs[prediction]


def _edm_ladder(config: Any) -> Float[Tensor, " t"]:
    low, high, count = float(config["sigma_min"]), float(config["sigma_max"]), int(config["num_train_timesteps"])
    if config.get("sigma_schedule") == "exponential":
        levels = torch.linspace(math.log(low), math.log(high), count, dtype=torch.float64).exp()
        # The ends to the bit: they are the range.
        levels[0], levels[-1] = low, high
        return levels
    return karras_sigmas(low, high, count, config["rho"])

"""Noise level of a U-Net's timestep, read from the scheduler that chose it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.models.preconditioning import EDM_SCHEDULERS

SUPPORTED = (
    "supported are diffusers' schedulers over a ladder of alphas_cumprod (DDPM, DDIM, PNDM, Euler, Heun, DPM-Solver++, "
    "UniPC, LCM and their kin, without use_flow_sigmas) and the EDM schedulers"
)

SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
"""Settings that place a scheduler's steps between two noise levels, which sigma_min and sigma_max may move."""

BEYOND = 0.01
"""The share by which they may pass the ladder's ends: they are written with a few digits."""


class Levels(ABC):
    """sigma = sqrt((1 - abar) / abar) of every timestep that one scheduler may ask for.

    Attributes:
        grid: float64 [g], ascending: levels on which a schedule is checked before anything runs.
    """

    grid: Float[np.ndarray, " g"]

    @abstractmethod
    def sigma(self, timestep: Tensor) -> Tensor:
        """Noise level of each timestep, of the same shape and device; no value is read back to the CPU."""


class LadderLevels(Levels):
    """Timestep t is rung t of a ladder of noise levels; between rungs log sigma is linear, as in DiffusersDenoiser.

    Beyond the ends the level is that of the end. The last rung may be infinite (zero terminal signal-to-noise ratio).
    """

    def __init__(self, sigmas: Float[Tensor, " t"]) -> None:
        self.grid = sigmas.detach().cpu().double().numpy()
        self._ladders: dict[torch.device, Tensor] = {}

    def sigma(self, timestep: Tensor) -> Tensor:
        ladder = self._ladder(timestep.device)
        t = timestep.to(ladder.dtype).clamp(0, len(ladder) - 1)
        lower = t.floor().long()
        share = t - lower
        left, right = ladder[lower], ladder[(lower + 1).clamp(max=len(ladder) - 1)]
        between = (left.log() + share * (right.log() - left.log())).exp()
        # On a rung to the bit, and no 0 * infinity beside an infinite one.
        return torch.where(share == 0, left, between)

    def _ladder(self, device: torch.device) -> Tensor:
        if device not in self._ladders:
            self._ladders[device] = torch.as_tensor(self.grid).to(device, wide(device))
        return self._ladders[device]


class LogLevels(Levels):
    """2206.00364, Table 1: the timestep is c_noise = ln(sigma) / 4."""

    def __init__(self, sigma_min: float, sigma_max: float) -> None:
        self.grid = np.geomspace(sigma_min, sigma_max, 1000)

    def sigma(self, timestep: Tensor) -> Tensor:
        return (4 * timestep.to(wide(timestep.device))).exp()


def levels_of(scheduler: Any) -> Levels:
    """The noise levels behind a diffusers scheduler's timesteps, whatever it predicts and however it spaces its steps.

    Raises LeadlineError for a scheduler whose timesteps are no levels of sigma = sqrt((1 - abar) / abar), such as
    flow matching's, and for settings under which its timesteps do not follow its own noise levels.
    """
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    if name in EDM_SCHEDULERS:
        return LogLevels(config["sigma_min"], config["sigma_max"])
    abar = getattr(scheduler, "alphas_cumprod", None)
    prediction = config.get("prediction_type")
    if not isinstance(abar, Tensor) or config.get("use_flow_sigmas") or prediction == "flow_prediction":
        raise LeadlineError(
            f"{name}: the noise level of its timesteps is not known: {SUPPORTED}; take one of these, or a constant "
            "strength"
        )
    abar = abar.double()
    sigmas = ((1 - abar) / abar).sqrt()
    ends = _ends(config, float(sigmas[0]), float(sigmas[-1]))
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        return LogLevels(*ends)
    _check_timesteps(name, config, ends, sigmas)
    return LadderLevels(sigmas)


def _ends(config: Mapping[str, Any], lowest: float, highest: float) -> tuple[float, float]:
    """The least and the greatest noise level of a scheduler's steps, of a ladder from `lowest` to `highest`: spacings
    of their own obey sigma_min and sigma_max."""
    if not any(config.get(spacing) for spacing in SPACINGS):
        return lowest, highest
    given = config.get("sigma_min"), config.get("sigma_max")
    return lowest if given[0] is None else float(given[0]), highest if given[1] is None else float(given[1])


def _check_timesteps(name: str, config: Mapping[str, Any], ends: tuple[float, float], ladder: Tensor) -> None:
    """Raise LeadlineError where timesteps, rungs of a ladder, do not follow the steps' own noise levels."""
    spaced = any(config.get(spacing) for spacing in SPACINGS)
    if config.get("interpolation_type") == "log_linear" and not spaced:
        raise LeadlineError(
            f"{name} with interpolation_type='log_linear': its noise levels are evenly spaced in log sigma, its "
            "timesteps are not, so these do not tell the noise level: take interpolation_type='linear', or a constant "
            "strength"
        )
    lowest, highest = float(ladder[0]), float(ladder[-1])
    if ends[0] < lowest / (1 + BEYOND) or ends[1] > highest * (1 + BEYOND):
        raise LeadlineError(
            f"{name} with noise levels from {ends[0]:.4g} to {ends[1]:.4g}: its timesteps end with its ladder, from "
            f"{lowest:.4g} to {highest:.4g}, and do not tell the levels beyond: leave sigma_min and sigma_max out of "
            "its configuration or put them within the ladder, or take a constant strength"
        )


def wide(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64

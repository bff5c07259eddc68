"""Noise level of a U-Net's timestep, read from the scheduler that chose it."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError

SUPPORTED = (
    "supported are diffusers' schedulers over a ladder of alphas_cumprod (DDPM, DDIM, PNDM, Euler, Heun, DPM-Solver++, "
    "UniPC, LCM and their kin, without use_flow_sigmas) and the EDM schedulers"
)

EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
"""Their timestep is 2206.00364's c_noise = ln(sigma) / 4."""


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
    flow matching's.
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
    if config.get("timestep_type") == "continuous" and prediction == "v_prediction":
        return LogLevels(float(sigmas[0]), float(sigmas[-1]))
    return LadderLevels(sigmas)


def wide(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64

"""What the measures over the noise level share: the points, each denoiser asked once, what tells the models apart."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.sources import LabModel, chosen, points
from leadline.models.denoiser import Denoiser, Sigma
from leadline.records import ImageSet, Measurement, Splits
from leadline.runs import PACKAGES
from leadline.theory.exact import GaussianDenoiser, MultiDeltaDenoiser

TRAINED, LINEAR, GAUSSIAN, MULTI_DELTA = "trained", "linear", "gaussian", "multi-delta"
"""The denoisers by name, in params and tables."""
HELD_OUT, TRAINING = "held-out", "training"


class Once(Denoiser):
    """A denoiser asked in batches, without gradients, and once for one point after another: measures share the answer.

    `sigma`: one number, as in the lab's loops over the noise level.
    """

    def __init__(self, denoiser: Denoiser, batch_size: int = 64) -> None:
        self.denoiser, self.batch_size = denoiser, batch_size
        self.shape, self.sigmas, self.device = denoiser.shape, denoiser.sigmas, denoiser.device
        self._asked: tuple[Tensor, Sigma] | None = None
        self._answer = torch.empty(0)

    @property
    def sigma_range(self) -> tuple[float, float]:
        return self.denoiser.sigma_range

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        if self._asked is None or self._asked[0] is not x or self._asked[1] != sigma:
            with torch.no_grad():
                self._answer = torch.cat([self.denoiser(part, sigma) for part in torch.split(x, self.batch_size)])
            self._asked = x, sigma
        return self._answer


class Missing(Denoiser):
    """A denoiser that there is none of, like another's: whoever asks it gets the reason."""

    def __init__(self, like: Denoiser, reason: str) -> None:
        self.shape, self.sigmas, self.device = like.shape, like.sigmas, like.device
        self.reason = reason

    def __call__(self, _x: Float[Tensor, "n c h w"], _sigma: Sigma) -> Float[Tensor, "n c h w"]:
        raise NotMeasurable(self.reason)


@dataclass(frozen=True, kw_only=True)
class Points:
    """Clean images that a measure adds noise to. split: which they are, held-out or training."""

    images: Float[Tensor, "n c h w"]
    split: str

    @classmethod
    def of(cls, splits: Splits, num: int, seed: int, device: torch.device | str = "cpu") -> "Points":
        """`num` held-out images drawn by the seed, all where there are fewer; training images where none are held out.

        Raises LeadlineError where there are not two of them.
        """
        given = splits.train if splits.held_out is None else splits.held_out
        if min(num, len(given)) < 2:
            raise LeadlineError(
                f"an interval over images needs two or more, {min(num, len(given))} given: --num-images, or "
                "--set data.held_out="
            )
        images = points(chosen(given, num, seed), device)
        return cls(images=images, split=TRAINING if splits.held_out is None else HELD_OUT)

    def fingerprint(self) -> str:
        """16 hex digits of the images."""
        return hashlib.sha256(self.images.cpu().numpy().tobytes()).hexdigest()[:16]


def exact_denoisers(training: ImageSet, device: torch.device | str = "cpu") -> dict[str, Denoiser]:
    """The Gaussian (P2 Eq. 7) and the multi-delta denoiser (Eq. 4) of the training images."""
    images = points(training, device)
    return {GAUSSIAN: GaussianDenoiser(images, device=device), MULTI_DELTA: MultiDeltaDenoiser(images, device=device)}


def measurable(denoiser: Denoiser, sigmas: Iterable[float]) -> list[float]:
    """Those of the noise levels, falling, at which the denoiser is defined."""
    low, high = denoiser.sigma_range
    # The ends of a schedule are known to a rounding of float32.
    inside = (sigma for sigma in sigmas if low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6))
    return sorted(inside, reverse=True)


def check_sigmas(sigmas: Sequence[float]) -> None:
    """Raise LeadlineError on no noise levels, one that is not above 0 and finite, or one twice."""
    if not sigmas or len(set(sigmas)) < len(sigmas) or not all(0 < sigma < np.inf for sigma in sigmas):
        given = ", ".join(f"{sigma:g}" for sigma in sigmas) or "none"
        raise LeadlineError(f"noise levels are numbers above 0, each once (--sigma 10 1 .1), not {given}")


def tags(model: LabModel) -> dict[str, Any]:
    """The params that tell the measurements of one model from another's: model, num_train, and depth where known."""
    depth = {} if model.depth is None else {"depth": model.depth}
    return {"model": model.name, "num_train": len(model.splits.train), **depth}


def tagged(found: Iterable[Measurement], **params: Any) -> list[Measurement]:
    """The measurements with further params."""
    return [m.model_copy(update={"params": {**params, **m.params}}) for m in found]


def kept_measurements(
    kept: Kept, settings: Mapping[str, Any], compute: Callable[[], Sequence[Measurement]]
) -> list[Measurement]:
    """What `compute` gives, kept under the settings that decide it."""

    def made() -> Arrays:
        return {"measurements": np.array([m.model_dump_json() for m in compute()], dtype=np.str_)}

    return [Measurement.model_validate_json(str(text)) for text in kept.piece(settings, made)["measurements"]]


def package_versions() -> dict[str, str]:
    """What computed the numbers."""
    return {name: metadata.version(name) for name in PACKAGES}

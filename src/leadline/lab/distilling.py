"""The linear denoiser of a model, distilled level by level, each level kept."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.lab.evaluating import Missing
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.sources import LabModel, chosen, points
from leadline.models.denoiser import Denoiser
from leadline.progress import ProgressCallback, silent
from leadline.theory.exact.linear import FEWEST_ROWS_PER_VALUE, ROWS_PER_VALUE, LinearDenoiser, LinearFit, even_draws

MOST_VALUES = 3072
"""Values of an image that a linear denoiser is distilled for: 3×32×32; its time and memory grow with the square."""
FEWEST_ROWS = 4096
"""Noisy images per level, where ROWS_PER_VALUE times the values of an image are fewer."""
MOST_HELD_OUT = 1024
"""Held-out images that R² is taken on."""
SECOND_FIT = "a tenth of the images, held back from a second fit"
"""What R² is taken on where no images are held out."""


def rows_wanted(values: int, num_rows: int | None = None) -> int:
    """Noisy images per level for images of that many values, where no other number is asked for."""
    return max(ROWS_PER_VALUE * values, FEWEST_ROWS) if num_rows is None else num_rows


def distilled(
    model: LabModel,
    sigmas: Sequence[float],
    seed: int,
    kept: Kept,
    *,
    num_rows: int | None = None,
    progress: ProgressCallback = silent,
) -> Denoiser:
    """P2 Eq. 5: the linear denoiser of a model at these levels, from its training images; kept level by level.

    num_rows: noisy images per level, at least; None: ROWS_PER_VALUE per value of an image, FEWEST_ROWS at least. They
    are of all images, or of as many drawn at random where there are more. R² is of held-out images, else of a second
    fit, from which a tenth of the images is held back. Where there can be no such denoiser, one that says why. Raises
    LeadlineError for too few rows.
    """
    values = math.prod(model.denoiser.shape)
    if not sigmas:
        low, high = model.denoiser.sigma_range
        return Missing(model.denoiser, f"no noise level lies within the model's, {low:.4g} to {high:.4g} (--sigma)")
    if values > MOST_VALUES:
        return Missing(
            model.denoiser,
            f"an image has {values:,} values, and a linear denoiser is distilled for up to {MOST_VALUES:,}",
        )
    rows = rows_wanted(values, num_rows)
    if rows < FEWEST_ROWS_PER_VALUE * values:
        raise LeadlineError(
            f"a linear map of {values:,} values per image is not fitted to {rows:,} noisy images: "
            f"{FEWEST_ROWS_PER_VALUE * values:,} at least, better twice as many (--rows)"
        )
    # No more images than rows are wanted: each would be drawn once at least, and make the fit dearer than asked.
    images = points(chosen(model.splits.train, rows, seed))
    apart = model.splits.held_out
    held_out = None if apart is None else points(chosen(apart, MOST_HELD_OUT, seed))
    key = {"what": "linear distillation", "model": model.digest, "data": model.splits.train.fingerprint(), "seed": seed}
    key |= {"held-out": None if apart is None else apart.fingerprint(), "rows": rows, "images": "drawn, all fitted"}

    def at(sigma: float, number: int) -> Arrays:
        parts = 1 if held_out is not None else 2

        def fit(part: int, draws: int, test: Float[Tensor, "m c h w"] | None) -> LinearFit:
            def told(stage: str, done: int, total: int, _detail: str) -> None:
                detail = f"level {number + 1} of {len(sigmas)}"
                progress(stage, (number * parts + part) * total + done, len(sigmas) * parts * total, detail)

            made = LinearDenoiser.distill(
                model.denoiser, images, sigma, num_draws=draws, held_out=test, seed=seed, progress=told
            )
            return made.fits[0]

        tenth = max(1, len(images) // 10)
        whole = fit(0, even_draws(rows, len(images)), images[:tenth] if held_out is None else held_out)
        if held_out is not None:
            return _arrays(whole)
        # The map is made of all images, as the exact denoisers are; how well such a map holds is seen without a tenth.
        judged = fit(1, even_draws(rows, max(1, len(images) - tenth)), None)
        names = ("residual_rms", "r_squared", "interval", "num_held_out")
        return _arrays(replace(whole, held_out=SECOND_FIT, **{name: getattr(judged, name) for name in names}))

    fits = [
        _fit(kept.piece({**key, "sigma": sigma}, partial(at, sigma, number)), model.denoiser.device)
        for number, sigma in enumerate(sigmas)
    ]
    return LinearDenoiser(fits, model.denoiser.shape)


def _arrays(fit: LinearFit) -> Arrays:
    names = ("sigma", "ridge", "num_rows", "residual_rms", "estimation_rms", "r_squared", "num_held_out", "held_out")
    ends = np.array([] if fit.interval is None else fit.interval)
    return {
        **{name: np.array(getattr(fit, name)) for name in names},
        "weight": fit.weight.cpu().numpy(),
        "bias": fit.bias.cpu().numpy(),
        "interval": ends,
    }


def _fit(arrays: Arrays, device: torch.device) -> LinearFit:
    ends = arrays["interval"].tolist()
    return LinearFit(
        sigma=float(arrays["sigma"]),
        weight=torch.from_numpy(arrays["weight"]).to(device),
        bias=torch.from_numpy(arrays["bias"]).to(device),
        ridge=float(arrays["ridge"]),
        num_rows=int(arrays["num_rows"]),
        residual_rms=float(arrays["residual_rms"]),
        estimation_rms=float(arrays["estimation_rms"]),
        r_squared=float(arrays["r_squared"]),
        interval=(ends[0], ends[1]) if ends else None,
        num_held_out=int(arrays["num_held_out"]),
        held_out=str(arrays["held_out"]),
    )

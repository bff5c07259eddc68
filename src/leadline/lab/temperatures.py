"""Effective k of denoisers at one noise level: by the soft k-NN nearest to them, and the multi-delta denoiser's own."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from leadline.errors import NotMeasurable
from leadline.lab.evaluating import GAUSSIAN, MULTI_DELTA, TRAINED
from leadline.lab.summaries import mean_of
from leadline.models.denoiser import Denoiser
from leadline.records import Measurement
from leadline.theory.effective_k import TemperatureFit, fit_temperature
from leadline.theory.exact.softknn import soft_neighbors

BOOTSTRAP = "bootstrap over points"
EFFECTIVE, AVERAGED = "training images, exp(entropy)", "more training images averaged"


def temperatures(
    asked: Mapping[str, Denoiser],
    x: Float[Tensor, "n c h w"],
    sigma: float,
    training: Float[Tensor, "m c h w"],
    seed: int,
) -> list[Measurement]:
    """Effective k of the trained and the Gaussian denoiser by the soft k-NN nearest to them; the multi-delta's own."""
    found = []
    for name in (TRAINED, GAUSSIAN):
        if name not in asked:
            continue
        params = {"denoiser": name, "sigma": sigma}
        try:
            fit = fit_temperature(asked[name], x, sigma, training, seed=seed)
        except NotMeasurable as error:
            found.append(Measurement.not_measurable("effective_k", str(error), params=params))
            continue
        found += fitted(fit, **params)
    # One image that has all the weight has an entropy of rounding errors.
    own = soft_neighbors(x.flatten(1), training, 2 * sigma**2).effective_k.cpu().numpy().round(9)
    words: dict[str, Any] = {"unit": EFFECTIVE, "direction": AVERAGED, "floor": 1.0}
    found.append(mean_of("effective_k", own, **words, denoiser=MULTI_DELTA, sigma=sigma))
    return found


def fitted(fit: TemperatureFit, **params: Any) -> list[Measurement]:
    """effective_k, effective_k_r_squared and temperature_ratio (tau* / 2σ²) of a fit.

    params.bound says where k and the ratio are bounds: every lower (at most) or higher (at least) temperature fits as
    well. Where all do, they are not measurable.
    """
    shared: dict[str, Any] = {"level": fit.level, "method": BOOTSTRAP, "n": fit.num_points}
    explained = Measurement(
        name="effective_k_r_squared",
        value=fit.r_squared,
        lower=fit.r_squared_interval[0],
        upper=fit.r_squared_interval[1],
        unit="share of the denoiser's variance",
        direction="a soft k-NN explains more",
        params=params,
        **shared,
    )
    if fit.bound is not None:
        params = {**params, "bound": fit.bound}
    if fit.bound == "none":
        reason = "every temperature fits as well: no k is told from another"
        return [explained, Measurement.not_measurable("effective_k", reason, params=params)]
    scale = 2 * fit.sigma**2
    return [
        Measurement(
            name="effective_k",
            value=fit.effective_k,
            lower=fit.effective_k_interval[0],
            upper=fit.effective_k_interval[1],
            unit=EFFECTIVE,
            direction=AVERAGED,
            params=params,
            **shared,
        ),
        explained,
        Measurement(
            name="temperature_ratio",
            value=fit.tau_over_exact,
            lower=fit.tau_interval[0] / scale,
            upper=fit.tau_interval[1] / scale,
            unit="τ* / 2σ²",
            direction="smoother than the multi-delta denoiser",
            params=params,
            **shared,
        ),
    ]

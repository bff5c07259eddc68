"""Arrays per point -> Measurements: means with their intervals, lower bounds, and factors between blocks and depths."""

from typing import Any

import numpy as np
from jaxtyping import Float

from leadline.audit.intervals import mean_interval
from leadline.lab.keeping import Arrays
from leadline.lab.summaries import mean_of
from leadline.records import Measurement

JACOBIAN = {
    "jacobian_norm": "‖J‖₂ of J = ∂z/∂x; larger: z moves further for the same length of a step in x",
    "jacobian_norm_per_value": "‖J‖₂ √(d/m), root mean squares in place of lengths, for z of m and x of d values",
    "jacobian_gain": "‖J‖_F / √m: root mean square change of z's values for a unit one, in any direction, of x's",
    "relative_jacobian_gain": "jacobian_gain, with changes relative to the root mean squares of z's and x's values",
}
"""Lemma 1's norms, and what each says: the first is the paper's, the others control for the size and scale of z."""
LATENT = {
    "latent_gradient_norm": "‖(J⁺)ᵀ∇E‖, the energy's slope for a unit step in z",
    "latent_hessian_norm": "‖(J⁺)ᵀHJ⁺‖₂, the first term of the energy's curvature in z",
    "relative_latent_gradient_norm": "latent_gradient_norm times the root mean square of z's values",
    "relative_latent_hessian_norm": "latent_hessian_norm times the mean square of z's values",
}
"""Theorem 1 in z, and with the scale of z undone."""
ENERGY = {
    "scaled_hessian_norm": "σ²‖H‖₂, H the symmetric part of the energy's second derivative; smaller: smoother",
    "hessian_norm": "‖H‖₂, H the symmetric part of the energy's second derivative; smaller: smoother",
    "lowest_scaled_curvature": "lowest eigenvalue of σ²H; below 0: the energy is curved downwards somewhere",
    "highest_scaled_curvature": "highest eigenvalue of σ²H",
    "jacobian_asymmetry": "‖J − Jᵀ‖_F / ‖J + Jᵀ‖_F of J = ∂D/∂x; 0: the score is the gradient of an energy",
}
"""Theorem 1 in x, means over points."""
BOUNDS = {
    "scaled_gradient_lipschitz": "lower bound of σ² times the Lipschitz constant of ∇E; larger: rougher, for sure",
    "gradient_lipschitz": "lower bound of the Lipschitz constant of ∇E; larger: rougher, for sure",
}
"""Theorem 1 in x, the largest found."""
FACTOR = "Student t of the logarithm over images, paired"


def jacobian_values(found: Arrays, values: int) -> dict[str, Float[np.ndarray, "levels n"]]:
    """Each of JACOBIAN, from `encoder_arrays`; values: of an image."""
    size = found["size"][:, None]
    gain = found["frobenius"] / np.sqrt(size)
    return {
        "jacobian_norm": found["spectral"],
        "jacobian_norm_per_value": found["spectral"] * np.sqrt(values / size),
        "jacobian_gain": gain,
        "relative_jacobian_gain": gain * found["image"] / found["spread"],
    }


def latent_values(found: Arrays) -> dict[str, Float[np.ndarray, "levels n"]]:
    """Each of LATENT, from `latent_arrays`."""
    return {
        "latent_gradient_norm": found["gradient"],
        "latent_hessian_norm": found["hessian"],
        "relative_latent_gradient_norm": found["gradient"] * found["spread"],
        "relative_latent_hessian_norm": found["hessian"] * found["spread"] ** 2,
    }


def jacobian_measurements(found: Arrays, values: int, **params: Any) -> list[Measurement]:
    """Lemma 1's norms after each down block: means over the points, the largest beside them."""
    missed: list[dict[str, Any]] = [{"not converged": int(count)} for count in (~found["converged"]).sum(1)]
    return [
        mean_of(
            name,
            row,
            direction=JACOBIAN[name],
            floor=0.0,
            block=block,
            **params,
            size=int(found["size"][block - 1]),
            largest=float(row.max()),
            **missed[block - 1] if "norm" in name else {},
        )
        for name, rows in jacobian_values(found, values).items()
        for block, row in enumerate(rows, 1)
    ]


def energy_measurements(found: Arrays, sigma: float | int, **params: Any) -> list[Measurement]:
    """Curvature and asymmetry, means over the points, and the Lipschitz constant of the gradient, from below."""
    rows = {
        "scaled_hessian_norm": found["norm"],
        "hessian_norm": found["norm"] / sigma**2,
        "lowest_scaled_curvature": found["lowest"],
        "highest_scaled_curvature": found["highest"],
        "jacobian_asymmetry": found["asymmetry"],
    }
    params = {"sigma": sigma, **params}
    missed = {"not converged": int((~found["converged"]).sum())}
    beside: dict[str, dict[str, Any]] = {name: missed | {"largest": float(row.max())} for name, row in rows.items()}
    beside["lowest_scaled_curvature"] = missed | {"smallest": float(found["lowest"].min())}
    beside["jacobian_asymmetry"] = {"largest probe error": float(found["error"].max())}
    measured = [
        mean_of(
            name,
            row,
            direction=ENERGY[name],
            floor=None if "curvature" in name else 0.0,
            **params,
            **beside[name],
        )
        for name, row in rows.items()
    ]
    ways = {
        "pairs": float(found["pairs"]),
        "segments": float(found["segments"]),
        "Hessian": float(found["norm"].max()),
    }
    for name, factor in (("scaled_gradient_lipschitz", 1.0), ("gradient_lipschitz", sigma**-2)):
        scaled = {way: factor * value for way, value in ways.items()}
        measured.append(
            Measurement(
                name=name,
                value=max(scaled.values()),
                n=len(found["norm"]),
                direction=BOUNDS[name],
                params={**params, **scaled, "bound": "lower"},
            )
        )
    return measured


def latent_measurements(found: Arrays, **params: Any) -> list[Measurement]:
    """The energy in z after each down block, and in x as block 0: means over the points."""
    return [
        mean_of(
            name,
            row,
            direction=LATENT[name],
            floor=0.0,
            block=block,
            **params,
            size=int(found["size"][block]),
            rank=float(found["rank"][block].mean()),
            largest=float(row.max()),
        )
        for name, rows in latent_values(found).items()
        for block, row in enumerate(rows)
    ]


def factor_of(name: str, after: Float[np.ndarray, " n"], before: Float[np.ndarray, " n"], **params: Any) -> Measurement:
    """The geometric mean of after / before over the same points, with the Student interval of its logarithm.

    Below 1: it falls. Not measurable where a value is 0.
    """
    direction = "above 1: grows; below 1: falls"
    if not (after > 0).all() or not (before > 0).all():
        return Measurement.not_measurable(name, "a value is 0, and a factor of it has no meaning", params=params)
    logs = np.log(after) - np.log(before)
    ends = mean_interval(logs)
    return Measurement(
        name=name,
        value=float(np.exp(logs.mean())),
        lower=None if ends is None else float(np.exp(ends[0])),
        upper=None if ends is None else float(np.exp(ends[1])),
        level=None if ends is None else 0.95,
        method=None if ends is None else FACTOR,
        n=len(logs),
        direction=direction,
        params=params,
    )


def way(factor: Measurement) -> str:
    """falls, grows, not decided (the interval holds 1) or not measurable."""
    if factor.value is None:
        return "not measurable"
    if factor.lower is None or factor.upper is None or factor.lower <= 1 <= factor.upper:
        return "not decided"
    return "falls" if factor.upper < 1 else "grows"

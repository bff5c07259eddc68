"""The best affine imitation of any denoiser, level by level: least squares from streamed moments, no learning rate."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import t as student_t
from torch import Tensor

from leadline.errors import LeadlineError, NotMeasurable
from leadline.files import atomic_file
from leadline.models.denoiser import Denoiser, Sigma
from leadline.progress import ProgressCallback, silent
from leadline.rng import numpy_generator_for
from leadline.theory.exact.moments import Moments
from leadline.theory.exact.vectors import as_tensor
from leadline.theory.noise import unit_noise

ROWS_PER_VALUE = 4
"""Noisy images per value of an image that `distill` draws where it may choose."""
FEWEST_ROWS_PER_VALUE = 3
"""Fewer are refused: with as many rows as values a fit goes through every one of them, and each half of the rows, by
which the fit's own error is estimated, needs some more."""
HELD_OUT_ROWS = 1024
"""Each held-out image is drawn as often as it takes to have this many rows; where there are more images, once."""
SAME_LEVEL = 1e-5
"""Two noise levels whose ratio is nearer to 1 than this are one: float32 rounds a level by 6e-8."""

Images = Float[Tensor, "_n _c _h _w"] | Float[np.ndarray, "_n _c _h _w"]
Level = float | int


@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """D(x; sigma) ≈ W x + b at one noise level, with how well it holds on images that the fit has not seen.

    weight: [d, d]; bias: [d]. ridge: relative to sigma². num_rows: noisy images that the fit saw. residual_rms: of
    W x + b - D per value of an image, over the held-out rows.
    estimation_rms: RMS per value by which W x + b is off the map that ever more rows would lead to, over the held-out
    rows, in the scale of the images: a difference to another denoiser that is no larger may be the fit's own. Estimated
    from the maps of two halves of the rows, each with half of every image's draws. Of a single draw, or an odd number,
    the halves differ in their images too, and the error holds what other images would change: it is then above that of
    the noise alone.
    r_squared: 1 - sum |W x + b - D|² / sum |D - mean|² over the held-out rows, the mean that of the fit's rows; 1 at
    best, below 0 where the mean alone is nearer; nan where D does not vary. interval: its 95 % interval over
    held-out images (ratio estimate linearised, Student t), None with fewer than two. held_out: which images these were.
    """

    sigma: float
    weight: Float[Tensor, "d d"]
    bias: Float[Tensor, " d"]
    ridge: float
    num_rows: int
    residual_rms: float
    estimation_rms: float
    r_squared: float
    interval: tuple[float, float] | None
    num_held_out: int
    held_out: str


class LinearDenoiser(Denoiser):
    """P2 Eq. 5: D_L(x; sigma) = W x + b, affine at every noise level that it was distilled at.

    sigmas: those levels, ascending. At another level it raises NotMeasurable, so that no measure takes a guess for a
    fit; with `interpolate` W and b between two levels are those of the two, weighted by log sigma: for samplers.
    """

    def __init__(self, fits: Sequence[LinearFit], shape: tuple[int, int, int], *, interpolate: bool = False) -> None:
        if not fits:
            raise LeadlineError("a linear denoiser needs the fit of at least one noise level")
        self.fits = tuple(sorted(fits, key=lambda fit: fit.sigma))
        for fit in self.fits:
            values = math.prod(shape)
            if fit.bias.shape != (values,) or fit.weight.shape != (values, values):
                raise LeadlineError(
                    f"an affine map of images of {shape} has a weight of {values} × {values} and as many offsets, not "
                    f"{list(fit.weight.shape)} and {list(fit.bias.shape)}"
                )
            if not (fit.weight.isfinite().all() and fit.bias.isfinite().all()):
                raise LeadlineError(f"the affine map of sigma = {fit.sigma:g} holds values that are not finite")
        self.shape = shape
        self.interpolate = interpolate
        self.device = self.fits[0].weight.device
        self.sigmas = torch.tensor([fit.sigma for fit in self.fits], dtype=torch.float64)

    @classmethod
    def distill(
        cls,
        denoiser: Denoiser,
        images: Images,
        sigma: Level | Sequence[Level],
        *,
        ridge: Level = 1e-6,
        num_draws: int | None = None,
        held_out: Images | None = None,
        seed: int = 0,
        batch_size: int = 256,
        interpolate: bool = False,
        progress: ProgressCallback = silent,
    ) -> "LinearDenoiser":
        """P2 Eq. 5: the W, b that minimise E |W x + b - D(x; sigma)|² over x = y + sigma * noise, y the images.

        Our reading: the normal equations instead of gradient descent, so there is no learning rate and no stopping:
        centred second moments of each half of the rows summed batch by batch in float64 (memory: eight d × d matrices,
        whatever the number of rows), a Cholesky factorisation of their sum, and one of each for the fit's own error.

        images: [n, c, h, w] in [-1, 1]. sigma: one level or several, such as a sampler's own grid without its last 0.
        ridge: added to the diagonal of x's covariance, relative to sigma², the least variance that any direction has:
        what W does in a direction of variance v is multiplied by v / (v + ridge sigma²), at the least by about
        1 - ridge. The default guards against rounding only.
        num_draws: noises per image; default: enough for ROWS_PER_VALUE rows per value of an image, one or even.
        held_out: images for R²; without them a tenth of `images`, drawn by the seed, is held back from the fit.
        A row's noise is the same at every level. W and b are kept in the images' type.
        Raises LeadlineError for too few rows; what the denoiser raises at a level outside its range.
        """
        levels = _levels(sigma)
        if not (math.isfinite(ridge) and ridge >= 0):
            raise LeadlineError(f"ridge must be 0 or more, relative to sigma², not {ridge}")
        given = as_tensor(images)
        if tuple(given.shape[1:]) != denoiser.shape:
            raise LeadlineError(f"the denoiser takes images of {denoiser.shape}, not of {tuple(given.shape[1:])}")
        fitted, tested, which = _split(given, None if held_out is None else as_tensor(held_out), seed)
        draws = _draws(len(fitted), math.prod(denoiser.shape), num_draws)
        with torch.no_grad():
            # A level outside the denoiser's range is found before the first of the others is fitted.
            for level in levels:
                denoiser(fitted[:1].to(denoiser.device), level)
            fits = []
            for number, level in enumerate(levels):
                seen = _Rows(denoiser, fitted, level, draws, seed, "distillation", batch_size)
                new = _Rows(denoiser, tested, level, -(-HELD_OUT_ROWS // len(tested)), seed, "held-out", batch_size)
                fits.append(_fit(seen, new, ridge, which, progress, (number, len(levels))))
        return cls(fits, denoiser.shape, interpolate=interpolate)

    def __call__(self, x: Float[Tensor, "n c h w"], sigma: Sigma) -> Float[Tensor, "n c h w"]:
        flat = x.flatten(1)
        asked = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").expand(len(x))
        order, parts = [torch.empty(0, dtype=torch.int64)], [flat[:0]]
        for level in torch.unique(asked).tolist():
            order.append((asked == level).nonzero()[:, 0])
            chosen = flat[order[-1].to(flat.device)]
            parts.append(sum((share * _affine(fit, chosen) for fit, share in self._shares(level)), flat.new_zeros(())))
        return torch.cat(parts)[torch.cat(order).argsort().to(flat.device)].reshape(x.shape)

    def weight(self, sigma: Level) -> Float[Tensor, "d d"]:
        """P2 Eq. 5: W at sigma."""
        return torch.stack([share * fit.weight for fit, share in self._shares(sigma)]).sum(0)

    def bias(self, sigma: Level) -> Float[Tensor, " d"]:
        """P2 Eq. 5: b at sigma."""
        return torch.stack([share * fit.bias for fit, share in self._shares(sigma)]).sum(0)

    @property
    def r_squared(self) -> tuple[float, ...]:
        """Held-out R² of each level of `sigmas`."""
        return tuple(fit.r_squared for fit in self.fits)

    def _shares(self, sigma: Level) -> list[tuple[LinearFit, float]]:
        """The fits that make up the map at sigma, with their shares: one, or the two levels around it."""
        nearest = min(self.fits, key=lambda fit: abs(math.log(fit.sigma / sigma)) if sigma > 0 else math.inf)
        if sigma > 0 and abs(math.log(nearest.sigma / sigma)) < SAME_LEVEL:
            return [(nearest, 1.0)]
        lower = [fit for fit in self.fits if fit.sigma < sigma]
        upper = [fit for fit in self.fits if fit.sigma > sigma]
        if not (self.interpolate and lower and upper):
            known = ", ".join(f"{fit.sigma:g}" for fit in self.fits)
            raise NotMeasurable(
                f"the linear denoiser was distilled at sigma = {known}, not at {sigma:g}: distil it there"
                + ("" if self.interpolate or not (lower and upper) else ", or allow levels between with interpolate")
            )
        low, high = lower[-1], upper[0]
        share = math.log(sigma / low.sigma) / math.log(high.sigma / low.sigma)
        return [(low, 1 - share), (high, share)]

    def save(self, path: Path) -> None:
        """Write all levels as one safetensors file."""
        tensors, facts = {}, []
        for number, fit in enumerate(self.fits):
            tensors[f"weight.{number}"], tensors[f"bias.{number}"] = fit.weight.contiguous(), fit.bias.contiguous()
            facts.append({k: v for k, v in asdict(fit).items() if k not in ("weight", "bias")})
        kept = {"shape": list(self.shape), "interpolate": self.interpolate, "fits": facts}
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, metadata={"linear_denoiser": json.dumps(kept)})

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "LinearDenoiser":
        """What `save` wrote. Raises LeadlineError where the file is something else."""
        try:
            with safe_open(path, framework="pt", device=str(device)) as opened:
                kept = json.loads((opened.metadata() or {})["linear_denoiser"])
                fits = [
                    LinearFit(
                        **{**facts, "interval": facts["interval"] and tuple(facts["interval"])},
                        weight=opened.get_tensor(f"weight.{number}"),
                        bias=opened.get_tensor(f"bias.{number}"),
                    )
                    for number, facts in enumerate(kept["fits"])
                ]
                channels, height, width = kept["shape"]
                return cls(fits, (channels, height, width), interpolate=kept["interpolate"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise LeadlineError(f"{path} holds no linear denoiser: distil it again ({error})") from error


@dataclass(frozen=True)
class _Rows:
    """Noisy images of one level and what the denoiser makes of them, batch by batch."""

    denoiser: Denoiser
    images: Float[Tensor, "n c h w"]
    sigma: float
    num_draws: int
    seed: int
    purpose: str
    batch_size: int

    def __len__(self) -> int:
        return self.num_draws * len(self.images)

    def batches(self) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, "b d"], Float[Tensor, "b d"]]]:
        """(rows, x, D(x; sigma)): row r is image r mod n under the r-th noise."""
        for start in range(0, len(self), self.batch_size):
            rows = torch.arange(start, min(start + self.batch_size, len(self)))
            clean = self.images[(rows % len(self.images)).to(self.images.device)]
            noise = unit_noise(clean, self.seed, purpose=self.purpose, first=start)
            x = (clean + self.sigma * noise).to(self.denoiser.device)
            made = self.denoiser(x, self.sigma)
            if not made.isfinite().all():
                raise NotMeasurable(f"the denoiser's output at sigma = {self.sigma:g} is not finite")
            yield rows.to(x.device), x.flatten(1), made.flatten(1)


def _fit(
    seen: _Rows, new: _Rows, ridge: Level, which: str, progress: ProgressCallback, place: tuple[int, int]
) -> LinearFit:
    total = len(seen) + len(new)
    offset = place[0] * total
    detail = f"level {place[0] + 1} of {place[1]}"
    centre = seen.images.mean(0).flatten().to(seen.denoiser.device)
    halves, done = (Moments(centre), Moments(centre)), 0
    for rows, x, made in seen.batches():
        # A checkerboard of images and draws: an image has as many draws in one half as in the other, or one more.
        first = (rows % len(seen.images) + rows // len(seen.images)) % 2 == 0
        for half, chosen in zip(halves, (first, ~first), strict=True):
            half.add(x[chosen], made[chosen])
        progress("distilling", offset + (done := done + len(x)), place[1] * total, detail)
    whole, diagonal = halves[0] + halves[1], ridge * seen.sigma**2
    constant = whole.target_mean
    weight, bias = whole.solve(diagonal)
    del whole
    (one, one_bias), (other, other_bias) = (half.solve(diagonal) for half in halves)
    gap, gap_bias = one - other, one_bias - other_bias
    residual = torch.zeros(len(new.images), dtype=torch.float64, device=constant.device)
    spread, gaps = torch.zeros_like(residual), torch.zeros_like(residual)
    for rows, x, made in new.batches():
        images, wide, target = rows % len(new.images), x.double(), made.double()
        residual.index_add_(0, images, (wide @ weight.T + bias - target).square().sum(1))
        spread.index_add_(0, images, (target - constant).square().sum(1))
        gaps.index_add_(0, images, (wide @ gap.T + gap_bias).square().sum(1))
        progress("distilling", offset + (done := done + len(x)), place[1] * total, detail)
    value, interval = _r_squared(residual, spread)
    return LinearFit(
        sigma=seen.sigma,
        weight=weight.to(seen.images.dtype),
        bias=bias.to(seen.images.dtype),
        ridge=float(ridge),
        num_rows=len(seen),
        residual_rms=math.sqrt(float(residual.sum()) / (len(new) * len(bias))),
        estimation_rms=math.sqrt(_of_whole(len(seen), len(bias)) * float(gaps.sum()) / (len(new) * len(bias))),
        r_squared=value,
        interval=interval,
        num_held_out=len(new.images),
        held_out=which,
    )


def _of_whole(num_rows: int, num_values: int) -> float:
    """The squared error of a fit to all rows, in squared differences between the fits to two halves of them.

    A difference is two independent errors of a half, and the error of least squares on m rows of p coefficients falls
    as 1 / (m - p) (normal x): a quarter for many rows, less where they are few.
    """
    coefficients = num_values + 1
    return max(num_rows / 2 - coefficients, 0.5) / (2 * (num_rows - coefficients))


def _r_squared(
    residual: Float[Tensor, " n"], spread: Float[Tensor, " n"], level: float = 0.95
) -> tuple[float, tuple[float, float] | None]:
    """1 - sum residual / sum spread, with the interval of a ratio of means over n images."""
    total = float(spread.sum())
    if total == 0:
        return math.nan, None
    n, ratio = len(spread), float(residual.sum()) / total
    if n < 2:
        return 1 - ratio, None
    error = float((residual - ratio * spread).std()) * math.sqrt(n) / total
    half = float(student_t.ppf((1 + level) / 2, n - 1)) * error
    return 1 - ratio, (1 - ratio - half, 1 - ratio + half)


def _affine(fit: LinearFit, flat: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return (flat.to(fit.weight.dtype) @ fit.weight.T + fit.bias).to(flat.dtype)


def _levels(sigma: Level | Sequence[Level]) -> list[float]:
    levels = [float(sigma)] if isinstance(sigma, int | float) else [float(level) for level in sigma]
    if not levels or any(not (math.isfinite(level) and level > 0) for level in levels):
        raise LeadlineError(
            f"distillation needs noise levels above 0, not {levels}: leave out the last level of a sampler's grid, 0"
        )
    ascending = sorted(levels)
    for low, high in pairwise(ascending):
        if math.log(high / low) < SAME_LEVEL:
            raise LeadlineError(f"the noise level {low:g} is given twice")
    return ascending


def _split(images: Tensor, held_out: Tensor | None, seed: int) -> tuple[Tensor, Tensor, str]:
    """(images to fit, images to test on, which the latter are)."""
    if held_out is not None:
        if held_out.shape[1:] != images.shape[1:] or len(held_out) == 0:
            raise LeadlineError(
                f"held_out needs at least one image of {tuple(images.shape[1:])}, {tuple(held_out.shape)} given"
            )
        return images, held_out.to(images), "images given for it"
    if len(images) < 2:
        raise LeadlineError(f"distillation needs two images or more, one of them held back: {len(images)} given")
    order = numpy_generator_for(seed, "distillation-held-out").permutation(len(images))
    back = max(1, len(images) // 10)
    kept, apart = np.sort(order[back:]), np.sort(order[:back])
    return images[torch.from_numpy(kept)], images[torch.from_numpy(apart)], "a tenth of the images, held back"


def even_draws(num_rows: int, num_images: int) -> int:
    """Noises per image for that many rows at least: one, or an even number, whose halves have the same images."""
    draws = max(1, -(-num_rows // num_images))
    return draws if draws == 1 else draws + draws % 2


def _draws(num_images: int, num_values: int, num_draws: int | None) -> int:
    draws = even_draws(ROWS_PER_VALUE * num_values, num_images) if num_draws is None else num_draws
    least = -(-FEWEST_ROWS_PER_VALUE * num_values // num_images)
    if draws < least:
        raise LeadlineError(
            f"{num_images:,} images drawn {draws} times give {num_images * draws:,} rows for {num_values:,} values per "
            f"image, {FEWEST_ROWS_PER_VALUE * num_values:,} are needed: num_draws={least} or more"
        )
    return draws

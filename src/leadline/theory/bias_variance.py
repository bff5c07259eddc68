"""P1 Eq. 4, 5: bias and variance of the class that is generated, the variance split into noise and training run."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from leadline.errors import LeadlineError
from leadline.rng import numpy_generator_for
from leadline.theory.exact.softknn import soft_neighbors
from leadline.theory.exact.vectors import Reference
from leadline.theory.noise import noisy

Classify = Callable[[Float[Tensor, "n c h w"], float], Int[np.ndarray, " n"]]
"""(x_σ, σ) -> the classes f̂ of what one training run makes of noisy images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasVariance:
    """Bias and variance per image; their means over images are Eq. 4 and 5, and estimate without bias.

    bias [n, classes]: E f̂ - f, from -1 to 1, its sum 0. squared_bias [n]: its squared norm, less what chance adds to
    it. noise [n]: variance between noise draws within a training run. training [n]: variance between training runs of
    their means; None where there is one run. Every part is from 0 to 1 in expectation; single values may fall below 0.
    """

    bias: Float[np.ndarray, "n classes"]
    squared_bias: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]
    training: Float[np.ndarray, " n"] | None

    @property
    def variance(self) -> Float[np.ndarray, " n"] | None:
        """Eq. 5: E‖f̂ - E f̂‖², the sum of its parts; None where one of them is not known."""
        return None if self.training is None else self.noise + self.training


def bias_variance(
    generated: Int[np.ndarray, "n runs draws"], encoded: Int[np.ndarray, " n"], num_classes: int
) -> BiasVariance:
    """P1 Eq. 4, 5: E f̂ - f and E‖f̂ - E f̂‖² with f, f̂ one-hot (our reading), over noise draws and training runs.

    generated: class of what was made from image i by training run r and noise draw k; encoded: the image's own class;
    both from 0 to num_classes - 1. By the law of total variance E‖f̂ - E f̂‖² = E_r E_k‖f̂ - E_k f̂‖² + E_r‖E_k f̂ - E f̂‖²:
    noise within a run, and the runs apart. Estimated by the mean squares of the two-way layout, E[MS]: without bias at
    few draws and runs, whether a draw is one noise for all runs or a new one for each.

    Of one run the bias is that of this run, and training None. Raises LeadlineError on fewer than two draws, and on
    classes out of range.
    """
    n, runs, draws = generated.shape
    if draws < 2:
        raise LeadlineError(f"the noise's part of the variance needs two draws or more, not {draws} (--draws)")
    if n == 0 or runs == 0:
        raise LeadlineError(f"one image and one training run or more are needed, not {n} and {runs}")
    for name, classes in (("generated", generated), ("encoded", encoded)):
        if classes.min() < 0 or classes.max() >= num_classes:
            raise LeadlineError(
                f"classes of {name} images run from {classes.min()} to {classes.max()}, but there are {num_classes}"
            )
    one_hot = np.eye(num_classes)
    votes = one_hot[generated]
    by_run, by_draw, mean = votes.mean(2), votes.mean(1), votes.mean((1, 2))
    within = _squares(votes - by_run[:, :, None]) / (runs * (draws - 1))
    bias = mean - one_hot[encoded]
    norm = (bias**2).sum(1)
    if runs == 1:
        return BiasVariance(bias=bias, squared_bias=norm - within / draws, noise=within, training=None)
    of_runs = draws * _squares(by_run - mean[:, None]) / (runs - 1)
    of_draws = runs * _squares(by_draw - mean[:, None]) / (draws - 1)
    left = votes - by_run[:, :, None] - by_draw[:, None] + mean[:, None, None]
    residual = _squares(left) / ((runs - 1) * (draws - 1))
    chance = (of_runs + of_draws - residual) / (runs * draws)
    return BiasVariance(bias=bias, squared_bias=norm - chance, noise=within, training=(of_runs - residual) / draws)


def generated_classes(
    classify: Classify,
    images: Float[Tensor, "n c h w"],
    sigma: float,
    *,
    draws: int,
    seed: int,
    batch_size: int = 256,
    after_draw: Callable[[int], None] | None = None,
) -> Int[np.ndarray, "n draws"]:
    """P1 Eq. 4: the class f̂ of what is generated from x_σ = x + σε, for each image and each of `draws` noises ε.

    classify is asked for batch_size images at a time. The noise of an image and a draw is the same for every σ and
    every run. after_draw: told how many draws are done.
    """
    found = []
    for draw in range(draws):
        x = noisy(images, sigma, seed, draw, "bias-variance")
        found.append(np.concatenate([classify(part, sigma) for part in torch.split(x, batch_size)]))
        if after_draw is not None:
            after_draw(draw + 1)
    return np.stack(found, axis=1)


def soft_knn_classes(reference: Reference) -> Classify:
    """P1 Eq. 2: the class with most of the votes Σ w_i y_i at τ = 2σ²; of equal votes the first class.

    reference: the training images with their labels.
    """

    def classify(x: Float[Tensor, "n c h w"], sigma: float) -> Int[np.ndarray, " n"]:
        votes = soft_neighbors(x.flatten(1), reference, 2 * sigma**2, num_nearest=0).class_weights
        if votes is None:
            raise LeadlineError("soft k-NN votes by the labels of the training images: give a Reference with labels")
        found: np.ndarray = votes.argmax(1).cpu().numpy()
        return found

    return classify


def bootstrap(num: int, run: int, seed: int) -> Int[np.ndarray, " num"]:
    """Training set number `run` of a data set of that size: as many of its images, drawn with replacement."""
    drawn: np.ndarray = numpy_generator_for(seed, "bias-variance training set", run).integers(num, size=num)
    return np.sort(drawn)


def _squares(deviations: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, " n"]:
    """Sum of squares over all but images."""
    total: np.ndarray = (deviations**2).reshape(len(deviations), -1).sum(1)
    return total

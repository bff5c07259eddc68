"""Training runs as the unit: the share that models of one recipe make, with the spread between runs in its interval.

A run's images say how this one model samples. Another training seed gives another model, and no number of images of
the first shows how far apart the two are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student_t

from leadline.audit.intervals import Interval, clopper_pearson
from leadline.errors import LeadlineError, NotMeasurable

ONE_RUN = (
    "one training run: its interval says how this model samples, not what other training runs give; train more that "
    "differ in their training seed only (leadline sweep --seeds 0,1,2)"
)
METHOD = "random effects: Paule-Mandel, Hartung-Knapp with factor 1 or more, Student t over training runs"
EXACT = "; no narrower than Clopper-Pearson of all images together"
CORRECTED = "; of corrected shares, plus the variance of the correction, common to all runs"


@dataclass(frozen=True, kw_only=True)
class BetweenRuns:
    """The mean share over training runs of one recipe, with what its interval is made of.

    lower, upper: interval of the mean at `level`; prediction: where one more run's measured share lies, of as many
    images and at the same level. tau2: variance of the share between runs, with its interval, None where the runs are
    more alike than sampling lets them be. sampling: variance of one run's share from its own images, mean over runs;
    shared: variance of an error that all runs have in common. i2: tau2 / (tau2 + sampling). classifier: variance of the
    correction for its error, common to all runs beside `shared`, None where nothing was corrected.
    """

    value: float
    lower: float
    upper: float
    level: float
    runs: int
    tau2: float
    tau2_interval: Interval | None
    sampling: float
    shared: float
    i2: float
    prediction: Interval
    method: str
    classifier: float | None = None


def between_runs(counts: Sequence[int], ns: Sequence[int], level: float = 0.95, *, shared: float = 0.0) -> BetweenRuns:
    """Paule and Mandel (1982), Hartung and Knapp (2001): the mean share of k training runs, by random effects.

    counts: images of the class, of each run; ns: all its images. Runs have the variance pooled within runs,
    Σ n q (1 - q) / Σ (n - 1), over their own n: with a variance from each run's own share the runs with small shares
    would weigh more. With equal n the interval is Student's t of the runs' shares, where they differ by more than
    sampling. It is never inside Clopper and Pearson's interval of all images together, so that runs without one image
    of the class have an interval too. On the scale of shares, not of log-odds: the mean of shares is what
    "models of this recipe make" says, and a count of 0 needs no correction.

    shared: variance of the sampling error that all runs have in common (`shared_noise`), a part of each run's variance.
    Returns shares in [0, 1]. Raises NotMeasurable for one run, LeadlineError for counts that are none.
    """
    if len(counts) != len(ns):
        raise LeadlineError(f"every run needs its count and its number of images: {len(counts)} counts, {len(ns)} n")
    if any(n < 1 or not 0 <= count <= n for count, n in zip(counts, ns, strict=True)):
        raise LeadlineError(f"counts must lie between 0 and n, n of 1 or more: counts {list(counts)}, n {list(ns)}")
    sizes = np.asarray(ns, dtype=np.float64)
    shares = np.asarray(counts, dtype=np.float64) / sizes
    within = float((sizes * shares * (1 - shares)).sum() / max(1.0, float((sizes - 1).sum())))
    found = random_effects(shares, np.maximum(within / sizes - shared, 0.0), level, shared=shared)
    exact = clopper_pearson(sum(counts), sum(ns), level)
    return BetweenRuns(
        **{
            **vars(found),
            "lower": max(0.0, min(found.lower, exact[0])),
            "upper": min(1.0, max(found.upper, exact[1])),
            "tau2_interval": _capped(found.tau2_interval, found.value),
            "prediction": (
                max(0.0, min(found.prediction[0], exact[0])),
                min(1.0, max(found.prediction[1], exact[1])),
            ),
            "method": found.method + EXACT,
        }
    )


def corrected_between_runs(
    raw: BetweenRuns,
    ns: Sequence[int],
    values: Float[np.ndarray, " k"],
    variances: Float[np.ndarray, " k"],
    classifier: float,
) -> BetweenRuns:
    """Rogan and Gladen (1978) in each of k runs: the mean of their corrected shares, at the level of `raw`.

    raw: `between_runs` of the shares as labelled, n images each. values, variances: the corrected shares with their
    whole variances, which hold that of sampling, amplified by the correction (for two classes by
    1 / (Se + Sp - 1)²), and `classifier`, that of the labelled images that sensitivity and specificity come from. Those
    images are the same for all runs, so that `classifier` is no part of how far the runs lie apart, and stays whatever
    their number is; the noise that the runs share is amplified as sampling is. All is on the scale of corrected shares.
    Raises LeadlineError on variances below 0.
    """
    if not classifier >= 0:
        raise LeadlineError(f"the classifier's variance must be 0 or more, not {classifier}")
    sizes = np.asarray(ns, dtype=np.float64)
    as_labelled = raw.sampling + raw.shared
    # `classifier` is known at one mix of classes alone: a correction makes the error of sampling no smaller.
    pooled = max(float(((variances - classifier) * sizes).mean()), as_labelled / float((1 / sizes).mean()))
    sampling = pooled / sizes
    noise = raw.shared * float(sampling.mean()) / as_labelled if as_labelled else 0.0
    found = random_effects(values, np.maximum(sampling - noise, 0.0), raw.level, shared=noise + classifier)
    return replace(
        found,
        lower=max(0.0, found.lower),
        upper=min(1.0, found.upper),
        tau2_interval=_capped(found.tau2_interval, found.value),
        prediction=(max(0.0, found.prediction[0]), min(1.0, found.prediction[1])),
        shared=noise,
        classifier=classifier,
        method=found.method + CORRECTED,
    )


def random_effects(
    values: Float[np.ndarray, " k"], variances: Float[np.ndarray, " k"], level: float = 0.95, *, shared: float = 0.0
) -> BetweenRuns:
    """DerSimonian and Kacker (2007), Eq. 8, Röver, Knapp and Friede (2015): mean of k values that differ by more than
    their variances.

    Values y with sampling variances v of their own (0 or more) and weights w = 1 / (v + tau2): the mean is Σwy / Σw,
    its variance 1 / Σw times the factor max(1, Q / (k - 1)), Q = Σ w (y - mean)², its interval Student's with k - 1
    degrees. Paule and Mandel's tau2 makes Q = k - 1: the factor is below 1, and held at 1, exactly where tau2 = 0.
    Without that hold runs that happen to be alike would have a narrower interval than their images alone.
    shared: variance of an error common to all values; it stays whatever k is: half² = (t s)² + (z √shared)².
    Raises NotMeasurable for one value.
    """
    k = len(values)
    if k == 0 or len(variances) != k:
        raise LeadlineError(f"every run needs a value and its variance: {k} values, {len(variances)} variances")
    if k == 1:
        raise NotMeasurable(ONE_RUN)
    if not (np.isfinite(values).all() and (variances >= 0).all() and 0 <= shared < math.inf):
        raise LeadlineError("values must be finite and variances 0 or more")
    if not 0 < level < 1:
        raise LeadlineError(f"level must lie between 0 and 1 (audit.level, 0.95 by default), not {level}")
    tau2 = _tau2_at(values, variances, float(k - 1))
    mean, variance = _weighted(values, variances, tau2)
    t, z = float(student_t.ppf((1 + level) / 2, k - 1)), float(norm.ppf((1 + level) / 2))
    half = math.hypot(t * math.sqrt(variance), z * math.sqrt(shared))
    sampling = float(variances.mean())
    # One more run's value has the shared error that these have: it is no part of how far they lie apart.
    reach = t * math.sqrt(variance + tau2 + sampling)
    return BetweenRuns(
        value=mean,
        lower=mean - half,
        upper=mean + half,
        level=level,
        runs=k,
        tau2=tau2,
        tau2_interval=tau2_interval(values, variances, level),
        sampling=sampling,
        shared=shared,
        i2=tau2 / (tau2 + sampling) if tau2 else 0.0,
        prediction=(mean - reach, mean + reach),
        method=METHOD,
    )


def tau2_interval(
    values: Float[np.ndarray, " k"], variances: Float[np.ndarray, " k"], level: float = 0.95
) -> Interval | None:
    """Viechtbauer (2007), Eq. 9, Q-profile interval of the variance between runs: all tau2 with Q(tau2) between the
    quantiles of χ² with k - 1 degrees; exact for normal values with known variances, whatever k.

    None where no tau2 fits: the runs are more alike than their sampling variances let them be.
    """
    k = len(values)
    low, high = (float(chi2.ppf(tail, k - 1)) for tail in ((1 - level) / 2, (1 + level) / 2))
    if _q(values, variances, 0.0) < low:
        return None
    return _tau2_at(values, variances, high), _tau2_at(values, variances, low)


def shared_noise(of_class: Bool[np.ndarray, "runs images"], recognised: Bool[np.ndarray, "runs images"]) -> float:
    """Variance of the error that runs have in common because image i of each starts from the same noise.

    The share of run r among its recognised images is linearised, z = (y - q) recognised / mean recognised, and the
    result is the mean covariance of two runs' z over the images, over their number; 0 where it comes out below.
    of_class, recognised: in run r, image i; at least two runs and two images, recognised ones in each run.
    """
    runs, images = (int(size) for size in of_class.shape)
    sizes = recognised.sum(axis=1)
    if runs < 2 or images < 2 or not sizes.all():
        raise LeadlineError(f"two runs with recognised images are needed: {runs} runs of {images} images given")
    counted = of_class & recognised
    shares = counted.sum(axis=1) / sizes
    z = (counted - shares[:, None]) * recognised * (images / sizes)[:, None]
    total = z.sum(axis=0)
    products = float((total**2).sum()) - float((z**2).sum())
    return max(0.0, products / (runs * (runs - 1)) / (images - 1) / images)


@dataclass(frozen=True, kw_only=True)
class VarianceSplit:
    """Where the variance of a measured share comes from, of one run and of the mean of all.

    training_run: tau2; sampling: of one run's own images; shared: of the noise that all runs start from;
    classifier: of the correction for its error, common to all runs, None where none was measured.
    """

    runs: int
    training_run: float
    sampling: float
    shared: float
    classifier: float | None

    def parts(self, runs: int = 1, images: float = 1.0) -> dict[str, float]:
        """Variance of the mean of so many runs, by part, each with `images` times the images it has."""
        return {
            "training run": self.training_run / runs,
            "own images": self.sampling / runs / images,
            "common noise": self.shared / images,
            "classifier": self.classifier or 0.0,
        }

    def narrowing(self, *, runs: int = 1, images: float = 1.0) -> float:
        """Standard error of the mean with `runs` times the runs, `images` times the images, over what it is now."""
        now = math.fsum(self.parts(self.runs).values())
        return math.sqrt(math.fsum(self.parts(self.runs * runs, images).values()) / now) if now else 1.0


def variance_split(between: BetweenRuns) -> VarianceSplit:
    """Var(share of one run) = tau2 + sampling + shared + classifier (law of total variance), all on one scale."""
    return VarianceSplit(
        runs=between.runs,
        training_run=between.tau2,
        sampling=between.sampling,
        shared=between.shared,
        classifier=between.classifier,
    )


def _weighted(values: Float[np.ndarray, " k"], variances: Float[np.ndarray, " k"], tau2: float) -> tuple[float, float]:
    """Mean and its variance, of weights 1 / (v + tau2); values that are known exactly and do not differ weigh alike."""
    spread = variances + tau2
    if not spread.all():
        exact = values[spread == 0]
        return float(exact.mean()), 0.0
    weights = 1 / spread
    return float((weights * values).sum() / weights.sum()), float(1 / weights.sum())


def _q(values: Float[np.ndarray, " k"], variances: Float[np.ndarray, " k"], tau2: float) -> float:
    """Cochran's generalised Q at tau2: Σ w (y - mean)², infinite where values without any variance differ."""
    spread = variances + tau2
    if not spread.all():
        return math.inf if np.ptp(values) else 0.0
    mean, _ = _weighted(values, variances, tau2)
    return float(((values - mean) ** 2 / spread).sum())


def _tau2_at(values: Float[np.ndarray, " k"], variances: Float[np.ndarray, " k"], q: float) -> float:
    """The tau2 at which the generalised Q, which falls in it, is q; 0 where Q is below already there."""
    if _q(values, variances, 0.0) <= q:
        return 0.0
    # The weighted mean minimises Q, so that Q is at most Σ (y - plain mean)² / tau2.
    above = float(((values - values.mean()) ** 2).sum()) / q
    if not variances.any():
        return above
    return float(brentq(lambda tau2: _q(values, variances, tau2) - q, 0.0, above, xtol=1e-15 * above, rtol=1e-14))


def _capped(interval: Interval | None, mean: float) -> Interval | None:
    """A share in [0, 1] with that mean has a variance of at most mean (1 - mean)."""
    if interval is None:
        return None
    most = mean * (1 - mean)
    return min(interval[0], most), min(interval[1], most)

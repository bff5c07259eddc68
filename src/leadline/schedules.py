"""Strength of a steering method as a function of the noise level: constant, ramp, window, bump, their product and sum.

A schedule knows no step index: the same one means the same under any sampler, number of steps, and in image-to-image.
Nothing here imports torch; a schedule takes a number, a NumPy array or a tensor of noise levels, and answers in kind.
"""

import ast
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from leadline.errors import LeadlineError, did_you_mean

Number = float | int

SIGMA_MAX, SIGMA_MIN = 10.0, 0.1
"""Between these a ramp and a bump change unless told otherwise: most of what can be seen is decided there."""

MAX_TEXT, MAX_PARTS = 4000, 32
"""Longer texts, and texts of more schedules, are refused: nobody writes them, and they would exhaust the stack."""


class Schedule(ABC):
    """A strength in [0, 1] for every noise level sigma = sqrt((1 - abar) / abar); log-SNR is -2 ln sigma.

    `a & b` is the product, `a + b` the sum, `0.5 * a` a scaled schedule; a number stands for a constant on either side.
    As ever in Python + binds before &: write `(a & b) + c`. str() gives text that `parse` reads.
    """

    # A NumPy number on the left leaves the operation to the schedule.
    __array_ufunc__ = None

    def __call__(self, sigma: Any) -> Any:
        """Strength at sigma >= 0 (infinity allowed): a float for a number, else of sigma's shape, kind and device.

        Not checked: `strengths` finds what is outside [0, 1].
        """
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(sigma, torch.Tensor):
            return self._at(torch, sigma if sigma.is_floating_point() else sigma.double())
        if isinstance(sigma, Real):
            return float(self._at(np, np.float64(sigma)))
        return self._at(np, np.asarray(sigma, dtype=np.float64))

    @property
    def bound(self) -> float:
        """What no strength of the schedule passes; 0 only where it is 0 at every noise level by its own numbers."""
        return 1.0

    @abstractmethod
    def _at(self, space: Any, sigma: Any) -> Any:
        """Strength at an array of noise levels; `space` is the array's library, numpy or torch."""

    def __and__(self, other: object) -> "Schedule":
        return _joined(Product, self, as_schedule(other)) if isinstance(other, Schedule | Real) else NotImplemented

    def __rand__(self, other: object) -> "Schedule":
        return _joined(Product, as_schedule(other), self) if isinstance(other, Real) else NotImplemented

    def __add__(self, other: object) -> "Schedule":
        return _joined(Sum, self, as_schedule(other)) if isinstance(other, Schedule | Real) else NotImplemented

    def __radd__(self, other: object) -> "Schedule":
        return _joined(Sum, as_schedule(other), self) if isinstance(other, Real) else NotImplemented

    __mul__ = __and__
    __rmul__ = __rand__


@dataclass(frozen=True)
class Constant(Schedule):
    """The same strength at every noise level."""

    strength: Number

    def __post_init__(self) -> None:
        _keep(self, strength=_strength(self.strength))

    @property
    def bound(self) -> float:
        return self.strength

    def _at(self, space: Any, sigma: Any) -> Any:
        return space.full_like(sigma, self.strength)

    def __str__(self) -> str:
        return _text(self.strength)


@dataclass(frozen=True)
class Ramp(Schedule):
    """From `start` at sigma_max and above to `end` at sigma_min and below, linear in log sigma between them."""

    start: Number
    end: Number
    sigma_max: Number = SIGMA_MAX
    sigma_min: Number = SIGMA_MIN

    def __post_init__(self) -> None:
        _keep(self, start=_strength(self.start), end=_strength(self.end), **_span(self, inner=True))

    @property
    def bound(self) -> float:
        return max(self.start, self.end)

    def _at(self, space: Any, sigma: Any) -> Any:
        share = _progress(space, sigma, self.sigma_max, self.sigma_min)
        # Of this form, and not start + share * (end - start), both ends come out to the bit.
        return (1 - share) * self.start + share * self.end

    def __str__(self) -> str:
        return f"ramp({_text(self.start)}, {_text(self.end)}, {_span_text(self)})"


@dataclass(frozen=True)
class Window(Schedule):
    """`strength` for sigma_min <= sigma <= sigma_max, 0 elsewhere."""

    strength: Number = 1.0
    sigma_max: Number = math.inf
    sigma_min: Number = 0.0

    def __post_init__(self) -> None:
        _keep(self, strength=_strength(self.strength), **_span(self, inner=False))

    @property
    def bound(self) -> float:
        return self.strength

    def _at(self, space: Any, sigma: Any) -> Any:
        inside = (sigma >= self.sigma_min) & (sigma <= self.sigma_max)
        return space.where(inside, space.full_like(sigma, self.strength), space.zeros_like(sigma))

    def __str__(self) -> str:
        return f"window({_text(self.strength)}, {_span_text(self)})"


@dataclass(frozen=True)
class Bump(Schedule):
    """A raised cosine in log sigma: 0 at sigma_max and sigma_min and outside, `strength` at their geometric mean."""

    strength: Number = 1.0
    sigma_max: Number = SIGMA_MAX
    sigma_min: Number = SIGMA_MIN

    def __post_init__(self) -> None:
        _keep(self, strength=_strength(self.strength), **_span(self, inner=True))

    @property
    def bound(self) -> float:
        return self.strength

    def _at(self, space: Any, sigma: Any) -> Any:
        share = _progress(space, sigma, self.sigma_max, self.sigma_min)
        return self.strength * (1 - space.cos(2 * math.pi * share)) / 2

    def __str__(self) -> str:
        return f"bump({_text(self.strength)}, {_span_text(self)})"


@dataclass(frozen=True)
class Product(Schedule):
    """One schedule times another: a ramp in a window."""

    first: Schedule
    second: Schedule

    @property
    def bound(self) -> float:
        return self.first.bound * self.second.bound

    def _at(self, space: Any, sigma: Any) -> Any:
        return self.first._at(space, sigma) * self.second._at(space, sigma)

    def __str__(self) -> str:
        return _operands(self, " & ")


@dataclass(frozen=True)
class Sum(Schedule):
    """One schedule and another; where they pass 1 together, `strengths` refuses them."""

    first: Schedule
    second: Schedule

    @property
    def bound(self) -> float:
        return self.first.bound + self.second.bound

    def _at(self, space: Any, sigma: Any) -> Any:
        total = self.first._at(space, sigma) + self.second._at(space, sigma)
        # Parts that are to make 1 together make it whatever the rounding: a full bypass is exact.
        return space.where(abs(total - 1) < ROUNDING, space.ones_like(total), total)

    def __str__(self) -> str:
        return _operands(self, " + ")


ROUNDING = 1e-6
"""What the sum of two strengths may miss 1 by and still be 1: half a dozen roundings of a float32."""


def constant(strength: Number) -> Schedule:
    """The same strength, in [0, 1], at every noise level. Raises LeadlineError."""
    return Constant(strength)


def ramp(
    start: Number,
    end: Number,
    *,
    sigma_max: Number | None = None,
    sigma_min: Number | None = None,
    log_snr_min: Number | None = None,
    log_snr_max: Number | None = None,
) -> Schedule:
    """Progressive (2505.17560, first version, "progressively"; our reading): `start` at sigma_max and above, `end` at
    sigma_min and below, linear in log sigma between; 10 and 0.1 where not given. Either end may be given as log-SNR =
    -2 ln sigma instead. Raises LeadlineError.
    """
    return Ramp(start, end, **_ends(sigma_max, sigma_min, log_snr_min, log_snr_max))


def window(
    strength: Number = 1.0,
    *,
    sigma_max: Number | None = None,
    sigma_min: Number | None = None,
    log_snr_min: Number | None = None,
    log_snr_max: Number | None = None,
) -> Schedule:
    """Temporary (2505.17560, first version, "temporary"; our reading): `strength` for sigma_min <= sigma <= sigma_max,
    0 elsewhere. An end that is not given is open. Either may be given as log-SNR = -2 ln sigma instead. Raises
    LeadlineError.
    """
    return Window(strength, **_ends(sigma_max, sigma_min, log_snr_min, log_snr_max))


def bump(
    strength: Number = 1.0,
    *,
    sigma_max: Number | None = None,
    sigma_min: Number | None = None,
    log_snr_min: Number | None = None,
    log_snr_max: Number | None = None,
) -> Schedule:
    """A window without edges: a raised cosine in log sigma, 0 at both ends and outside, `strength` at their geometric
    mean; ends 10 and 0.1 where not given. Either may be given as log-SNR = -2 ln sigma instead. Raises LeadlineError.
    """
    return Bump(strength, **_ends(sigma_max, sigma_min, log_snr_min, log_snr_max))


def as_schedule(strength: object) -> Schedule:
    """A schedule as it is, a number as a constant, text as `parse` reads it. Raises LeadlineError."""
    if isinstance(strength, Schedule):
        return strength
    if isinstance(strength, str):
        return parse(strength)
    return Constant(_strength(strength))


def strengths(schedule: Schedule, sigmas: Any) -> np.ndarray:
    """float64 strengths at these noise levels, of their shape. Raises LeadlineError where a level is negative or not a
    number, and where a strength is outside [0, 1] (a sum that passes 1)."""
    levels = np.asarray(sigmas, dtype=np.float64)
    if not (levels >= 0).all():
        raise LeadlineError(f"{levels[~(levels >= 0)].flat[0]:g} is no noise level: sigma >= 0 is expected")
    found = np.asarray(schedule(levels))
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise LeadlineError(
            f"the schedule {_cut(str(schedule))} has strength {found.flat[at]:g} at noise level {levels.flat[at]:g}: "
            "strengths lie in [0, 1]; lower its parts, or put them in windows that do not overlap"
        )
    return found


def highest(schedule: Schedule, sigmas: Any) -> float:
    """The greatest strength at these noise levels. Raises LeadlineError as `strengths` does, and where a schedule that
    is not 0 by its own numbers is 0 at all of them: it would be without effect."""
    found = float(strengths(schedule, sigmas).max())
    if found == 0 and schedule.bound > 0:
        raise LeadlineError(
            f"the schedule {_cut(str(schedule))} is 0 at every noise level there is, {np.min(sigmas):.3g} to "
            f"{np.max(sigmas):.3g}, so nothing would change: widen it, or give strength 0"
        )
    return found


def parse(text: str) -> Schedule:
    """The schedule of a text such as "ramp(0, 0.6) & window(sigma_max=5, sigma_min=0.5)" or "0.3".

    Names: constant, ramp, window, bump, with the arguments of the functions; & or * is the product, + the sum, as in
    Python: of a & b + c the sum comes first. The text is read, never executed. Raises LeadlineError that names what is
    not understood.
    """
    if len(text) > MAX_TEXT:
        raise LeadlineError(f"the schedule {_cut(text)!r}: {len(text)} characters, {MAX_TEXT} at most")
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise LeadlineError(f"the schedule {_cut(text)!r} is not understood: {EXAMPLE}") from None
    parts = 1 + sum(isinstance(node, ast.BinOp) for node in ast.walk(tree))
    if parts > MAX_PARTS:
        raise LeadlineError(f"the schedule {_cut(text)!r}: {parts} parts, {MAX_PARTS} at most")
    return _read(tree.body, text)


NAMES: dict[str, Callable[..., Schedule]] = {"constant": constant, "ramp": ramp, "window": window, "bump": bump}
EXAMPLE = "write ramp(0, 0.6) & window(sigma_max=5, sigma_min=0.5), from constant, ramp, window, bump, numbers, & and +"


def _read(node: ast.expr, text: str) -> Schedule:
    match node:
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.Mult(), right=right):
            return _read(left, text) & _read(right, text)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _read(left, text) + _read(right, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _called(name, args, keywords, text)
        case _:
            return constant(_number(node, text))


def _called(name: str, args: list[ast.expr], keywords: list[ast.keyword], text: str) -> Schedule:
    """The schedule that the function `name` makes of these arguments, numbers all."""
    if name not in NAMES:
        raise LeadlineError(f"the schedule {_cut(text)!r}: unknown {_cut(name)!r}: {did_you_mean(name, NAMES)}")
    given = [_number(arg, text) for arg in args]
    named = {str(keyword.arg): _number(keyword.value, text) for keyword in keywords}
    if len(named) < len(keywords):
        raise LeadlineError(f"the schedule {_cut(text)!r}: {name} is given the same argument twice")
    try:
        return NAMES[name](*given, **named)
    except TypeError as error:
        raise LeadlineError(f"the schedule {_cut(text)!r}: {_cut(str(error))}: {EXAMPLE}") from None


def _number(node: ast.expr, text: str) -> float:
    """The number that a node writes: digits, inf, or one of them with a minus."""
    sign = 1.0
    inner = node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, inner = -1.0, node.operand
    match inner:
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return sign * float(value)
            except OverflowError:  # an integer of more than 308 digits
                pass
        case ast.Name(id="inf"):
            return sign * math.inf
    raise LeadlineError(
        f"the schedule {_cut(text)!r}: {_cut(str(ast.get_source_segment(text, node)))!r} is not understood where it "
        f"stands: {EXAMPLE}"
    )


def _joined(kind: type[Product] | type[Sum], first: Schedule, second: Schedule) -> Schedule:
    """The product or sum; constants join into a constant, and what changes nothing (times 1, plus 0) is left out."""
    if isinstance(first, Constant) and isinstance(second, Constant):
        return Constant(kind(first, second)(1.0))
    neutral = Constant(1.0 if kind is Product else 0.0)
    if first == neutral:
        return second
    return first if second == neutral else kind(first, second)


def _keep(schedule: Schedule, **checked: float) -> None:
    """Set fields of a frozen schedule to what was checked, as plain floats."""
    for name, value in checked.items():
        object.__setattr__(schedule, name, value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and value is not True and value is not False and not math.isnan(value)


def _strength(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise LeadlineError(f"a strength is a number in [0, 1], not {_cut(repr(value))}")
    return abs(float(value))  # no -0.0


def _span(schedule: Any, *, inner: bool) -> dict[str, float]:
    """The two ends as floats, if they are noise levels, sigma_min below sigma_max; `inner`: positive and finite too."""
    top, foot = schedule.sigma_max, schedule.sigma_min
    fits = _is_number(top) and _is_number(foot) and top > foot >= 0
    # Ends that differ in their last digits alone have one logarithm: nothing can change between them.
    if not fits or (inner and not (math.inf > top > foot > 0 and math.log(top) > math.log(foot))):
        raise LeadlineError(
            f"{type(schedule).__name__.lower()}: sigma_max {_cut(str(top))} and sigma_min {_cut(str(foot))}: noise "
            f"levels with {'infinity > sigma_max > sigma_min > 0' if inner else 'sigma_max > sigma_min >= 0'} are "
            "expected (log_snr_min stands for sigma_max, log_snr_max for sigma_min)"
        )
    return {"sigma_max": float(top), "sigma_min": abs(float(foot))}


def _ends(sigma_max: Any, sigma_min: Any, log_snr_min: Any, log_snr_max: Any) -> dict[str, Any]:
    """The ends that were given, as noise levels; the smallest log-SNR is the largest noise level."""
    if (sigma_max is not None and log_snr_min is not None) or (sigma_min is not None and log_snr_max is not None):
        raise LeadlineError(
            "an end of a schedule is given as a noise level or as log-SNR, not as both: sigma_max or log_snr_min, "
            "sigma_min or log_snr_max"
        )
    top = sigma_max if log_snr_min is None else _sigma(log_snr_min)
    foot = sigma_min if log_snr_max is None else _sigma(log_snr_max)
    return {name: end for name, end in (("sigma_max", top), ("sigma_min", foot)) if end is not None}


def _sigma(log_snr: Any) -> float:
    """The noise level of a log-SNR: exp(-log_snr / 2)."""
    if not _is_number(log_snr):
        raise LeadlineError(f"a log-SNR is a number, not {_cut(repr(log_snr))}")
    try:
        return math.exp(-log_snr / 2)
    except OverflowError:
        return math.inf


def _progress(space: Any, sigma: Any, sigma_max: float, sigma_min: float) -> Any:
    """0 at sigma_max and above, 1 at sigma_min and below, to the bit; linear in log sigma between."""
    held = space.clip(sigma, sigma_min, sigma_max)
    share = (math.log(sigma_max) - space.log(held)) / (math.log(sigma_max) - math.log(sigma_min))
    ended = space.where(sigma <= sigma_min, space.ones_like(share), space.clip(share, 0.0, 1.0))
    return space.where(sigma >= sigma_max, space.zeros_like(share), ended)


def _text(number: float) -> str:
    """The shortest text that gives the same number back."""
    return repr(number).removesuffix(".0")


def _span_text(schedule: Any) -> str:
    return f"sigma_max={_text(schedule.sigma_max)}, sigma_min={_text(schedule.sigma_min)}"


def _operands(schedule: Product | Sum, sign: str) -> str:
    """Both parts with the sign between, in brackets where Python would read them otherwise."""
    first, second = schedule.first, schedule.second
    left = isinstance(first, Product | Sum) and type(first) is not type(schedule)
    right = isinstance(second, Product | Sum)
    return f"{f'({first})' if left else first}{sign}{f'({second})' if right else second}"


def _cut(text: str, most: int = 80) -> str:
    """Text of any length for one line of a message."""
    return text if len(text) <= most else f"{text[: most - 3]}..."

"""A schedule drawn over the steps that a scheduler really takes."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from leadline.errors import LeadlineError
from leadline.schedules import Schedule, as_schedule, strengths
from leadline.steering.levels import levels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (2, 1)))
MOST_TICKS = 10
"""Calls that are numbered on the upper axis."""


def step_levels(scheduler: Any, num_inference_steps: int = 50, init_strength: float | int = 1.0) -> np.ndarray:
    """Noise level of every call of the U-Net, float64 [calls], in the order of sampling: falling, but where a scheduler
    calls the U-Net twice at a level (Heun, PNDM).

    `scheduler`: a diffusers scheduler, or a pipeline with one; it is left as it is. `init_strength` in (0, 1] is
    `strength` of the image-to-image pipelines, which take the last steps alone. Raises LeadlineError for a scheduler
    whose steps have no noise level that is known, and where no step is left.
    """
    scheduler = getattr(scheduler, "scheduler", scheduler)
    if not hasattr(scheduler, "set_timesteps"):
        raise LeadlineError(
            f"a diffusers scheduler or a pipeline that has one is expected, not {type(scheduler).__name__}"
        )
    # As image-to-image counts: the product rounded down.
    taken = int(num_inference_steps * init_strength) if 0 <= init_strength <= 1 else 0
    if taken < 1:
        raise LeadlineError(
            f"init_strength {init_strength:g} of {num_inference_steps} steps leaves no step: num_inference_steps is at "
            "least 1, init_strength at most 1 and at least 1 / num_inference_steps"
        )
    own = copy.deepcopy(scheduler)
    own.set_timesteps(num_inference_steps)
    timesteps = own.timesteps[(num_inference_steps - taken) * getattr(own, "order", 1) :]
    found: np.ndarray = levels_of(own).sigma(torch.as_tensor(timesteps).cpu()).double().numpy()
    return found


def plot_schedule(
    schedule: Schedule | float | int | str | Sequence[Any] | Mapping[str, Any],
    scheduler: Any,
    num_inference_steps: int = 50,
    *,
    init_strength: float | int = 1.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw strength against noise level, with a point at every call of the U-Net that the scheduler really makes.

    schedule: one, several, or a mapping of names to them, each in any form that `bypass` takes. scheduler,
    num_inference_steps, init_strength: as in `step_levels`. Sigma falls from left to right on a log scale; the upper
    axis numbers the calls. An infinite noise level stands at the left edge. Returns the axes, new ones unless given.
    Raises LeadlineError as `step_levels` does, and for a strength outside [0, 1] at one of the steps.
    """
    named = _named(schedule)
    levels = step_levels(scheduler, num_inference_steps, init_strength)
    at_steps = {name: strengths(each, levels) for name, each in named.items()}
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(7, 3.6), layout="constrained")[1]
    finite = levels[np.isfinite(levels)]
    edge = 2 * finite.max()
    places = np.where(np.isfinite(levels), levels, edge)
    line = np.geomspace(places.max(), places.min(), 800)
    for index, (name, each) in enumerate(named.items()):
        look: dict[str, Any] = {
            "color": f"C{index}",
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 4.5,
            "label": name,
        }
        ax.plot(line, each(line), color=look["color"], linestyle=DASHES[index % len(DASHES)], linewidth=1, alpha=0.6)
        ax.plot(places, at_steps[name], linestyle="none", **look)
    if not np.isfinite(levels).all():
        ax.annotate("σ = ∞", (edge, 0), xytext=(4, 8), textcoords="offset points", fontsize="small")
    _dress(ax)
    _number_the_calls(ax, places)
    return ax


def _named(schedule: Any) -> dict[str, Schedule]:
    """The schedules under the names that they have in the legend: their own text unless a mapping names them."""
    if isinstance(schedule, Mapping):
        named = {str(name): as_schedule(each) for name, each in schedule.items()}
    elif isinstance(schedule, Sequence) and not isinstance(schedule, str):
        named = {str(each): each for each in map(as_schedule, schedule)}
    else:
        one = as_schedule(schedule)
        named = {str(one): one}
    if not named:
        raise LeadlineError("no schedule to draw")
    return named


def _dress(ax: "Axes") -> None:
    """Axes, their names, and a legend below that hides no point."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda level, _: f"{level:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    if not ax.xaxis_inverted():  # axes that share theirs would turn it back
        ax.invert_xaxis()
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel("noise level σ, falling as sampling goes on")
    ax.set_ylabel("strength")
    # In inches, so that it clears the axis' name in a low drawing too.
    below = ax.transAxes + ScaledTranslation(0, -0.42, ax.figure.dpi_scale_trans)
    ax.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, fontsize="small", frameon=False)


def _number_the_calls(ax: "Axes", places: np.ndarray) -> None:
    """An upper axis that numbers the calls of the U-Net from 1, a few of them."""
    chosen = np.unique(np.linspace(0, len(places) - 1, min(MOST_TICKS, len(places))).round().astype(int))
    above = ax.secondary_xaxis("top")
    above.set_xticks(places[chosen], [str(index + 1) for index in chosen], fontsize="small")
    above.set_xticks([], minor=True)
    above.set_xlabel(f"call of the U-Net, of {len(places)}", fontsize="small")

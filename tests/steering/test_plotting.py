"""A schedule over a scheduler's steps: the levels at which the U-Net is really called, and what is drawn of them."""

import copy
import math

import matplotlib
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from tiny_pipelines import image_to_image, text_to_image

from leadline import bump, plot_schedule, ramp, window
from leadline.schedules import strengths
from leadline.steering.plotting import step_levels

# diffusers hands torch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULE = ramp(0.0, 0.6) & window(sigma_max=5.0, sigma_min=0.5)


@pytest.fixture(autouse=True)
def no_window():
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")
    matplotlib.use(backend)


def test_levels_of_ddim_are_those_of_its_timesteps():
    scheduler = DDIMScheduler(**SD, steps_offset=1)
    abar = scheduler.alphas_cumprod.double()[[751, 501, 251, 1]]
    np.testing.assert_allclose(step_levels(scheduler, 4), ((1 - abar) / abar).sqrt(), rtol=1e-12)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler])
def test_levels_are_the_schedulers_own(kind, karras):
    scheduler = kind(**SD, use_karras_sigmas=karras)
    own = copy.deepcopy(scheduler)
    own.set_timesteps(12)
    levels = step_levels(scheduler, 12)
    # DPM-Solver++ rounds its steps on Karras' levels to whole ones.
    np.testing.assert_allclose(levels, own.sigmas[: len(levels)], rtol=0.05 if karras else 1e-3)
    assert len(levels) == (23 if own.order == 2 else 12)


@pytest.mark.parametrize("init_strength", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("kind", [DDIMScheduler, HeunDiscreteScheduler])
def test_image_to_image_takes_the_last_steps(kind, init_strength):
    case = image_to_image()
    pipe = case.target
    pipe.scheduler = kind(**SD)
    pipe.scheduler.set_timesteps(7)
    taken, _ = pipe.get_timesteps(7, init_strength, "cpu")
    assert len(step_levels(pipe, 7, init_strength)) == len(taken)
    np.testing.assert_array_equal(step_levels(pipe, 7, init_strength), step_levels(pipe, 7)[-len(taken) :])


def test_the_points_are_the_strengths_that_the_u_net_gets():
    axes = plot_schedule({"window": SCHEDULE, "bump": "bump(0.8)"}, DDIMScheduler(**SD), 20)
    points = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    levels = step_levels(DDIMScheduler(**SD), 20)
    assert list(points) == ["window", "bump"]
    for name, schedule in (("window", SCHEDULE), ("bump", bump(0.8))):
        np.testing.assert_array_equal(points[name].get_xdata(), levels)
        np.testing.assert_array_equal(points[name].get_ydata(), strengths(schedule, levels))
    assert axes.get_xscale() == "log"
    assert axes.xaxis_inverted()
    (above,) = axes.child_axes
    assert [label.get_text() for label in above.get_xticklabels()][0::9] == ["1", "20"]
    assert "of 20" in above.get_xlabel()
    axes.figure.canvas.draw()


def test_axes_that_are_given_are_drawn_on_and_share_their_direction():
    figure, pair = matplotlib.pyplot.subplots(2, sharex=True)
    for axes, steps in zip(pair, (5, 50), strict=True):
        assert plot_schedule(0.3, DDIMScheduler(**SD), steps, ax=axes) is axes
        assert axes.xaxis_inverted()
    assert [line.get_label() for line in pair[0].get_lines()][1] == "0.3"
    figure.canvas.draw()


def test_nothing_of_the_pipeline_changes():
    pipe = text_to_image().target
    pipe.scheduler = EulerDiscreteScheduler(**SD)
    pipe.scheduler.set_timesteps(3)
    before = copy.deepcopy(vars(pipe.scheduler))
    plot_schedule([SCHEDULE, 0.5], pipe, 10, init_strength=0.5)
    after = vars(pipe.scheduler)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]


def test_an_infinite_level_stands_at_the_edge():
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    levels = step_levels(scheduler, 5)
    assert levels[0] == math.inf
    axes = plot_schedule(ramp(0.2, 0.9), scheduler, 5)
    (points,) = (line for line in axes.get_lines() if not line.get_label().startswith("_"))
    assert points.get_xdata()[0] == 2 * levels[1]
    assert points.get_ydata()[0] == 0.2
    assert [text.get_text() for text in axes.texts] == ["σ = ∞"]
    axes.figure.canvas.draw()


def test_a_single_step_is_drawn():
    plot_schedule(0.3, DDIMScheduler(**SD), 1).figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_strength": 0.05}, "leaves no step"),
        ({"init_strength": 1.5}, "init_strength at most 1"),
        ({"init_strength": math.nan}, "leaves no step"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"schedule": []}, "no schedule to draw"),
        ({"schedule": "wave(1)"}, "unknown 'wave'"),
        ({"schedule": 1.5}, r"in \[0, 1\], not 1.5"),
        ({"schedule": window(0.7) + window(0.6)}, r"has strength 1\.3 at noise level"),
        ({"scheduler": object()}, "a diffusers scheduler or a pipeline that has one is expected, not object"),
        ({"scheduler": FlowMatchEulerDiscreteScheduler()}, "FlowMatchEulerDiscreteScheduler: the noise level"),
    ],
)
def test_what_cannot_be_drawn(options, message):
    given = {"schedule": SCHEDULE, "scheduler": DDIMScheduler(**SD), "num_inference_steps": 10} | options
    with pytest.raises(ValueError, match=message):
        plot_schedule(**given)
    assert not matplotlib.pyplot.get_fignums()

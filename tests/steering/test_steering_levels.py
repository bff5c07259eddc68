"""The noise level of a timestep, against the schedulers' own."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from test_bypass import Recorder
from tiny_pipelines import image_to_image, scheduler, text_to_image

from leadline import bypass
from leadline.models.preconditioning import Ladder
from leadline.steering.levels import LadderLevels, levels_of

# diffusers hands torch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def ladder(made):
    return ((1 - made.alphas_cumprod.double()) / made.alphas_cumprod.double()).sqrt()


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(
    ("kind", "prediction"),
    [(DDPMScheduler, "epsilon"), (DDIMScheduler, "sample"), (PNDMScheduler, "v_prediction"), (LCMScheduler, "epsilon")],
)
def test_whole_timesteps_are_rungs_of_the_ladder_to_the_bit(kind, spacing, prediction):
    made = kind(**BETAS, timestep_spacing=spacing, prediction_type=prediction)
    made.set_timesteps(7)
    found = levels_of(made).sigma(made.timesteps)
    assert torch.equal(found, ladder(made)[made.timesteps.long()])


@pytest.mark.parametrize("options", [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}])
@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_fractional_timesteps_have_the_schedulers_own_level(kind, options):
    """Euler and Heun interpolate sigma itself over evenly spaced steps, hence the tolerance."""
    made = kind(**BETAS, timestep_spacing="linspace", **options)
    made.set_timesteps(11)
    found = levels_of(made).sigma(made.timesteps)
    assert found.numpy() == pytest.approx(made.sigmas[: len(found)].double().numpy(), rel=2e-3)


@pytest.mark.parametrize(
    "made",
    [
        DPMSolverMultistepScheduler(**BETAS),
        DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True),
        UniPCMultistepScheduler(**BETAS, use_karras_sigmas=True),
    ],
    ids=["DPM++", "DPM++ Karras", "UniPC Karras"],
)
def test_rounded_timesteps_have_the_schedulers_level_up_to_half_a_rung(made):
    made.set_timesteps(11)
    found = levels_of(made).sigma(made.timesteps).log()
    rungs = ladder(made).log()
    half_a_rung = (rungs[1:] - rungs[:-1])[made.timesteps.clamp(0, 998)] / 2
    off = (found - made.sigmas[:-1].double().log()).abs()
    assert (off <= half_a_rung * 1.05 + 1e-6).all()


def test_edm_and_continuous_euler_give_a_quarter_of_log_sigma():
    edm = EDMEulerScheduler()
    continuous = EulerDiscreteScheduler(**BETAS, timestep_type="continuous", prediction_type="v_prediction")
    for made in (edm, continuous):
        made.set_timesteps(9)
        found = levels_of(made).sigma(made.timesteps)
        assert found.numpy() == pytest.approx(made.sigmas[:-1].double().numpy(), rel=1e-5)
        assert levels_of(made).grid.min() > 0


def test_between_rungs_as_the_denoiser_and_beyond_the_ends_their_level():
    own = Ladder(DDPMScheduler().alphas_cumprod, "epsilon")
    levels = LadderLevels(own.sigmas)
    sigmas = torch.tensor([0.0123, 0.7, 33.3], dtype=torch.float64)
    assert levels.sigma(own.timestep(sigmas)).numpy() == pytest.approx(sigmas.numpy(), rel=1e-12)
    ends = levels.sigma(torch.tensor([-3.0, 999.5, 5000.0]))
    assert ends.tolist() == [own.sigmas[0], own.sigmas[-1], own.sigmas[-1]]


def test_zero_terminal_signal_is_an_infinite_level_and_no_nan():
    levels = levels_of(DDIMScheduler(**BETAS, rescale_betas_zero_snr=True))
    found = levels.sigma(torch.tensor([998, 999]))
    assert torch.isfinite(found[0])
    assert found[1] == np.inf
    assert levels.sigma(torch.tensor([998.5])) == np.inf


@pytest.mark.parametrize(
    "made",
    [
        FlowMatchEulerDiscreteScheduler(),
        UniPCMultistepScheduler(**BETAS, use_flow_sigmas=True, prediction_type="flow_prediction"),
        DPMSolverMultistepScheduler(**BETAS, prediction_type="flow_prediction", use_flow_sigmas=True),
        diffusers.ScoreSdeVeScheduler(),
    ],
    ids=lambda made: type(made).__name__,
)
def test_schedulers_without_such_levels_are_refused(made):
    with pytest.raises(ValueError, match=rf"{type(made).__name__}.*take one of these, or a constant strength"):
        levels_of(made)


def test_timesteps_that_do_not_follow_the_noise_levels_are_refused():
    with pytest.raises(ValueError, match="interpolation_type='log_linear'.*take interpolation_type='linear'"):
        levels_of(EulerDiscreteScheduler(**BETAS, interpolation_type="log_linear"))
    for options in ({"sigma_max": 80.0}, {"sigma_min": 0.002}):
        made = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True, **options)
        with pytest.raises(ValueError, match=r"its ladder, from 0\.02917 to 14\.61, and do not tell the levels beyond"):
            levels_of(made)
        levels_of(EulerDiscreteScheduler(**BETAS, **options))
    inherited = DPMSolverMultistepScheduler.from_config(
        EulerDiscreteScheduler(**BETAS, sigma_max=80.0).config, use_karras_sigmas=True
    )
    with pytest.raises(ValueError, match="DPMSolverMultistepScheduler with noise levels from 0.02917 to 80"):
        levels_of(inherited)


@pytest.mark.parametrize("options", [{"sigma_min": 0.0292, "sigma_max": 14.6146}, {"interpolation_type": "log_linear"}])
def test_levels_of_its_own_spacing_within_the_ladder(options):
    made = EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True, **options)
    made.set_timesteps(11)
    found = levels_of(made).sigma(made.timesteps)
    assert found.numpy() == pytest.approx(made.sigmas[:-1].double().numpy(), rel=2e-3)


def test_a_continuous_scheduler_knows_the_levels_that_it_was_given():
    """Stable Video Diffusion's."""
    options = {"use_karras_sigmas": True, "timestep_type": "continuous", "prediction_type": "v_prediction"}
    grid = levels_of(EulerDiscreteScheduler(**BETAS, sigma_min=0.002, sigma_max=700.0, **options)).grid
    assert grid[[0, -1]] == pytest.approx([0.002, 700.0])


@pytest.mark.parametrize("make", [text_to_image, lambda: image_to_image(strength=0.6)], ids=["text", "image"])
@pytest.mark.parametrize(
    "kind", [DDIMScheduler, EulerDiscreteScheduler, EulerAncestralDiscreteScheduler, DPMSolverMultistepScheduler]
)
def test_a_pipeline_asks_the_schedule_for_its_schedulers_levels(kind, make):
    """Whatever the solver and wherever image-to-image begins: the level is that of the noise in the image."""
    case, recorder = make(), Recorder()
    case.target.scheduler = made = kind.from_config(scheduler().config)
    steps = []
    with bypass(case.target, recorder):
        case.run(callback_on_step_end=lambda _pipe, _i, t, _k: steps.append(float(t)) or {})
    own = getattr(made, "sigmas", None)
    begun = 0 if make is text_to_image else len(made.timesteps) - len(steps)
    expected = ladder(made)[torch.tensor(steps).long()] if own is None else own[begun : begun + len(steps)].double()
    assert len(recorder.sigmas) == len(steps) > 0
    assert recorder.sigmas == pytest.approx(expected.tolist(), rel=2e-3)

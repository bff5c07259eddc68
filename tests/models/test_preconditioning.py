"""Every kind of scheduler: D(x; sigma) is the scheduler's own x0 at its steps, and continuous between them."""

import inspect
import math

import diffusers
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    KarrasVeScheduler,
    LCMScheduler,
    PNDMScheduler,
    ScoreSdeVeScheduler,
    TCDScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)

from leadline.errors import LeadlineError, NotMeasurable
from leadline.models.denoiser import karras_sigmas
from leadline.models.preconditioning import Karras, Ladder, preconditioning_of
from leadline.models.pretrained import DiffusersDenoiser

PREDICTIONS = ("epsilon", "v_prediction", "sample")
SHAPE = (2, 1, 8, 8)
# diffusers hands torch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")


def network(**options):
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 16), "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(**{**sizes, "layers_per_block": 1, **blocks, **options}).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet():
    return network()


@pytest.fixture
def noise():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def scheduler_of(name, **options):
    """Without what a scheduler adds to x0: clipping."""
    own = getattr(diffusers, name)
    known = inspect.signature(own.__init__).parameters
    return own(**{key: value for key, value in {"clip_sample": False, **options}.items() if key in known})


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("step", [0, 437, 999])
def test_of_schedulers_in_alphas(unet, noise, name, prediction, step):
    scheduler = scheduler_of(name, prediction_type=prediction)
    scheduler.set_timesteps(1000)
    denoiser = DiffusersDenoiser(unet, scheduler)
    sigma = float(denoiser.sigmas[step])
    expected = scheduler.step(unet(noise, step).sample, step, noise).pred_original_sample
    given = denoiser(noise * math.sqrt(1 + sigma**2), sigma)
    torch.testing.assert_close(given, expected, rtol=2e-4, atol=2e-4 * max(1, sigma))


SIGMA_SCHEDULERS = (
    *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SIGMA_SCHEDULERS)
def test_of_schedulers_in_sigma(unet, noise, name, prediction):
    scheduler = scheduler_of(name, prediction_type=prediction, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    denoiser = DiffusersDenoiser(unet, scheduler)
    step = scheduler.timesteps[0]
    x = noise * scheduler.init_noise_sigma
    output = unet(scheduler.scale_model_input(x, step), step).sample
    sigma = float(scheduler.sigmas[0])
    expected = scheduler.step(output, step, x).pred_original_sample
    torch.testing.assert_close(denoiser(x, sigma), expected, rtol=2e-4, atol=1e-4 * sigma)
    assert float(denoiser.timestep(sigma)) == pytest.approx(float(step), abs=1e-3)


CONVERTING = (
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
    "DEISMultistepScheduler",
)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", CONVERTING)
def test_of_solvers_that_convert_the_output(unet, noise, name, prediction):
    solver = {} if name in ("UniPCMultistepScheduler", "DEISMultistepScheduler") else {"algorithm_type": "dpmsolver++"}
    scheduler = scheduler_of(name, prediction_type=prediction, **solver)
    scheduler.set_timesteps(10)
    scheduler._init_step_index(scheduler.timesteps[2])
    scheduler._step_index = 2
    denoiser = DiffusersDenoiser(unet, scheduler)
    step = int(scheduler.timesteps[2])
    sigma = float(denoiser.sigmas[step])
    converted = scheduler.convert_model_output(unet(noise, step).sample, sample=noise)
    x = noise * math.sqrt(1 + sigma**2)
    given = denoiser(x, sigma)
    if name == "DEISMultistepScheduler":  # it works with the noise
        given = (x - given) / sigma
    torch.testing.assert_close(given, converted, rtol=2e-4, atol=2e-4 * max(1, sigma))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_of_pndm(unet, noise, prediction):
    """2202.09778, Eq. 9: its step is DDIM's, from the same x0."""
    scheduler = scheduler_of("PNDMScheduler", prediction_type=prediction)
    denoiser = DiffusersDenoiser(unet, scheduler)
    sigma, following = float(denoiser.sigmas[400]), float(denoiser.sigmas[380])
    expected = scheduler._get_prev_sample(noise, 400, 380, unet(noise, 400).sample)
    x = noise * math.sqrt(1 + sigma**2)
    x0 = denoiser(x, sigma)
    given = (x0 + following * (x - x0) / sigma) / math.sqrt(1 + following**2)
    torch.testing.assert_close(given, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_of_edm(unet, noise, name, prediction, spacing):
    options = {"sigma_data": 0.7, "sigma_min": 0.01, "sigma_max": 50.0, "sigma_schedule": spacing}
    scheduler = scheduler_of(name, prediction_type=prediction, **options)
    scheduler.set_timesteps(9)
    denoiser = DiffusersDenoiser(unet, scheduler)
    assert denoiser.sigma_range == (0.01, 50.0)
    assert denoiser.scheduler is scheduler
    assert len(denoiser.sigmas) == 1000
    assert bool((denoiser.sigmas.diff() > 0).all())
    for sigma in scheduler.sigmas[[0, 4, 8]]:
        x = noise * sigma
        output = unet(scheduler.precondition_inputs(x, sigma), scheduler.precondition_noise(sigma)).sample
        expected = scheduler.precondition_outputs(x, output, sigma)
        torch.testing.assert_close(denoiser(x, sigma), expected, rtol=1e-4, atol=1e-5)


def test_of_edm_that_is_told_log_sigma_by_euler(unet, noise):
    options = {"timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 700.0}
    scheduler = scheduler_of(
        "EulerDiscreteScheduler", prediction_type="v_prediction", use_karras_sigmas=True, **options
    )
    scheduler.set_timesteps(5)
    denoiser = DiffusersDenoiser(unet, scheduler)
    step, x = scheduler.timesteps[0], noise * 700
    output = unet(scheduler.scale_model_input(x, step), step).sample
    expected = scheduler.step(output, step, x).pred_original_sample
    torch.testing.assert_close(denoiser(x, 700.0), expected, rtol=1e-4, atol=1e-3)
    assert denoiser.sigma_range == (0.002, 700.0)


def test_of_a_score_network_of_images_in_0_1(noise):
    """Its scheduler's own drift, sigma'^2 - sigma^2 times the score, in [0, 1], where sigma is half as large."""
    unet = network(time_embedding_type="fourier")
    scheduler = ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0)
    denoiser = DiffusersDenoiser(unet, scheduler)
    assert denoiser.sigma_range == pytest.approx((0.02, 100.0))
    scheduler.set_timesteps(8)
    scheduler.set_sigmas(8, 0.01, 50.0)
    sigma, x = scheduler.sigmas[0], noise * 20
    output = unet(x, sigma * torch.ones(2)).sample
    moved = scheduler.step_pred(output, scheduler.timesteps[0], x, generator=torch.Generator()).prev_sample_mean
    adjacent = scheduler.discrete_sigmas[(scheduler.timesteps[0] * (len(scheduler.timesteps) - 1)).long() - 1]
    expected = x + sigma**2 / (sigma**2 - adjacent**2) * (moved - x)
    given = (denoiser(2 * x - 1, 2 * float(sigma)) + 1) / 2
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(), UniPCMultistepScheduler(), EDMEulerScheduler()])
def test_between_steps_it_is_continuous(unet, noise, scheduler):
    denoiser = DiffusersDenoiser(unet, scheduler)
    rung = float(denoiser.sigmas[500])
    at = denoiser(noise, rung)
    for side in (-1, 1):
        far, near = (float((denoiser(noise, rung * (1 + side * by)) - at).abs().max()) for by in (1e-3, 1e-4))
        assert 0 < near < 0.2 * far


@pytest.mark.parametrize("kind", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_an_infinite_last_level_is_left_out_and_said(unet, noise, kind):
    denoiser = DiffusersDenoiser(unet, kind(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    plain = kind(rescale_betas_zero_snr=True).alphas_cumprod.double()
    assert len(denoiser.sigmas) == 999
    torch.testing.assert_close(denoiser.sigmas, ((1 - plain) / plain).sqrt()[:-1])
    assert torch.isfinite(denoiser(noise, denoiser.sigma_range[1])).all()
    with pytest.raises(NotMeasurable, match="of zero terminal signal-to-noise ratio, is infinite and left out"):
        denoiser(noise, 1e5)


@pytest.mark.parametrize("sigma", [0.0019, 81.0, float("nan")])
def test_outside_edms_range_it_is_not_measurable(unet, noise, sigma):
    with pytest.raises(NotMeasurable, match=r"outside the model's schedule, 0.002 to 80: not measurable there"):
        DiffusersDenoiser(unet, EDMEulerScheduler())(noise, sigma)
    assert torch.isfinite(DiffusersDenoiser(unet, EDMEulerScheduler())(noise, torch.tensor([0.002, 80.0]))).all()


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler: .*supported are diffusers' schedulers"),
        (UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "UniPC.* is not known"),
        (LCMScheduler(), "LCMScheduler is of a consistency model, whose output is the end of its way"),
        (TCDScheduler(), "TCDScheduler is of a consistency model.* take the model that it was distilled from"),
        (CMStochasticIterativeScheduler(), "CMStochasticIterativeScheduler is of a consistency model"),
        (KarrasVeScheduler(), "KarrasVeScheduler: how its model is to be read"),
        (DDPMScheduler(prediction_type="noise"), "prediction type 'noise': epsilon, v_prediction or sample"),
        (EDMEulerScheduler(prediction_type="sample"), "EDMEulerScheduler: prediction type 'sample': epsilon or v_pred"),
        (DDPMScheduler(trained_betas=[0.1, 0.0, 0.1]), "noise levels must rise from step to step and stay finite"),
    ],
)
def test_other_schedulers_are_refused(scheduler, message):
    with pytest.raises(LeadlineError, match=message):
        preconditioning_of(scheduler)


def test_karras_levels_have_known_ends_and_middle():
    levels = karras_sigmas(0.002, 80.0, 3)
    middle = ((0.002 ** (1 / 7) + 80 ** (1 / 7)) / 2) ** 7
    assert levels.tolist() == [0.002, pytest.approx(middle), 80.0]
    assert karras_sigmas(0.002, 80.0, 1).tolist() == [80.0]
    scheduler = EDMEulerScheduler(num_train_timesteps=40)
    scheduler.set_timesteps(40)
    torch.testing.assert_close(karras_sigmas(0.002, 80.0, 40).flip(0).float(), scheduler.sigmas[:-1], rtol=1e-5, atol=0)


def test_every_parametrisation_of_the_exact_network_gives_the_same_x0():
    """Of images N(0, s^2) the denoiser is s^2 x / (s^2 + sigma^2); EDM's network for spread s is then 0."""
    sigma = torch.tensor([0.02, 1.0, 30.0], dtype=torch.float64)
    at = Karras(0.5).at(sigma)
    torch.testing.assert_close(at.skip, 0.25 / (0.25 + sigma**2))
    torch.testing.assert_close(at.out * at.scale, sigma * 0.5 / (0.25 + sigma**2))
    ladder = DDPMScheduler().alphas_cumprod
    of_v, of_epsilon, of_x0 = (Ladder(ladder, name).at(sigma) for name in ("v_prediction", "epsilon", "sample"))
    x, x0 = torch.tensor([3.0, -2.0, 7.0], dtype=torch.float64), torch.tensor([0.3, 0.1, -0.2], dtype=torch.float64)
    noise = (x - x0) / sigma
    v = (noise - sigma * x0) / (1 + sigma**2).sqrt()
    for found, output in ((of_v, v), (of_epsilon, noise), (of_x0, x0)):
        torch.testing.assert_close(found.skip * x + found.out * output, x0)


def test_the_embedding_resolves_edms_timesteps():
    """ln(sigma) / 4 runs from -1.6 to 1.1, where the lowest frequencies of the sinusoids, made for steps to 1,000, are
    flat, but the highest are not: 1 % of sigma is told apart, also after rounding to bfloat16 at 5 %."""
    embed = network().time_proj
    sigma = karras_sigmas(0.002, 80.0, 200)
    for share, dtype in ((1.01, torch.float32), (1.05, torch.bfloat16)):
        apart = embed((sigma.log() / 4).float()).to(dtype) != embed(((sigma * share).log() / 4).float()).to(dtype)
        assert apart.any(dim=1).all()


def test_pndm_and_the_edm_solver_are_opened_by_their_own_names():
    assert preconditioning_of(PNDMScheduler()).rungs
    assert not preconditioning_of(EDMDPMSolverMultistepScheduler()).rungs

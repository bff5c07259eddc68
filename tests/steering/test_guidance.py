"""Guidance by a bypassed U-Net: against two calls by hand, and the laws of every steering method."""

import math
import threading

import jaxtyping
import pytest
import torch
from diffusers import DDIMScheduler
from test_bypass import traces
from test_bypass_compiled import forward_alone, in_place, mid_block_alone, small_unet, wrapped
from tiny_pipelines import (
    LATENT,
    controlled,
    depth_family,
    draw,
    half,
    image_to_image,
    text_to_image,
    text_unet,
    unconditional_unet,
)
from torch._dynamo.testing import CompileCounter

from leadline import bypass, bypass_guidance, enable_bypass, enable_bypass_guidance, ramp, window
from leadline.schedules import Schedule
from leadline.steering.guidance import lead
from leadline.steering.modes import MODES

# diffusers hands torch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

X = draw(2, 1, LATENT, LATENT, seed=1)
SCHEDULES: tuple[float | Schedule, ...] = (1, window(0.5, sigma_max=5.0))
CASES = {
    "text-to-image": text_to_image,
    "image-to-image": image_to_image,
    "ControlNet": controlled,
    "depth family": depth_family,
    "float16": lambda: half(torch.float16),
}


def calls_of(unet):
    """A list that grows by one at every call of the U-Net's first layer, and the hook that fills it."""
    calls = []
    return calls, unet.conv_in.register_forward_hook(lambda *_: calls.append(1))


@torch.no_grad()
def predict(unet, timestep=300, x=X):
    return unet(x, timestep).sample


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 3.0])
def test_two_calls_by_hand(mode, scale):
    unet = unconditional_unet()
    good = predict(unet)
    with bypass(unet, 0.6, mode=mode, seed=4):
        bad = predict(unet)
    with bypass_guidance(unet, 0.6, scale, mode=mode, seed=4):
        torch.testing.assert_close(predict(unet), bad + scale * (good - bad))
        with torch.no_grad():
            (as_tuple,) = unet(sample=X, timestep=300, return_dict=False)
        torch.testing.assert_close(as_tuple, bad + scale * (good - bad))


def test_a_pipeline_by_hand_with_both_branches_led():
    """The whole loop of DDIM under classifier-free guidance, written out."""
    case = text_to_image(guidance_scale=3.0)
    unet, steps, schedule = case.unet, case.target.scheduler, ramp(0.2, 0.9)
    text = torch.cat([case.options["negative_prompt_embeds"], case.options["prompt_embeds"]])
    x = draw(1, 4, LATENT, LATENT, seed=5)
    steps.set_timesteps(2)
    with torch.no_grad():
        for t in steps.timesteps:
            batch = torch.cat([x, x])
            good = unet(batch, t, encoder_hidden_states=text).sample
            with bypass(unet, schedule, scheduler=steps):
                bad = unet(batch, t, encoder_hidden_states=text).sample
            without, with_text = (bad + 2.0 * (good - bad)).chunk(2)
            x = steps.step(without + 3.0 * (with_text - without), t, x).prev_sample
    with bypass_guidance(case.target, schedule, 2):
        torch.testing.assert_close(case.run(), x, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    case = CASES[request.param]()
    case.plain = case.run()
    return case


@pytest.mark.parametrize("strength", SCHEDULES, ids=str)
def test_laws(case, strength):
    untouched = traces(case.unet)
    with bypass(case.target, strength):
        bypassed = case.run()
    images = {}
    for scale in (0, 1, 2):
        with bypass_guidance(case.target, strength, scale):
            images[scale] = case.run()
        assert traces(case.unet) == untouched
    assert torch.equal(images[0], bypassed)
    assert torch.equal(images[1], case.plain)
    assert not torch.equal(images[2], case.plain)
    with bypass_guidance(case.target, 0, 2):
        assert torch.equal(case.run(), case.plain)
    assert torch.equal(case.run(), case.plain)


def test_no_second_call_where_there_is_nothing_to_gain():
    unet, noise_levels = unconditional_unet(), DDIMScheduler()  # step 300: sigma 1.25, step 900: sigma 57
    calls, hook = calls_of(unet)
    low = window(0.5, sigma_max=5.0)
    for strength, scale, timestep, expected in (
        (0.5, 2.0, 300, 2),
        (0.5, 1.0, 300, 1),
        (0.0, 2.0, 300, 1),
        (low, 2.0, 300, 2),
        (low, 2.0, 900, 1),
        (low, 2.0, torch.tensor([300, 900]), 2),
    ):
        calls.clear()
        with bypass_guidance(unet, strength, scale, scheduler=noise_levels):
            predict(unet, timestep)
        assert len(calls) == expected
    hook.remove()


def test_an_image_at_strength_zero_is_untouched_beside_one_that_is_led():
    unet = unconditional_unet()
    timesteps = torch.tensor([300, 900])
    plain = predict(unet, timesteps)
    with bypass_guidance(unet, window(0.5, sigma_max=5.0), 2.0, scheduler=DDIMScheduler()):
        led = predict(unet, timesteps)
    assert not torch.equal(led[0], plain[0])
    assert torch.equal(led[1], plain[1])


def test_lead_keeps_what_both_say_to_the_bit():
    same = torch.tensor([-0.0, 0.0, 1e-40, 3.4e38, -math.inf])
    for scale in (0.0, 0.5, 2.0):
        assert torch.equal(lead(same, same.clone(), scale).view(torch.int32), same.view(torch.int32))
    good, bad = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    assert lead(good, bad, 3.0).tolist() == [4.0, -5.0]
    assert lead(good, bad, 0.0).tolist() == bad.tolist()


def test_the_second_call_sees_a_list_that_the_first_one_emptied():
    """T2I-Adapter's residuals: the U-Net pops them."""
    unet = text_unet()
    text, x = draw(1, 4, 8, seed=2), draw(1, 4, LATENT, LATENT, seed=1)

    @torch.no_grad()
    def run():
        residuals = [draw(1, 8, LATENT // 2, LATENT // 2, seed=3), draw(1, 16, LATENT // 2, LATENT // 2, seed=4)]
        return unet(x, 300, encoder_hidden_states=text, down_intrablock_additional_residuals=residuals).sample

    good = run()
    with bypass(unet, 0.5):
        bad = run()
    with bypass_guidance(unet, 0.5, 2.0):
        torch.testing.assert_close(run(), 2 * good - bad)


def test_after_an_exception_nothing_is_left_behind():
    unet = unconditional_unet()
    plain, untouched, calls = predict(unet), traces(unet), []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("in the second call")

    with bypass_guidance(unet, 0.5, 2.0):
        led = predict(unet)
        hook = unet.up_blocks[0].register_forward_hook(fail)
        with pytest.raises(KeyError, match="second call"):
            predict(unet)
        hook.remove()
        assert torch.equal(predict(unet), led)
    assert traces(unet) == untouched
    assert torch.equal(predict(unet), plain)


def test_a_handle_is_removed_once_or_twice():
    unet = unconditional_unet()
    plain, untouched = predict(unet), traces(unet)
    handle = enable_bypass_guidance(unet, 0.5, 2)
    assert not torch.equal(predict(unet), plain)
    handle.remove()
    handle.remove()
    assert traces(unet) == untouched
    assert torch.equal(predict(unet), plain)


def test_one_at_a_time():
    unet = unconditional_unet()
    with bypass_guidance(unet, 0.5, 2.0):
        for attach in (lambda: enable_bypass(unet, 0.5), lambda: enable_bypass_guidance(unet, 0.5, 2.0)):
            with pytest.raises(ValueError, match="has a bypass already, perhaps as guidance"):
                attach()
    with bypass(unet, 0.5), pytest.raises(ValueError, match="has a bypass already"):
        enable_bypass_guidance(unet, 0.5, 2.0)


def test_two_threads_share_a_guided_u_net():
    unet = unconditional_unet()
    inputs = [draw(1, 1, LATENT, LATENT, seed=s) for s in range(2)]
    for strength in (0.5, 1.0):
        with bypass_guidance(unet, strength, 2.0):
            alone = [predict(unet, x=x) for x in inputs]
            wrong: list[int] = []

            def work(index, alone=alone, wrong=wrong):
                wrong.extend(index for _ in range(8) if not torch.equal(predict(unet, x=inputs[index]), alone[index]))

            threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong


@pytest.fixture
def unchecked():
    """Shape checks off: a graph traced in the midst of a checked call would take the checker's own stack in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("compiled", [wrapped, in_place, forward_alone, mid_block_alone])
def test_compiled(compiled):
    torch._dynamo.reset()
    counter = CompileCounter()

    def run(unet):
        with torch.no_grad():
            return unet(X, torch.tensor(300))

    unet = small_unet()
    eager = {}
    for strength in (0.25, 0.5, 1.0):
        with bypass_guidance(unet, strength, 2.0):
            eager[strength] = run(unet)
    target = compiled(unet, counter)
    plain = run(target)
    graphs = []
    for strength, expected in eager.items():
        with bypass_guidance(target, strength, 2.0):
            torch.testing.assert_close(run(target), expected)
        assert not torch.equal(expected, plain)
        graphs.append(counter.frame_count)
    assert len(set(graphs)) == 1
    with bypass_guidance(target, 0.0, 2.0):
        assert torch.equal(run(target), plain)
    assert torch.equal(run(target), plain)


@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf, True])
def test_no_scale(scale):
    with pytest.raises(ValueError, match="scale of bypass guidance is a finite number of at least 0, not"):
        enable_bypass_guidance(unconditional_unet(), 0.5, scale)


def test_what_cannot_be_guided_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="predicts its variance too cannot be guided"):
        enable_bypass_guidance(unconditional_unet(out_channels=2), 0.5, 2.0)
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 2"):
        enable_bypass_guidance(unconditional_unet(), 2, 2.0)
    with pytest.raises(ValueError, match="unknown mode 'blnd'"):
        enable_bypass_guidance(unconditional_unet(), 0.5, 2.0, mode="blnd")
    with pytest.raises(ValueError, match="with a schedule pass scheduler="):
        enable_bypass_guidance(unconditional_unet(), window(0.5, sigma_max=5.0), 2.0)
    blockless = unconditional_unet()
    blockless.mid_block = None
    with pytest.raises(ValueError, match="no mid-block"):
        enable_bypass_guidance(blockless, 0.5, 2.0)

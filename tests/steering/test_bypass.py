"""Laws of the bypass, for every mode on tiny pipelines of diffusers' own classes."""

import copy
import gc
import pickle
import threading
import weakref

import peft
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from diffusers import DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from tiny_pipelines import CASES, LATENT, TEXT, draw, scheduler, text_to_image, text_unet, unconditional_unet

import leadline
from leadline import bypass, disable_bypass, enable_bypass, enable_bypass_guidance, ramp, window
from leadline.recipe import SteerSpec
from leadline.schedules import Schedule
from leadline.steering import steered
from leadline.steering.modes import MODES

# diffusers hands torch tensors to NumPy in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def traces(unet):
    """All that a hook, a stand-in or another class could leave on a module."""
    return [
        (
            type(module),
            *((name, copy.copy(value)) for name, value in vars(module).items() if name[0] == "_" and "hooks" in name),
            sorted(vars(module)),
            module.__dict__.get("forward"),
        )
        for module in unet.modules()
    ]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    case = CASES[request.param]()
    case.plain = case.run()
    assert torch.isfinite(case.plain).all()
    return case


@pytest.mark.parametrize("mode", MODES)
def test_laws(case, mode):
    untouched = traces(case.unet)
    images = {}
    for strength in (0.0, 0.5, 1.0):
        with bypass(case.target, strength, mode=mode):
            images[strength] = case.run()
        assert traces(case.unet) == untouched
    assert torch.equal(images[0.0], case.plain)
    assert not torch.equal(images[0.5], case.plain)
    assert not torch.equal(images[1.0], images[0.5])
    assert torch.equal(case.run(), case.plain)


def test_full_blend_is_a_model_without_mid_block(case):
    mid_block = case.unet.mid_block
    case.unet.mid_block = None
    without = case.run()
    case.unet.mid_block = mid_block
    calls = []
    hook = case.unet.mid_block.resnets[0].register_forward_hook(lambda *_: calls.append(1))
    for mode in ("blend", "elements", "channels"):
        with bypass(case.target, 1, mode=mode):
            assert torch.equal(case.run(), without)
    assert not calls
    hook.remove()


def test_after_an_exception_in_any_mode_the_model_is_as_it_was(case):
    untouched = traces(case.unet)

    def fail(*_):
        raise KeyError("somebody's hook")

    for mode, strength in (*((mode, 0.5) for mode in MODES), ("blend", 1.0)):
        hook = case.unet.up_blocks[0].register_forward_hook(fail)
        with pytest.raises(KeyError, match="somebody's"), bypass(case.target, strength, mode=mode):
            case.run()
        hook.remove()
        assert traces(case.unet) == untouched
    assert torch.equal(case.run(), case.plain)


def test_a_constant_full_blend_computes_nothing_of_the_mid_block_but_keeps_it(tmp_path):
    case = text_to_image()
    calls = []
    for module in case.unet.mid_block.modules():
        if module is not case.unet.mid_block:
            module.register_forward_hook(lambda *_: calls.append(1))
    names = set(case.unet.state_dict())
    with bypass(case.target, 1.0):
        case.run()
        assert not calls
        assert set(case.unet.state_dict()) == names
        case.unet.save_pretrained(tmp_path)
        handle_free = UNet2DConditionModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert set(handle_free.state_dict()) == names
    with bypass(case.target, 0.999):
        case.run()
    assert calls


def test_a_full_blend_that_is_wrapped_meanwhile_leaves_no_effect():
    case = text_to_image()
    plain = case.run()
    handle = enable_bypass(case.target, 1.0)
    add_hook_to_module(case.unet.mid_block, ModelHook())
    bypassed = case.run()
    handle.remove()
    assert not torch.equal(bypassed, plain)
    assert torch.equal(case.run(), plain)
    remove_hook_from_module(case.unet.mid_block)
    assert torch.equal(case.run(), plain)


def test_a_handle_is_set_and_removed_any_number_of_times():
    case = text_to_image()
    plain, untouched = case.run(), traces(case.unet)
    with bypass(case.target, 0.5):
        half = case.run()
    with bypass(case.target, 1.0):
        full = case.run()
    handle = enable_bypass(case.target, 0.5)
    assert str(handle.strength) == "0.5"
    for strength, images in ((1.0, full), (0.5, half), ("1", full), (0, plain)):
        handle.strength = strength
        assert torch.equal(case.run(), images)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        handle.strength = 1.5
    assert torch.equal(case.run(), plain)
    handle.strength = 1
    handle.remove()
    handle.remove()
    assert traces(case.unet) == untouched
    with pytest.raises(ValueError, match="was removed"):
        handle.strength = 0.5


def test_a_lost_handle_is_disabled_through_whatever_shares_the_unet():
    first, second = text_to_image(), text_to_image()
    second.target.unet = first.unet
    compiled = torch.compile(first.unet, backend="eager")
    plain, untouched = first.run(), traces(first.unet)
    for owner in (first.target, second.target, first.unet, compiled):
        enable_bypass(first.target, 1.0)
        with pytest.raises(ValueError, match="disable_bypass"):
            enable_bypass(first.target, 0.5)
        disable_bypass(owner)
        assert traces(first.unet) == untouched
    disable_bypass(first.target)
    assert torch.equal(first.run(), plain)
    with pytest.raises(ValueError, match="no U-Net"):
        disable_bypass("a pipeline's name")


def test_a_handle_lost_with_a_compiled_wrapper_or_a_mid_block_is_disabled_too():
    unet = unconditional_unet()
    compiled = torch.compile(unet, backend="eager")
    untouched, mid_block, wrapper = traces(unet), unet.mid_block, weakref.ref(compiled)
    enable_bypass(compiled, 0.5)
    del compiled
    gc.collect()
    assert wrapper() is not None
    unet.mid_block = None
    disable_bypass(unet)
    unet.mid_block = mid_block
    assert traces(unet) == untouched


def test_a_dropped_unet_is_freed_with_its_bypass():
    unet = unconditional_unet()
    enable_bypass(unet, 0.5)
    freed = weakref.ref(unet)
    del unet
    gc.collect()
    assert freed() is None


def test_the_bypass_of_guidance_is_left_to_its_own_handle():
    unet = unconditional_unet()
    guidance = enable_bypass_guidance(unet, 0.5, 2.0)
    with pytest.raises(ValueError, match="serves as guidance"):
        disable_bypass(unet)
    guidance.remove()
    disable_bypass(unet)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_bypassed_model_is_not_copied_and_copies_again_afterwards(strength):
    case = text_to_image()
    with bypass(case.target, strength):
        for copied in (copy.deepcopy, pickle.dumps):
            for part in (case.unet, case.unet.mid_block):
                with pytest.raises(ValueError, match="cannot be copied or pickled under a bypass: remove that first"):
                    copied(part)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(case.unet)))
    plain = case.run()
    case.target.unet = twin
    assert torch.equal(case.run(), plain)


def test_blend_is_the_weighted_mean_of_input_and_output():
    unet, seen = unconditional_unet(), {}

    def see_plain(_module, args, output):
        seen.setdefault("plain", (args[0], output))

    def see_mixed(_module, args):
        seen["mixed"] = args[0]

    unet.mid_block.register_forward_hook(see_plain)
    unet.up_blocks[0].register_forward_pre_hook(see_mixed)
    x = draw(2, 1, LATENT, LATENT, seed=1)
    with torch.no_grad():
        unet(x, 3)
        with bypass(unet, 0.3):
            unet(x, 3)
    h, m = seen["plain"]
    torch.testing.assert_close(seen["mixed"], 0.7 * m + 0.3 * h)


def test_a_schedule_acts_by_the_noise_level_of_each_image():
    """Timesteps that differ within a batch: those outside the window are untouched, to the bit."""
    unet, x = unconditional_unet(), draw(3, 1, LATENT, LATENT, seed=1)
    steps = torch.tensor([10, 500, 990])
    sigmas = ((1 - DDIMScheduler().alphas_cumprod) / DDIMScheduler().alphas_cumprod).sqrt()[steps].tolist()
    assert sigmas[0] < 0.5 < sigmas[1] < 5 < sigmas[2]
    with torch.no_grad():
        plain = unet(x, steps).sample
        with bypass(unet, window(0.5, sigma_max=5.0, sigma_min=0.5), scheduler=DDIMScheduler()):
            steered_images = unet(x, steps).sample
    assert [torch.equal(a, b) for a, b in zip(plain, steered_images, strict=True)] == [True, False, True]


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
def test_a_branch_of_guidance_is_its_half_of_the_batch(branch):
    """The other half's prediction is that of the untouched U-Net, to the bit."""
    case, outputs = text_to_image(num_images_per_prompt=2), []
    case.unet.register_forward_hook(lambda _m, _a, output: outputs.append(output[0].chunk(2)))
    plain = case.run()
    with bypass(case.target, 0.5, branch=branch):
        images = case.run()
    assert not torch.equal(images, plain)
    untouched, touched = (0, 1) if branch == "conditional" else (1, 0)
    before, first = outputs[0], outputs[2]
    assert torch.equal(before[untouched], first[untouched])
    assert not torch.equal(before[touched], first[touched])


def test_both_branches_together_are_the_whole():
    case = text_to_image()
    scheduled = ramp(0.2, 0.8)
    outputs = []
    case.unet.register_forward_hook(lambda _m, _a, output: outputs.append(output[0].chunk(2)))
    for branch in ("unconditional", "conditional", "both"):
        with bypass(case.target, scheduled, branch=branch):
            case.run()
    assert torch.equal(outputs[0][0], outputs[4][0])
    assert torch.equal(outputs[2][1], outputs[4][1])


def test_a_branch_without_guidance_is_refused_at_the_call():
    case = text_to_image(guidance_scale=1.0)
    with bypass(case.target, 0.5, branch="conditional"), pytest.raises(ValueError, match="guidance_scale above 1"):
        case.run()


def test_the_residual_of_a_controlnet_is_added_after_the_bypass():
    unet = text_unet()
    x, text = draw(1, 4, LATENT, LATENT, seed=1), draw(1, 4, TEXT, seed=2)
    shapes, residual = [], None

    def run(residual):
        down = tuple(torch.zeros(shape) for shape in shapes)
        with torch.no_grad():
            return unet(x, 3, text, down_block_additional_residuals=down, mid_block_additional_residual=residual).sample

    shapes += [(1, 8, 8, 8), (1, 8, 8, 8), (1, 8, 4, 4), (1, 16, 4, 4)]
    residual = draw(1, 16, 4, 4, seed=3)
    with bypass(unet, 1.0):
        with_residual, without = run(residual), run(torch.zeros_like(residual))
    unet.mid_block = None
    assert torch.equal(run(residual), with_residual)
    assert not torch.equal(with_residual, without)


def test_lora_layers_of_peft_are_bypassed_with_the_rest():
    case = text_to_image()
    case.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights="gaussian"))
    plain = case.run()
    with bypass(case.target, 0.0):
        assert torch.equal(case.run(), plain)
    with bypass(case.target, 0.5):
        assert not torch.equal(case.run(), plain)
    with bypass(case.target, 1.0):
        full = case.run()
    case.unet.mid_block = None
    assert torch.equal(case.run(), full)


def test_two_threads_with_two_pipelines_do_not_meet():
    """Each waits in the middle of every call of its U-Net until the other is there too."""
    cases = [text_to_image(), text_to_image()]
    barrier = threading.Barrier(2, timeout=30)
    settings = [("ramp(0, 0.9)", "blend"), ("0.5", "channels")]

    def run(index, images):
        with bypass(cases[index].target, settings[index][0], mode=settings[index][1]):
            images[index] = cases[index].run()

    alone, together = {}, {}
    for index in range(2):
        run(index, alone)
    met = []
    for case in cases:
        case.unet.down_blocks[0].register_forward_hook(lambda *_: met.append(barrier.wait()))
    threads = [threading.Thread(target=run, args=(index, together)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(met) == 4
    assert torch.equal(alone[0], together[0])
    assert torch.equal(alone[1], together[1])
    assert not torch.equal(alone[0], alone[1])


def test_two_threads_that_share_a_unet_have_each_its_own_strength():
    """Each stops in the middle of its call until the other has begun, so that a common strength would show."""
    unet, x = unconditional_unet(), draw(1, 1, LATENT, LATENT, seed=1)
    barrier, found = threading.Barrier(2, timeout=30), {}

    def run(t):
        with torch.no_grad():
            found[t] = unet(x, t).sample

    def wait():
        barrier.wait()

    with bypass(unet, ramp(0.0, 1.0), scheduler=DDIMScheduler()):
        for t in (100, 700):
            run(t)
        alone = dict(found)
        hook = unet.down_blocks[0].register_forward_hook(lambda *_: wait())
        threads = [threading.Thread(target=run, args=(t,)) for t in (100, 700)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hook.remove()
    assert all(torch.equal(found[t], alone[t]) for t in (100, 700))


class Recorder(Schedule):
    """Strength 0.5 everywhere; remembers the noise levels that it was asked for."""

    def __init__(self):
        self.sigmas = []

    def _at(self, space, sigma):
        if isinstance(sigma, torch.Tensor):
            self.sigmas += sigma.tolist()
        return space.full_like(sigma, 0.5)


def test_a_scheduler_may_be_exchanged_while_the_bypass_is_attached():
    case, recorder = text_to_image(), Recorder()
    with bypass(case.target, recorder):
        case.run()
        case.target.scheduler = EulerDiscreteScheduler.from_config(
            scheduler().config, timestep_spacing="trailing", beta_end=0.02
        )
        case.run()
    expected = case.target.scheduler.sigmas[:-1].tolist()
    assert recorder.sigmas[2:] == pytest.approx(expected, rel=1e-5)
    assert recorder.sigmas[:2] != pytest.approx(expected, rel=0.1)


def test_steered_is_the_bypass_of_a_recipe():
    case = text_to_image()
    with bypass(case.target, "ramp(0, 0.4)", mode="channels", seed=3):
        expected = case.run()
    with steered(case.target, SteerSpec(strength=0.5, schedule="ramp(0, 0.8)", mode="channels", seed=3)):
        assert torch.equal(case.run(), expected)
    untouched = traces(case.unet)
    with steered(case.target, SteerSpec()):
        assert traces(case.unet) == untouched


def test_the_package_offers_all_three():
    assert leadline.bypass is bypass
    assert leadline.enable_bypass is enable_bypass
    assert leadline.disable_bypass is disable_bypass

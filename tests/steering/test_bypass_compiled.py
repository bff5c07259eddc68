"""torch.compile in all its ways: the bypass is seen, one graph serves all strengths, and the first one comes back."""

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_pipelines import LATENT, TEXT, draw, randomize, text_unet, unconditional_unet
from torch._dynamo.testing import CompileCounter

from leadline import bypass, enable_bypass, ramp
from leadline.steering.modes import MODES

X = draw(2, 1, LATENT, LATENT, seed=1)


class MidBlock(torch.nn.Module):
    """A mid-block as U-Nets call it, small enough to be traced in no time."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, hidden_states, temb=None):
        return self.conv(hidden_states).tanh() + temb


class SmallUNet(torch.nn.Module):
    """What a bypass needs of a U-Net."""

    def __init__(self):
        super().__init__()
        self.down_blocks = torch.nn.ModuleList([torch.nn.Conv2d(1, 4, 3, padding=1)])
        self.mid_block = MidBlock()
        self.up_blocks = torch.nn.ModuleList([torch.nn.Conv2d(4, 1, 3, padding=1)])

    def forward(self, sample, timestep):
        x = self.down_blocks[0](sample)
        return self.up_blocks[0](self.mid_block(x, timestep / 1000))


def small_unet():
    return randomize(SmallUNet(), 0)


def convolutional_unet():
    """diffusers' own, without attention."""
    down, up = ("DownBlock2D", "DownBlock2D"), ("UpBlock2D", "UpBlock2D")
    return unconditional_unet(down_block_types=down, up_block_types=up, add_attention=False)


def wrapped(unet, backend):
    return torch.compile(unet, backend=backend)


def whole_graph(unet, backend):
    return torch.compile(unet, backend=backend, fullgraph=True)


def in_place(unet, backend):
    unet.compile(backend=backend)
    return unet


def forward_alone(unet, backend):
    unet.forward = torch.compile(unet.forward, backend=backend)
    return unet


def mid_block_alone(unet, backend):
    unet.mid_block = torch.compile(unet.mid_block, backend=backend)
    return unet


def mid_block_in_place(unet, backend):
    unet.mid_block.compile(backend=backend)
    return unet


def both(unet, backend):
    return wrapped(mid_block_alone(unet, backend), backend)


WAYS = (wrapped, whole_graph, in_place, forward_alone, mid_block_alone, mid_block_in_place, both)


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def run(unet, t=500):
    with torch.no_grad():
        output = unet(X, torch.tensor(t))
    return output if isinstance(output, torch.Tensor) else output.sample


def eager(strength, t=500, make=small_unet, **options):
    unet = make()
    with bypass(unet, strength, **options):
        return run(unet, t)


@pytest.mark.parametrize(("way", "make"), [(wrapped, convolutional_unet), *((way, small_unet) for way in WAYS)])
def test_a_unet_that_was_compiled_and_called_before(way, make):
    graphs = CompileCounter()
    unet = way(make(), graphs)
    plain = run(unet)
    counts = []
    for tenth in range(1, 11):
        with bypass(unet, tenth / 10):
            assert torch.equal(run(unet), eager(tenth / 10, make=make))
        counts.append(graphs.frame_count)
        assert torch.equal(run(unet), plain)
    assert not torch.equal(eager(0.1, make=make), plain)
    assert counts == counts[:1] * 10
    assert graphs.frame_count == counts[0]


@pytest.mark.parametrize("way", [wrapped, in_place])
def test_full_and_partial_by_turns(way):
    """A full bypass leaves the mid-block out where it can: never in a graph that serves the next strength."""
    graphs = CompileCounter()
    unet = way(small_unet(), graphs)
    plain, expected = run(unet), {strength: eager(strength) for strength in (1.0, 0.5)}
    handle = enable_bypass(unet, 1.0)
    for strength in (1.0, 0.5, 1.0):
        handle.strength = strength
        assert torch.equal(run(unet), expected[strength])
    handle.remove()
    assert torch.equal(run(unet), plain)
    for strength in (1.0, 0.5, 1.0):
        with bypass(unet, strength):
            assert torch.equal(run(unet), expected[strength])
    assert torch.equal(run(unet), plain)
    assert graphs.frame_count == 2


def test_the_unet_of_stable_diffusion():
    """One level of it: every layer more is traced for seconds."""
    unet = text_unet(block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    given = draw(2, 4, LATENT, LATENT, seed=1), torch.tensor(500), draw(2, 4, TEXT, seed=2)

    def images(model):
        with torch.no_grad():
            return model(*given).sample

    strengths, expected = (0.0, 0.3, 1.0), []
    for strength in strengths:
        with bypass(unet, strength):
            expected.append(images(unet))
    graphs = CompileCounter()
    compiled = torch.compile(unet, backend=graphs)
    plain = images(compiled)
    counts = []
    for strength, image in zip(strengths, expected, strict=True):
        with bypass(compiled, strength):
            assert torch.equal(images(compiled), image)
        counts.append(graphs.frame_count)
    assert counts == counts[:1] * 3
    assert torch.equal(images(compiled), plain)
    assert torch.equal(expected[0], plain)
    assert not torch.equal(expected[1], plain)


@pytest.mark.parametrize("mode", ["elements", "channels"])
def test_a_graph_of_any_size(mode):
    unet = torch.compile(small_unet(), backend="eager", dynamic=True)
    for size in (8, 12):
        x = draw(2, 1, size, size, seed=1)
        plain = small_unet()
        with bypass(unet, 0.4, mode=mode), bypass(plain, 0.4, mode=mode), torch.no_grad():
            assert torch.equal(unet(x, torch.tensor(500)), plain(x, torch.tensor(500)))


def test_a_choice_of_no_element_is_refused_in_a_graph_too():
    unet = wrapped(small_unet(), "eager")
    with bypass(unet, 0.001, mode="elements"), pytest.raises(ValueError, match="= 0 of the 256 elements"):
        run(unet)


def test_a_schedule_over_many_steps_is_one_graph():
    graphs = CompileCounter()
    unet = wrapped(small_unet(), graphs)
    with bypass(unet, ramp(0.0, 1.0), scheduler=DDIMScheduler()):
        for t in range(0, 1000, 150):
            assert torch.equal(run(unet, t), eager(ramp(0.0, 1.0), t, scheduler=DDIMScheduler()))
    assert graphs.frame_count == 1


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode):
    unet = wrapped(small_unet(), "eager")
    plain = run(unet)
    for strength in (0.0, 0.4, 1.0):
        with bypass(unet, strength, mode=mode, seed=7):
            assert torch.equal(run(unet), eager(strength, mode=mode, seed=7))
    assert torch.equal(run(unet), plain)


def test_another_seed_is_another_choice_also_in_a_graph():
    unet = wrapped(small_unet(), "eager")
    for seed in range(3):
        with bypass(unet, 0.5, mode="elements", seed=seed):
            assert torch.equal(run(unet), eager(0.5, mode="elements", seed=seed))


@pytest.mark.parametrize("way", WAYS)
def test_a_unet_that_is_compiled_under_the_bypass(way):
    unet = small_unet()
    plain, handle = run(unet), enable_bypass(unet, 0.5)
    compiled = way(unet, "eager")
    assert torch.equal(run(compiled), eager(0.5))
    handle.remove()
    assert torch.equal(run(compiled), plain)


def test_nothing_is_left_on_a_compiled_unet():
    for way in (wrapped, in_place):
        unet = way(small_unet(), "eager")
        inner = getattr(unet, "_orig_mod", unet)
        before = [(type(module), dict(vars(module))) for module in inner.modules()]
        with bypass(unet, 0.5):
            run(unet)
        assert [(type(module), dict(vars(module))) for module in inner.modules()] == before
        assert not unet._forward_hooks
        assert not unet._forward_pre_hooks


def test_graphs_that_are_fixed_for_good_are_refused():
    unet = small_unet()
    unet.mid_block = torch.jit.ScriptModule()
    with pytest.raises(ValueError, match="ScriptModule: a scripted, traced or exported module"):
        enable_bypass(unet, 0.5)
    frozen = torch.fx.symbolic_trace(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="a scripted, traced or exported module"):
        enable_bypass(frozen, 0.5)

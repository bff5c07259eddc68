"""Guidance by a bypassed U-Net (2406.02507, autoguidance, with the bypass as what makes the model worse)."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from leadline.errors import LeadlineError
from leadline.schedules import Constant, Schedule
from leadline.steering.bypass import Bypass, Switch, enable_bypass
from leadline.steering.targets import find_target

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class BypassGuidance:
    """Guidance that is attached: see `enable_bypass_guidance`. `remove()` takes it away."""

    def __init__(self, entry: nn.Module, bypass: Bypass, scale: float) -> None:
        self._bypass, self._scale = bypass, scale
        # The bypass acts in the second call alone, in the thread that makes it.
        bypass.switch = Switch(False)
        self._undo = ExitStack()
        self._undo.callback(bypass.remove)
        self._undo.callback(_replace_output(entry, lambda given, good: self._guided(entry, given, good)))

    def remove(self) -> None:
        """Take the guidance away; doing so twice is allowed."""
        self._undo.close()

    def _guided(self, entry: nn.Module, given: Arguments, good: Any) -> Any:
        """The U-Net's output led away from what the bypassed U-Net makes of the same input."""
        bypass = self._bypass
        if bypass.switch.on or self._scale == 1:
            return good
        bypass.switch.on = True
        try:
            if not self._acts_at(given):
                return good
            bad = entry(*given[0], **given[1])
        finally:
            bypass.switch.on = False
        return _with_sample(good, lead(_sample(good), _sample(bad), self._scale))

    def _acts_at(self, given: Arguments) -> bool:
        """Whether the bypass has any strength at this call's noise level; only a schedule makes the device tell."""
        schedule = self._bypass.strength
        if isinstance(schedule, Constant):
            return schedule.strength != 0
        args, kwargs = given
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        return bool(self._bypass.strength_at(timestep, sample.device).any())


def lead(good: Tensor, bad: Tensor, scale: float) -> Tensor:
    """2406.02507 Eq. 3, of any outputs that are affine in the denoised image: bad + scale * (good - bad).

    good, bad: of one shape and type. Where they are equal the result is `good` to the bit.
    """
    return torch.where(good == bad, good, torch.lerp(bad, good, scale))


def enable_bypass_guidance(
    target: Any,
    strength: float | int | str | Schedule,
    scale: float | int,
    *,
    mode: str = "blend",
    seed: int = 0,
    scheduler: Any = None,
) -> BypassGuidance:
    """2406.02507 Eq. 3, autoguidance, with the U-Net under a bypass (2505.17560, our reading) as the weaker model.

    Attached until `remove()`, the U-Net's output is bad + scale * (good - bad), good what it makes itself and bad what
    it makes of the same input under the bypass. Outputs of any prediction type are affine in the denoised image at one
    noise level, so this is the papers' combination of denoised images. scale 1 is the model itself, 0 the bypassed one,
    above 1 leads away from it. Under classifier-free guidance both branches are led, before they are combined.

    Cost: the U-Net is called twice where the strength is above 0, once where it is 0 or the scale is 1, and there the
    output is that of the model itself to the bit.

    scale: finite, at least 0. target, strength, mode, seed, scheduler: as in `enable_bypass`.
    Raises LeadlineError (a ValueError), before anything runs, where `enable_bypass` does, for another scale, and for a
    U-Net that predicts its variance too, which cannot be led so.
    """
    if isinstance(scale, bool) or not (math.isfinite(scale) and scale >= 0):
        raise LeadlineError(f"the scale of bypass guidance is a finite number of at least 0, not {scale!r}")
    found = find_target(target, scheduler)
    config = getattr(found.unet, "config", {})
    if config.get("out_channels") == 2 * config.get("in_channels", 0) > 0:
        raise LeadlineError(
            f"the U-Net has {config['in_channels']} input and {config['out_channels']} output channels: a model that "
            "predicts its variance too cannot be guided this way; bypass it instead"
        )
    bypass = enable_bypass(target, strength, mode=mode, seed=seed, scheduler=scheduler)
    return BypassGuidance(found.entry, bypass, float(scale))


@contextmanager
def bypass_guidance(
    target: Any,
    strength: float | int | str | Schedule,
    scale: float | int,
    *,
    mode: str = "blend",
    seed: int = 0,
    scheduler: Any = None,
) -> Iterator[BypassGuidance]:
    """2406.02507 Eq. 3 with a bypassed U-Net as the weaker model: `enable_bypass_guidance` for a with-block.

    with leadline.bypass_guidance(pipe, 0.5, 1.5):
        image = pipe("an actress").images[0]

    Arguments, cost and errors as there. After the block, also after an exception in it, the model is as it was.
    """
    handle = enable_bypass_guidance(target, strength, scale, mode=mode, seed=seed, scheduler=scheduler)
    try:
        yield handle
    finally:
        handle.remove()


class _Given(threading.local):
    """A thread's arguments of the call under way."""

    arguments: Arguments = (), {}


def _replace_output(module: nn.Module, change: Callable[[Arguments, Any], Any]) -> Callable[[], None]:
    """Give back `change(arguments, output)` from each call of the module, run eagerly; what comes back ends that.

    As `run_around`: hooks of a torch.compile wrapper run outside its graph, those of a module compiled in place do not.
    """
    compiled = None if isinstance(module, OptimizedModule) else getattr(module, "_compiled_call_impl", None)
    if compiled is not None:

        def call(*args: Any, **kwargs: Any) -> Any:
            given = _kept(args, kwargs)
            return change(given, compiled(*args, **kwargs))

        module._compiled_call_impl = call

        def restore() -> None:
            if module._compiled_call_impl is call:
                module._compiled_call_impl = compiled

        return restore

    held = _Given()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        held.arguments = _kept(args, kwargs)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        given, held.arguments = held.arguments, ((), {})
        return change(given, output)

    hooks = (module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after))

    def remove() -> None:
        for hook in hooks:
            hook.remove()

    return remove


def _kept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """The arguments for a second call: the U-Net takes a T2I-Adapter's residuals out of the list it is given."""
    return args, {name: list(value) if isinstance(value, list) else value for name, value in kwargs.items()}


def _sample(output: Any) -> Tensor:
    """The prediction in what a U-Net returns: a tensor, a tuple, or diffusers' output class."""
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found


def _with_sample(output: Any, sample: Tensor) -> Any:
    """What a U-Net returned, with another prediction in it."""
    if isinstance(output, Tensor):
        return sample
    return (sample, *output[1:]) if isinstance(output, tuple) else type(output)(sample)

"""The bypass of the mid-block (2505.17560, "Pushing a model to high variance"; our reading of its modes)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, get_args
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SteerSpec
from leadline.schedules import Constant, Schedule, as_schedule, constant, strengths
from leadline.steering.compiled import is_compiled, make_recompile, run_around
from leadline.steering.levels import Levels, wide
from leadline.steering.modes import MODES, combine
from leadline.steering.targets import (
    Target,
    check_branches,
    check_guided,
    check_same_shape,
    check_shape,
    find_target,
    levels_from,
)

BRANCHES: tuple[str, ...] = get_args(SteerSpec.model_fields["branch"].annotation)

_LOCK = threading.RLock()
_BYPASSED: WeakSet[nn.Module] = WeakSet()
"""U-Nets with a bypass attached, and their mid-blocks."""
_HOOKS: "WeakKeyDictionary[nn.Module, MidBlockHook]" = WeakKeyDictionary()
"""One hook per mid-block for good: a compiled graph that was traced with it serves the next bypass too."""


class _Call:
    """What one call of the U-Net tells its mid-block's hook, and whether that ran."""

    strength: Tensor | None = None
    ran = False


class _ThreadsCall(threading.local, _Call):
    """One of its own for each thread: two pipelines may share a U-Net."""


class Switch(threading.local):
    """Whether a bypass acts in this thread; where it does not, its strength is 0."""

    def __init__(self, on: bool) -> None:
        self.on = on


class MidBlockHook:
    """A forward hook that puts `combine` of the mid-block's input and output in the place of its output.

    The strength is a tensor, so that a compiled graph takes it as an input and one graph serves all strengths.
    """

    def __init__(self) -> None:
        self.mode, self.seed = MODES[0], 0
        self.eager = _ThreadsCall()
        # A graph cannot read what belongs to a thread: threads must not share a compiled U-Net under a schedule.
        self.traced = _Call()

    def begin(self, strength: Tensor) -> None:
        """Note the strength, [1] or one per equal part of the batch, for the call that comes."""
        for call in (self.eager, self.traced):
            call.strength, call.ran = strength, False

    def end(self) -> bool:
        """Forget the strength; whether the mid-block was run since `begin`."""
        ran = self.eager.ran or self.traced.ran
        for call in (self.eager, self.traced):
            call.strength, call.ran = None, False
        return ran

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
        call = self.traced if torch.compiler.is_compiling() else self.eager
        h, a = args[0] if args else kwargs["hidden_states"], call.strength
        if a is None:
            raise LeadlineError(
                "the bypassed mid-block was called other than through the U-Net that the bypass is attached to: call "
                "the pipeline or the U-Net itself (not its forward, and not the module inside a torch.compile wrapper)"
            )
        call.ran = True
        check_same_shape(h.shape, output.shape)
        if len(a) > 1:
            if len(output) % len(a):
                raise LeadlineError(f"a batch of {len(output)} does not fall into {len(a)} parts of their own strength")
            a = a.repeat_interleave(len(output) // len(a))
        mixed = combine(self.mode, self.seed, h.to(output), output, a.to(output.device).reshape(-1, 1, 1, 1))
        # In the output's memory layout too: on it hangs how later layers round.
        return mixed if mixed.stride() == output.stride() else torch.empty_like(output).copy_(mixed)


class SkippedForward:
    """Stands in for a mid-block's forward and hands the input on, so that nothing of the block is computed.

    The block stays where it is: its weights are saved, moved and loaded as ever. Taken away, it leaves what was there
    before, be it another's stand-in (accelerate's offload); where somebody has wrapped it meanwhile, it runs the
    forward that it found.
    """

    def __init__(self, mid_block: nn.Module, wanted: Callable[[], bool]) -> None:
        self._mid_block, self._wanted = mid_block, wanted
        self._was_instance = "forward" in vars(mid_block)
        self._forward: Callable[..., Any] = mid_block.forward
        self._active = True
        mid_block.forward = self

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        skips = self._active and self._wanted()
        return hidden_states if skips else self._forward(hidden_states, *args, **kwargs)

    def remove(self) -> None:
        """Give the block its forward back."""
        self._active = False
        if vars(self._mid_block).get("forward") is not self:
            return
        if self._was_instance:
            self._mid_block.forward = self._forward
        else:
            del self._mid_block.forward


class Bypass:
    """A bypass that is attached: see `enable_bypass`. `remove()` takes it away; `strength` may be set meanwhile."""

    def __init__(self, target: Target, schedule: Schedule, *, mode: str, seed: int, branch: str) -> None:
        self._target, self._branch, self._schedule = target, branch, schedule
        self._checked: tuple[Any, Schedule, Levels] | None = None
        self.switch = Switch(True)
        self._check(schedule)
        self._skip: SkippedForward | None = None
        parts = (target.unet, target.mid_block)
        with _LOCK, ExitStack() as undo:
            if not _BYPASSED.isdisjoint(parts):
                raise LeadlineError(
                    "the U-Net has a bypass already, perhaps as guidance or through another pipeline that shares it: "
                    "remove that one first (leave its with-block, or call remove() on its handle), or set its handle's "
                    "strength"
                )
            _BYPASSED.update(parts)
            undo.callback(_BYPASSED.difference_update, parts)
            self._hook = _HOOKS.setdefault(target.mid_block, MidBlockHook())
            self._hook.mode, self._hook.seed = mode, seed
            undo.callback(make_recompile(target.mid_block))
            undo.callback(target.mid_block.register_forward_hook(self._hook, with_kwargs=True).remove)
            undo.callback(run_around(target.entry, self._before, self._after))
            self._skip_or_not()
            self._undo = undo.pop_all()
            self._attached = True

    @property
    def strength(self) -> Schedule:
        """The schedule in force; set it to a number, a schedule's text or a Schedule. Raises LeadlineError."""
        return self._schedule

    @strength.setter
    def strength(self, strength: float | int | str | Schedule) -> None:
        schedule = as_schedule(strength)
        self._check(schedule)
        with _LOCK:
            if not self._attached:
                raise LeadlineError("this bypass was removed: attach another with enable_bypass")
            self._schedule = schedule
            self._skip_or_not()

    def remove(self) -> None:
        """Take the bypass away; doing so twice is allowed."""
        with _LOCK:
            self._attached = False
            self._end_skip()
            self._undo.close()

    def _before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell the mid-block's hook its strength in the U-Net's call that comes."""
        if self._branch != "both":
            check_guided(self._target.owner, self._branch)
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        with torch.no_grad():
            a = self.strength_at(timestep, sample.device)
            self._hook.begin(_by_branch(a, self._branch).to(sample.device))

    def _after(self, succeeded: bool) -> None:
        """Raise LeadlineError when the U-Net's call had nothing of the bypass."""
        ran = self._hook.end()
        if succeeded and not ran:
            raise LeadlineError(
                "the U-Net ran, but the bypass of its mid-block did not: something else replaces or skips the "
                "mid-block, or calls a graph that was compiled without it; attach the bypass after that, or remove it"
            )

    def strength_at(self, timestep: Any, device: torch.device) -> Tensor:
        """[1], or one for each of several timesteps; nothing is read back from the device."""
        held = 0.0 if not self.switch.on else self._schedule.strength if isinstance(self._schedule, Constant) else None
        if held is not None:
            return torch.full((1,), held, dtype=wide(device), device=device)
        sigma = self._levels(self._schedule).sigma(torch.as_tensor(timestep).reshape(-1))
        a: Tensor = self._schedule(sigma)
        # Between the levels that were checked a sum may pass 1 by rounding.
        return a.clamp(0, 1)

    def _check(self, schedule: Schedule) -> None:
        """Raise LeadlineError when a schedule's noise levels are unknown or its strengths leave [0, 1] on them."""
        if not isinstance(schedule, Constant):
            self._levels(schedule)

    def _levels(self, schedule: Schedule) -> Levels:
        """Those of the scheduler that the pipeline has now; a new scheduler is checked as the first one was."""
        source = self._target.noise_source()
        if self._checked is None or self._checked[0] is not source or self._checked[1] is not schedule:
            levels = levels_from(source)
            strengths(schedule, levels.grid)
            self._checked = (source, schedule, levels)
        return self._checked[2]

    def _skip_or_not(self) -> None:
        """Leave the mid-block out where its output would not be used at any noise level, unless it is compiled."""
        whole = isinstance(self._schedule, Constant) and self._schedule.strength == 1
        wanted = whole and self._hook.mode != "attenuate" and self._branch == "both" and not self._is_compiled()
        if wanted and self._skip is None:
            self._skip = SkippedForward(self._target.mid_block, lambda: self.switch.on)
        elif not wanted:
            self._end_skip()

    def _end_skip(self) -> None:
        if self._skip is not None:
            self._skip.remove()
            self._skip = None

    def _is_compiled(self) -> bool:
        target = self._target
        parts = (target.entry, target.unet, target.unet.mid_block, target.mid_block)
        return any(is_compiled(part) for part in parts if isinstance(part, nn.Module))


def enable_bypass(
    target: Any,
    strength: float | int | str | Schedule,
    *,
    mode: str = "blend",
    seed: int = 0,
    branch: str = "both",
    scheduler: Any = None,
) -> Bypass:
    """2505.17560, "Pushing a model to high variance": attach a bypass of the U-Net's mid-block until `remove()`.

    The paper bypasses a growing percentage of the mid-block of Stable Diffusion 1.5 and gives no equation. Our
    reading, with h the mid-block's input, M its output and a the strength: (1 - a) M + a h ("blend"); a seeded
    fraction a of the elements or of the channels takes h, the rest M ("elements", "channels"); (1 - a) M
    ("attenuate"). At a = 0 images are those of the model itself to the bit. Where a is 1 at every noise level,
    nothing but the mid-block's input is left (but for "attenuate"), and the mid-block is not computed.

    target: a diffusers pipeline with a U-Net, a DiffusersDenoiser, or a U-Net, also under torch.compile (one graph for
        all strengths of a mode and seed; traced when first called with a bypass, beside the one without).
    strength: a number in [0, 1], a schedule (`leadline.ramp`, `window`, `bump`, `constant`) or its text. A schedule is
        a function of the noise level sigma = sqrt((1 - abar) / abar), taken from the timestep that the U-Net is given
        by the pipeline's scheduler of the moment.
    seed: of the choice of elements or channels: the same for all images and steps; more at a larger strength.
    branch: "both", "conditional" or "unconditional": which half of classifier-free guidance is bypassed.
    scheduler: for a U-Net alone under a schedule: what chooses its timesteps. Default: the pipeline's own.

    Raises LeadlineError (a ValueError), before anything runs, where there is no mid-block, where it changes the shape,
    for a strength outside [0, 1], an unknown mode or branch, a scheduler without known noise levels, and for a second
    bypass on a U-Net; at the call, where guidance is off but one branch was asked for, and where the bypass would be
    without effect.
    """
    schedule = as_schedule(strength)
    if mode not in MODES:
        raise LeadlineError(f"unknown mode {mode!r} of a bypass: {did_you_mean(mode, MODES)}")
    if branch not in BRANCHES:
        raise LeadlineError(f"unknown branch {branch!r} of guidance: {did_you_mean(branch, BRANCHES)}")
    found = find_target(target, scheduler)
    if branch != "both":
        check_branches(target, branch)
    check_shape(found)
    return Bypass(found, schedule, mode=mode, seed=seed, branch=branch)


@contextmanager
def bypass(
    target: Any,
    strength: float | int | str | Schedule,
    *,
    mode: str = "blend",
    seed: int = 0,
    branch: str = "both",
    scheduler: Any = None,
) -> Iterator[Bypass]:
    """2505.17560, "Pushing a model to high variance" (our reading): `enable_bypass` for the length of a with-block.

    with leadline.bypass(pipe, 0.3):
        image = pipe("an actress").images[0]

    Arguments and errors as there. After the block, also after an exception in it, the model is as it was.
    """
    handle = enable_bypass(target, strength, mode=mode, seed=seed, branch=branch, scheduler=scheduler)
    try:
        yield handle
    finally:
        handle.remove()


def steered(target: Any, spec: SteerSpec) -> AbstractContextManager[Any]:
    """A recipe's steering for the length of a with-block; nothing at strength 0."""
    if spec.strength == 0:
        return nullcontext()
    schedule = constant(spec.strength)
    whole = schedule & as_schedule(spec.schedule) if spec.schedule else schedule
    return bypass(target, whole, mode=spec.mode, seed=spec.seed, branch=spec.branch)


def _by_branch(a: Tensor, branch: str) -> Tensor:
    """Strengths [k] of the whole batch as those of its two halves, the unconditional one first."""
    if branch == "both":
        return a
    halves = a.new_tensor([0.0, 1.0] if branch == "conditional" else [1.0, 0.0])
    return a * (halves if len(a) == 1 else halves.repeat_interleave(len(a) // 2))

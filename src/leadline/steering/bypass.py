"""The bypass of the mid-block (2505.17560, "Pushing a model to high variance"; our reading of its modes)."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from leadline.errors import LeadlineError, did_you_mean
from leadline.recipe import SteerSpec
from leadline.schedules import Constant, Schedule, as_schedule, constant, highest
from leadline.steering.compiled import is_compiled, make_recompile, run_around, uncompiled
from leadline.steering.levels import Levels, wide
from leadline.steering.midblock import MidBlockHook, SkippedForward
from leadline.steering.modes import MODES, check_choice
from leadline.steering.targets import (
    Target,
    check_branches,
    check_guided,
    check_shape,
    find_entry,
    find_target,
    levels_from,
)

BRANCHES: tuple[str, ...] = get_args(SteerSpec.model_fields["branch"].annotation)

_LOCK = threading.RLock()
_HANDLE = "_leadline_bypass"
"""Where a U-Net and its mid-block hold their Bypass while it is attached: it lives as long as they do."""
_HOOKS: "WeakKeyDictionary[nn.Module, MidBlockHook]" = WeakKeyDictionary()
"""One hook per mid-block for good: a compiled graph that was traced with it serves the next bypass too."""


class Switch(threading.local):
    """Whether a bypass acts in this thread; where it does not, its strength is 0."""

    def __init__(self, on: bool) -> None:
        self.on = on


class _Checked(NamedTuple):
    """A schedule on the noise levels of one scheduler or ladder, and its greatest strength there."""

    source: Any
    schedule: Schedule
    levels: Levels
    highest: float


class Bypass:
    """A bypass that is attached: see `enable_bypass`. `remove()` takes it away; `strength` may be set meanwhile."""

    def __init__(
        self, target: Target, schedule: Schedule, *, mode: str, seed: int, branch: str, width: int | None
    ) -> None:
        self._target, self._branch, self._schedule = target, branch, schedule
        self._mode, self._width = mode, width
        self._checked: _Checked | None = None
        self.switch = Switch(True)
        self._check(schedule)
        self._skip: SkippedForward | None = None
        parts = (target.unet, target.mid_block)
        with _LOCK, ExitStack() as undo:
            if any(_HANDLE in vars(part) for part in parts):
                raise LeadlineError(
                    "the U-Net has a bypass already, perhaps as guidance or through another pipeline that shares it: "
                    "remove that one first (leave its with-block, call remove() on its handle, or "
                    "leadline.disable_bypass(pipe)), or set its handle's strength"
                )
            for part in parts:
                vars(part)[_HANDLE] = self
                undo.callback(vars(part).pop, _HANDLE)
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
        """Raise LeadlineError when the U-Net's call had nothing of the bypass, and will not have."""
        count = self._hook.end()
        if not succeeded:
            return
        if count is None:
            raise LeadlineError(
                "the U-Net ran, but the bypass of its mid-block did not: something else replaces or skips the "
                "mid-block, or calls a graph that was compiled without it; attach the bypass after that, or remove it"
            )
        schedule = self._schedule
        check_choice(self._mode, self._highest(schedule), count)

    def strength_at(self, timestep: Any, device: torch.device) -> Tensor:
        """[1], or one for each of several timesteps; nothing is read back from the device."""
        held = 0.0 if not self.switch.on else self._schedule.strength if isinstance(self._schedule, Constant) else None
        if held is not None:
            return torch.full((1,), held, dtype=wide(device), device=device)
        sigma = self._on_levels(self._schedule).levels.sigma(torch.as_tensor(timestep).reshape(-1))
        a: Tensor = self._schedule(sigma)
        # Between the levels that were checked a sum may pass 1 by rounding.
        return a.clamp(0, 1)

    def _check(self, schedule: Schedule) -> None:
        """Raise LeadlineError when a schedule's noise levels are unknown, its strengths leave [0, 1] on them, or it
        would be without effect though it is not 0 by its own numbers."""
        check_choice(self._mode, self._highest(schedule), self._width if self._mode == "channels" else None)

    def _highest(self, schedule: Schedule) -> float:
        """The greatest strength at the noise levels of the scheduler of the moment."""
        return schedule.strength if isinstance(schedule, Constant) else self._on_levels(schedule).highest

    def _on_levels(self, schedule: Schedule) -> "_Checked":
        """The schedule on the levels of the scheduler that the pipeline has now; a new scheduler is checked as the
        first one was."""
        source, checked = self._target.noise_source(), self._checked
        if checked is None or checked.source is not source or checked.schedule is not schedule:
            levels = levels_from(source)
            self._checked = checked = _Checked(source, schedule, levels, highest(schedule, levels.grid))
        return checked

    def _skip_or_not(self) -> None:
        """Leave the mid-block out where its output would not be used at any noise level, unless it is compiled, or is
        not known to keep the shape."""
        whole = isinstance(self._schedule, Constant) and self._schedule.strength == 1 and self._branch == "both"
        wanted = whole and self._mode != "attenuate" and self._width is not None and not self._is_compiled()
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
    nothing but the mid-block's input is left (but for "attenuate"), and the mid-block is not computed; on a compiled
    U-Net, whose graph serves all strengths, and on a mid-block that only a call can tell to keep the shape, it still
    is, and its output is dropped.

    target: a diffusers pipeline with a U-Net, a DiffusersDenoiser, or a U-Net, also under torch.compile (one graph for
        all strengths of a mode and seed; traced when first called with a bypass, beside the one without).
    strength: a number in [0, 1], a schedule (`leadline.ramp`, `window`, `bump`, `constant`) or its text. A schedule is
        a function of the noise level sigma = sqrt((1 - abar) / abar), taken from the timestep that the U-Net is given
        by the pipeline's scheduler of the moment.
    seed: of the choice of elements or channels: the same for all images and steps; more at a larger strength.
    branch: "both", "conditional" or "unconditional": which half of classifier-free guidance is bypassed.
    scheduler: for a U-Net alone under a schedule: what chooses its timesteps. Default: the pipeline's own.

    Raises LeadlineError (a ValueError), before anything runs, where there is no mid-block, where it changes the shape,
    for a strength outside [0, 1], an unknown mode or branch, a scheduler without known noise levels, a schedule that is
    0 on all of them, a fraction of the channels that rounds to none, and for a second bypass on a U-Net; at the call,
    where guidance is off but one branch was asked for, a fraction of the elements rounds to none, and where the bypass
    would be without effect otherwise. Until `remove()` the U-Net cannot be deep-copied or pickled. A handle that was
    lost: `disable_bypass`.
    """
    schedule = as_schedule(strength)
    if mode not in MODES:
        raise LeadlineError(f"unknown mode {mode!r} of a bypass: {did_you_mean(mode, MODES)}")
    if branch not in BRANCHES:
        raise LeadlineError(f"unknown branch {branch!r} of guidance: {did_you_mean(branch, BRANCHES)}")
    found = find_target(target, scheduler)
    if branch != "both":
        check_branches(target, branch)
    return Bypass(found, schedule, mode=mode, seed=seed, branch=branch, width=check_shape(found))


def disable_bypass(target: Any) -> None:
    """Take the bypass away from the U-Net of a pipeline, a Denoiser or a U-Net itself, whoever attached it.

    For a handle that was lost; else `remove()` on the handle does the same. Also through another pipeline that shares
    the U-Net. Without a bypass there, nothing is done. Raises LeadlineError where there is no U-Net, and for the bypass
    of guidance, which is removed by the handle of `enable_bypass_guidance`.
    """
    unet = uncompiled(find_entry(target))
    mid_block = getattr(unet, "mid_block", None)
    parts = (unet, uncompiled(mid_block)) if isinstance(mid_block, nn.Module) else (unet,)
    for part in parts:
        handle = vars(part).get(_HANDLE)
        if handle is None:
            continue
        if not handle.switch.on:
            raise LeadlineError(
                "the bypass of this U-Net serves as guidance: leave its with-block, or call remove() on the handle "
                "that enable_bypass_guidance gave back"
            )
        handle.remove()


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

"""What a bypass puts around a mid-block: a hook that mixes its input into its output, or nothing in its place."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from leadline.errors import LeadlineError
from leadline.steering.modes import MODES, combine, places
from leadline.steering.targets import check_activations


class _Call:
    """What one call of the U-Net tells its mid-block's hook, and what that found when it ran.

    Attributes:
        strength: [1], or one per equal part of the batch.
        places: how many elements or channels of an image there are to choose from; None if the hook did not run.
    """

    strength: Tensor | None = None
    places: int | None = None


class _ThreadsCall(threading.local, _Call):
    """One of its own for each thread: two pipelines may share a U-Net."""


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
            call.strength, call.places = strength, None

    def end(self) -> int | None:
        """Forget the strength; `places` of the mid-block's activations, None if it was not run since `begin`."""
        found = self.traced.places if self.eager.places is None else self.eager.places
        for call in (self.eager, self.traced):
            call.strength, call.places = None, None
        return found

    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
        call = self.traced if torch.compiler.is_compiling() else self.eager
        h: Any = args[0] if args else kwargs.get("hidden_states")
        a = call.strength
        if a is None:
            raise LeadlineError(
                "the bypassed mid-block was called other than through the U-Net that the bypass is attached to: call "
                "the pipeline or the U-Net itself (not its forward, and not the module inside a torch.compile wrapper)"
            )
        check_activations(h, output)
        call.places = places(self.mode, output)
        if len(a) > 1:
            if len(output) % len(a):
                raise LeadlineError(f"a batch of {len(output)} does not fall into {len(a)} parts of their own strength")
            a = a.repeat_interleave(len(output) // len(a))
        a = a.to(output.device).reshape(-1, *[1] * (output.ndim - 1))
        mixed = combine(self.mode, self.seed, h.to(output), output, a)
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

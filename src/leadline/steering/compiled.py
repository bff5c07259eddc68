"""What torch.compile asks of a hook that is added after the first call, and where eager code can run around a graph."""

from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import nn
from torch._dynamo import OptimizedModule

from leadline.errors import LeadlineError

Remove = Callable[[], None]
Before = Callable[[tuple[Any, ...], dict[str, Any]], None]
"""Sees a call's arguments right before it."""
After = Callable[[bool], None]
"""Told whether the call succeeded, right after it, also when it failed."""


def refuse_frozen(module: nn.Module) -> None:
    """Raise LeadlineError for a module whose graph is fixed for good: no hook would ever run in it."""
    if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise LeadlineError(
            f"{type(module).__name__}: a scripted, traced or exported module has a fixed graph that a bypass cannot "
            "enter: attach the bypass to the diffusers U-Net it was made from, compiled with torch.compile or not"
        )


def uncompiled(module: nn.Module) -> nn.Module:
    """The module inside a wrapper of torch.compile, or the module itself."""
    while isinstance(module, OptimizedModule):
        module = module._orig_mod
    return module


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile is around the module's call, in place or as a wrapper, or around its forward."""
    return (
        isinstance(module, OptimizedModule)
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


def run_around(module: nn.Module, before: Before, after: After) -> Remove:
    """Run both eagerly around each call of the module; what comes back takes them away.

    Hooks of a torch.compile wrapper run outside its graph. A module compiled in place (`unet.compile()`) has its own
    hooks inside the graph: there the compiled call itself is wrapped.
    """
    compiled = None if isinstance(module, OptimizedModule) else getattr(module, "_compiled_call_impl", None)
    if compiled is None:
        return _hooks_around(module, before, after)

    def call(*args: Any, **kwargs: Any) -> Any:
        before(args, kwargs)
        succeeded = False
        try:
            output = compiled(*args, **kwargs)
            succeeded = True
        finally:
            after(succeeded)
        return output

    module._compiled_call_impl = call

    def remove() -> None:
        if module._compiled_call_impl is call:
            module._compiled_call_impl = compiled

    return remove


class _OutsideGraphs:
    """A hook that no graph takes in."""

    def __init__(self, hook: Callable[..., None]) -> None:
        self._hook = hook

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, *args: Any) -> None:
        self._hook(*args)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self, protocol)


def refuse_copy(_part: Any, _protocol: SupportsIndex) -> NoReturn:
    """In the place of `__reduce_ex__`: raise LeadlineError where a module is copied or pickled under a bypass."""
    raise LeadlineError(
        "a U-Net cannot be copied or pickled under a bypass: remove that first (leave its with-block, call remove() on "
        "its handle, or leadline.disable_bypass(pipe)); save_pretrained and state_dict are possible all the time"
    )


def _hooks_around(module: nn.Module, before: Before, after: After) -> Remove:
    first = _OutsideGraphs(lambda _module, args, kwargs: before(args, kwargs))
    last = _OutsideGraphs(lambda _module, _args, output: after(output is not None))
    handles = (
        module.register_forward_pre_hook(first, with_kwargs=True),
        module.register_forward_hook(last, always_call=True),
    )

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


@cache
def _variant(own: Any) -> Any:
    names = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__}
    names["__reduce_ex__"] = refuse_copy
    return type(own.__name__, (own,), names)


def make_recompile(module: nn.Module) -> Remove:
    """Give the module a class of the same name and behaviour, so that graphs traced before are not used meanwhile.

    A compiled graph does not notice hooks that come or go (dynamo's skip_nnmodule_hook_guards), but it does check the
    classes of the modules in it: with the other class it is traced again, with the hooks; when the class is given
    back, so is the first graph. One such class per class, so that the second graph too is found again. It cannot be
    copied or pickled: what is attached meanwhile cannot either.
    """
    own: Any = type(module)
    variant = _variant(own)
    module.__class__ = variant

    def remove() -> None:
        if type(module) is variant:
            module.__class__ = own

    return remove

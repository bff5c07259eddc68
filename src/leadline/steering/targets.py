"""The U-Net in what a bypass is attached to, and the refusal of what cannot be bypassed, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from leadline.errors import LeadlineError
from leadline.steering.compiled import refuse_frozen, uncompiled
from leadline.steering.levels import LadderLevels, Levels, levels_of

TWO_BRANCHES = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
    }
)
"""Pipelines whose batch under classifier-free guidance is an unconditional half, then a conditional one."""


@dataclass(frozen=True)
class Target:
    """What a bypass is attached to.

    Attributes:
        owner: what was given: a pipeline, a Denoiser or a U-Net.
        entry: the module that is called: the U-Net or its torch.compile wrapper.
        unet: the U-Net itself.
        mid_block: its mid-block, without a torch.compile wrapper: a graph of the whole U-Net would not see hooks on it.
        scheduler: one that was given for good, or None: the owner's own.
    """

    owner: Any
    entry: nn.Module
    unet: nn.Module
    mid_block: nn.Module
    scheduler: Any = None

    def noise_source(self) -> Any:
        """What says the noise level of a timestep now: a scheduler, a Denoiser's ladder, or None. A pipeline's
        scheduler may be exchanged at any time."""
        if self.scheduler is not None:
            return self.scheduler
        if self.owner is self.entry:
            return None
        scheduler = getattr(self.owner, "scheduler", None)
        return getattr(self.owner, "sigmas", None) if scheduler is None else scheduler


def find_entry(owner: Any) -> nn.Module:
    """The U-Net in a diffusers pipeline or a Denoiser, or itself, in its torch.compile wrapper if it has one. Raises
    LeadlineError where there is none."""
    entry = owner if isinstance(owner, nn.Module) else getattr(owner, "unet", None)
    if not isinstance(entry, nn.Module):
        raise LeadlineError(f"{type(owner).__name__} has no U-Net, hence no mid-block to bypass{_other_parts(owner)}")
    return entry


def find_target(owner: Any, scheduler: Any = None) -> Target:
    """The U-Net with a mid-block in a diffusers pipeline, a Denoiser, or a U-Net itself, compiled or not.

    Raises LeadlineError that says which blocks the model does have where there is no mid-block.
    """
    entry = find_entry(owner)
    refuse_frozen(entry)
    unet = uncompiled(entry)
    refuse_frozen(unet)
    mid_block = getattr(unet, "mid_block", None)
    if not isinstance(mid_block, nn.Module) or not hasattr(unet, "up_blocks"):
        raise LeadlineError(
            f"{type(unet).__name__} has no mid-block to bypass: {_blocks(unet)}. A diffusers U-Net with a mid-block is "
            "expected"
        )
    refuse_frozen(uncompiled(mid_block))
    return Target(owner, entry, unet, uncompiled(mid_block), scheduler)


def levels_from(source: Any) -> Levels:
    """The noise levels of a scheduler or of a Denoiser's ladder (`Target.noise_source`). Raises LeadlineError."""
    if source is None:
        raise LeadlineError(
            "a U-Net alone does not say at which noise level it works: with a schedule pass scheduler=, the one that "
            "chooses its timesteps; or give a constant strength"
        )
    return LadderLevels(source) if isinstance(source, Tensor) else levels_of(source)


def check_branches(owner: Any, branch: str) -> None:
    """Raise LeadlineError unless the owner is known to put the two branches of guidance in one batch, half and half."""
    if not TWO_BRANCHES.intersection(kind.__name__ for kind in type(owner).__mro__):
        raise LeadlineError(
            f"branch={branch!r}: {type(owner).__name__} is not known to put an unconditional and a conditional half "
            f"in one batch, as {', '.join(sorted(TWO_BRANCHES))} do under classifier-free guidance: leave branch at "
            "'both'"
        )


def check_guided(owner: Any, branch: str) -> None:
    """Raise LeadlineError when a pipeline runs without classifier-free guidance: there is one branch only."""
    if not getattr(owner, "do_classifier_free_guidance", False):
        raise LeadlineError(
            f"branch={branch!r}, but the pipeline runs without classifier-free guidance: raise guidance_scale above 1, "
            "or leave branch at 'both'"
        )


def check_shape(target: Target) -> int | None:
    """The mid-block's width in channels; None where only a call can tell.

    Nothing is computed: diffusers' own blocks say it by the widths of their residual networks, others are run on
    tensors without values. What cannot be run that way is checked at each call.

    Raises LeadlineError, naming both, when the mid-block's output has another shape than its input, and where it is no
    tensor of activations.
    """
    mid_block = target.mid_block
    widths = _stated_widths(mid_block)
    if widths is not None:
        check_same_shape(("n", widths[0], "h", "w"), ("n", widths[1], "h", "w"))
        return widths[0]
    probed = _probed(target.unet, mid_block)
    if probed is None:
        return None
    check_activations(*probed)
    return int(probed[0].shape[1])


def _stated_widths(mid_block: nn.Module) -> tuple[int, int] | None:
    """Channels before and after one of diffusers' mid-blocks, where its residual networks state them."""
    resnets = getattr(mid_block, "resnets", None)
    if not type(mid_block).__module__.startswith("diffusers.") or not resnets:
        return None
    # A residual network of video models is one over each frame, then one over time, of the same width.
    first, last = (getattr(resnet, "spatial_res_block", resnet) for resnet in (resnets[0], resnets[-1]))
    widths = getattr(first, "in_channels", None), getattr(last, "out_channels", None)
    return None if None in widths else (int(widths[0]), int(widths[1]))  # type: ignore[arg-type]


def check_activations(given: Any, made: Any) -> None:
    """Raise LeadlineError unless a mid-block turns a tensor [images, channels, ...] into another of the same shape."""
    for name, found in (("input", given), ("output", made)):
        if not isinstance(found, Tensor) or found.ndim < 3:
            what = f"a tensor of shape {_shape(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise LeadlineError(
                f"the mid-block's {name} is {what}: only a mid-block that turns one tensor of activations [images, "
                "channels, height, width] (or of more or fewer axes behind the channels) into another can be bypassed"
            )
    check_same_shape(given.shape, made.shape)


def check_same_shape(given: Sequence[Any], made: Sequence[Any]) -> None:
    """Raise LeadlineError, naming both, when a mid-block's output has another shape than its input."""
    if tuple(given) != tuple(made):
        raise LeadlineError(
            f"the mid-block turns activations of shape {_shape(given)} into {_shape(made)}: only one that keeps the "
            "shape can be bypassed"
        )


def _probed(unet: nn.Module, mid_block: nn.Module) -> tuple[Tensor, Any] | None:
    """Input and output of a mid-block run without values, called as diffusers' U-Nets do; None if it cannot."""
    parameter = next(mid_block.parameters(), torch.empty(0))
    try:
        config: Any = unet.config
        emb_width: Any = unet.get_submodule("time_embedding.linear_2").out_features
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            h = torch.empty(1, config["block_out_channels"][-1], 8, 8).to(parameter)
            more: dict[str, Any] = {}
            if getattr(mid_block, "has_cross_attention", False):
                text_width = config["cross_attention_dim"]
                text_width = text_width if isinstance(text_width, int) else text_width[-1]
                more = {"encoder_hidden_states": torch.empty(1, 4, text_width).to(parameter)}
                more |= {"attention_mask": None, "cross_attention_kwargs": None, "encoder_attention_mask": None}
            return h, mid_block.forward(h, torch.empty(1, emb_width).to(parameter), **more)
    except Exception:  # a block of somebody else's may need anything; its first call is checked as well
        return None


def _other_parts(owner: Any) -> str:
    transformer = getattr(owner, "transformer", None)
    if isinstance(transformer, nn.Module):
        return f": its transformer, {type(transformer).__name__}, has none: {_blocks(transformer)}"
    parts = getattr(owner, "components", None)
    named = f": its parts are {', '.join(sorted(parts))}" if isinstance(parts, dict) and parts else ""
    return f"{named}; a diffusers pipeline with a U-Net, a Denoiser around one, or a U-Net is expected"


def _blocks(module: nn.Module) -> str:
    """Where else the model could be hooked: its lists of blocks."""
    lists = {name: child for name, child in module.named_children() if isinstance(child, nn.ModuleList) and len(child)}
    named = ", ".join(f"{name}.0 to {name}.{len(child) - 1}" for name, child in lists.items())
    return f"the blocks it has are {named}" if named else "it has no lists of blocks either"


def _shape(sizes: Sequence[Any]) -> str:
    return f"[{', '.join(str(size) for size in sizes)}]"

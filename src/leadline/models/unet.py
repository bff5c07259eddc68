"""The only definition of "depth": the papers' U-Nets (2505.17560, Table A) and controls matched in one respect."""

from typing import Any

from diffusers import UNet2DModel

from leadline.errors import LeadlineError
from leadline.recipe import ModelSpec

PAPER_WIDTHS: dict[int, tuple[int, ...]] = {
    2: (32, 64),
    3: (32, 64, 128),
    4: (32, 32, 64, 128),
    5: (32, 64, 128, 128, 256),
    6: (32, 64, 128, 128, 256, 256),
}
"""2505.17560, Table A: channels of each down block, by number of blocks."""

PAPER_WIDE = (128, 256)
"""2505.17560, Table A: channels of "2 (large)"."""

PAPER_ATTENTION = {2: 1, 3: 1, 4: 2, 5: 3, 6: 4}
"""2505.17560, Table A: index of the down block with attention."""


def check_size(sample_size: int, blocks: int) -> None:
    """Raise LeadlineError unless an image of that size can be halved blocks - 1 times."""
    factor = 2 ** (blocks - 1)
    if sample_size < factor or sample_size % factor:
        below, above = sample_size // factor * factor, (sample_size // factor + 1) * factor
        near = f"{below} or {above}" if below else f"{above}"
        raise LeadlineError(
            f"images of {sample_size} px cannot be halved {blocks - 1} times, as {blocks} blocks do: the size must be "
            f"a multiple of {factor}; the nearest that can: {near} (--set data.image_size=…), or take fewer blocks "
            f"(--set model.blocks=…)"
        )


def depth_unet(blocks: int, in_channels: int = 3, sample_size: int = 64, wide: bool = False) -> UNet2DModel:
    """2505.17560, Table A: the U-Net with that many down blocks; `wide` gives "2 (large)".

    blocks: 2 to 6; the image, sample_size x sample_size px, is halved blocks - 1 times. The up blocks mirror the down
    blocks: only then do the parameter counts equal the printed ones. The weights are random, from torch's global
    generator (`training.train` seeds it within a fork).
    Raises LeadlineError (a ValueError) for another number of blocks, for `wide` with any but 2 blocks, and for a size
    that the depth cannot halve.
    """
    if blocks not in PAPER_WIDTHS:
        raise LeadlineError(f"the depth family has 2 to 6 blocks, not {blocks}")
    if wide and blocks != 2:
        raise LeadlineError(f"only the model with 2 blocks has a wide member, not the one with {blocks}")
    return _unet(
        PAPER_WIDE if wide else PAPER_WIDTHS[blocks],
        attention_at=PAPER_ATTENTION[blocks],
        in_channels=in_channels,
        sample_size=sample_size,
    )


MATCHES = ("parameters", "width", "attention")
"""What a control can hold equal over all depths."""

EQUAL_WIDTH = 64
"""Channels of every block of the controls of equal width."""

PARAMETER_WIDTHS: dict[int, tuple[int, ...]] = {
    2: (96, 104),
    3: (80, 88, 88),
    4: (72, 72, 72, 80),
    5: (64, 64, 64, 72, 72),
    6: (56, 56, 56, 64, 64, 72),
}
"""Channels of the controls of equal size: multiples of 8, as equal as can be, all parameter counts within 3 % of each
other (3.9 to 4.0 million), whether or not the attention is matched too."""


def matched_unet(blocks: int, match: tuple[str, ...], in_channels: int = 3, sample_size: int = 64) -> UNet2DModel:
    """Our reading of 2505.17560: controls for what Table A varies together with depth.

    match: "parameters": parameter counts within 3 % of each other over all depths; "width": every block has 64
    channels; "attention": attention at one resolution, half the image, at every depth, and none in the mid-block
    (whose resolution falls with depth). "attention" goes together with either of the others; without it the
    attention stands where Table A has it. Parameters and width cannot be equal together: a deeper net of equal width
    is larger. Raises LeadlineError on anything else, and for a size that the depth cannot halve.
    """
    if blocks not in PAPER_WIDTHS:
        raise LeadlineError(f"the depth family has 2 to 6 blocks, not {blocks}")
    unknown = [name for name in match if name not in MATCHES]
    if unknown or not match:
        raise LeadlineError(f"a control matches some of {', '.join(MATCHES)}, not {', '.join(unknown) or 'nothing'}")
    if {"parameters", "width"} <= set(match):
        raise LeadlineError("parameters and width cannot be equal together: a deeper net of equal width is larger")
    same_attention = "attention" in match
    if "parameters" in match:
        widths = PARAMETER_WIDTHS[blocks]
    elif "width" in match:
        widths = (EQUAL_WIDTH,) * blocks
    else:
        widths = PAPER_WIDTHS[blocks]
    return _unet(
        widths,
        attention_at=1 if same_attention else PAPER_ATTENTION[blocks],
        in_channels=in_channels,
        sample_size=sample_size,
        mid_attention=not same_attention,
    )


def build_unet(spec: ModelSpec, in_channels: int, sample_size: int) -> UNet2DModel:
    """The member that a recipe names, or one with its own channels and Table A's attention.

    Raises LeadlineError as depth_unet and matched_unet do.
    """
    if spec.channels is not None:
        return _unet(
            spec.channels,
            attention_at=PAPER_ATTENTION[spec.blocks],
            in_channels=in_channels,
            sample_size=sample_size,
        )
    if not spec.match:
        return depth_unet(spec.blocks, in_channels, sample_size, spec.wide)
    if spec.wide:
        raise LeadlineError("wide is a member of the papers' family: leave it out, or leave out match")
    return matched_unet(spec.blocks, spec.match, in_channels, sample_size)


def count_parameters(unet: UNet2DModel) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in unet.parameters())


def _unet(
    widths: tuple[int, ...], *, attention_at: int, in_channels: int, sample_size: int, mid_attention: bool = True
) -> UNet2DModel:
    check_size(sample_size, len(widths))
    down = ["AttnDownBlock2D" if i == attention_at else "DownBlock2D" for i in range(len(widths))]
    up = ["AttnUpBlock2D" if block == "AttnDownBlock2D" else "UpBlock2D" for block in reversed(down)]
    # Group norm takes 32 groups where all widths allow it, as Table A's do; the matched widths are multiples of 8.
    options: dict[str, Any] = {} if all(w % 32 == 0 for w in widths) else {"norm_num_groups": 8}
    return UNet2DModel(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=in_channels,
        layers_per_block=2,
        block_out_channels=widths,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        add_attention=mid_attention,
        **options,
    )

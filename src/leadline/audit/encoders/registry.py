"""Encoders by name: the words of `--encoder NAME` and `--encoder NAME:PATH`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from leadline.audit.features import Encoder
from leadline.errors import LeadlineError
from leadline.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Request:
    """What an encoder is wanted for, and what it may do to get its weights.

    name: under which it was asked for. path: its weights, or None: the local cache, or a download where that is
    allowed. shape: (channels, height, width) of the images. allow_torchscript: whether a file may bring its own code.
    """

    name: str
    path: Path | None
    shape: tuple[int, int, int]
    device: torch.device
    download: bool
    allow_torchscript: bool


Builder = Callable[[Request], Encoder]

ENCODERS: Registry[Builder] = Registry("encoder")


def load_encoder(
    text: str,
    *,
    shape: tuple[int, int, int],
    device: torch.device,
    download: bool = False,
    allow_torchscript: bool = False,
) -> Encoder:
    """The encoder NAME, or NAME:PATH with its weights from a file or folder, for images of `shape` (c, h, w).

    Raises LeadlineError on an unknown name, weights that are missing, damaged or of another network, and images with
    neither one nor three channels. No connection is opened without `download`; no code of a file is run without
    `allow_torchscript`.
    """
    name, colon, where = text.partition(":")
    build = ENCODERS[name]
    if colon and not where:
        raise LeadlineError(f"--encoder {text}: expected a file or folder after the colon, or {name!r} alone")
    if shape[0] not in (1, 3) or min(shape) < 1:
        raise LeadlineError(f"encoders read images with 1 or 3 channels (grey or RGB), not of shape {shape}")
    path = Path(where).expanduser() if where else None
    return build(
        Request(
            name=name,
            path=path,
            shape=shape,
            device=device,
            download=download,
            allow_torchscript=allow_torchscript,
        )
    )

"""Leadline measures where a diffusion model stands between memorizing its training data and amplifying its bias."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.audit import measure as measure
    from leadline.models.unet import depth_unet as depth_unet

__version__ = "0.1.0"
__all__ = ["depth_unet", "measure"]

_HOMES = {"measure": "leadline.audit", "depth_unet": "leadline.models.unet"}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first used: `import leadline` stays light."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'leadline' has no attribute {name!r}")

"""Leadline measures where a diffusion model stands between memorizing its training data and amplifying its bias."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.audit import measure as measure
    from leadline.models.unet import depth_unet as depth_unet
    from leadline.schedules import bump as bump
    from leadline.schedules import constant as constant
    from leadline.schedules import ramp as ramp
    from leadline.schedules import window as window
    from leadline.steering import bypass as bypass
    from leadline.steering import bypass_guidance as bypass_guidance
    from leadline.steering import disable_bypass as disable_bypass
    from leadline.steering import enable_bypass as enable_bypass
    from leadline.steering import enable_bypass_guidance as enable_bypass_guidance
    from leadline.steering.plotting import plot_schedule as plot_schedule

__version__ = "0.1.0"
_HOMES = {
    "measure": "leadline.audit",
    "depth_unet": "leadline.models.unet",
    "bump": "leadline.schedules",
    "constant": "leadline.schedules",
    "ramp": "leadline.schedules",
    "window": "leadline.schedules",
    "bypass": "leadline.steering",
    "bypass_guidance": "leadline.steering",
    "disable_bypass": "leadline.steering",
    "enable_bypass": "leadline.steering",
    "enable_bypass_guidance": "leadline.steering",
    "plot_schedule": "leadline.steering.plotting",
}
__all__ = [
    "bump",
    "bypass",
    "bypass_guidance",
    "constant",
    "depth_unet",
    "disable_bypass",
    "enable_bypass",
    "enable_bypass_guidance",
    "measure",
    "plot_schedule",
    "ramp",
    "window",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first used: `import leadline` stays light."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'leadline' has no attribute {name!r}")

"""Steering without training: bypass of the U-Net's mid-block, attached by a hook and taken away without a trace."""

from leadline.steering.bypass import Bypass, bypass, disable_bypass, enable_bypass, steered
from leadline.steering.guidance import BypassGuidance, bypass_guidance, enable_bypass_guidance

__all__ = [
    "Bypass",
    "BypassGuidance",
    "bypass",
    "bypass_guidance",
    "disable_bypass",
    "enable_bypass",
    "enable_bypass_guidance",
    "steered",
]

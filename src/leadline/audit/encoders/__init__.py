"""Networks that turn images into feature vectors and maps, with weights from files; each module registers its own."""

from leadline.audit.encoders import inception, perceptual, raw, sscd, transformer
from leadline.audit.encoders.registry import ENCODERS, Builder, Request, load_encoder

__all__ = ["ENCODERS", "Builder", "Request", "inception", "load_encoder", "perceptual", "raw", "sscd", "transformer"]

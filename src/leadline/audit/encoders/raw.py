"""The pixels themselves as a feature space."""

from math import prod

from leadline.audit.encoders.network import VectorEncoder
from leadline.audit.encoders.registry import ENCODERS, Request
from leadline.audit.encoders.weights import fingerprint_of
from leadline.errors import LeadlineError

NAME = "raw pixels"
BATCH = 256


@ENCODERS.register("pixels")
def pixels(request: Request) -> VectorEncoder:
    """All values of an image in [-1, 1], channel by channel; no network. A grey image counts each value once."""
    if request.path is not None:
        raise LeadlineError(f"--encoder pixels:{request.path}: pixels need no weights; give --encoder pixels")
    channels = request.shape[0]
    return VectorEncoder(
        name=NAME,
        fingerprint=fingerprint_of({"architecture": NAME, "shape": request.shape}, {}),
        description="All pixel values in [-1, 1] at the images' own size; no network.",
        batch_size=BATCH,
        outputs={"features": prod(request.shape)},
        shape=request.shape,
        device=request.device,
        vectors=lambda images: images[:, :channels].flatten(1),
    )

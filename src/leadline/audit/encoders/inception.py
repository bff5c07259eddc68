"""The network of the Fréchet Inception distance, in torch-fidelity's port."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float

from leadline.audit.encoders.network import RGB, VectorEncoder, to_bytes
from leadline.audit.encoders.registry import ENCODERS, Request
from leadline.audit.encoders.weights import Published, fill, find_weights, fingerprint_of, read_state_dict
from leadline.errors import LeadlineError

NAME = "inception-v3-compat"
LAYER = "2048"
PUBLISHED = Published(
    file="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d",
)
BATCH = 32
PREPARATION = "8-bit values, TensorFlow 1 bilinear to 299×299 without antialiasing, (x − 128) / 128"
VERSION = 1


@ENCODERS.register("inception")
def inception(request: Request) -> VectorEncoder:
    """Heusel et al. (2017): 2,048 pooled features of the Inception network of 2015-12-05, in torch-fidelity's port.

    Equal to torch-fidelity's own extractor on the same 8-bit images. torchvision's Inception is another network.
    """
    path = find_weights(request.name, PUBLISHED, request.path, download=request.download)
    weights = read_state_dict(path)
    _refuse_torchvision(path, weights)
    network = fill(_skeleton(path, weights), weights, file=str(path), what="torch-fidelity's Inception v3")
    fingerprint = fingerprint_of(
        {"architecture": NAME, "layer": LAYER, "preparation": PREPARATION, "version": VERSION}, network.state_dict()
    )
    # 1.3 to 1.5 times faster on a CPU than with the channels outermost.
    network = network.to(request.device).to(memory_format=torch.channels_last)

    def vectors(images: RGB) -> Float[torch.Tensor, "n 2048"]:
        (pooled,) = network(to_bytes(images).to(torch.uint8))
        return pooled  # type: ignore[no-any-return]

    return VectorEncoder(
        name=NAME,
        fingerprint=fingerprint,
        description=(
            f"Inception v3 of 2015-12-05 in torch-fidelity's port, weights from {path.name}; {PREPARATION}; "
            "2,048 pooled features."
        ),
        batch_size=BATCH,
        outputs={"features": int(LAYER)},
        shape=request.shape,
        device=request.device,
        vectors=vectors,
    )


def _skeleton(path: Path, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """torch-fidelity's module on the meta device: shapes, no numbers.

    Its constructor downloads, or unpickles whatever file it is given; here it gets one written on the spot, with the
    names and shapes of `weights` alone.
    """
    # Imported when asked for: the package brings its metrics, its data sets and half a second with it.
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with tempfile.TemporaryDirectory(prefix="leadline-inception-") as folder, torch.device("meta"):
        shapes = Path(folder) / "shapes.pth"
        torch.save({name: torch.empty(value.shape, dtype=value.dtype) for name, value in weights.items()}, shapes)
        try:
            return FeatureExtractorInceptionV3(NAME, [LAYER], feature_extractor_weights_path=str(shapes))  # type: ignore[no-any-return]
        except RuntimeError as error:
            said = " ".join(str(error).split())
            raise LeadlineError(
                f"{path} does not fit torch-fidelity's Inception v3: {said[:300]}. Give {PUBLISHED.url}"
            ) from None


def _refuse_torchvision(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    if any(name.startswith("AuxLogits.") for name in weights) or (
        "fc.weight" in weights and weights["fc.weight"].shape == (1000, 2048)
    ):
        raise LeadlineError(
            f"{path} holds torchvision's Inception v3: another network than the Fréchet distance's, whose numbers "
            f"compare with nobody's. Give {PUBLISHED.file} (--encoder inception:FILE) or have it fetched (--download)"
        )

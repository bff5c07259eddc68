from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import random_images
from safetensors.torch import save_file

from leadline.audit.encoders import load_encoder
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")


def test_equal_to_torch_fidelity(inception_file: Path, tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = random_images(2, 3, 40, 32)
    pixels = torch.from_numpy(np.rint((images + 1) * 127.5).astype(np.uint8))
    peer = FeatureExtractorInceptionV3("peer", ["2048"], feature_extractor_weights_path=str(inception_file))
    (expected,) = peer(pixels)
    encoder = load_encoder(f"inception:{inception_file}", shape=(3, 40, 32), device=CPU)
    found = encoder.encode(images)["features"]
    assert encoder.name == "inception-v3-compat"
    assert found.std() > 0.1
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5 * float(expected.max()))

    state = torch.load(inception_file, weights_only=True)
    save_file(state, tmp_path / "same.safetensors")
    again = load_encoder(f"inception:{tmp_path / 'same.safetensors'}", shape=(3, 40, 32), device=CPU)
    assert again.fingerprint == encoder.fingerprint


def test_torchvisions_network_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.bias": torch.zeros(2)}, tmp_path / "tv.pth")
    with pytest.raises(LeadlineError, match="torchvision's Inception v3: another network"):
        load_encoder(f"inception:{tmp_path / 'tv.pth'}", shape=(3, 32, 32), device=CPU)


def test_weights_that_lack_a_layer_are_refused(inception_file: Path, tmp_path: Path) -> None:
    state = torch.load(inception_file, weights_only=True)
    del state["Mixed_7c.branch1x1.conv.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(LeadlineError, match=r"does not fit torch-fidelity's Inception v3: .*Mixed_7c.branch1x1.conv"):
        load_encoder(f"inception:{tmp_path / 'less.pth'}", shape=(3, 32, 32), device=CPU)

from pathlib import Path

import numpy as np
import pytest
import torch
from random_weights import random_images
from torch import nn
from torchvision.transforms import functional

from leadline.audit.encoders import load_encoder
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")


def test_descriptors_are_those_of_the_formula(sscd_file: Path, sscd_network: nn.Module) -> None:
    images = random_images(2, 3, 24, 20)
    pixels = functional.resize((torch.from_numpy(images) + 1) / 2, [345, 288], antialias=True)
    batch = functional.normalize(pixels, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        for name, layer in sscd_network.named_children():
            if name == "avgpool":
                break
            batch = layer(batch)
        pooled = np.maximum(batch.double().numpy(), 1e-6) ** 3
        descriptor = sscd_network.fc.double()(torch.from_numpy(np.cbrt(pooled.mean((2, 3))))).numpy()
        sscd_network.fc.float()
    expected = descriptor / np.linalg.norm(descriptor, axis=1, keepdims=True)
    encoder = load_encoder(f"sscd:{sscd_file}", shape=(3, 24, 20), device=CPU)
    np.testing.assert_allclose(encoder.encode(images)["features"], expected, atol=1e-5)
    assert encoder.name == "SSCD"
    assert "345×288 px" in encoder.description


def test_a_program_runs_only_when_that_is_allowed(script_file: Path) -> None:
    text = f"sscd:{script_file}"
    with pytest.raises(LeadlineError, match=r"loading it runs the code within it.*\(--allow-torchscript\)"):
        load_encoder(text, shape=(3, 16, 16), device=CPU)
    encoder = load_encoder(text, shape=(3, 16, 16), device=CPU, allow_torchscript=True)
    assert encoder.outputs == {"features": 3}
    images = np.broadcast_to(np.float32([1.0, -1.0, 0.0])[:, None, None], (2, 3, 16, 16))
    means = (np.array([1.0, 0.0, 0.5]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = np.tile(means / np.linalg.norm(means), (2, 1))
    np.testing.assert_allclose(encoder.encode(images)["features"], expected, atol=1e-5)


def test_only_sscd_takes_a_program_at_all(script_file: Path) -> None:
    with pytest.raises(LeadlineError, match="expected the weights alone") as caught:
        load_encoder(f"squeezenet:{script_file}", shape=(3, 32, 32), device=CPU, allow_torchscript=True)
    assert "--allow-torchscript" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_that_gives_no_vectors_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.ReLU()).save(str(tmp_path / "maps.pt"))
    with pytest.raises(LeadlineError, match=r"maps\.pt gives no vectors of images of shape \(3, 16, 16\)"):
        load_encoder(f"sscd:{tmp_path / 'maps.pt'}", shape=(3, 16, 16), device=CPU, allow_torchscript=True)

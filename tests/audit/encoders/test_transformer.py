import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_weights import random_images

from leadline.audit.encoders import load_encoder
from leadline.audit.encoders.transformer import CLIP, prepare, read_preparation
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")
WORDS = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 28, "width": 28},
    "resample": 3,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.25],
}


def test_dinov2_is_transformers_class_token(dinov2_folder: Path) -> None:
    from transformers import Dinov2Model

    # As large as it is resized to: what is left is the cut and the normalisation, which are exact.
    images = random_images(2, 3, 32, 40)
    values = ((torch.from_numpy(images) + 1) / 2)[:, :, 2:30, 6:34]
    mean, std = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.25]])[:, :, None, None]
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(dinov2_folder)((values - mean) / std).last_hidden_state[:, 0]
    encoder = load_encoder(f"dinov2:{dinov2_folder}", shape=(3, 32, 40), device=CPU)
    np.testing.assert_allclose(encoder.encode(images)["features"], expected.numpy(), rtol=1e-4, atol=1e-5)
    assert encoder.name == "dinov2-32d-patch14"
    assert "bicubic with antialiasing to 32 px on the shorter side, of that the middle 28×28 px" in encoder.description


def test_clip_is_transformers_image_embedding(clip_folder: Path) -> None:
    from transformers import CLIPVisionModelWithProjection

    images = random_images(2, 3, 28, 28)
    mean, std = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.25]])[:, :, None, None]
    with torch.no_grad():
        network = CLIPVisionModelWithProjection.from_pretrained(clip_folder)
        expected = network((((torch.from_numpy(images) + 1) / 2) - mean) / std).image_embeds
    found = load_encoder(f"clip:{clip_folder}", shape=(3, 28, 28), device=CPU).encode(images)["features"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(90, 64), (20, 20)])
def test_images_are_prepared_as_transformers_does_but_for_its_rounding(size: tuple[int, int], tmp_path: Path) -> None:
    from PIL import Image
    from transformers import BitImageProcessor

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(WORDS))
    images = random_images(1, 3, *size)
    pixels = np.rint((images[0] + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
    processor = BitImageProcessor.from_pretrained(tmp_path)
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    found = prepare(torch.from_numpy(images), read_preparation(tmp_path, CLIP.default))
    levels = (found - expected).abs() * torch.tensor([0.2, 0.3, 0.25])[:, None, None] * 255
    assert float(levels.max()) < 1.5


def write(folder: Path, words: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(words))
    return folder


def test_a_size_of_both_sides_is_taken_straight(tmp_path: Path) -> None:
    words = {**WORDS, "size": {"height": 10, "width": 12}, "resample": 2}
    found = read_preparation(write(tmp_path, words), CLIP.default)
    assert prepare(torch.zeros(1, 3, 30, 30), found).shape == (1, 3, 10, 12)
    assert found.describe().startswith("bilinear with antialiasing to 10×12 px; mean 0.4, 0.5, 0.6")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resample": 1}, "KeyError"),
        ({"size": None}, "TypeError"),
        ({"image_mean": [0.5]}, "three means"),
        ({"image_std": [0.2, 0.0, 0.2]}, "above 0"),
        ({"do_normalize": False}, "do_normalize is off"),
        ({"do_center_crop": False}, "do_center_crop is off"),
        ({"crop_size": 64}, "does not fit into 32 px"),
    ],
)
def test_a_preparation_that_cannot_be_followed_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match=f"does not say how images are prepared: .*{said}"):
        read_preparation(write(tmp_path, {**WORDS, **change}), CLIP.default)


def test_without_its_file_the_usual_preparation_is_said_to_be_taken(clip_folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(clip_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor*"))
    encoder = load_encoder(f"clip:{bare}", shape=(3, 64, 64), device=CPU)
    assert "the default: the folder has no preprocessor_config.json" in encoder.description
    assert "28×28 px; mean 0.48145466" in encoder.description


def test_folders_that_are_something_else_are_refused(dinov2_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match="holds a model of type 'dinov2', expected clip or clip_vision_model"):
        load_encoder(f"clip:{dinov2_folder}", shape=(3, 32, 32), device=CPU)
    with pytest.raises(
        LeadlineError, match=r"no config\.json and no model\.safetensors \(pickled weights are not read"
    ):
        load_encoder(f"dinov2:{tmp_path}", shape=(3, 32, 32), device=CPU)
    broken = shutil.copytree(dinov2_folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LeadlineError, match="broken cannot be read as DINOv2"):
        load_encoder(f"dinov2:{broken}", shape=(3, 32, 32), device=CPU)
    (broken / "config.json").write_text("[1]")
    with pytest.raises(LeadlineError, match=r"config\.json holds list, expected an object"):
        load_encoder(f"dinov2:{broken}", shape=(3, 32, 32), device=CPU)


def test_weights_that_would_be_made_up_are_refused(dinov2_folder: Path, tmp_path: Path) -> None:
    deeper = shutil.copytree(dinov2_folder, tmp_path / "deeper")
    words = json.loads((deeper / "config.json").read_text())
    (deeper / "config.json").write_text(json.dumps({**words, "num_hidden_layers": 3}))
    with pytest.raises(LeadlineError, match=r"model\.safetensors lacks \d+ of DINOv2's weights, such as .*layer\.2\."):
        load_encoder(f"dinov2:{deeper}", shape=(3, 32, 32), device=CPU)


def test_without_transformers_the_extra_is_named(dinov2_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LeadlineError, match=r"pip install 'leadline\[text\]'"):
        load_encoder(f"dinov2:{dinov2_folder}", shape=(3, 32, 32), device=CPU)

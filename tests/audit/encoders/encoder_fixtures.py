"""Files with random weights of every network, so that no test needs a download. A plugin of the tests beside it.

Not a conftest.py: the tests of the folder above import theirs by that name.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torchvision
from no_connection import no_network
from random_weights import randomise
from safetensors.torch import save_file
from torch import nn


@pytest.fixture
def cut_off() -> Iterator[list[str]]:
    with no_network() as attempts:
        yield attempts


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="session")
def trunks() -> dict[str, nn.Sequential]:
    """The convolutional parts of torchvision's networks; built without the classifiers, which are large."""
    built = {}
    for net, build in (
        ("alex", torchvision.models.alexnet),
        ("vgg", torchvision.models.vgg16),
        ("squeeze", torchvision.models.squeezenet1_1),
    ):
        with torch.device("meta"):
            features = build(weights=None).features
        built[net] = randomise(features.to_empty(device="cpu"))
    return built


@pytest.fixture(scope="session")
def trunk_files(weights_folder: Path, trunks: Mapping[str, nn.Sequential]) -> dict[str, Path]:
    """Each trunk in a torchvision checkpoint, with a stand-in for the classifier, which LPIPS has no use for."""
    files = {}
    for net, trunk in trunks.items():
        state = {f"features.{name}": value for name, value in trunk.state_dict().items()}
        files[net] = weights_folder / f"{net}.pth"
        torch.save({**state, "classifier.1.weight": torch.zeros(3)}, files[net])
    return files


@pytest.fixture(scope="session")
def inception_file(weights_folder: Path) -> Path:
    """torch-fidelity's network with random weights; its constructor's own loading is put aside once, to get shapes."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        with torch.device("meta"):
            network = module.FeatureExtractorInceptionV3("random", ["2048"])
    path = weights_folder / "inception.pth"
    torch.save(randomise(network.to_empty(device="cpu")).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def sscd_network() -> nn.Module:
    with torch.device("meta"):
        network = torchvision.models.resnet50(weights=None, num_classes=512)
    return randomise(network.to_empty(device="cpu"))


@pytest.fixture(scope="session")
def sscd_file(weights_folder: Path, sscd_network: nn.Module) -> Path:
    path = weights_folder / "sscd.safetensors"
    save_file({f"backbone.{name}": value for name, value in sscd_network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def script_file(weights_folder: Path) -> Path:
    """A TorchScript descriptor of three numbers: the mean of each colour."""
    script = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = weights_folder / "descriptor.torchscript.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what the test needs a file of
        torch.jit.script(script).save(str(path))
    return path


@pytest.fixture(scope="session")
def dinov2_folder(weights_folder: Path) -> Path:
    """A small DINOv2 with its preprocessor_config.json: 32 px on the shorter side, of that the middle 28×28."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14
    )
    return _save(Dinov2Model(config), weights_folder / "dinov2", {"shortest_edge": 32}, (28, 28))


@pytest.fixture(scope="session")
def clip_folder(weights_folder: Path) -> Path:
    """The image half of a small CLIP that reads 28×28 px."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=16,
    )
    return _save(CLIPVisionModelWithProjection(config), weights_folder / "clip", {"shortest_edge": 28}, (28, 28))


def _save(network: nn.Module, path: Path, size: dict[str, int], crop: tuple[int, int]) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    randomise(network).save_pretrained(path)
    words = {
        "size": size,
        "crop_size": {"height": crop[0], "width": crop[1]},
        "resample": 3,
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.25],
    }
    (path / "preprocessor_config.json").write_text(json.dumps(words))
    return path


@pytest.fixture(scope="session")
def encoder_texts(
    trunk_files: dict[str, Path], inception_file: Path, sscd_file: Path, dinov2_folder: Path, clip_folder: Path
) -> dict[str, str]:
    """NAME:PATH of every encoder in the registry."""
    return {
        "pixels": "pixels",
        "squeezenet": f"squeezenet:{trunk_files['squeeze']}",
        **{f"lpips-{net}": f"lpips-{net}:{path}" for net, path in trunk_files.items()},
        "inception": f"inception:{inception_file}",
        "sscd": f"sscd:{sscd_file}",
        "dinov2": f"dinov2:{dinov2_folder}",
        "clip": f"clip:{clip_folder}",
    }

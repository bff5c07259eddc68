import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
import torchvision
from random_weights import random_images
from safetensors.torch import load_file, save_file
from torch import nn

from leadline.audit.encoders import load_encoder
from leadline.audit.features import TappedEncoder
from leadline.errors import LeadlineError

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")
BUILDERS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}


def tapped(text: str, shape: tuple[int, int, int]) -> TappedEncoder:
    encoder = load_encoder(text, shape=shape, device=CPU)
    assert isinstance(encoder, TappedEncoder)
    return encoder


def embeddings(encoder: TappedEncoder, images: np.ndarray) -> torch.Tensor:
    """e(x), of which ‖e(x) − e(y)‖² is LPIPS: √(head / (h w)) times the maps brought to length 1 over channels."""
    _, taps = encoder.encode_with_taps(images)
    assert encoder.heads is not None
    parts = []
    for tap, head in zip(taps, encoder.heads, strict=True):
        wide = tap.double()
        unit = wide / (wide.square().sum(1, keepdim=True).sqrt() + 1e-10)
        scale = (head.double() / tap[0, 0].numel()).sqrt()
        parts.append((unit * scale[:, None, None]).flatten(1))
    return torch.cat(parts, 1)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_distances_are_those_of_the_lpips_package(
    net: str, trunks: Mapping[str, nn.Sequential], trunk_files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package builds the whole classifier, with a warning, to take its features alone.
    monkeypatch.setattr(
        lpips.pretrained_networks.tv, BUILDERS[net], lambda pretrained: SimpleNamespace(features=trunks[net])
    )
    peer = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    images = random_images(4, 3, 48, 33)
    found = embeddings(tapped(f"lpips-{net}:{trunk_files[net]}", (3, 48, 33)), images)
    with torch.no_grad():
        first, second = torch.from_numpy(images[[0, 0, 0, 1, 1, 2]]), torch.from_numpy(images[[1, 2, 3, 2, 3, 3]])
        expected = peer(first, second).flatten()
    distances = (found[[0, 0, 0, 1, 1, 2]] - found[[1, 2, 3, 2, 3, 3]]).square().sum(1)
    assert float(distances.min()) > 0.01
    torch.testing.assert_close(distances.float(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("net", "smallest"), [("alex", 31), ("vgg", 16), ("squeeze", 17)])
def test_images_are_enlarged_only_where_a_stage_would_be_empty(
    net: str, smallest: int, trunk_files: Mapping[str, Path]
) -> None:
    least = tapped(f"lpips-{net}:{trunk_files[net]}", (3, smallest, smallest + 3))
    _, taps = least.encode_with_taps(random_images(1, 3, smallest, smallest + 3))
    assert min(taps[-1].shape) >= 1
    assert f"{smallest}×{smallest + 3} px, their own size" in least.description
    small = tapped(f"lpips-{net}:{trunk_files[net]}", (3, smallest - 1, 2 * smallest - 2))
    _, enlarged = small.encode_with_taps(random_images(1, 3, smallest - 1, 2 * smallest - 2))
    assert "64×128 px, enlarged bilinearly" in small.description
    assert enlarged[-1].shape[2] > taps[-1].shape[2]


def test_squeezenet_features_are_the_means_of_the_last_maps(
    trunks: Mapping[str, nn.Sequential], trunk_files: Mapping[str, Path]
) -> None:
    images = random_images(2, 3, 40, 40)
    encoder = tapped(f"squeezenet:{trunk_files['squeeze']}", (3, 40, 40))
    normalised = torchvision.transforms.functional.normalize(
        (torch.from_numpy(images) + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.no_grad():
        expected = trunks["squeeze"](normalised).mean((2, 3))
    np.testing.assert_allclose(encoder.encode(images)["features"], expected.numpy(), rtol=1e-4, atol=1e-5)
    assert encoder.name == "SqueezeNet"
    assert encoder.heads is None


def test_real_squeezenet_weights_in_half_precision(real_data: Path) -> None:
    path = real_data / "encoders" / "squeezenet1_1_caffe_fp16.safetensors"
    peer = torchvision.models.squeezenet1_1(weights=None).eval()
    peer.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    images = random_images(2, 3, 64, 64)
    normalised = torchvision.transforms.functional.normalize(
        (torch.from_numpy(images) + 1) / 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    with torch.no_grad():
        expected = peer.features(normalised).mean((2, 3)).numpy()
    found = tapped(f"squeezenet:{path}", (3, 64, 64)).encode(images)["features"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_the_features_alone_serve_as_well_as_a_whole_checkpoint(
    trunks: Mapping[str, nn.Sequential], trunk_files: Mapping[str, Path], tmp_path: Path
) -> None:
    save_file(trunks["alex"].state_dict(), tmp_path / "features.safetensors")
    alone = tapped(f"lpips-alex:{tmp_path / 'features.safetensors'}", (3, 32, 32))
    assert alone.fingerprint == tapped(f"lpips-alex:{trunk_files['alex']}", (3, 32, 32)).fingerprint


def test_fingerprints_follow_weights_heads_and_size(
    trunks: Mapping[str, nn.Sequential], trunk_files: Mapping[str, Path], tmp_path: Path
) -> None:
    state = {name: value.clone() for name, value in trunks["squeeze"].state_dict().items()}
    state["0.bias"][3] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    path = trunk_files["squeeze"]
    fingerprints = [
        tapped(text, shape).fingerprint
        for text, shape in (
            (f"squeezenet:{path}", (3, 32, 32)),
            (f"squeezenet:{tmp_path / 'other.safetensors'}", (3, 32, 32)),
            (f"lpips-squeeze:{path}", (3, 32, 32)),
            (f"squeezenet:{path}", (3, 16, 16)),
        )
    ]
    assert len(set(fingerprints)) == 4


def test_other_weights_than_those_the_heads_were_fitted_to_are_named(trunk_files: Mapping[str, Path]) -> None:
    assert (
        "LPIPS only if the weights are the same" in tapped(f"lpips-alex:{trunk_files['alex']}", (3, 32, 32)).description
    )


def test_weights_of_another_network_are_refused(trunk_files: Mapping[str, Path]) -> None:
    with pytest.raises(LeadlineError, match=r"does not fit torchvision's VGG-16: it lacks 2\.weight.*; also holds 3\."):
        load_encoder(f"lpips-vgg:{trunk_files['alex']}", shape=(3, 32, 32), device=CPU)


def test_a_file_that_is_removed_after_loading_is_not_missed(trunk_files: Mapping[str, Path], tmp_path: Path) -> None:
    copy = shutil.copy(trunk_files["squeeze"], tmp_path / "copy.pth")
    encoder = load_encoder(f"squeezenet:{copy}", shape=(3, 32, 32), device=CPU)
    images = random_images(1, 3, 32, 32)
    before = encoder.encode(images)["features"]
    with Path(copy).open("r+b") as handle:
        handle.write(bytes(Path(copy).stat().st_size))
    np.testing.assert_array_equal(encoder.encode(images)["features"], before)

"""What holds for every encoder in the registry."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from no_connection import no_network

from leadline.audit.encoders import ENCODERS, load_encoder
from leadline.audit.features import Encoder, TappedEncoder, encode
from leadline.errors import LeadlineError
from leadline.records import ImageSet

pytest_plugins = ("encoder_fixtures",)

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)


@pytest.fixture(scope="module", params=sorted(ENCODERS))
def encoder(request: pytest.FixtureRequest, encoder_texts: dict[str, str]) -> Encoder:
    before = torch.get_rng_state()
    with no_network() as attempts:
        loaded = load_encoder(encoder_texts[request.param], shape=SHAPE, device=CPU, download=True)
    assert attempts == [], "loading from a path asked another machine"
    assert torch.equal(before, torch.get_rng_state()), "loading drew from the global generator"
    return loaded


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet(name="random", pixels=np.random.default_rng(0).integers(0, 256, (2, *SHAPE), dtype=np.uint8))


def test_every_encoder_has_weights_here(encoder_texts: dict[str, str]) -> None:
    assert sorted(encoder_texts) == sorted(ENCODERS)


def test_vectors_depend_on_neither_order_nor_batches(encoder: Encoder, images: ImageSet) -> None:
    def found(batch_size: int, chosen: ImageSet) -> list[np.ndarray]:
        """Features and maps of the chosen images."""
        sized = replace(encoder, batch_size=batch_size)
        features = list(encode(chosen, [sized])[0][encoder.name].values())
        if isinstance(sized, TappedEncoder):
            features += [tap.numpy() for tap in sized.encode_with_taps(chosen.images())[1]]
        return features

    alone, turned = found(1, images), found(2, images.take([1, 0]))
    assert alone
    for one, other in zip(alone, turned, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other[::-1], rtol=1e-5, atol=1e-6 * np.abs(one).max())
        assert not np.allclose(one[0], one[1], rtol=1e-2), "two images have the same vector"
    assert all(alone[0].shape == (2, d) for d in encoder.outputs.values())


def test_it_says_what_it_is(encoder: Encoder, weights_folder: Path) -> None:
    assert isinstance(encoder, Encoder)
    assert len(encoder.fingerprint) == 16
    assert encoder.description.endswith(".")
    assert str(weights_folder) not in encoder.description, "a path of this machine is in the description"


def test_images_of_another_shape_are_refused(encoder: Encoder) -> None:
    read = encoder.encode_with_taps if isinstance(encoder, TappedEncoder) else encoder.encode
    with pytest.raises(LeadlineError, match=r"was loaded for images of shape \(3, 32, 32\), not \(3, 16, 16\)"):
        read(np.zeros((1, 3, 16, 16), np.float32))


def test_grey_images_are_three_equal_channels(encoder_texts: dict[str, str]) -> None:
    grey = np.random.default_rng(1).uniform(-1, 1, (2, 1, 32, 32)).astype(np.float32)
    from_grey = load_encoder(encoder_texts["squeezenet"], shape=(1, 32, 32), device=CPU).encode(grey)
    from_rgb = load_encoder(encoder_texts["squeezenet"], shape=SHAPE, device=CPU).encode(np.repeat(grey, 3, axis=1))
    np.testing.assert_array_equal(from_grey["features"], from_rgb["features"])


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("incepton", SHAPE, "unknown encoder 'incepton': did you mean 'inception'"),
        ("inception:", SHAPE, "expected a file or folder after the colon"),
        ("pixels", (2, 32, 32), r"1 or 3 channels \(grey or RGB\), not of shape \(2, 32, 32\)"),
        ("pixels:some.pth", SHAPE, "pixels need no weights"),
    ],
)
def test_refused(text: str, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        load_encoder(text, shape=shape, device=CPU)


def test_raw_pixels_are_the_pixels(images: ImageSet) -> None:
    found = load_encoder("pixels", shape=SHAPE, device=CPU).encode(images.images())["features"]
    np.testing.assert_array_equal(found, images.images().reshape(2, -1))


def test_loading_prints_nothing(encoder_texts: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("squeezenet", "lpips-alex", "dinov2", "clip"):
        load_encoder(encoder_texts[name], shape=SHAPE, device=CPU)
    assert capfd.readouterr() == ("", "")

"""Every image mode and size to uint8, against values worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from leadline.data.convert import Converter, Unscalable, eight_bit, fit_image
from leadline.errors import LeadlineError


def grey(values: list[list[float]], kind: type[np.generic]) -> Image.Image:
    return Image.fromarray(np.array(values, dtype=kind))


def transparent_palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 1
    return image


def masked_grey() -> Image.Image:
    image = grey([[9, 200]], np.uint8)
    image.info["transparency"] = 9
    return image


@pytest.mark.parametrize(
    ("image", "mode", "values"),
    [
        (Image.new("1", (1, 1), 1), "L", [[255]]),
        (grey([[0, 7, 255]], np.uint8), "L", [[0, 7, 255]]),
        (Image.new("LA", (1, 1), (200, 128)), "L", [[100]]),
        (masked_grey(), "L", [[0, 200]]),
        (Image.new("RGB", (1, 1), (1, 2, 3)), "RGB", [[[1, 2, 3]]]),
        (Image.new("RGBA", (1, 1), (255, 100, 0, 51)), "RGB", [[[51, 20, 0]]]),
        (Image.new("P", (1, 1)), "RGB", [[[0, 0, 0]]]),
        (transparent_palette(), "RGB", [[[255, 0, 0], [0, 0, 0]]]),
        (Image.new("CMYK", (1, 1), (0, 255, 0, 0)), "RGB", [[[255, 0, 255]]]),
        (Image.new("YCbCr", (1, 1), (77, 128, 128)), "RGB", [[[77, 77, 77]]]),
        (grey([[0, 128, 129, 257, 65535]], np.uint16), "L", [[0, 0, 1, 1, 255]]),
        (Image.new("I;16B", (1, 1), 257 * 99), "L", [[99]]),
        (grey([[0, 257, 65535]], np.int32), "L", [[0, 1, 255]]),
        (grey([[0, 0.2, 1]], np.float32), "L", [[0, 51, 255]]),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_has_its_8_bit_values(image: Image.Image, mode: str, values: list[object]) -> None:
    plain = eight_bit(image)
    assert plain.mode == mode
    assert np.asarray(plain).tolist() == values


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([[0, 70000]], np.int32, "mode I with values 0 to 70000, outside 0 to 65535"),
        ([[-1, 5]], np.int32, "outside 0 to 65535"),
        ([[0, 1.5]], np.float32, "mode F with values 0 to 1.5, outside 0 to 1"),
        ([[0, np.nan]], np.float32, "outside 0 to 1"),
    ],
)
def test_values_without_a_meaning_in_8_bits_are_refused(
    values: list[list[float]], kind: type[np.generic], message: str
) -> None:
    with pytest.raises(Unscalable, match=message):
        eight_bit(grey(values, kind))


def test_channels_are_as_asked() -> None:
    red = Image.new("RGB", (2, 3), (255, 0, 0))
    assert Converter("x", channels=1)(red).tolist() == [[[76, 76]] * 3]
    assert Converter("x", channels=3)(red).tolist() == [[[255, 255]] * 3, [[0, 0]] * 3, [[0, 0]] * 3]
    assert Converter("x", channels=3)(Image.new("L", (1, 1), 9)).tolist() == [[[9]]] * 3


def test_pad_puts_the_image_in_the_middle_of_black() -> None:
    padded = np.asarray(fit_image(Image.new("L", (2, 3), 7), 6, 4, "pad"))
    expected = np.zeros((6, 4), dtype=np.uint8)
    expected[1:4, 1:3] = 7
    assert (padded == expected).all()


def test_pad_makes_a_larger_image_smaller_and_keeps_its_aspect_ratio() -> None:
    padded = np.asarray(fit_image(Image.new("L", (20, 10), 7), 10, 10, "pad"))
    assert (padded[2:7] == 7).all()
    assert padded[:2].sum() == padded[7:].sum() == 0


def test_crop_takes_the_middle() -> None:
    image = Image.fromarray(np.tile(np.arange(6, dtype=np.uint8), (2, 1)))
    assert np.asarray(fit_image(image, 2, 2, "crop")).tolist() == [[2, 3], [2, 3]]
    tall = Image.new("RGB", (89, 109))
    tall.paste((255, 255, 255), (0, 10, 89, 99))
    assert (np.asarray(fit_image(tall, 64, 64, "crop")) == 255).all()


def test_resize_gives_the_size_and_keeps_a_constant() -> None:
    resized = np.asarray(fit_image(Image.new("L", (5, 9), 123), 4, 8, "resize"))
    assert resized.shape == (4, 8)
    assert (resized == 123).all()


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
def test_an_image_of_the_size_is_untouched(fit: str) -> None:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    assert np.array_equal(np.asarray(fit_image(image, 4, 4, fit)), np.asarray(image))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "fields", "sentence"),
    [
        ([(28, 28)], {"size": (32, 32), "fit": "pad"}, "grey, 28×28 padded with black to 32×32"),
        ([(8, 8)], {}, "grey, 8×8"),
        ([(8, 8)], {"channels": 3}, "RGB (from PIL's modes L 1), 8×8"),
        (
            [(10, 20), (4, 4)],
            {"size": (8, 8)},
            "grey, 2 sizes from 4×4 to 10×20 resized (Lanczos) to 8×8",
        ),
        (
            [(89, 109)],
            {"size": (64, 64), "fit": "crop"},
            "grey, 89×109 cropped at the centre and resized (Lanczos) to 64×64",
        ),
        (
            [(40, 20)],
            {"size": (32, 32), "fit": "pad"},
            "grey, 40×20 resized (Lanczos) where larger and padded with black to 32×32",
        ),
    ],
)
def test_the_conversion_is_stated(sizes: list[tuple[int, int]], fields: dict[str, object], sentence: str) -> None:
    converter = Converter("x", **fields)  # type: ignore[arg-type]
    for size in sizes:
        converter(Image.new("L", size))
    assert converter.describe() == sentence


def test_transparency_is_stated() -> None:
    converter = Converter("x")
    converter(Image.new("RGBA", (2, 2)))
    assert converter.describe() == "RGB (from PIL's modes RGBA 1), transparency over black in 1, 2×2"


def test_mixed_sizes_and_channels_need_a_choice() -> None:
    converter = Converter("faces")
    converter(Image.new("L", (4, 5)))
    with pytest.raises(LeadlineError, match=r"faces .* 4×5 and 6×5\): set one with --set data.image_size="):
        converter(Image.new("L", (6, 5)))
    with pytest.raises(LeadlineError, match=r"grey and RGB images: choose one with --set data.channels="):
        converter(Image.new("RGB", (4, 5)))
    with pytest.raises(LeadlineError, match=r"data.fit=pad .* data.image_size, which is not set"):
        Converter("faces", fit="pad")

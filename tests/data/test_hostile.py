"""Files that are not what they seem: each is read rightly, or left out with its reason, and nothing else happens."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leadline.data import load_images
from leadline.data.source import printable
from leadline.errors import LeadlineError


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims that size and whose pixels are missing but for a few."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def truncated(file: Path) -> None:
    Image.effect_noise((64, 64), 80).save(file)
    file.write_bytes(file.read_bytes()[:-500])


def elsewhere(file: Path) -> None:
    secret = file.parent.parent / "secret.png"
    Image.new("L", (8, 8), 255).save(secret)
    file.symlink_to(secret)


def postscript(file: Path) -> None:
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) print\n")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (truncated, "OSError: image file is truncated"),
        (lambda file: file.write_bytes(b""), "no image in one of the formats PNG"),
        (lambda file: file.write_text("hello"), "no image in one of the formats PNG"),
        (lambda file: file.write_bytes(png(60000, 60000)), r"DecompressionBombError: Image size \(3600000000 pixels\)"),
        (lambda file: file.write_bytes(png(11000, 11000)), r"DecompressionBombWarning: Image size \(121000000 pixels"),
        (lambda file: file.write_bytes(png(0, 8)), "bad.png: "),
        (elsewhere, "a link that leads out of the folder"),
        (postscript, "no image in one of the formats PNG"),
        (lambda file: file.mkdir(), None),
    ],
    ids=["truncated", "empty", "text", "bomb", "large bomb", "no pixels", "link", "eps", "folder"],
)
def test_what_is_no_image_is_named_with_its_reason(
    tmp_path: Path, make: Callable[[Path], object], reason: str | None
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("L", (8, 8), 7).save(folder / "good.png")
    make(folder / "bad.png")
    if reason is None:  # a folder called .png is a folder
        assert load_images(f"folder:{folder}").ids == ("good.png",)
        return
    with pytest.raises(
        LeadlineError, match=rf"1 of 2 images could not be decoded, 50.0%.*: bad.png: .*{reason}|{reason}"
    ):
        load_images(f"folder:{folder}")
    found = load_images(f"folder:{folder}", max_unreadable_share=0.5)
    assert found.ids == ("good.png",)
    assert found.pixels.max() == 7


@pytest.mark.parametrize(
    ("name", "image", "value"),
    [
        ("onebit.png", Image.new("1", (8, 8), 1), 255),
        ("deep.png", Image.fromarray(np.full((8, 8), 257 * 99, np.uint16)), 99),
        ("cmyk.tif", Image.new("CMYK", (8, 8), (0, 0, 0, 55)), 200),
        ("palette.gif", Image.new("L", (8, 8), 42).convert("P"), 42),
        ("huge.png", Image.new("L", (3000, 2000), 17), 17),
        ("a\nb<script>.png", Image.new("L", (8, 8), 3), 3),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_unusual_images_are_read_as_what_they_show(tmp_path: Path, name: str, image: Image.Image, value: int) -> None:
    image.save(tmp_path / name)
    found = load_images(f"folder:{tmp_path}", image_size=8, channels=1)
    assert found.ids == (name,)
    assert (found.pixels == value).all()


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 9).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert (load_images(f"folder:{tmp_path}").pixels == 9).all()


def test_a_name_that_is_no_utf_8_is_written_out(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 9).save(tmp_path / "a.png")
    try:
        (tmp_path / "a.png").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xc3\xbc.png")))
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 names alone: {error}")
    assert load_images(f"folder:{tmp_path}").ids == ("\\udcffü.png",)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("\udcff", "\\udcff"),
        ("é – 図 <b>", "é – 図 <b>"),
        ("\u202e", "\\u202e"),
    ],
)
def test_a_terminal_gets_no_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown

"""Panels -> PNG: the pixels come back as they were."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from leadline.records import Panel
from leadline.report.content import Picture, Tiles
from leadline.report.images import draw_panel, enlarged, montage


def decoded(source: str) -> np.ndarray:
    head, _, body = source.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_tile_as_it_was(channels: int) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, 3, channels, 4, 5), dtype=np.uint8)
    sheet = montage(tiles)
    assert sheet.shape == (2 * 5 - 1, 3 * 6 - 1, 4)
    for r in range(2):
        for c in range(3):
            tile = sheet[5 * r : 5 * r + 4, 6 * c : 6 * c + 5]
            expected = np.broadcast_to(np.moveaxis(tiles[r, c], 0, -1), (4, 5, 3))
            np.testing.assert_array_equal(tile[..., :3], expected)
            assert (tile[..., 3] == 255).all()
    assert (sheet[4, :, 3] == 0).all()
    picture = draw_panel(Panel(name="samples", title="Samples", tiles=tiles), "run")
    assert isinstance(picture, Picture)
    np.testing.assert_array_equal(decoded(picture.source), sheet)
    assert "a grid of 2 × 3" in picture.alt


def test_tiles_with_captions_stand_one_by_one_with_their_words() -> None:
    tiles = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 1, 3, 3)
    panel = Panel(
        name="nearest_neighbors",
        title="Neighbours",
        tiles=tiles,
        captions=("a", "b", "c", "d"),
        column_titles=("generated", "nearest"),
    )
    figure = draw_panel(panel, "run")
    assert isinstance(figure, Tiles)
    assert [p.alt for _, row in figure.rows for p in row] == [
        "row 1, generated, a",
        "row 1, nearest, b",
        "row 2, generated, c",
        "row 2, nearest, d",
    ]
    np.testing.assert_array_equal(decoded(figure.rows[1][1][0].source), tiles[1, 0, 0])


def test_an_empty_panel_draws_nothing() -> None:
    assert draw_panel(Panel(name="x", title="x", tiles=np.zeros((0, 4, 1, 8, 8), dtype=np.uint8)), "run") is None


def test_small_images_are_enlarged_by_whole_numbers() -> None:
    assert enlarged(8, 72) == 9
    assert enlarged(50, 72) == 1
    assert enlarged(512, 72) == 1

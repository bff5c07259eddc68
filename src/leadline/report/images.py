"""Image panels -> PNG in data: URIs. Pixels are shown as they are; only CSS enlarges them."""

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from leadline.records import Panel
from leadline.report.content import Figure, Picture, Tiles
from leadline.report.views import RunView, who
from leadline.report.words import plain

GRID_WIDTH = 460
"""CSS px that a grid of images may take, so that two stand side by side."""
TILE_WIDTH = 72
"""CSS px of one captioned image."""
GAP = 1
"""Image px between two tiles of a grid."""


def data_uri(pixels: UInt8[np.ndarray, "h w c"]) -> str:
    """PNG of a grey (c = 1), RGB (3) or RGBA (4) image as a data: URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def montage(tiles: UInt8[np.ndarray, "rows columns c h w"]) -> UInt8[np.ndarray, "height width rgba"]:
    """All tiles in one RGBA image, `GAP` px apart; between them the page shines through."""
    rows, columns, channels, h, w = tiles.shape
    sheet = np.zeros((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, 4), dtype=np.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (h + GAP), c * (w + GAP)
            tile = np.moveaxis(tiles[r, c], 0, -1)
            sheet[top : top + h, left : left + w, :3] = tile if channels == 3 else tile[..., :1]
            sheet[top : top + h, left : left + w, 3] = 255
    return sheet


def enlarged(size: int, room: int) -> int:
    """CSS px per image px, a whole number of at least 1, so that `size` px fill `room` without passing it."""
    return max(1, room // size)


def panels(views: Sequence[RunView], wanted: Callable[[str], bool]) -> list[Figure]:
    """The panels of wanted names, drawn; one that several runs share (training and held-out images) is shown once."""
    shared: dict[tuple[str, bytes], tuple[Panel, list[str]]] = {}
    for view in views:
        for panel in view.audit.panels if view.audit is not None else ():
            if wanted(panel.name):
                shared.setdefault((panel.name, panel.tiles.tobytes()), (panel, []))[1].append(view.name)
    drawn = [draw_panel(panel, who(names, views)) for panel, names in shared.values()]
    return [figure for figure in drawn if figure is not None]


def draw_panel(panel: Panel, run: str, room: int = TILE_WIDTH) -> Figure | None:
    """A panel as one picture, or, when its tiles have words of their own, as a table of pictures. None: it is empty.

    room: CSS px that a captioned image is enlarged to, at most by a whole number.
    """
    if panel.tiles.size == 0:
        return None
    worded = panel.captions or panel.column_titles or panel.row_titles
    return _tiles(panel, run, room) if worded else _grid(panel, run)


def _grid(panel: Panel, run: str) -> Picture:
    rows, columns = panel.tiles.shape[:2]
    sheet = montage(panel.tiles)
    scale = enlarged(sheet.shape[1], GRID_WIDTH)
    c, h, w = panel.tiles.shape[2:]
    colour = "grey" if c == 1 else "colour"
    return Picture(
        source=data_uri(sheet),
        width=sheet.shape[1] * scale,
        height=sheet.shape[0] * scale,
        alt=plain(
            f"{run}: {panel.title}, a grid of {rows} × {columns} {colour} images of {h} × {w} px. {panel.caption}"
        ),
        caption=plain(f"{run}: {panel.title}. {panel.caption}".strip()),
    )


def _tiles(panel: Panel, run: str, room: int) -> Tiles:
    number_of_rows, columns, _, h, w = panel.tiles.shape
    scale = enlarged(w, room)
    rows = []
    for r in range(number_of_rows):
        pictures = []
        for c in range(columns):
            words = panel.captions[r * columns + c] if panel.captions else ""
            place = panel.column_titles[c] if panel.column_titles else f"column {c + 1}"
            pictures.append(
                Picture(
                    source=data_uri(np.moveaxis(panel.tiles[r, c], 0, -1)),
                    width=w * scale,
                    height=h * scale,
                    alt=plain(", ".join(filter(None, (f"row {r + 1}", place, words)))),
                    caption=plain(words),
                )
            )
        rows.append((plain(panel.row_titles[r]) if panel.row_titles else str(r + 1), tuple(pictures)))
    return Tiles(
        title=plain(f"{run}: {panel.title}"),
        caption=plain(panel.caption),
        columns=tuple(plain(title) for title in panel.column_titles),
        rows=tuple(rows),
    )

"""A panel with titles as one PNG: labels beside and above the images, which keep their own pixels."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from leadline.records import Panel
from leadline.report.images import enlarged
from leadline.report.words import plain

LEAST = 128
"""Pixels that small images are enlarged to, by a whole number and without smoothing."""
GAP = 6
MOST_LINES = 6
INK, PAPER = (29, 32, 37), (255, 255, 255)


def sheet(panel: Panel) -> Image.Image:
    """The images of a panel with row titles on the left and column titles above, on white.

    Images up to half of `LEAST` px wide are enlarged by a whole number; titles are wrapped and, after six lines, cut.
    """
    tiles = panel.tiles
    rows, columns, _, height, width = tiles.shape
    scale = enlarged(width, LEAST)
    height, width = height * scale, width * scale
    font = _font(max(13, width // 20))
    margin = max(96, width * 2 // 5) if panel.row_titles else 0
    line = sum(font.getmetrics()) + 2
    heads = [_wrapped(plain(title), font, width, MOST_LINES) for title in panel.column_titles]
    top = GAP + line * max((len(head) for head in heads), default=0)
    canvas = Image.new("RGB", (margin + GAP + columns * (width + GAP), top + rows * (height + GAP)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        middle = margin + GAP + column * (width + GAP) + width // 2
        _write(pen, head, font, x=middle, y=top - GAP // 2 - len(head) * line, line=line, anchor="ma")
    for row, title in enumerate(panel.row_titles):
        words = _wrapped(plain(title), font, margin - GAP, max(1, min(MOST_LINES, height // line)))
        upper = top + row * (height + GAP) + (height - len(words) * line) // 2
        _write(pen, words, font, x=GAP, y=upper, line=line, anchor="la")
    for row in range(rows):
        for column in range(columns):
            picture = Image.fromarray(_rgb(tiles[row, column]))
            place = (margin + GAP + column * (width + GAP), top + row * (height + GAP))
            canvas.paste(picture.resize((width, height), Image.Resampling.NEAREST), place)
    return canvas


def _write(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont,
    *,
    x: int,
    y: int,
    line: int,
    anchor: str,
) -> None:
    for index, words in enumerate(lines):
        pen.text((x, y + index * line), words, fill=INK, font=font, anchor=anchor)


def _rgb(tile: UInt8[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray(np.broadcast_to(tile, (3, *tile.shape[1:])).transpose(1, 2, 0))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font: Latin, Greek and Cyrillic letters, on every machine."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: int, most: int) -> list[str]:
    """The text in lines of at most `room` px, words broken where they are longer, cut after `most` lines."""
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] = f"{lines[-1]} {word}"
            continue
        parts = _broken(word, font, room)
        lines = [*(lines if lines[-1] else lines[:-1]), *parts]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _cut(lines[most - 1], font, room)]


def _broken(word: str, font: ImageFont.FreeTypeFont, room: int) -> Sequence[str]:
    parts = [""]
    for letter in word:
        if parts[-1] and font.getlength(parts[-1] + letter) > room:
            parts.append("")
        parts[-1] += letter
    return parts


def _cut(text: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"

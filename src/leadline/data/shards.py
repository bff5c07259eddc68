"""Images in Parquet with Hugging Face's image feature: lossless PNG, opens with `datasets.load_dataset`."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image

from leadline.arrays import allocate
from leadline.data.source import Unreadable
from leadline.data.tables import open_cell, parquet_files, reading
from leadline.errors import LeadlineError

IMAGE = "image"
IMAGE_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
ROW_GROUP = 100
"""Rows per row group: small enough that the hub's viewer and random access read little."""


def write_shard(path: Path, pixels: UInt8[np.ndarray, "n c h w"], columns: dict[str, list[Any]]) -> None:
    """Write one Parquet file: column `image` (PNG, mode L or RGB) and `columns`, integers or text, of n values each.

    Raises LeadlineError when a column is called `image`, is of another length or of another type.
    """
    arrays: dict[str, pa.Array] = {IMAGE: pa.array([_png(image) for image in pixels], type=IMAGE_TYPE)}
    features: dict[str, dict[str, str]] = {IMAGE: {"_type": "Image"}}
    for name, values in columns.items():
        if name == IMAGE or len(values) != len(pixels):
            raise LeadlineError(
                f"{path}: {len(pixels)} images need columns of {len(pixels)} values with names other than {IMAGE!r}, "
                f"but column {name!r} has {len(values)}"
            )
        types = {type(value) for value in values}
        if types - {int} and types - {str}:
            raise LeadlineError(f"{path}: column {name!r} must hold only integers or only text")
        kind = pa.string() if types == {str} else pa.int64()
        arrays[name] = pa.array(values, type=kind)
        features[name] = {"dtype": str(kind), "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(arrays).replace_schema_metadata(metadata)
    # PNG is compressed already.
    pq.write_table(table, path, row_group_size=ROW_GROUP, compression="none")


def read_shards(folder: Path, limit: int | None = None) -> tuple[UInt8[np.ndarray, "n c h w"], dict[str, list[Any]]]:
    """The first `limit` images (None: all) and columns of the Parquet files in `folder`, in the order of their names.

    Raises LeadlineError when there are none, or when a file is damaged.
    """
    pixels: UInt8[np.ndarray, "n c h w"] | None = None
    columns: dict[str, list[Any]] = {}
    files = parquet_files(folder)
    total = sum(_num_rows(file) for file in files)
    total = total if limit is None else min(total, limit)
    filled = 0
    for file in files:
        if filled == total:
            break
        with reading(file):
            table = pq.read_table(file).slice(0, total - filled)
        cells = _columns(table, file)
        for cell in cells.pop(IMAGE):
            image = _pixels(cell, file)
            if pixels is None:
                pixels = allocate((total, *image.shape))
            if image.shape != pixels.shape[1:]:
                raise LeadlineError(
                    f"{file} holds an image of shape {image.shape} after some of {pixels.shape[1:]}: "
                    "the shards of a folder hold images of one shape"
                )
            pixels[filled] = image
            filled += 1
        for name, values in cells.items():
            columns.setdefault(name, []).extend(values)
    if pixels is None:
        raise LeadlineError(f"{folder} holds no images in .parquet files")
    return pixels, columns


def read_rows(folder: Path, rows: Sequence[int]) -> tuple[UInt8[np.ndarray, "n c h w"], dict[str, list[Any]]]:
    """The images and columns at these rows, in their order, as of `read_shards`: reads only the groups they are in.

    rows: one or more, counted over all files in the order of their names. Raises LeadlineError when there is no such
    row, or when a file is damaged.
    """
    wanted, found = set(rows), dict[int, dict[str, Any]]()
    first = 0
    for path in parquet_files(folder):
        with reading(path):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                following = first + file.metadata.row_group(group).num_rows
                here = [row for row in wanted if first <= row < following]
                if here:
                    cells = _columns(file.read_row_group(group), path)
                    for row in here:
                        values = {name: column[row - first] for name, column in cells.items()}
                        found[row] = {**values, IMAGE: _pixels(values[IMAGE], path)}
                first = following
    if wanted - set(found) or not wanted:
        raise LeadlineError(f"{folder} holds {first:,} images: row {max(wanted, default=0):,} of them was asked for")
    columns = {name: [found[row][name] for row in rows] for name in found[rows[0]]}
    images = columns.pop(IMAGE)
    if len({image.shape for image in images}) > 1:
        raise LeadlineError(f"{folder} holds images of several shapes: the shards of a folder hold images of one shape")
    return np.stack(images), columns


def _columns(table: pa.Table, file: Path) -> dict[str, list[Any]]:
    """All values of a shard, by column. Raises LeadlineError when it has no image column."""
    if IMAGE not in table.column_names:
        raise LeadlineError(f"{file} has no column {IMAGE!r}, only {', '.join(table.column_names)}")
    return {name: table[name].to_pylist() for name in table.column_names}


def _num_rows(file: Path) -> int:
    with reading(file):
        return int(pq.ParquetFile(file).metadata.num_rows)


def _png(image: UInt8[np.ndarray, "c h w"]) -> dict[str, bytes | None]:
    if image.shape[0] not in (1, 3):
        raise LeadlineError(f"images have 1 or 3 channels, not {image.shape[0]}")
    picture = Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
    with io.BytesIO() as file:
        picture.save(file, format="PNG")
        return {"bytes": file.getvalue(), "path": None}


def _pixels(cell: Any, file: Path) -> UInt8[np.ndarray, "c h w"]:
    image = open_cell(cell, file.parent)
    if isinstance(image, Unreadable):
        raise LeadlineError(f"{file} holds an image that cannot be decoded: {image.reason}")
    if image.mode not in ("L", "RGB"):
        raise LeadlineError(f"{file} holds an image of mode {image.mode}: shards hold L or RGB")
    values = np.asarray(image)
    return values[None] if image.mode == "L" else values.transpose(2, 0, 1)

"""Tables with an image column: Parquet files and Hugging Face `datasets`."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool

from leadline.data.groups import column_factor, group_labels
from leadline.data.source import DATASETS, Readable, Source, Unreadable, open_image, refuse_unused, require_path
from leadline.errors import LeadlineError, did_you_mean
from leadline.files import inside
from leadline.recipe import DataSpec

BATCH_ROWS = 256
"""Rows that are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """A table of which only columns are read, and images row by row.

    features: column -> Hugging Face's description ({"_type": "Image"}, ...), where the table carries one.
    column: name -> all its values. cells: (name, ascending rows) -> those values. home: the only folder that a cell
    which names a file may lead to.
    """

    name: str
    ids: Sequence[str]
    schema: pa.Schema
    features: dict[str, Any]
    column: Callable[[str], pa.ChunkedArray]
    cells: Callable[[str, Sequence[int]], Iterator[Any]]
    home: Path


@DATASETS.register("parquet")
def parquet(spec: DataSpec) -> Source:
    """A .parquet file or a folder of them: images as Hugging Face's struct{bytes, path}, or as encoded bytes."""
    refuse_unused(spec, "split")
    place = Path(require_path(spec, "a .parquet file or a folder of them"))
    if not place.exists():
        raise LeadlineError(f"data.path: there is no file or folder {place}")
    files = [place] if place.is_file() else parquet_files(place)
    if not files:
        raise LeadlineError(f"data.path: {place} holds no .parquet files (sub-folders are not looked into)")
    return table_source(_parquet_table(place, files), spec)


@DATASETS.register("huggingface")
def huggingface(spec: DataSpec) -> Source:
    """A local folder (`save_to_disk`, or what `load_dataset` reads), else, with data.download, a name on the hub.

    No code of a data set is ever run: datasets 4 and later have no scripts.
    """
    path = require_path(spec, "a local folder, or with --set data.download=true a name on the hub")
    return table_source(_huggingface_table(path, spec), spec)


def parquet_files(place: Path) -> list[Path]:
    """The .parquet files directly in a folder, by name."""
    return sorted(file for file in place.glob("*.parquet") if file.is_file() and not file.name.startswith("."))


def is_saved_dataset(place: Path) -> bool:
    """Whether a folder was written by Hugging Face's `save_to_disk`."""
    return (place / "dataset_dict.json").is_file() or all(
        (place / name).is_file() for name in ("dataset_info.json", "state.json")
    )


def table_source(table: ImageTable, spec: DataSpec) -> Source:
    """The source that a table is, with data.image_column and data.groups chosen."""
    image_column = choose_image_column(table, spec.image_column)
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    groups = spec.groups or _only_class_label(table)
    if groups is not None:
        columns = [name for name in table.schema.names if name != image_column]
        labels, classes = group_labels(
            groups, columns, lambda name: column_factor(name, table.column(name), _label_names(table, name))
        )

    def read(indices: Sequence[int]) -> Iterator[Readable]:
        return (open_cell(cell, table.home) for cell in table.cells(image_column, indices))

    notes = {"image_column": image_column} | ({"groups": groups} if groups else {})
    return Source(
        name=table.name,
        ids=table.ids,
        read=read,
        labels=labels,
        classes=classes,
        flag=lambda name: flag_column(table, name),
        notes=notes,
    )


def flag_column(table: ImageTable, name: str) -> Bool[np.ndarray, " n"]:
    """A yes/no column, booleans or CelebA's -1 and 1. Raises LeadlineError when there is no such column."""
    if name not in table.schema.names:
        raise LeadlineError(f"{table.name} has no column {name!r}: {did_you_mean(name, table.schema.names)}")
    factor = column_factor(name, table.column(name))
    if factor.classes != (f"not {name}", name):
        raise LeadlineError(
            f"{table.name}: column {name!r} holds {table.schema.field(name).type}, yes or no is expected"
        )
    return factor.codes.astype(bool)


def choose_image_column(table: ImageTable, wanted: str | None) -> str:
    """The column `wanted`, else the only one that holds images. Raises LeadlineError when there is not exactly one.

    Hugging Face images come first; without any, a column of bytes is taken for encoded images.
    """
    structs = [name for name in table.schema.names if _is_image(table, name)]
    blobs = [name for name in table.schema.names if _is_binary(table.schema.field(name).type)]
    if wanted is not None:
        if wanted not in table.schema.names:
            raise LeadlineError(
                f"{table.name} has no column {wanted!r}: {did_you_mean(wanted, table.schema.names)} "
                "(--set data.image_column)"
            )
        if wanted not in structs + blobs:
            raise LeadlineError(
                f"{table.name}: column {wanted!r} holds {table.schema.field(wanted).type}, not images "
                "(--set data.image_column)"
            )
        return wanted
    candidates = structs or blobs
    if len(candidates) != 1:
        found = f"{len(candidates)} columns hold images" if candidates else "no column holds images"
        raise LeadlineError(
            f"{table.name}: {found}: choose one of the columns {', '.join(candidates or table.schema.names)} "
            "with --set data.image_column=…"
        )
    return str(candidates[0])


def open_cell(cell: Any, home: Path) -> Readable:
    """The image in a cell: encoded bytes, or {bytes, path}; a path is followed only inside `home`."""
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if content is not None:
        return open_image(content)
    if path is None:
        return Unreadable("the row has no image")
    try:
        return open_image(inside(home, path))
    except LeadlineError as error:
        return Unreadable(str(error))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_image(table: ImageTable, name: str) -> bool:
    kind = table.schema.field(name).type
    described = table.features.get(name, {})
    if isinstance(described, dict) and described.get("_type") == "Image":
        return True
    return bool(pa.types.is_struct(kind)) and {f.name for f in kind} == {"bytes", "path"}


def _label_names(table: ImageTable, name: str) -> tuple[str, ...] | None:
    """The class names of a ClassLabel column, else None."""
    described = table.features.get(name)
    if isinstance(described, dict) and described.get("_type") == "ClassLabel" and described.get("names"):
        return tuple(str(label) for label in described["names"])
    return None


def _only_class_label(table: ImageTable) -> str | None:
    """The default of data.groups: the column whose classes have names, if there is exactly one."""
    labelled = [str(name) for name in table.schema.names if _label_names(table, name)]
    return labelled[0] if len(labelled) == 1 else None


def _parquet_table(place: Path, files: Sequence[Path]) -> ImageTable:
    opened = [_open_parquet(file) for file in files]
    schema = opened[0].schema_arrow
    for file, other in zip(files, opened, strict=True):
        if not other.schema_arrow.equals(schema):
            raise LeadlineError(f"{file} has other columns than {files[0]}: the files of a folder must have the same")
    sizes = [parquet.metadata.num_rows for parquet in opened]
    ids = [f"{file.name}:{row}" for file, size in zip(files, sizes, strict=True) for row in range(size)]

    def column(name: str) -> pa.ChunkedArray:
        chunks: list[pa.Array] = []
        for file, parquet in zip(files, opened, strict=True):
            with reading(file):
                chunks += parquet.read(columns=[name])[name].chunks
        return pa.chunked_array(chunks, type=schema.field(name).type)

    def cells(name: str, rows: Sequence[int]) -> Iterator[Any]:
        wanted = np.asarray(rows, dtype=np.int64)
        start = 0
        for file, parquet in zip(files, opened, strict=True):
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                inner = wanted[(wanted >= start) & (wanted < end)] - start
                if len(inner):
                    with reading(file):
                        yield from _cells_of(parquet, group, name, inner)
                start = end

    return ImageTable(
        name=place.resolve().name,
        ids=ids,
        schema=schema,
        features=_features(schema),
        column=column,
        cells=cells,
        home=place if place.is_dir() else place.parent,
    )


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into a LeadlineError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise LeadlineError(f"{file} cannot be read as Parquet: {error}") from None


def _open_parquet(file: Path) -> pq.ParquetFile:
    with reading(file):
        return pq.ParquetFile(file)


def _cells_of(parquet: pq.ParquetFile, group: int, name: str, rows: np.ndarray) -> Iterator[Any]:
    """The values of one row group at `rows`, a batch of rows at a time."""
    start = 0
    for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[name]):
        end = start + batch.num_rows
        inner = rows[(rows >= start) & (rows < end)] - start
        yield from batch.column(0).take(pa.array(inner)).to_pylist()
        start = end


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Hugging Face's description of the columns from the file's metadata; empty where there is none."""
    try:
        content = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = content["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _huggingface_table(path: str, spec: DataSpec) -> ImageTable:
    import datasets

    folder = Path(path)
    local = folder.is_dir()
    if folder.is_file():
        raise LeadlineError(f"huggingface: {path} is a file: read a .parquet file with the data set parquet")
    if not local and not spec.download:
        raise LeadlineError(
            f"huggingface: there is no folder {path} here; to fetch a data set of that name from the hub (or to use "
            "the copy of an earlier fetch), give --set data.download=true"
        )
    try:
        saved = local and is_saved_dataset(folder)
        loaded = datasets.load_from_disk(path) if saved else datasets.load_dataset(path, split=spec.split or "train")
    # ConnectionError and FileNotFoundError are OSErrors; datasets raises the others for bad splits, configs, scripts.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError, pa.ArrowException) as error:
        raise LeadlineError(f"huggingface: {path} cannot be loaded: {type(error).__name__}: {error}") from error
    if saved:
        loaded = _choose_split(loaded, spec)

    def column(name: str) -> pa.ChunkedArray:
        return loaded.select_columns([name]).with_format("arrow")[:][name]

    def cells(name: str, rows: Sequence[int]) -> Iterator[Any]:
        chosen = loaded.select_columns([name]).select(rows).with_format("arrow")
        for batch in chosen.iter(BATCH_ROWS):
            yield from batch[name].to_pylist()

    return ImageTable(
        name=folder.resolve().name if local else path,
        ids=[str(row) for row in range(len(loaded))],
        schema=loaded.features.arrow_schema,
        features=loaded.features.to_dict(),
        column=column,
        cells=cells,
        home=folder if local else Path(datasets.config.HF_CACHE_HOME),
    )


def _choose_split(loaded: Any, spec: DataSpec) -> Any:
    """The split that data.split names, out of what `save_to_disk` wrote: one split, or a dictionary of them."""
    if isinstance(loaded, dict):
        wanted = spec.split or "train"
        if wanted not in loaded:
            raise LeadlineError(
                f"{spec.path} has no split {wanted!r}: {did_you_mean(wanted, loaded)} (--set data.split=…)"
            )
        return loaded[wanted]
    if spec.split is not None and str(loaded.split) != spec.split:
        raise LeadlineError(f"{spec.path} holds the one split {loaded.split}: leave out --set data.split={spec.split}")
    return loaded

"""The nouns that travel between stages: ImageSet, Splits, Measurement, Table, Panel, AuditResult. All can be saved.

Nothing here imports torch: the report reads these and draws them.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, model_validator

from leadline.arrays import gather
from leadline.errors import LeadlineError

SCHEMA_VERSION = 1


def scaled(pixels: UInt8[np.ndarray, "n c h w"]) -> Float[np.ndarray, "n c h w"]:
    """float32 images in [-1, 1] from uint8 pixels: pixels / 127.5 - 1."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with, where there are any, their labels.

    pixels: uint8 [n, c, h, w], an array or a memory map; c is 1 (grey) or 3 (RGB).
    labels: int64 [n], an index into `classes`, or None when there are none.
    ids: what each image was in its source (row, file name); one per image, unique within a source.
    captions: what each image shows, in words; one per image, or none.
    prompted: of samples of a text-to-image model, int64 [n]: index into `classes` of the class that was asked for.
    init: of image-to-image samples, int64 [n]: index into the held-out images of the image that each started from.
    notes: how it was made, for the run's record: conversion, realised counts, unreadable files.
    """

    name: str
    pixels: UInt8[np.ndarray, "n c h w"]
    labels: Int[np.ndarray, " n"] | None = None
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    prompted: Int[np.ndarray, " n"] | None = None
    init: Int[np.ndarray, " n"] | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word in ("labels", "prompted", "init"):
            numbers = getattr(self, word)
            if numbers is None:
                continue
            if len(numbers) != len(self.pixels):
                raise LeadlineError(f"image set {self.name!r}: {len(self.pixels)} images but {len(numbers)} {word}")
            if word != "init" and len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self.classes)):
                raise LeadlineError(
                    f"image set {self.name!r}: {word} run from {numbers.min()} to {numbers.max()}, "
                    f"but there are {len(self.classes)} classes"
                )
        for word, given in (("ids", self.ids), ("captions", self.captions)):
            if given and len(given) != len(self.pixels):
                raise LeadlineError(f"image set {self.name!r}: {len(self.pixels)} images but {len(given)} {word}")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        c, h, w = self.pixels.shape[1:]
        return int(c), int(h), int(w)

    def images(self, start: int = 0, stop: int | None = None) -> Float[np.ndarray, "n c h w"]:
        """float32 [n, c, h, w] in [-1, 1]: pixels / 127.5 - 1."""
        return scaled(self.pixels[start:stop])

    def take(self, indices: Int[np.ndarray, " m"] | Sequence[int], name: str | None = None) -> "ImageSet":
        """The images at `indices`, in that order, with all that belongs to them."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            name=name or self.name,
            pixels=gather(self.pixels, chosen),
            labels=None if self.labels is None else self.labels[chosen],
            ids=tuple(self.ids[i] for i in chosen) if self.ids else (),
            captions=tuple(self.captions[i] for i in chosen) if self.captions else (),
            prompted=None if self.prompted is None else self.prompted[chosen],
            init=None if self.init is None else self.init[chosen],
        )

    def counts(self) -> dict[str, int]:
        """Realised number of images per class, classes with none included. Empty when there are no labels."""
        if self.labels is None:
            return {}
        numbers = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(n) for name, n in zip(self.classes, numbers, strict=True)}

    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of shape, pixels, labels, class names and prompts: the content."""
        digest = hashlib.sha256(json.dumps([list(self.pixels.shape), list(self.classes)]).encode())
        for start in range(0, len(self.pixels), 4096):
            digest.update(np.ascontiguousarray(self.pixels[start : start + 4096]).tobytes())
        if self.labels is not None:
            digest.update(self.labels.astype("<i8").tobytes())
        for column in ("prompted", "init"):
            if (numbers := getattr(self, column)) is not None:
                digest.update(column.encode() + numbers.astype("<i8").tobytes())
        if self.captions:
            digest.update(json.dumps(self.captions).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Disjoint parts of one data set: what the model is trained on, held-out real images, images for the labeler.

    `labeler` knows every class of the data set, not only those that `train` was restricted to.
    """

    train: ImageSet
    held_out: ImageSet | None = None
    labeler: ImageSet | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Measurement(BaseModel):
    """A number that travels with all that is needed to defend it.

    name: a noun that says what grows; value: None when not measurable; an infinite value (a log-odds of a share
    of 0) is a value. lower, upper: the interval at `level`, by `method`. n: the number of units behind it.
    direction: what a larger value means, in words. group: the class it belongs to. params: every option that
    changes the number. computed_from: fingerprints of the inputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    value: float | None
    status: Literal["ok", "not_measurable"] = "ok"
    reason: str | None = None
    lower: float | None = None
    upper: float | None = None
    level: float | None = None
    method: str | None = None
    n: int | None = None
    unit: str = ""
    direction: str = ""
    group: str | None = None
    params: dict[str, Any] = {}
    computed_from: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "Measurement":
        if (self.value is None) != (self.status == "not_measurable"):
            raise ValueError("value is None exactly when the status is not_measurable")
        if self.status == "not_measurable" and not self.reason:
            raise ValueError("not_measurable needs a reason that says how to get the number")
        if any(number is not None and math.isnan(number) for number in (self.value, self.lower, self.upper)):
            raise ValueError("a value or bound that is not a number is not_measurable, with its reason")
        return self

    @classmethod
    def not_measurable(cls, name: str, reason: str, **fields: Any) -> "Measurement":
        """A measurement that could not be made: `reason` says why and what to give to get it."""
        return cls(name=name, value=None, status="not_measurable", reason=reason, **fields)


class Table(BaseModel):
    """Rows that belong together and are no single Measurement (a confusion matrix, realised counts)."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    note: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> "Table":
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name!r}: every row needs {len(self.columns)} cells")
        return self


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A grid of images to look at, with words: tiles uint8 [rows, columns, c, h, w].

    captions: one per tile, row by row, or none. column_titles: one per column, or none.
    """

    name: str
    title: str
    tiles: UInt8[np.ndarray, "rows columns c h w"]
    caption: str = ""
    captions: tuple[str, ...] = ()
    column_titles: tuple[str, ...] = ()
    row_titles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows, columns = self.tiles.shape[:2]
        for words, number in ((self.captions, rows * columns), (self.column_titles, columns), (self.row_titles, rows)):
            if words and len(words) != number:
                raise LeadlineError(f"panel {self.name!r}: {number} captions or titles expected, {len(words)} given")


@dataclass(frozen=True, kw_only=True)
class ImageLabels:
    """What each sample was labelled as: ids as of the ImageSet (their numbers where it has none), class names.

    origin: where the labels come from, in words.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.labels):
            raise LeadlineError(f"{len(self.ids)} ids but {len(self.labels)} labels: one label for each image")


@dataclass(frozen=True)
class AuditResult(Sequence[Measurement]):
    """What `leadline.measure` returns: a sequence of Measurements, with tables and image panels beside it.

    labels: of the samples, image by image, where there are any: what two sets of the same seeds are paired by.
    """

    measurements: tuple[Measurement, ...]
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    labels: ImageLabels | None = None

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Measurement]: ...
    def __getitem__(self, index: int | slice) -> Measurement | Sequence[Measurement]:
        return self.measurements[index]

    def __len__(self) -> int:
        return len(self.measurements)

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self.measurements)

    def find(self, name: str, group: str | None = None, **params: Any) -> list[Measurement]:
        """All measurements of that name, of that group and with those params where given."""
        return [
            m
            for m in self.measurements
            if m.name == name
            and (group is None or m.group == group)
            and all(m.params.get(key) == value for key, value in params.items())
        ]

    def __str__(self) -> str:
        """One line per measurement, for a terminal."""
        return "\n".join(describe(m) for m in self.measurements) or "(no measurements)"


@dataclass(frozen=True)
class TheoryResult(AuditResult):
    """What a command of the theory lab found. kind: which command. arrays: numbers too many for a table (a landscape's
    energy, trajectories), by name; the page draws them, and they are saved beside it."""

    kind: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def describe(measurement: Measurement) -> str:
    """One line: name [group, params] value, interval, n, or why there is no number."""
    m = measurement
    tags = [m.group] if m.group is not None else []
    tags += [
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in m.params.items()
        if isinstance(value, str | int | float)
    ]
    head = m.name + (f" [{', '.join(tags)}]" if tags else "")
    if m.value is None:
        return f"{head}: not measurable: {m.reason}"
    text = f"{head}: {m.value:.4g}"
    if m.lower is not None and m.upper is not None and m.level is not None:
        text += f" ({m.level * 100:g}% interval {m.lower:.4g} to {m.upper:.4g})"
    if m.unit:
        text += f" {m.unit}"
    return text + (f", n = {m.n:,}" if m.n is not None else "")

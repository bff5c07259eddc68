"""Encode by one model and decode by another: what of an image, and of its class, the two depths do not share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from leadline.audit.intervals import wilson
from leadline.errors import LeadlineError
from leadline.lab.keeping import Arrays, Kept
from leadline.lab.made_classes import MadeClasses
from leadline.lab.sources import LabModel
from leadline.lab.summaries import mean_of
from leadline.progress import ProgressCallback
from leadline.recipe import SampleSpec
from leadline.records import ImageSet, Measurement, Panel, Table, scaled
from leadline.sampling import decode, encode, to_pixels

SHOWN = 8
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """encoder: whose ODE leads from the images up to noise; decoder: whose leads down again."""

    encoder: LabModel
    decoder: LabModel

    def __post_init__(self) -> None:
        if self.encoder.digest == self.decoder.digest:
            raise LeadlineError(
                "encoding and decoding along one model's own ODE returns the image and measures nothing: give two "
                "models (--encode-with, --decode-with)"
            )
        if self.encoder.denoiser.shape != self.decoder.denoiser.shape:
            raise LeadlineError("--encode-with and --decode-with have images of different shapes")

    @property
    def sigma(self) -> float:
        """How far up both are defined."""
        return min(self.encoder.denoiser.sigma_range[1], self.decoder.denoiser.sigma_range[1])


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What came of it."""

    measurements: list[Measurement]
    table: Table
    panel: Panel


def exchange_images(
    exchange: Exchange,
    images: ImageSet,
    classes: MadeClasses,
    spec: SampleSpec,
    level: float,
    kept: Kept,
    progress: ProgressCallback,
) -> Exchanged:
    """Share of images whose class is another than before, and distance in pixels, per decoder.

    The encoder decodes too: what it changes is the error of the discretisation, which the other decoder has as well.
    Classes before and after are the labeler's.
    """
    pixels = {
        model.name: _decoded(exchange, model, images, spec, kept, progress)
        for model in (exchange.encoder, exchange.decoder)
    }
    before = classes.seen_in(images)
    found: list[Measurement] = []
    rows: list[tuple[str | int | float | None, ...]] = []
    captions = {}
    for name, made in pixels.items():
        after = classes.seen(torch.from_numpy(scaled(made)))
        params: dict[str, Any] = {"encoder": exchange.encoder.name, "decoder": name, "sigma": exchange.sigma}
        found.append(_changed(before, after, level, params))
        apart = (made.astype(np.float64) - images.pixels.astype(np.float64)) ** 2
        distance = np.sqrt(apart.reshape(len(made), -1).mean(1))
        found.append(
            mean_of(
                "exchange_distance",
                distance,
                unit="RMS per value, 0–255",
                direction="larger: the image differs more from the one encoded",
                level=level,
                floor=0.0,
                **params,
            )
        )
        for number in np.unique(before).tolist():
            counts = np.bincount(after[before == number], minlength=len(classes.names))
            rows.append((name, classes.names[number], *counts.tolist()))
        captions[name] = [classes.names[label] for label in after[:SHOWN]]
    return Exchanged(
        measurements=found,
        table=Table(
            name="exchange",
            title=f"Encoded by {exchange.encoder.name}: classes before (rows) and after",
            columns=("decoded by", "class encoded", *classes.names),
            rows=tuple(rows),
            note="Classes before and after are the labeler's.",
        ),
        panel=_panel(exchange, images, pixels, [classes.names[label] for label in before[:SHOWN]], captions),
    )


def _decoded(
    exchange: Exchange, decoder: LabModel, images: ImageSet, spec: SampleSpec, kept: Kept, progress: ProgressCallback
) -> np.ndarray:
    """uint8 images, decoded by `decoder` from where the encoder's ODE led them."""
    stage = f"encoded by {exchange.encoder.name}, decoded by {decoder.name}"

    def made() -> Arrays:
        parts = []
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(images.images(start, start + BATCH)).to(exchange.encoder.denoiser.device)
            up = encode(exchange.encoder.denoiser, batch, spec, sigma=exchange.sigma)
            down = decode(decoder.denoiser, up.to(decoder.denoiser.device), spec, sigma=exchange.sigma)
            parts.append(to_pixels(down).cpu().numpy())
            progress(stage, min(start + BATCH, len(images)), len(images), "images")
        return {"pixels": np.concatenate(parts)}

    settings = {
        "what": "exchange",
        "encoder": exchange.encoder.digest,
        "decoder": decoder.digest,
        "images": images.fingerprint(),
        "sigma": exchange.sigma,
        "sampler": spec.sampler,
        "steps": spec.steps,
    }
    return kept.piece(settings, made)["pixels"]


def _changed(
    before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"], level: float, params: dict[str, Any]
) -> Measurement:
    count, n = int((before != after).sum()), len(before)
    lower, upper = wilson(count, n, level)
    return Measurement(
        name="class_changed",
        value=count / n,
        lower=lower,
        upper=upper,
        level=level,
        method="Wilson",
        n=n,
        unit="share of images",
        direction="larger: more images come back as another class",
        params=params,
    )


def _panel(
    exchange: Exchange,
    images: ImageSet,
    pixels: dict[str, np.ndarray],
    before: list[str],
    after: dict[str, list[str]],
) -> Panel:
    shown = len(before)
    columns = [images.pixels[:shown], *(made[:shown] for made in pixels.values())]
    words = [[words[i] for words in (before, *after.values())] for i in range(shown)]
    return Panel(
        name="exchange",
        title=f"Encoded by {exchange.encoder.name}",
        tiles=np.stack(columns, axis=1),
        caption=f"{shown} of the training images, drawn at random; below each its class.",
        captions=tuple(word for row in words for word in row),
        column_titles=("training image", *(f"decoded by {name}" for name in pixels)),
    )

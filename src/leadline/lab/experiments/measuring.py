"""What several experiments measure of a model: samples of its own, nearness to the exact denoisers, copies."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from leadline.audit import measure
from leadline.audit.neighbors import nearest_neighbors
from leadline.data.shards import read_shards
from leadline.errors import LeadlineError
from leadline.lab.denoisers import Compared, Comparing, measure_denoisers
from leadline.lab.evaluating import TRAINED, Once, exact_denoisers, tags
from leadline.lab.experiments.spec import Measuring
from leadline.lab.keeping import Kept
from leadline.lab.linearity import Linear, measure_generalization, measure_linearity
from leadline.lab.sources import LabModel, points
from leadline.models.pretrained import DiffusersDenoiser
from leadline.progress import ProgressCallback
from leadline.recipe import AuditSpec, Recipe, SteerSpec, fingerprint
from leadline.records import ImageSet, Measurement, Panel
from leadline.sampling import draw

COPIES = "nearest_copy_rate"
RULE = "d1/d2"


def counted(progress: ProgressCallback, number: int, total: int) -> ProgressCallback:
    """Progress of the measures of one model out of several."""

    def told(stage: str, done: int, of: int, detail: str) -> None:
        progress(f"model {number + 1} of {total}, {stage}", done, of, detail)

    return told


def with_samples(
    model: LabModel, recipe: Recipe, measuring: Measuring, folder: Path, progress: ProgressCallback
) -> LabModel:
    """The model with `num_samples` images drawn into `folder` by the recipe's sampler, from the measuring seed.

    Whatever a run drew of its own is left aside: all models of an experiment start from the same noise.
    """
    changed = {"num_images": measuring.num_samples, "seed": measuring.seed, "steer": SteerSpec()}
    spec = recipe.sample.model_copy(update=changed)
    own = folder / f"samples-{fingerprint(spec)}-{model.digest}"
    draw(model.denoiser, spec, own, progress=progress)
    return replace(model, samples=own, recipe=None)


def linear_at(model: LabModel, measuring: Measuring, kept: Kept, progress: ProgressCallback) -> list[Measurement]:
    """Linearity over the noise level, of the model and of the exact denoisers of its training set."""
    return measure_linearity(model, _linear(measuring), kept, progress=progress)


def new_images(model: LabModel, measuring: Measuring, kept: Kept, progress: ProgressCallback) -> list[Measurement]:
    """The GL score of the model's samples beside that of held-out images, and the share of both that are copies."""
    return [*measure_generalization(model, _linear(measuring), kept, progress=progress), *copy_rates(model)]


def _linear(measuring: Measuring) -> Linear:
    return Linear(
        sigmas=measuring.sigmas,
        num_images=measuring.num_images,
        num_samples=measuring.num_samples,
        seed=measuring.seed,
    )


def beside_exact(model: LabModel, measuring: Measuring, kept: Kept, progress: ProgressCallback) -> list[Measurement]:
    """Score differences to the Gaussian and the multi-delta denoiser of its training set, and effective k."""
    device = model.denoiser.device
    compared = Compared(
        name=model.name,
        splits=model.splits,
        training=points(model.splits.train, device),
        denoisers={TRAINED: Once(model.denoiser), **exact_denoisers(model.splits.train, device)},
        params=tags(model),
        identity={"model": model.digest, "data": model.splits.train.fingerprint()},
    )
    spec = Comparing(sigmas=measuring.sigmas, num_images=measuring.num_images, seed=measuring.seed)
    return measure_denoisers(compared, spec, kept, progress)


def block_channels(model: LabModel) -> tuple[int, ...]:
    """Channels of each down block of a model's U-Net."""
    if not isinstance(model.denoiser, DiffusersDenoiser):
        raise LeadlineError(f"{model.name}: the model of a run, with down blocks, is needed here")
    return tuple(model.denoiser.unet.config["block_out_channels"])


def samples_of(model: LabModel) -> UInt8[np.ndarray, "n c h w"]:
    """What `with_samples` drew. Raises LeadlineError where it did not."""
    if model.samples is None:
        raise LeadlineError(f"{model.name} has no samples: they are drawn first")
    return read_shards(model.samples)[0]


def copy_rates(model: LabModel) -> list[Measurement]:
    """The share of the samples, and of held-out images, that are copies: nearest over second nearest below 1/3."""
    images = ImageSet(name=f"samples of {model.name}", pixels=samples_of(model))
    spec = AuditSpec(metrics=("memorization",), encoders=("pixels",), ks=(1,), num_panels=0)
    found = measure(images, replace(model.splits, labeler=None), spec=spec, device=model.denoiser.device)
    return found.find(COPIES, space="pixels", rule=RULE)


def beside_nearest(shown: Sequence[LabModel], num: int) -> Panel:
    """Two rows per model: its first `num` samples, and below each the nearest image of its own training set."""
    rows, titles = [], []
    for model in shown:
        first = samples_of(model)[:num]
        training = model.splits.train
        _, nearest = nearest_neighbors(torch.from_numpy(first), training.pixels, 1)
        rows += [first, training.pixels[nearest[:, 0]]]
        titles += [model.name, "nearest training image"]
    return Panel(
        name="samples",
        title="Samples from the same noise",
        tiles=np.stack(rows),
        caption="A column starts from one and the same noise. Below each sample stands the image nearest to it, by "
        "pixels, of those that its model was trained on.",
        row_titles=tuple(titles),
    )

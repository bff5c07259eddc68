"""Models and data of the theory lab: a run brings both, a pipeline folder needs its training data beside it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.data import load, parse_source
from leadline.errors import LeadlineError
from leadline.experiment import model_title
from leadline.files import file_digest
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import load_pipeline
from leadline.progress import ProgressCallback, silent
from leadline.recipe import DataSpec, Recipe, with_overrides
from leadline.records import ImageSet, Splits
from leadline.rng import numpy_generator_for
from leadline.runs import Run
from leadline.stages import default_device

DECISIVE = ("model_index.json", "*/config.json", "*/scheduler_config.json", "*/*.safetensors")
"""Files of a pipeline folder that change what its denoiser gives."""


@dataclass(frozen=True, kw_only=True)
class LabModel:
    """A trained model with what it was trained on.

    name: for tables and lines. digest: of weights and settings. depth: its number of down blocks, where it is a run's.
    samples: folder of the images that a run drew from it, where all of them are there. facts: what the record keeps.
    """

    name: str
    denoiser: Denoiser
    digest: str
    splits: Splits
    depth: int | None = None
    recipe: Recipe | None = None
    samples: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def open_model(
    path: Path,
    *,
    train: str | None = None,
    overrides: Sequence[str] = (),
    device: torch.device | str | None = None,
    progress: ProgressCallback = silent,
) -> LabModel:
    """A run folder, or a pipeline folder with `train`, its training data, as --train takes it.

    overrides: --set data.… of a pipeline's data. Raises LeadlineError where model or data are missing, or where the
    data's images are not of the model's shape.
    """
    where = device or default_device()
    if (path / "run.json").exists():
        return _of_run(path, train, overrides, where, progress)
    denoiser = load_pipeline(path, where)
    if train is None:
        raise LeadlineError(
            f"{path} is no run: say what the model was trained on with --train DATA (mnist:PATH, a path)"
        )
    splits = load(data_spec(train, overrides, denoiser.shape), progress)
    check_shape(path, denoiser, splits.train)
    return LabModel(
        name=path.resolve().name,
        denoiser=denoiser,
        digest=model_digest(path),
        splits=splits,
        facts={"model": str(path), "data": splits.train.fingerprint()},
    )


def open_models(
    paths: Sequence[Path],
    *,
    train: str | None = None,
    overrides: Sequence[str] = (),
    progress: ProgressCallback = silent,
) -> list[LabModel]:
    """The models of several folders, each under a name of its own; `train` is the data of all, as `open_model` says.

    Those that would be called alike are told apart by their number of training images, else by their folders.
    """
    opened = [open_model(path, train=train, overrides=overrides, progress=progress) for path in paths]
    names = [model.name for model in opened]
    sized = [f"{model.name}, {len(model.splits.train):,} training images" for model in opened]
    placed = [f"{model.name} ({path.resolve().name})" for model, path in zip(opened, paths, strict=True)]
    for place, name in enumerate(names):
        alike = [i for i, other in enumerate(names) if other == name]
        if len(alike) > 1:
            apart = len({sized[i] for i in alike}) == len(alike)
            opened[place] = replace(opened[place], name=(sized if apart else placed)[place])
    if len({model.name for model in opened}) < len(opened):
        raise LeadlineError("a model is given twice, or two folders have one name: give each once")
    return opened


def _of_run(
    path: Path, train: str | None, overrides: Sequence[str], device: torch.device | str, progress: ProgressCallback
) -> LabModel:
    if train is not None or overrides:
        raise LeadlineError(f"{path} is a run and brings its own data: leave out --train and --set data.…")
    run = Run.open(path)
    recipe = run.recipe
    if recipe is None or recipe.text is not None:
        raise LeadlineError(f"{path}: a run with an unconditional model of its own is needed here")
    if not run.model_folder.exists():
        raise LeadlineError(f"{path} has no finished model (its status is {run.header.status}): leadline train first")
    splits = load(recipe.data, progress)
    known = run.header.data.get("train", {}).get("fingerprint")
    if known is not None and known != splits.train.fingerprint():
        raise LeadlineError(f"the training data of {path} has changed since: restore it")
    denoiser = load_pipeline(run.model_folder, device)
    return LabModel(
        name=model_title(recipe),
        denoiser=denoiser,
        digest=model_digest(run.model_folder),
        splits=splits,
        depth=recipe.model.blocks,
        recipe=recipe,
        samples=run.samples_folder if run.header.status in ("sampled", "complete") else None,
        facts={"run": path.resolve().name, "data": splits.train.fingerprint(), "title": run.title},
    )


def data_spec(train: str, overrides: Sequence[str], shape: tuple[int, int, int] | None = None) -> DataSpec:
    """The data of --train and --set data.…, brought to the shape of a model where nothing else is said."""
    spec = parse_source(train)
    if shape is not None:
        spec = spec.model_copy(update={"channels": shape[0], "image_size": shape[1]})
    return with_overrides(Recipe(data=spec), list(overrides)).data


def check_shape(path: Path, denoiser: Denoiser, images: ImageSet) -> None:
    """Raise LeadlineError where the images are not of the denoiser's shape."""
    if images.shape != denoiser.shape:
        raise LeadlineError(
            f"{path} denoises images of {'×'.join(map(str, denoiser.shape))}, the data has "
            f"{'×'.join(map(str, images.shape))}: --set data.image_size= and data.channels="
        )


def model_digest(folder: Path) -> str:
    """16 hex digits of a pipeline folder: its weights, and the settings that decide what they mean (sigma_data, σ)."""
    files = sorted(file for pattern in DECISIVE for file in folder.glob(pattern))
    named = [(file.relative_to(folder).as_posix(), file_digest(file)) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def chosen(images: ImageSet, num: int, seed: int) -> ImageSet:
    """`num` of the images drawn at random (all, where there are fewer), a smaller number's among a larger one's.

    Not the first ones: where shares are set, a rare class stands in the first part of a split and is missing in the
    rest, so that the first images have other shares than the whole.
    """
    return images.take(numpy_generator_for(seed, "lab images").permutation(len(images))[:num])


def points(images: ImageSet, device: torch.device | str = "cpu") -> Float[Tensor, "n c h w"]:
    """All of the images as float32 in [-1, 1]; some of them are `chosen` first."""
    return torch.from_numpy(np.ascontiguousarray(images.images())).to(device)

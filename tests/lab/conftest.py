"""Small images whose denoisers are known, and a model folder and a run folder of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from sklearn.datasets import load_digits

from leadline.data import load
from leadline.experiment import describe_splits
from leadline.lab.sources import LabModel
from leadline.models.denoiser import Denoiser
from leadline.models.pretrained import save_pipeline
from leadline.recipe import DataSpec, ModelSpec, Recipe
from leadline.records import ImageSet, Splits
from leadline.runs import Run


@pytest.fixture(scope="session")
def digits() -> Splits:
    """96 training and 32 held-out digits, 1×8×8."""
    found = load_digits().images[:128, None]
    pixels = np.round(found * 255 / 16).astype(np.uint8)
    return Splits(
        train=ImageSet(name="digits", pixels=pixels[:96]), held_out=ImageSet(name="digits", pixels=pixels[96:])
    )


@pytest.fixture(scope="session")
def model_of(digits: Splits) -> Callable[..., LabModel]:
    """A denoiser as a model that was trained on the digits."""

    def make(denoiser: Denoiser, *, name: str = "known", splits: Splits = digits, **fields: object) -> LabModel:
        return LabModel(name=name, denoiser=denoiser, digest=name, splits=splits, facts={"model": name}, **fields)

    return make


def tiny_unet(seed: int = 0, channels: int = 1, size: int = 8) -> UNet2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=size,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder: 8×8 px, one channel, weights at random."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_pipeline(tiny_unet(), DDPMScheduler(), folder)
    return folder


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run folder with a finished model that was never trained."""

    def make(folder: str = "tiny", *, num_images: int = 64, blocks: int = 2, seed: int = 0) -> Run:
        data = DataSpec(dataset="digits", num_images=num_images, held_out=32)
        recipe = Recipe(name="tiny", data=data, model=ModelSpec(blocks=blocks))
        run = Run.create(tmp_path / folder, title=folder, recipe=recipe.model_dump(mode="json"))
        save_pipeline(tiny_unet(seed), DDPMScheduler(), run.model_folder)
        run.update(status="trained", data=describe_splits(load(recipe.data)))
        return run

    return make

"""Training of a text-to-image model: known batches, exact resumption in either stage, an ordinary pipeline folder."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

from leadline.errors import LeadlineError
from leadline.progress import ProgressCallback, silent
from leadline.recipe import TextSpec, TrainSpec
from leadline.records import ImageSet
from leadline.text.autoencoder import Moments
from leadline.text.training import Latents, TrainedText, make_captioned, train_text

SPEC = TextSpec(
    tokens=6,
    text_width=32,
    text_layers=1,
    autoencoder_channels=(8, 16),
    autoencoder_steps=4,
    unet_channels=(32, 32),
    caption_dropout=0.25,
)
TRAIN = TrainSpec(steps=6, batch_size=4, warmup_steps=2, checkpoint_every=2, log_every=2)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)
    return ImageSet(name="noise", pixels=pixels, captions=5 * ("a dark one", "a light one"))


def trained(
    images: ImageSet, folder: Path, train: TrainSpec = TRAIN, progress: ProgressCallback = silent
) -> TrainedText:
    files = {"checkpoint": folder / "c.safetensors", "curve": folder / "train.jsonl"}
    return train_text(SPEC, train, images, **files, progress=progress)


def weights(result: TrainedText) -> dict[str, torch.Tensor]:
    parts = {name: getattr(result.pipeline, name) for name in result.parameters}
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


@pytest.fixture(scope="module")
def undisturbed(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedText, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    before = torch.random.get_rng_state()
    result = trained(images, folder)
    assert torch.equal(before, torch.random.get_rng_state())
    return result, folder


def losses(curve: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.mark.parametrize(("stage", "step"), [("training the autoencoder", 3), ("training", 1), ("training", 5)])
def test_killed_in_either_stage_it_ends_with_the_same_weights(
    images: ImageSet, tmp_path: Path, undisturbed: tuple[TrainedText, Path], stage: str, step: int
) -> None:
    def kill(name: str, done: int, total: int, detail: str) -> None:
        if (name, done) == (stage, step):
            raise Killed

    with pytest.raises(Killed):
        trained(images, tmp_path, progress=kill)
    seen: list[tuple[str, int]] = []
    resumed = weights(trained(images, tmp_path, progress=lambda name, done, total, detail: seen.append((name, done))))
    # From the last checkpoint on: the autoencoder's steps are not done again once it is finished.
    assert seen[0] == (stage, step // 2 * 2 + 1)
    expected = weights(undisturbed[0])
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    for curve in ("train.jsonl", "autoencoder/train.jsonl"):
        assert losses(tmp_path / curve) == losses(undisturbed[1] / curve)


def test_another_training_does_not_take_the_checkpoint(images: ImageSet, undisturbed: tuple[TrainedText, Path]) -> None:
    other = TRAIN.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(LeadlineError, match="is of another training"):
        trained(images, undisturbed[1], other)


def test_the_folder_is_an_ordinary_pipeline(
    tmp_path: Path,
    undisturbed: tuple[TrainedText, Path],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in ("diffusers", "transformers"):
        monkeypatch.setattr(logging.getLogger(library), "propagate", True)
    pipe = undisturbed[0].pipeline
    pipe.save_pretrained(tmp_path, safe_serialization=True)
    assert not list(tmp_path.rglob("*.bin"))
    again = StableDiffusionPipeline.from_pretrained(tmp_path, local_files_only=True, use_safetensors=True)
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert again.safety_checker is None
    drawn: list[Any] = []
    for each in (pipe, again):
        each.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        drawn.append(each("a dark one", num_inference_steps=2, generator=generator, output_type="np").images)
    assert drawn[0].shape == (1, 8, 8, 3)
    assert np.array_equal(drawn[0], drawn[1])


def test_scaled_latents_of_the_images_have_unit_variance(
    images: ImageSet, undisturbed: tuple[TrainedText, Path]
) -> None:
    vae = undisturbed[0].pipeline.vae
    with torch.no_grad():
        posterior = vae.encode(torch.from_numpy(images.images())).latent_dist
    variance = posterior.mean.var(correction=0) + posterior.var.mean()
    assert float(variance) * vae.config.scaling_factor**2 == pytest.approx(1, rel=1e-4)


def test_the_finished_autoencoder_is_not_trained_further(undisturbed: tuple[TrainedText, Path]) -> None:
    result, folder = undisturbed
    with safe_open(folder / "c.safetensors", framework="pt") as opened:
        names = [name for name in opened.keys() if name.startswith("model.vae.")]  # noqa: SIM118 (no mapping)
        own = result.pipeline.vae.state_dict()
        assert len(names) == len(own)
        assert all(torch.equal(opened.get_tensor(name), own[name.removeprefix("model.vae.")]) for name in names)


def latents_of(number: int, *, mirrored: bool = False) -> Latents:
    """Latents of image i are all i, mirrored all -i, without spread; its ids are all i + 1."""
    values = torch.arange(number, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    spread = torch.zeros_like(values)
    return Latents(
        plain=Moments(values, spread),
        mirrored=Moments(-values, spread) if mirrored else None,
        scale=0.5,
        ids=torch.arange(1, number + 1)[:, None].expand(-1, 3),
        empty=torch.zeros(3, dtype=torch.int64),
    )


def test_a_batch_pairs_images_with_their_captions_or_with_none() -> None:
    train = TrainSpec(batch_size=2000)
    batch = make_captioned(latents_of(7), train, 0.25, 0)
    dropped = batch.ids[:, 0] == 0
    # 2000 draws of 0.25: five standard deviations are 0.048.
    assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.048)
    assert torch.equal(2 * batch.latents[~dropped, 0, 0, 0], batch.ids[~dropped, 0].float() - 1)
    assert not (make_captioned(latents_of(7), train, 0.0, 0).ids == 0).any()
    assert batch.timesteps.min() <= 5
    assert 990 <= batch.timesteps.max() <= 999


def test_mirrored_images_take_half_of_the_batch() -> None:
    batch = make_captioned(latents_of(7, mirrored=True), TrainSpec(batch_size=2000), 0.0, 0)
    signed = 2 * batch.latents[:, 0, 0, 0]
    assert torch.equal(signed.abs(), batch.ids[:, 0].float() - 1)
    assert float((signed < 0).sum() / (signed != 0).sum()) == pytest.approx(0.5, abs=0.06)


def test_a_captioned_batch_is_a_function_of_seed_and_step() -> None:
    latents, train = latents_of(7), TrainSpec(batch_size=6)
    whole = make_captioned(latents, train, 0.5, 2)
    parts = [make_captioned(latents, train, 0.5, 2, part) for part in (slice(0, 3), slice(3, 6))]
    for name in ("latents", "noise", "timesteps", "ids"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
    assert not torch.equal(whole.noise, make_captioned(latents, train, 0.5, 3).noise)
    assert not torch.equal(whole.noise, make_captioned(latents, TrainSpec(batch_size=6, seed=1), 0.5, 2).noise)


def test_images_without_captions_are_refused(images: ImageSet, tmp_path: Path) -> None:
    plain = ImageSet(name="plain", pixels=images.pixels)
    with pytest.raises(LeadlineError, match="'plain' has no captions: --set data.captions="):
        trained(plain, tmp_path)
    assert not list(tmp_path.iterdir())

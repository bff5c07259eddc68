"""Models and their data, opened: what a run brings, what a pipeline needs, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.lab.sources import chosen, model_digest, open_model, open_models, points
from leadline.models.pretrained import load_pipeline
from leadline.recipe import SampleSpec
from leadline.records import ImageSet, Splits
from leadline.runs import Run
from leadline.sampling import draw

MakeRun = Callable[..., Run]


def test_a_run_brings_its_data_its_depth_and_its_samples(make_run: MakeRun) -> None:
    run = make_run(blocks=3)
    model = open_model(run.folder)
    assert (model.name, model.depth, model.samples) == ("3 blocks", 3, None)
    assert (len(model.splits.train), model.splits.train.shape) == (64, model.denoiser.shape)
    assert model.facts["data"] == model.splits.train.fingerprint()
    draw(load_pipeline(run.model_folder), SampleSpec(num_images=2, steps=2), run.samples_folder)
    run.update(status="sampled")
    assert open_model(run.folder).samples == run.samples_folder


def test_a_pipeline_takes_its_data_in_the_shape_of_the_model(pipeline: Path) -> None:
    model = open_model(pipeline, train="digits", overrides=["data.num_images=50", "data.held_out=10"])
    assert (model.name, model.depth, model.recipe) == ("tiny", None, None)
    assert (len(model.splits.train), model.splits.held_out is not None) == (50, True)
    assert model.digest == open_model(pipeline, train="digits").digest


@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
def test_a_model_with_other_settings_is_another(pipeline: Path, name: str) -> None:
    before = model_digest(pipeline)
    assert (len(before), model_digest(pipeline)) == (16, before)
    settings = json.loads((pipeline / name).read_text())
    (pipeline / name).write_text(json.dumps({**settings, "sigma_data": 0.31}))
    assert model_digest(pipeline) != before


def test_what_is_refused(make_run: MakeRun, pipeline: Path, tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(ValueError, match=r"say what the model was trained on with --train"):
        open_model(pipeline)
    with pytest.raises(ValueError, match=r"brings its own data: leave out --train"):
        open_model(run.folder, train="digits")
    with pytest.raises(ValueError, match=r"denoises images of 1×8×8, the data has 1×16×16: --set data\.image_size="):
        open_model(pipeline, train="digits", overrides=["data.image_size=16", "data.fit=resize"])
    with pytest.raises(ValueError, match="no diffusers pipeline folder"):
        open_model(tmp_path / "nothing", train="digits")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header["data"]["train"].update(fingerprint="0" * 16), "training data of .* has changed since"),
        (lambda header: header["recipe"]["data"].update(dataset="mnist", path="/nowhere"), "no IDX files"),
        (lambda header: header["recipe"].update(text={}), "an unconditional model of its own is needed"),
        (lambda header: header.update(recipe=None), "an unconditional model of its own is needed"),
    ],
)
def test_a_run_whose_record_does_not_fit_is_refused(make_run: MakeRun, change: Callable, message: str) -> None:
    run = make_run()
    header = json.loads((run.folder / "run.json").read_text())
    change(header)
    (run.folder / "run.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=message):
        open_model(run.folder)


def test_a_run_without_a_finished_model_is_refused(make_run: MakeRun) -> None:
    run = make_run()
    run.model_folder.rename(run.folder / "elsewhere")
    with pytest.raises(ValueError, match=r"has no finished model \(its status is trained\): leadline train first"):
        open_model(run.folder)


def test_models_that_would_be_called_alike_are_told_apart(make_run: MakeRun) -> None:
    large, small, again = make_run("large"), make_run("small", num_images=32), make_run("again", seed=1)
    by_size = open_models([large.folder, small.folder])
    assert [m.name for m in by_size] == ["2 blocks, 64 training images", "2 blocks, 32 training images"]
    assert [m.name for m in open_models([large.folder, again.folder])] == ["2 blocks (large)", "2 blocks (again)"]
    with pytest.raises(ValueError, match="a model is given twice"):
        open_models([large.folder, large.folder])


def test_points_are_images_in_their_scale(digits: Splits) -> None:
    found = points(digits.train)
    assert found.shape == (96, 1, 8, 8)
    assert found.dtype == torch.float32
    assert (float(found.min()), float(found.max())) == (-1, 1)


def test_some_images_are_drawn_from_the_whole_set() -> None:
    labels = np.repeat([1, 0], [100, 900])  # the rare class stands first, as in a split with shares
    pixels = np.zeros((1000, 1, 4, 4), np.uint8)
    images = ImageSet(name="sorted", pixels=pixels, labels=labels, classes=("a", "b"), ids=tuple(map(str, range(1000))))
    some = chosen(images, 200, 0)
    assert 5 <= some.counts()["b"] <= 38  # 20 ± 4.5 standard deviations
    assert len(set(chosen(images, 5000, 0).ids)) == 1000
    assert some.ids[:50] == chosen(images, 50, 0).ids
    assert some.ids != chosen(images, 200, 1).ids

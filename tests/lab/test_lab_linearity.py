"""Linearity and generalization score of denoisers that are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leadline.lab.keeping import Kept
from leadline.lab.linearity import Linear, compare_linearity, measure_generalization, measure_linearity, samples
from leadline.lab.sources import LabModel, open_model, points
from leadline.models.pretrained import load_pipeline
from leadline.recipe import SampleSpec, SteerSpec
from leadline.records import Measurement, Splits
from leadline.runs import Run
from leadline.sampling import draw
from leadline.theory.exact import GaussianDenoiser, MultiDeltaDenoiser

Make = Callable[..., LabModel]
SPEC = Linear(sigmas=(10.0, 0.3), num_images=16, num_samples=12, steps=50)


def one(found: list[Measurement], **params: object) -> Measurement:
    [chosen] = [m for m in found if params.items() <= m.params.items()]
    return chosen


def test_an_affine_denoiser_is_linear_about_the_mean(model_of: Make, digits: Splits, tmp_path: Path) -> None:
    model = model_of(GaussianDenoiser(points(digits.train)), depth=2)
    found = measure_linearity(model, SPEC, Kept(tmp_path))
    assert len(found) == 3 * 2 * 2
    for sigma in SPEC.sigmas:
        assert one(found, denoiser="trained", centred=True, sigma=sigma).value == 1
        plain = one(found, denoiser="trained", centred=False, sigma=sigma)
        assert 0.5 < (plain.value or 0) < 1
        assert (plain.n, plain.method) == (8, "Student t over pairs of images")
        assert plain.value == one(found, denoiser="gaussian", centred=False, sigma=sigma).value
        bent = one(found, denoiser="multi-delta", centred=True, sigma=sigma)
        assert 0 < (bent.value or 0) < 1
    assert {m.params["depth"] for m in found} == {2}
    assert {m.params["num_train"] for m in found} == {96}


def test_copies_score_0_and_held_out_images_do_not(model_of: Make, digits: Splits, tmp_path: Path) -> None:
    found = measure_generalization(model_of(MultiDeltaDenoiser(points(digits.train))), SPEC, Kept(tmp_path))
    assert len(found) == 4
    for squared in (False, True):
        assert one(found, set="samples", squared=squared).value == 0
        held_out = one(found, set="held-out", squared=squared)
        assert (held_out.value or 0) > 0
        assert held_out.n == 12
    unmeasured = measure_generalization(
        model_of(GaussianDenoiser(points(digits.train)), splits=Splits(train=digits.train)), SPEC, Kept(tmp_path)
    )
    assert one(unmeasured, set="held-out", squared=False).reason == "no images are held out: --set data.held_out=256"


def test_a_runs_own_samples_are_taken_unless_they_were_steered(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run()
    kept = Kept(tmp_path / "kept")
    drawn = SampleSpec(num_images=5, steps=2, seed=3)
    draw(load_pipeline(run.model_folder), drawn, run.samples_folder)
    run.update(status="sampled")
    model = open_model(run.folder)
    spec = replace(SPEC, num_samples=4, steps=2)
    own = samples(model, spec, kept)
    assert own.shape == (4, 1, 8, 8)
    assert not kept.folder.exists()
    assert model.recipe is not None
    sample = model.recipe.sample.model_copy(update={"steer": SteerSpec(strength=1.0)})
    steered = replace(model, recipe=model.recipe.model_copy(update={"sample": sample}))
    assert not np.array_equal(samples(steered, spec, kept), own)
    assert kept.folder.exists()
    result = compare_linearity([model], spec, kept)
    assert result.settings["samples"] == {"2 blocks": "its run's own"}


def test_what_lies_outside_a_model_is_said(pipeline: Path, tmp_path: Path) -> None:
    model = open_model(pipeline, train="digits")
    found = measure_linearity(model, replace(SPEC, sigmas=(1000.0, 1.0)), Kept(tmp_path), references=False)
    assert "outside the model's schedule" in str(one(found, sigma=1000.0, centred=False).reason)
    assert one(found, sigma=1.0, centred=False).value is not None


def test_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one run or pipeline folder or more"):
        compare_linearity([], SPEC, Kept(tmp_path))

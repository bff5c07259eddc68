"""Bias and variance over the noise level, of models whose class is known, and what is refused."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from leadline.audit.judged import AttributeLabeler
from leadline.errors import LeadlineError
from leadline.lab import bias_variance as lab
from leadline.lab.bias_variance import BiasVarianceSpec, majority, measure_bias_variance
from leadline.lab.exchange import Exchange
from leadline.lab.keeping import Kept
from leadline.lab.made_classes import MadeClasses, labeler_for
from leadline.lab.sources import LabModel
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.recipe import AuditSpec, Recipe
from leadline.records import ImageSet, Splits

SHAPE = (1, 4, 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class Brightness(AttributeLabeler):
    """Dark, bright, or striped; between dark and bright it is not sure."""

    description = "the mean of an image"
    batch_size = 64
    outputs = {"probabilities": 3}  # noqa: RUF012
    doubt = "its probability"

    def details(self):
        return {}

    def encode(self, images):
        striped = np.abs(images[..., 0] - images[..., 1]).mean((1, 2)) > 1
        bright = 1 / (1 + np.exp(-20 * images.mean((1, 2, 3))))
        rows = np.stack([1 - bright, bright, np.zeros(len(images))], axis=1)
        rows[striped] = (0, 0, 1)
        return {"probabilities": rows.astype(np.float32)}


class Always(Denoiser):
    """Makes the same image of everything."""

    shape, sigmas, device = SHAPE, ddpm_sigmas(), torch.device("cpu")

    def __init__(self, image):
        self.image = image

    def __call__(self, x, sigma):
        return self.image.to(x).expand_as(x)


class Sign(Always):
    """Makes bright or dark images, whichever the first pixel is nearer to."""

    def __init__(self):
        pass

    def __call__(self, x, sigma):
        return torch.where(x[:, :, :1, :1] > 0, 0.8, -0.8).expand_as(x)


def flat(number, value):
    return np.full((number, *SHAPE), value, dtype=np.uint8)


@pytest.fixture
def splits():
    pixels = np.concatenate([flat(9, 25), flat(3, 230)])[[0, 9, 1, 2, 10, 3, 4, 5, 11, 6, 7, 8]]
    labels = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    return Splits(train=ImageSet(name="flat", pixels=pixels, labels=labels, classes=("dark", "bright")))


@pytest.fixture(autouse=True)
def labeler(monkeypatch):
    made = Brightness(classes=("dark", "bright", "striped"), shape=SHAPE, confidence=0.9, fingerprint="brightness")
    monkeypatch.setattr(lab, "labeler_for", lambda *_: made)
    return made


def model(splits, denoiser, name="2 blocks", digest="a", blocks=2, seed=0):
    recipe = Recipe(model={"blocks": blocks}, train={"seed": seed})
    return LabModel(
        name=name, denoiser=denoiser, digest=digest, splits=splits, depth=blocks, recipe=recipe, facts={"run": digest}
    )


SPEC = BiasVarianceSpec(sigmas=(20.0, 1.0, 0.05), num_images=12, draws=3, replicates=1, steps=6)


def value(found, name, **params):
    [m] = found.find(name, **params)
    return m.value


def test_soft_knn_keeps_classes_at_little_noise_and_makes_the_majority_at_much(splits, tmp_path):
    found = measure_bias_variance([], SPEC, Kept(tmp_path), data=splits)
    assert value(found, "class_bias", group="dark", sigma=0.05) == 0
    assert value(found, "noise_variance", sigma=0.05) == 0
    assert value(found, "class_bias", group="dark", sigma=20.0) == pytest.approx(0.25)
    mean = value(found, "class_bias", group="dark", levels=3)
    assert mean == pytest.approx(np.mean([value(found, "class_bias", group="dark", sigma=s) for s in SPEC.sigmas]))
    assert found.settings["labeler"] is None
    assert found.settings["subjects"] == {"soft k-NN": ["the training data"]}
    assert found.settings["majority"] == "dark"


def test_bootstraps_of_the_data_differ_by_training_run(splits, tmp_path):
    found = measure_bias_variance([], replace(SPEC, sigmas=(20.0,), replicates=6), Kept(tmp_path), data=splits)
    assert value(found, "training_variance", sigma=20.0) > 0.1
    assert len({row[3] for row in found.tables[0].rows}) > 1


def test_a_model_of_one_class_has_its_bias_and_no_variance(splits, tmp_path):
    found = measure_bias_variance([model(splits, Always(torch.tensor(-0.8)))], SPEC, Kept(tmp_path))
    for sigma in (20.0, 1.0, 0.05):
        of = {"model": "2 blocks", "sigma": sigma}
        assert value(found, "class_bias", group="dark", **of) == pytest.approx(0.25)
        assert value(found, "class_bias", group="bright", **of) == pytest.approx(-0.25)
        assert value(found, "squared_bias", **of) == pytest.approx(2 * 3 / 12)
        assert value(found, "noise_variance", **of) == 0
        [between] = found.find("training_variance", **of)
        assert between.value is None
        assert "two or more" in (between.reason or "")


def test_other_classes_and_unsure_images_are_classes_of_their_own(splits, tmp_path):
    stripes = torch.tensor([0.9, -0.9, 0.9, -0.9]).expand(4, 4)
    models = [model(splits, Always(stripes)), model(splits, Always(torch.tensor(0.0)), "3 blocks", "b", 3)]
    found = measure_bias_variance(models, SPEC, Kept(tmp_path))
    assert value(found, "class_bias", group="other classes", model="2 blocks", sigma=1.0) == 1
    assert value(found, "class_bias", group="unclassified", model="3 blocks", sigma=1.0) == 1


def test_what_the_labeler_is_not_sure_of_before_is_no_bias(splits, tmp_path):
    grey = Splits(train=replace(splits.train, pixels=np.full_like(splits.train.pixels, 128)))
    found = measure_bias_variance([model(grey, Always(torch.tensor(0.0)))], SPEC, Kept(tmp_path))
    assert value(found, "class_bias", group="unclassified", model="2 blocks", sigma=1.0) == 0
    assert value(found, "squared_bias", model="2 blocks", sigma=1.0) == 0


def test_runs_of_several_seeds_are_replicates_of_one_depth(splits, tmp_path):
    dark, bright = Always(torch.tensor(-0.8)), Always(torch.tensor(0.8))
    models = [model(splits, dark, "first", "a", seed=0), model(splits, bright, "second", "b", seed=1)]
    found = measure_bias_variance(models, SPEC, Kept(tmp_path))
    subjects = found.settings["subjects"]
    [name] = [name for name in subjects if name != "soft k-NN"]
    assert subjects[name] == ["a", "b"]
    assert value(found, "noise_variance", model=name, sigma=1.0) == 0
    # The runs differ wholly: variance of two one-hot vectors, 1/2 of their squared distance 2, unbiased.
    assert value(found, "training_variance", model=name, sigma=1.0) == pytest.approx(1)
    rows = [row for row in found.tables[0].rows if row[0] == name and row[2] == 1.0]
    assert [row[3] for row in rows] == pytest.approx([25, -75])


def test_depths_are_compared_by_their_runs_where_both_have_two(splits, tmp_path):
    deep = [model(splits, Sign(), "a", "b", 3), model(splits, Always(torch.tensor(0.8)), "b", "c", 3, seed=1)]
    dark = Always(torch.tensor(-0.8))
    shallow = [model(splits, dark, "c", "a"), model(splits, Sign(), "d", "e", seed=1)]
    found = measure_bias_variance([*deep, *shallow], SPEC, Kept(tmp_path))
    [change] = found.find("class_bias_change", "dark")
    first, last = change.params["compared_with"], change.params["model"]
    means = [found.find("class_bias", "dark", model=name, levels=3)[0] for name in (last, first)]
    assert change.value == pytest.approx(means[0].value - means[1].value)
    # A run moves all images together: two runs give one degree of freedom, however many images there are.
    by_run = [[row[3] / 100 for row in found.tables[0].rows if row[0] == name] for name in (last, first)]
    runs = [np.array([np.mean(rows[0::2]), np.mean(rows[1::2])]) for rows in by_run]
    errors = [each.std(ddof=1) / np.sqrt(2) for each in runs]
    assert means[0].upper - means[0].value == pytest.approx(12.7062 * errors[0], rel=1e-4)
    assert (means[0].n, means[0].method) == (2, "Student t over training runs (jackknife)")
    assert change.upper - change.lower > 2 * 4.3 * np.hypot(*errors)  # t of 2 degrees of freedom at the most
    [squared] = found.find("squared_bias", model=last, levels=3)
    assert (squared.lower, squared.method) == (None, None)


def test_one_run_is_told_as_that_run_and_no_depth_is_compared(splits, tmp_path):
    models = [model(splits, Sign(), "3 blocks", "b", 3), model(splits, Always(torch.tensor(-0.8)))]
    found = measure_bias_variance(models, SPEC, Kept(tmp_path))
    [change] = found.find("class_bias_change", "dark")
    assert (change.params["model"], change.params["compared_with"]) == ("3 blocks", "2 blocks")
    assert change.value is None
    assert "one training run of a depth" in change.reason
    [bias] = found.find("class_bias", "dark", model="3 blocks", levels=3)
    assert bias.method == "Student t over images, of this one training run"
    assert value(found, "noise_variance", model="3 blocks", sigma=20.0) > 0.2


def test_outside_a_models_range_it_is_not_measurable_and_means_leave_the_level_out(splits, tmp_path):
    spec = replace(SPEC, sigmas=(1.0, 0.002))
    found = measure_bias_variance([model(splits, Sign())], spec, Kept(tmp_path))
    [missing] = found.find("squared_bias", model="2 blocks", sigma=0.002)
    assert "defined from" in (missing.reason or "")
    assert value(found, "squared_bias", model="soft k-NN", sigma=0.002) == pytest.approx(0, abs=0.05)
    assert {m.params["levels"] for m in found if "levels" in m.params} == {1}


def test_what_was_made_is_kept(splits, tmp_path, monkeypatch):
    first = measure_bias_variance([model(splits, Sign())], SPEC, Kept(tmp_path))
    monkeypatch.setattr(Sign, "__call__", None)
    again = measure_bias_variance([model(splits, Sign())], SPEC, Kept(tmp_path))
    assert first.measurements == again.measurements
    with pytest.raises(TypeError):
        measure_bias_variance([model(splits, Sign())], replace(SPEC, seed=1), Kept(tmp_path))


def test_exchange_gives_what_the_decoder_makes_beside_what_the_encoder_does(splits, tmp_path):
    pair = Exchange(
        encoder=model(splits, Sign()), decoder=model(splits, Always(torch.tensor(-0.8)), "3 blocks", "b", 3)
    )
    found = measure_bias_variance([], SPEC, Kept(tmp_path), exchange=pair)
    own, other = found.find("class_changed")
    assert own.value == 0
    assert other.value == pytest.approx(3 / 12)
    near, far = found.find("exchange_distance")
    assert near.value is not None
    assert far.value is not None
    assert near.value < 5 < far.value
    assert [row[:4] for row in found.tables[-1].rows] == [
        ("2 blocks", "dark", 9, 0),
        ("2 blocks", "bright", 0, 3),
        ("3 blocks", "dark", 9, 0),
        ("3 blocks", "bright", 3, 0),
    ]
    assert found.panels[0].tiles.shape == (8, 3, *SHAPE)
    with pytest.raises(LeadlineError, match="measures nothing"):
        Exchange(encoder=pair.encoder, decoder=pair.encoder)


def test_what_cannot_be_compared_is_refused_before_anything_is_made(splits, tmp_path):
    other = Splits(train=splits.train.take(range(6)))
    bare = Splits(train=replace(splits.train, labels=None, classes=()))
    kept = Kept(tmp_path / "kept")
    cases = [
        (([], SPEC, kept), {}, "give models, or the training data"),
        (([model(splits, Sign()), model(other, Sign(), "3 blocks", "b", 3)], SPEC, kept), {}, "one training set"),
        (([], SPEC, kept), {"data": bare}, "has no labels.*data.groups"),
        (([], replace(SPEC, draws=1), kept), {"data": splits}, "--draws: 2 or more"),
        (([], replace(SPEC, num_images=1), kept), {"data": splits}, "--num-images"),
        (([], replace(SPEC, sigmas=(1.0, -1.0)), kept), {"data": splits}, "--sigma"),
        (([model(splits, Sign()), model(splits, Sign(), "2", "a", seed=1)], SPEC, kept), {}, "same weights"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(LeadlineError, match=message):
            measure_bias_variance(*arguments, **options)
    assert not kept.folder.exists()


def test_a_labeler_has_to_know_the_classes_and_to_have_images(splits, tmp_path, labeler):
    with pytest.raises(LeadlineError, match=r"no images of the training data's class 'dark'.*data\.labeler"):
        MadeClasses.of(splits.train, replace(labeler, classes=("bright", "striped", "other")))
    with pytest.raises(LeadlineError, match=r"--set data\.labeler"):
        labeler_for(splits, AuditSpec(), Kept(tmp_path), lambda *_: None)


def test_the_most_frequent_class(splits):
    assert majority(splits.train) == "dark"

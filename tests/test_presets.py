"""Presets: each is a whole recipe, and what the papers print of theirs is in it."""

import pytest
import torch

from leadline.data import DATASETS, load
from leadline.data.captions import CAPTIONS
from leadline.errors import LeadlineError
from leadline.models.unet import build_unet
from leadline.presets import PRESETS, preset, preset_names
from leadline.recipe import Recipe, recipe_from_json
from leadline.sampling import SAMPLERS
from leadline.text.building import check_text


def test_the_names_stand_beside_their_twins() -> None:
    names = preset_names()
    whole = {"digits69", "mnist69", "celeba-gender", "mnist-text", "celeba-text", "mnist-edm", "celeba-edm"}
    assert whole <= set(names)
    assert names == [twin for name in PRESETS for twin in (name, f"{name}-debug")]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_recipe_that_fits_together(name: str) -> None:
    recipe = preset(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    # model_copy checks nothing: built again from JSON, every field is.
    assert recipe_from_json(recipe.model_dump(mode="json")) == recipe
    assert recipe.data.dataset in DATASETS
    assert recipe.sample.sampler in SAMPLERS
    assert recipe.data.held_out > 0
    assert recipe.data.labeler is None or recipe.data.labeler > 0
    with torch.device("meta"):
        build_unet(recipe.model, 3, recipe.data.image_size or 8)
    if recipe.text is not None:
        size = recipe.data.image_size or 8
        check_text(recipe.text, (recipe.data.channels or 1, size, size))
        assert recipe.data.captions in CAPTIONS


@pytest.mark.parametrize("name", PRESETS)
def test_a_debug_twin_is_small_and_apart(name: str) -> None:
    whole, twin = preset(name), preset(f"{name}-debug")
    assert twin.model == whole.model
    assert (twin.data.dataset, twin.data.groups, twin.data.shares) == (
        whole.data.dataset,
        whole.data.groups,
        whole.data.shares,
    )
    assert twin.train.steps <= 20
    assert twin.sample.num_images <= 24
    assert (twin.data.image_size or 8) <= 16
    assert twin.folder_name() != whole.folder_name()
    assert twin.fingerprint() != whole.fingerprint()


def test_a_preset_is_made_anew_each_time() -> None:
    assert preset("digits69") == preset("digits69")
    assert isinstance(PRESETS["digits69"](), Recipe)


def test_mnist69_is_the_papers() -> None:
    """2505.17560: sixes and nines at 90/10; 32×32 because 28 cannot be halved for every depth."""
    data = preset("mnist69").data
    assert (data.dataset, data.shares) == ("mnist", (("6", 0.9), ("9", 0.1)))
    assert (data.image_size, data.fit) == (32, "pad")


def test_celeba_gender_is_the_papers() -> None:
    """2505.17560, Table 2: 10,000 images of a model trained on CelebA by the attribute Male, mirrored as faces may."""
    recipe = preset("celeba-gender")
    assert (recipe.data.dataset, recipe.data.groups, recipe.data.image_size) == ("celeba", "Male", 64)
    assert recipe.sample.num_images == 10_000
    assert recipe.train.flip


@pytest.mark.parametrize("name", ["mnist-edm", "celeba-edm"])
def test_p2s_networks_are_trained_and_sampled_as_edms(name: str) -> None:
    """2206.00364: its preconditioning and its sampler, whose estimates nothing holds within [-1, 1]; no mirroring,
    which would make 2 N images of N."""
    recipe = preset(name)
    assert recipe.train.objective == "edm"
    assert (recipe.sample.sampler, recipe.sample.clip_x0) == ("heun", False)
    assert not recipe.train.flip
    assert preset(f"{name}-debug").train.objective == "edm"


@pytest.mark.parametrize("name", ["digits69", "mnist69", "mnist-edm"])
def test_digits_are_never_mirrored(name: str) -> None:
    assert not preset(name).train.flip


def test_the_data_of_digits69() -> None:
    splits = load(preset("digits69").data)
    assert {name: n for name, n in splits.train.counts().items() if n} == {"6": 126, "9": 14}
    assert splits.held_out is not None
    assert {name: n for name, n in splits.held_out.counts().items() if n} == {"6": 27, "9": 3}
    assert splits.labeler is not None
    assert min(splits.labeler.counts().values()) > 0
    parts = (splits.train, splits.held_out, splits.labeler)
    ids = [name for part in parts for name in part.ids]
    # 1,797 digits, each in one part.
    assert len(ids) == len(set(ids)) == 1797


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist96", "^unknown preset 'mnist96': did you mean 'mnist69'"),
        ("mnist96-debug", "^unknown preset 'mnist96': did you mean 'mnist69'"),
        (
            "xyz",
            "^unknown preset 'xyz': known: celeba-blond-male, celeba-edm, celeba-gender, celeba-text, digits69, "
            "mnist-edm, mnist-text, mnist69$",
        ),
        ("-debug", "^unknown preset ''"),
    ],
)
def test_an_unknown_preset_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        preset(name)

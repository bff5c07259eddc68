"""Recipes: what is refused and how it is said, what the fingerprint hangs on, the road through JSON and `--set`."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from leadline.errors import LeadlineError
from leadline.recipe import (
    AuditSpec,
    DataSpec,
    ModelSpec,
    Recipe,
    SampleSpec,
    Spec,
    SteerSpec,
    TextSpec,
    TrainSpec,
    fingerprint,
    recipe_from_json,
    with_overrides,
)

PARTS: dict[str, type[Spec]] = {
    "data": DataSpec,
    "model": ModelSpec,
    "train": TrainSpec,
    "sample": SampleSpec,
    "text": TextSpec,
}
"""The parts that decide what is trained and drawn."""

OTHER: dict[str, object] = {
    "data.dataset": "mnist",
    "data.path": "somewhere",
    "data.download": True,
    "data.split": "test",
    "data.image_column": "picture",
    "data.groups": "Male",
    "data.classes": ("6",),
    "data.shares": (("6", 0.9), ("9", 0.1)),
    "data.num_images": 140,
    "data.held_out": 30,
    "data.labeler": None,
    "data.duplicates": 5,
    "data.duplicate_copies": 2,
    "data.image_size": 32,
    "data.channels": 3,
    "data.fit": "pad",
    "data.captions": "digits",
    "data.max_unreadable_share": 0.5,
    "data.seed": 1,
    "model.blocks": 3,
    "model.wide": True,
    "model.match": ("parameters",),
    "model.channels": (8, 16),
    "train.steps": 10,
    "train.batch_size": 7,
    "train.learning_rate": 1e-4,
    "train.weight_decay": 0.0,
    "train.warmup_steps": 3,
    "train.clip_norm": 2.0,
    "train.ema_decay": 0.0,
    "train.precision": "bf16",
    "train.flip": True,
    "train.objective": "edm",
    "train.sigma_data": 1.0,
    "train.noise_mean": -1.0,
    "train.noise_std": 1.0,
    "train.snapshots": (5, 10),
    "train.watch_every": 100,
    "train.watch_images": 16,
    "train.watch_steps": 10,
    "train.seed": 1,
    "train.checkpoint_every": 9,
    "train.log_every": 9,
    "train.tensorboard": True,
    "sample.num_images": 10,
    "sample.seed": 1,
    "sample.sampler": "heun",
    "sample.steps": 25,
    "sample.clip_x0": False,
    "sample.batch_size": 7,
    "sample.shard_size": 7,
    "sample.steer": SteerSpec(strength=0.5),
    "sample.guidance": 3.0,
    "sample.init_strength": 0.5,
    "text.pipeline": "somewhere",
    "text.tokens": 24,
    "text.text_width": 32,
    "text.text_layers": 1,
    "text.latent_channels": 3,
    "text.autoencoder_channels": (8, 16),
    "text.autoencoder_steps": 10,
    "text.autoencoder_learning_rate": 1e-4,
    "text.kl_weight": 0.0,
    "text.unet_channels": (32, 64),
    "text.unet_layers": 2,
    "text.caption_dropout": 0.0,
    "audit.metrics": ("bias",),
    "audit.encoders": ("labeler", "squeezenet:weights.safetensors"),
    "audit.ks": (1,),
    "audit.stopping": "anytime",
    "audit.level": 0.9,
    "audit.confidence": 0.5,
    "audit.num_panels": 2,
    "audit.labeler_epochs": 3,
    "audit.labeler_model": "resnet18:weights.safetensors",
    "audit.prompts": ("male=a man", "female=a woman"),
    "audit.flips": True,
    "audit.duplicate_rms": 0.0,
    "audit.copy_ratio": 0.5,
    "audit.carlini_alpha": 0.4,
    "audit.carlini_neighbors": 20,
    "audit.false_positive_rate": 0.05,
    "audit.nearest_k": 3,
    "audit.seed": 1,
}
"""For every field a value that is not its default."""

WITH: dict[str, dict[str, object]] = {
    f"train.{name}": {"objective": "edm"} for name in ("sigma_data", "noise_mean", "noise_std")
}
"""What a field needs beside it."""

NOT_IN_THE_OUTCOME = {
    *("train.checkpoint_every", "train.log_every", "train.tensorboard"),
    *("train.watch_every", "train.watch_images", "train.watch_steps"),
    *("sample.batch_size", "sample.shard_size"),
}


def varied(name: str) -> Recipe:
    part, field = name.split(".")
    spec = {**PARTS, "audit": AuditSpec}[part]
    return Recipe(**{part: spec(**{field: OTHER[name], **WITH.get(name, {})})})


def usual(name: str) -> Recipe:
    """What `varied` varies: the recipe of all defaults, of a text-to-image model for the fields of one."""
    if name in WITH:
        return Recipe(train=TrainSpec(**WITH[name]))
    return Recipe(text=TextSpec()) if name.startswith("text.") else Recipe()


def test_every_field_is_varied_below() -> None:
    fields = {f"{part}.{field}" for part, spec in {**PARTS, "audit": AuditSpec}.items() for field in spec.model_fields}
    assert set(OTHER) == fields
    assert all(varied(name) != usual(name) for name in OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_the_fingerprint_hangs_on_what_decides_the_samples(name: str) -> None:
    """The seed of training names the folder beside the fingerprint: the seeds of one experiment stand together."""
    free = name in NOT_IN_THE_OUTCOME or name == "train.seed" or name.startswith("audit.")
    assert (varied(name).fingerprint() == usual(name).fingerprint()) is free


@pytest.mark.parametrize("name", OTHER)
def test_the_training_fingerprint_hangs_on_what_decides_the_weights(name: str) -> None:
    free = name in NOT_IN_THE_OUTCOME or name.startswith(("audit.", "sample."))
    assert (varied(name).training_fingerprint() == usual(name).training_fingerprint()) is free


def test_a_text_to_image_recipe_is_another_than_the_unconditional_one() -> None:
    text = Recipe(text=TextSpec())
    assert text.fingerprint() != Recipe().fingerprint()
    assert text.training_fingerprint() != Recipe().training_fingerprint()


def test_set_reaches_a_text_to_image_model_only_where_there_is_one() -> None:
    text = Recipe(text=TextSpec())
    assert with_overrides(text, ["text.unet_channels=32,64"]).text == TextSpec(unet_channels=(32, 64))
    assert with_overrides(Recipe(), ["text={}", "text.tokens=24"]).text == TextSpec(tokens=24)
    assert with_overrides(text, ["text=null"]).text is None
    with pytest.raises(LeadlineError, match=r"this recipe has no 'text'; take one that has .*--set text=\{\}"):
        with_overrides(Recipe(), ["text.tokens=24"])
    with pytest.raises(LeadlineError, match="TextSpec has no field 'token': did you mean 'tokens'"):
        with_overrides(text, ["text.token=24"])
    with pytest.raises(LeadlineError, match="text must be an object with the fields of TextSpec"):
        with_overrides(text, ["text=3"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"unet_channels": (32, 48)},
            r"unet_channels must be multiples of 32 \(--set text.unet_channels\), not 32, 48",
        ),
        ({"autoencoder_channels": (8, 12)}, "autoencoder_channels must be multiples of 8"),
        ({"unet_channels": (32,)}, "TextSpec.unet_channels: Tuple should have at least 2 items"),
        ({"text_width": 48}, "TextSpec.text_width: .*multiple of 32"),
        ({"caption_dropout": 1.0}, "TextSpec.caption_dropout: .*less than 1"),
        ({"tokens": 2}, "TextSpec.tokens: .*greater than or equal to 4"),
    ],
)
def test_text_specs_that_cannot_be_built_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        TextSpec(**fields)


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (ModelSpec, {"channels": (8, 12)}, r"must be 2 multiples of 8, one per block \(--set model.chan.*not 8, 12"),
        (ModelSpec, {"channels": "8,16,16"}, "must be 2 multiples of 8.*not 8, 16, 16"),
        (ModelSpec, {"channels": (8, 16), "wide": True}, "wide and match choose the channels themselves"),
        (ModelSpec, {"channels": (8, 16), "match": "width"}, "wide and match choose the channels themselves"),
        (TrainSpec, {"noise_mean": -1.0, "noise_std": 1.0}, "noise_mean, noise_std is of the objective edm: --set"),
        (TrainSpec, {"sigma_data": 1.0}, "sigma_data is of the objective edm"),
        (TrainSpec, {"objective": "edm", "sigma_data": 0.0}, "TrainSpec.sigma_data: .*greater than 0"),
        (TrainSpec, {"objective": "v"}, "'epsilon' or 'edm'"),
        (TrainSpec, {"steps": 10, "snapshots": (5, 11)}, "rising steps, up to the last, 10 .*not 5, 11"),
        (TrainSpec, {"steps": 10, "snapshots": "5,5"}, "rising steps.*not 5, 5"),
        (TrainSpec, {"snapshots": "0"}, "TrainSpec.snapshots.0: .*greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(spec: type[Spec], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        spec(**fields)


def test_fingerprints_are_pinned() -> None:
    """Folders of earlier runs are found by them. A new field changes them, and belongs into the changelog."""
    assert Recipe().fingerprint() == "5dc87ee7"
    assert Recipe().training_fingerprint() == "2e73bd35"


def test_name_and_description_are_no_part_of_the_fingerprint() -> None:
    recipe = Recipe(name="mine", description="Words.", train=TrainSpec(seed=3))
    assert recipe.fingerprint() == Recipe().fingerprint()
    assert recipe.folder_name() == f"mine-{Recipe().fingerprint()}-s3"


def test_fields_of_one_name_in_two_specs_are_kept_apart() -> None:
    assert fingerprint(DataSpec(seed=1), TrainSpec()) != fingerprint(DataSpec(), TrainSpec(seed=1))


@pytest.mark.parametrize("given", ["6:0.9,9:0.1", " 6 : 0.9 , 9:0.1,", {"6": 0.9, "9": 0.1}, [["6", 0.9], ["9", 0.1]]])
def test_shares_have_several_spellings(given: object) -> None:
    spec = DataSpec(shares=given)
    assert spec.shares == (("6", 0.9), ("9", 0.1))
    assert spec == DataSpec(shares=(("6", 0.9), ("9", 0.1)))


def test_the_name_of_a_class_may_have_a_colon() -> None:
    assert DataSpec(shares="a:b:0.25,c:0.75").shares == (("a:b", 0.25), ("c", 0.75))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shares": "6:0.9,9"}, r"DataSpec.shares: shares are written class:share,class:share .* not '6:0.9,9'"),
        ({"shares": "6:0.9,:0.1"}, "shares are written class:share"),
        ({"shares": "6:0.9,9:x"}, r"DataSpec.shares.1.1: .*valid number.*\(given: 'x'\)"),
        ({"shares": "6:0.9,9:0.2"}, "DataSpec: shares must be above 0 and sum to 1, but they sum to 1.1"),
        ({"shares": "6:1.1,9:-0.1"}, "shares must be above 0"),
        ({"shares": "6:1,9:0"}, "shares must be above 0"),
        ({"shares": "6:nan,9:0.1"}, "finite number"),
        ({"shares": "6:0.5,6:0.5"}, "shares name a class twice: 6, 6"),
        ({"shares": ""}, "sum to 0"),
        ({"shares": "6:0.9,9:0.1", "classes": "6,8"}, "classes 6, 8 are not those in shares 6, 9"),
        ({"num_images": 0}, r"DataSpec.num_images: .*greater than or equal to 1 \(given: 0\)"),
        ({"channels": 2}, "DataSpec.channels: Input should be 1 or 3"),
        ({"fit": "stretch"}, "'resize', 'pad' or 'crop'"),
        ({"max_unreadable_share": 1.5}, "less than or equal to 1"),
        ({"num_imagse": 5}, "^DataSpec has no field 'num_imagse': did you mean 'num_images'"),
    ],
)
def test_bad_data_specs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        DataSpec(**fields)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        (ModelSpec, {"blocks": 1}),
        (ModelSpec, {"blocks": 7}),
        (TrainSpec, {"steps": 0}),
        (TrainSpec, {"learning_rate": 0}),
        (TrainSpec, {"learning_rate": float("inf")}),
        (TrainSpec, {"learning_rate": float("nan")}),
        (TrainSpec, {"ema_decay": 1}),
        (TrainSpec, {"seed": -1}),
        (TrainSpec, {"precision": "fp8"}),
        (SampleSpec, {"num_images": 0}),
        (AuditSpec, {"level": 1}),
        (AuditSpec, {"confidence": 1}),
        (Recipe, {"name": "../elsewhere"}),
        (Recipe, {"name": ""}),
    ],
)
def test_values_out_of_range_are_refused_with_the_name_of_the_field(spec: type[Spec], fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(LeadlineError, match=rf"^{spec.__name__}.{name}: .*\(given: "):
        spec(**fields)


def test_all_findings_are_told_at_once() -> None:
    with pytest.raises(LeadlineError) as caught:
        TrainSpec(steps=0, batch_size="many")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "TrainSpec.steps",
        "TrainSpec.batch_size",
    ]


@pytest.mark.parametrize("given", ["6,9", " 6, 9 ,", ["6", "9"], [6, 9], ("6", "9")])
def test_names_have_several_spellings(given: object) -> None:
    assert DataSpec(classes=given).classes == ("6", "9")


def test_one_number_is_one_name() -> None:
    assert DataSpec(classes=6).classes == ("6",)


@pytest.mark.parametrize("name", ["name", "data"])
def test_recipes_are_frozen(name: str) -> None:
    recipe = Recipe()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe, name, getattr(recipe, name))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.data.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", OTHER)
def test_the_road_through_json_changes_nothing(name: str) -> None:
    recipe = varied(name)
    for content in (json.loads(recipe.model_dump_json()), recipe.model_dump(mode="json")):
        again = recipe_from_json(content)
        assert again == recipe
        assert again.fingerprint() == recipe.fingerprint()


def test_json_without_a_part_has_its_defaults() -> None:
    assert recipe_from_json({"name": "mine", "train": {"steps": 7}}) == Recipe(name="mine", train=TrainSpec(steps=7))


def test_reading_json_leaves_it_as_it_was() -> None:
    content = Recipe().model_dump(mode="json")
    recipe_from_json(content)
    assert content == Recipe().model_dump(mode="json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trian": {}}, "Recipe has no field 'trian': did you mean 'train'"),
        ({"train": {"step": 3}}, "TrainSpec has no field 'step': did you mean 'steps'"),
        ({"train": [3]}, "recipe: train must be an object with the fields of TrainSpec"),
        ({"data": None}, "recipe: data must be an object with the fields of DataSpec"),
        ({"model": {"blocks": "two"}}, r"ModelSpec.blocks: .*valid integer.*\(given: 'two'\)"),
    ],
)
def test_json_that_does_not_fit_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        recipe_from_json(content)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("train.steps=4000", {"train": {"steps": 4000}}),
        ("train.learning_rate=1e-4", {"train": {"learning_rate": 1e-4}}),
        ("train.flip=true", {"train": {"flip": True}}),
        ("train.flip=True", {"train": {"flip": True}}),
        ("data.labeler=null", {"data": {"labeler": None}}),
        ("data.labeler=None", {"data": {"labeler": None}}),
        ("data.path=/data/a=b", {"data": {"path": "/data/a=b"}}),
        ("data.groups=5_o_Clock_Shadow", {"data": {"groups": "5_o_Clock_Shadow"}}),
        ("data.shares=6:0.9,9:0.1", {"data": {"shares": (("6", 0.9), ("9", 0.1))}}),
        ('data.shares={"6": 0.9, "9": 0.1}', {"data": {"shares": (("6", 0.9), ("9", 0.1))}}),
        ("data.classes=6", {"data": {"classes": ("6",)}}),
        ("data.classes=6,9", {"data": {"classes": ("6", "9")}}),
        ("model.match=parameters,width", {"model": {"match": ("parameters", "width")}}),
        ("audit.ks=[1, 3]", {"audit": {"ks": (1, 3)}}),
        ("audit.ks=1,3", {"audit": {"ks": (1, 3)}}),
        ("audit.ks=3", {"audit": {"ks": (3,)}}),
        ("data.path=123", {"data": {"path": "123"}}),
        ("name=mine", {"name": "mine"}),
    ],
)
def test_set_changes_one_field(override: str, changed: dict[str, Any]) -> None:
    assert with_overrides(Recipe(), [override]).model_dump(exclude_defaults=True) == changed


def test_the_last_set_of_a_field_counts_and_the_recipe_stays() -> None:
    recipe = Recipe(train=TrainSpec(steps=5, seed=2))
    changed = with_overrides(recipe, ["train.steps=6", "model.blocks=3", "train.steps=7"])
    assert changed == Recipe(train=TrainSpec(steps=7, seed=2), model=ModelSpec(blocks=3))
    assert recipe == Recipe(train=TrainSpec(steps=5, seed=2))


def test_without_sets_the_recipe_is_the_same() -> None:
    assert with_overrides(varied("data.shares"), []) == varied("data.shares")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", r"--set takes name=value \(train.steps=4000\), not 'train.steps'"),
        ("audit.ks=1,0", "AuditSpec.ks.1: Input should be greater than or equal to 1"),
        ("audit.ks=[]", "AuditSpec.ks: Tuple should have at least 1 item"),
        ("audit.metrics=", "AuditSpec.metrics: Tuple should have at least 1 item"),
        ("train.step=3", "--set train.step: TrainSpec has no field 'step': did you mean 'steps'"),
        ("trian.steps=3", "--set trian.steps: Recipe has no field 'trian': did you mean 'train'"),
        ("steps=3", "--set steps: Recipe has no field 'steps'"),
        ("=3", "Recipe has no field ''"),
        ("train.steps.more=3", "--set train.steps.more=3: 'steps' has no fields of its own"),
        ("train=3", "recipe: train must be an object"),
        ("train.steps=many", r"TrainSpec.steps: .*valid integer.*\(given: 'many'\)"),
        ("train.steps=", "TrainSpec.steps: .*valid integer"),
        ("train.steps=0", "TrainSpec.steps: .*greater than or equal to 1"),
        ("train.learning_rate=Infinity", "TrainSpec.learning_rate: .*finite number"),
        ("name=../x", "Recipe.name: .*match pattern"),
    ],
)
def test_bad_sets_are_refused(override: str, message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        with_overrides(Recipe(), [override])

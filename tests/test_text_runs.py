"""A text-to-image recipe on the road of every run: trained, drawn by its data's captions, audited, taken up again."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from leadline import stages
from leadline.data import load
from leadline.data.shards import read_shards
from leadline.experiment import audit_images, audit_run, check_same_data, model_title, run, sample_model
from leadline.models.pretrained import load_pipeline
from leadline.presets import preset
from leadline.recipe import AuditSpec, Recipe, SampleSpec, with_overrides
from leadline.report.views import open_views
from leadline.runs import Run
from leadline.stages import samples_of
from leadline.steer_sweep import steer_sweep

TINY = [
    *("data.dataset=digits", "data.split=null", "data.num_images=60", "data.held_out=20", "data.labeler=100"),
    *("train.steps=2", "train.batch_size=4", "text.autoencoder_steps=2", "audit.labeler_epochs=1"),
    *("sample.num_images=4", "sample.steps=2", "sample.shard_size=3", "audit.num_panels=1", "audit.metrics=prompted"),
]
BEGUN = "sample.init_strength=0.6"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return with_overrides(preset("mnist-text-debug"), TINY)


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(recipe, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test where anything is trained again."""
    monkeypatch.setattr(stages, "train_text", None)


def test_the_run_has_its_model_its_prompts_and_its_audit(finished: Run) -> None:
    assert finished.header.status == "complete"
    facts = finished.header.model
    assert facts["parameters"] == sum(facts["parts"].values())
    assert finished.title == "mnist-text-debug, text to image, U-Net 32-32"
    images = samples_of(finished)
    assert images.shape == (3, 16, 16)
    assert images.init is None
    columns = read_shards(finished.samples_folder)[1]
    assert [images.classes[i] for i in images.prompted] == columns["prompted"]
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert columns["prompt"] == [f"a handwritten {words[int(name)]}" for name in columns["prompted"]]
    assert finished.audit().find("prompt_agreement", set="samples")[0].n == 4
    (view,) = open_views([finished])
    assert (view.depth, view.label) == (None, "mnist-text-debug")


@pytest.mark.usefixtures("trained_once")
def test_an_interrupted_drawing_and_another_audit_go_on_from_what_is_there(finished: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / finished.folder.name)
    (folder / "samples" / "shard-00001.parquet").unlink()
    half = Run.open(folder)
    half.update(status="trained")
    again = audit_run(folder, ["audit.metrics=prompted,bias"])
    assert np.array_equal(samples_of(again).pixels, samples_of(finished).pixels)
    assert again.audit().find("share")


@pytest.mark.usefixtures("trained_once")
def test_image_to_image_takes_over_the_model_and_is_compared_with_its_starts(recipe: Recipe, finished: Run) -> None:
    begun = run(with_overrides(recipe, [BEGUN]), finished.folder.parent)
    assert begun.folder != finished.folder
    assert begun.header.model["trained_in"] == finished.folder.name
    images = samples_of(begun)
    assert len(set(images.init.tolist())) == 4
    found = begun.audit().find("init_distance")
    assert [m.params["set"] for m in found] == ["samples", "other_starts"]
    assert all(m.n == 4 and m.value > 0 for m in found)


@pytest.mark.usefixtures("trained_once")
def test_a_given_pipeline_draws_what_the_trained_one_does(recipe: Recipe, finished: Run, tmp_path: Path) -> None:
    given = with_overrides(recipe, [f"text.pipeline={finished.model_folder}"])
    found = run(given, tmp_path)
    assert not found.model_folder.exists()
    assert found.header.model["pipeline"] == str(finished.model_folder)
    assert len(found.header.model["fingerprint"]) == 16
    assert np.array_equal(samples_of(found).pixels, samples_of(finished).pixels)
    assert found.title == "mnist-text-debug, text to image, model"
    assert run(given, tmp_path).header.seconds == found.header.seconds


def test_sample_draws_from_the_run_with_its_prompts(finished: Run, tmp_path: Path) -> None:
    sample_model(finished.folder, tmp_path / "same")
    for shard in ("shard-00000.parquet", "shard-00001.parquet"):
        assert (tmp_path / "same" / shard).read_bytes() == (finished.samples_folder / shard).read_bytes()
    with pytest.raises(ValueError, match="is a text-to-image pipeline, which draws by prompts: `leadline steer`"):
        sample_model(finished.model_folder, tmp_path / "alone")
    with pytest.raises(ValueError, match="is a text-to-image pipeline"):
        load_pipeline(finished.model_folder)


def test_a_given_pipeline_may_not_change_between_two_shards(recipe: Recipe, finished: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.model_folder, tmp_path / "pipeline")
    given = with_overrides(recipe, [f"text.pipeline={folder}"])
    drawn = run(given, tmp_path, until="sample")
    (drawn.samples_folder / "shard-00001.parquet").unlink()
    drawn.update(status="trained")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match=r"was begun with another content of .*pipeline .*restore it"):
        run(given, tmp_path)
    drawn.update(model={})
    with pytest.raises(ValueError, match=r"holds images drawn with other settings \(pipeline\)"):
        run(given, tmp_path)


def test_a_sweep_draws_from_what_its_run_was_drawn_by(recipe: Recipe, finished: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.model_folder, tmp_path / "pipeline")
    base = run(with_overrides(recipe, [f"text.pipeline={folder}"]), tmp_path / "runs")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 0 * value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match="was begun with another content of .*pipeline"):
        steer_sweep(base.folder, (0.5,), choose_by="prompt_agreement")
    (member,) = (
        Run.open(file.parent) for file in (tmp_path / "runs").glob("mnist*/run.json") if file.parent != base.folder
    )
    assert not member.samples_folder.exists()
    member.update(model={**base.header.model, "fingerprint": "another"})
    with pytest.raises(ValueError, match="was drawn by another content of its pipeline than"):
        steer_sweep(base.folder, (0.5,), choose_by="prompt_agreement")


def test_a_given_pipeline_is_not_needed_once_the_images_are_there(
    recipe: Recipe, finished: Run, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished.model_folder, tmp_path / "pipeline")
    given = with_overrides(recipe, [f"text.pipeline={folder}"])
    run(given, tmp_path, until="sample")
    shutil.rmtree(folder)
    assert run(given, tmp_path).header.status == "complete"


def test_other_held_out_images_are_refused_where_samples_started_from_them(recipe: Recipe, finished: Run) -> None:
    begun = run(with_overrides(recipe, [BEGUN]), finished.folder.parent)
    splits = load(recipe.data)
    check_same_data(begun, splits)
    other = replace(splits, held_out=splits.held_out.take(list(range(19))))
    check_same_data(finished, other)
    with pytest.raises(ValueError, match="was made from other held-out images"):
        check_same_data(begun, other)


def test_an_audit_against_other_data_keeps_the_prompts_and_not_the_starts(
    recipe: Recipe, finished: Run, tmp_path: Path
) -> None:
    begun = run(with_overrides(recipe, [BEGUN]), finished.folder.parent)
    other = with_overrides(recipe, ["data.seed=1"]).data
    spec = AuditSpec(metrics=("prompted",), labeler_epochs=1, num_panels=1)
    for data, starts in ((recipe.data, 2), (other, 0)):
        found = audit_images(begun.folder, tmp_path / str(starts), train=data, spec=spec, sample=SampleSpec())
        assert len(found.audit().find("init_distance")) == starts
        assert found.audit().find("prompt_agreement", set="samples")
        assert ("notes" in found.header.samples) is (starts == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.captions="], "no captions to prompt a text-to-image model with: .*--set data.captions=digits"),
        (["data.channels=1"], "draws RGB, and the images have 1 channel: --set data.channels=3"),
        (["sample.sampler=ancestral"], "'ancestral' is not one of a text-to-image model"),
        (["model.blocks=3"], "model.… is of the unconditional depth family"),
        ([BEGUN, "data.held_out=0"], "starts from held-out images, and there are none"),
        ([BEGUN, "sample.num_images=30"], "each of 30 images .* there are 20"),
        (["sample.guidance=0.5", "sample.steer.branch=conditional"], "at --set sample.guidance=0.5 there is none"),
        (["sample.steps=1001"], "DDIMScheduler takes no 1001 steps .--set sample.steps="),
        (["sample.steer.strength=1", "sample.steer.schedule=window(sigma_max=0.001)"], "strength 0 at all 2 noise"),
        (["text.pipeline=nowhere"], "nowhere is not there: expected a folder with model_index.json"),
        (["data.image_size=14"], "images of 14×14 px cannot be halved"),
    ],
)
def test_what_cannot_work_fails_before_training(
    recipe: Recipe, tmp_path: Path, changes: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "train_text", None)
    with pytest.raises(ValueError, match=message):
        run(with_overrides(recipe, changes), tmp_path)
    assert not list(tmp_path.glob("*/model"))


def test_a_given_pipeline_of_another_size_is_refused(recipe: Recipe, finished: Run, tmp_path: Path) -> None:
    changes = [f"text.pipeline={finished.model_folder}", "data.image_size=32"]
    with pytest.raises(ValueError, match="draws images of 3×16×16, the training data has 3×32×32: .*image_size=16"):
        run(with_overrides(recipe, changes), tmp_path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("sample.guidance=2", "sample.guidance"),
        (BEGUN, "sample.init_strength"),
        ("sample.steer.branch=conditional", "sample.steer.branch"),
    ],
)
def test_what_only_text_models_have_is_refused_of_the_others(tmp_path: Path, change: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is of text-to-image models"):
        run(with_overrides(preset("digits69-debug"), [change]), tmp_path)
    assert not list(tmp_path.glob("digits69*"))


def test_a_pipeline_is_named_by_its_last_part(recipe: Recipe) -> None:
    def title(name: str) -> Any:
        return model_title(with_overrides(recipe, [f"text.pipeline={name}"]))

    assert title("org/stable-diffusion-v1-5") == "text to image, stable-diffusion-v1-5"

"""The whole road on a tiny recipe: what is complete is skipped, what was started is resumed."""

import json
import math
import shutil
from dataclasses import replace

import datasets
import numpy as np
import pytest
from diffusers import DDPMPipeline
from PIL import Image

from leadline import experiment, stages
from leadline.data import load
from leadline.experiment import audit_images, audit_run, members, run, sample_model, samples_of, sweep
from leadline.presets import preset
from leadline.recipe import AuditSpec, DataSpec, Recipe, SampleSpec, with_overrides
from leadline.runs import Run

TINY = ["train.steps=4", "train.batch_size=4", "train.checkpoint_every=2", "train.log_every=2", "sample.num_images=6",
        "sample.steps=2", "sample.shard_size=4", "audit.labeler_epochs=1", "audit.num_panels=2"]  # fmt: skip


@pytest.fixture(scope="module")
def recipe():
    return with_overrides(preset("digits69-debug"), TINY)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    return run(recipe, tmp_path_factory.mktemp("runs"), overrides=TINY)


def weights(result):
    return (result.model_folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_a_run_explains_itself(finished, recipe):
    header = json.loads((finished.folder / "run.json").read_text())
    assert finished.folder.name == recipe.folder_name()
    assert header["status"] == "complete"
    assert header["overrides"] == TINY
    assert header["recipe"]["train"]["steps"] == 4
    assert header["data"]["train"]["counts"] | {"6": 126, "9": 14} == header["data"]["train"]["counts"]
    assert header["data"]["held_out"]["n"] == 30
    assert header["model"]["parameters"] == 1_001_729  # one channel in and out instead of three
    assert set(header["seconds"]) == {"train", "sample", "audit"}
    assert header["packages"]["torch"]
    assert not finished.checkpoint_file.exists()


def test_its_parts_open_with_the_libraries_they_are_made_for(finished, tmp_path):
    assert isinstance(DDPMPipeline.from_pretrained(finished.model_folder), DDPMPipeline)
    files = sorted(str(f) for f in finished.samples_folder.glob("*.parquet"))
    assert len(files) == 2
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert isinstance(table[0]["image"], Image.Image)
    assert table["index"][:] == list(range(6))
    found = finished.audit()
    assert found is not None
    assert {m.name for m in found} >= {"share", "share_amplification", "nearest_distance", "mean_pairwise_distance"}


def test_started_again_a_complete_run_does_nothing(finished, recipe, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("nothing was left to do")

    for name in ("train", "draw", "measure"):
        monkeypatch.setattr(stages, name, forbidden)
    said = []
    again = run(recipe, finished.folder.parent, progress=lambda stage, *_: said.append(stage))
    assert said[-1] == "complete already, nothing to do"
    assert set(said[:-1]) == {"decoding digits"}
    assert again.header.status == "complete"
    assert again.header.seconds == finished.header.seconds


def test_an_interrupted_run_goes_on_with_what_is_missing(finished, recipe, tmp_path, monkeypatch):
    original, calls = stages.draw, []

    def interrupted(denoiser, spec, folder, **options):
        calls.append(folder)
        if len(calls) == 1:
            original(denoiser, spec, folder, **options)
            (folder / "shard-00001.parquet").unlink()
            raise KeyboardInterrupt
        original(denoiser, spec, folder, **options)

    monkeypatch.setattr(stages, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, until="sample")
    half = Run.open(tmp_path / recipe.folder_name())
    assert half.header.status == "trained"
    assert "sample" in half.header.seconds  # an interrupted stage counts too
    whole = run(recipe, tmp_path, until="sample")
    assert weights(whole) == weights(finished)
    assert np.array_equal(samples_of(whole).pixels, samples_of(finished).pixels)


def test_another_audit_of_the_same_run_keeps_model_and_images(finished, tmp_path, monkeypatch):
    folder = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, folder)
    monkeypatch.setattr(stages, "train", None)
    again = audit_run(folder, ["audit.level=0.8", "audit.metrics=memorization"])
    found = again.audit()
    assert found is not None
    assert {m.level for m in found if m.name == "nearest_distance"} == {0.8}
    assert not found.find("share")
    assert again.recipe.audit.level == 0.8


def test_other_samples_of_a_trained_model_reuse_its_training(finished, recipe, monkeypatch):
    monkeypatch.setattr(stages, "train", None)
    more = run(with_overrides(recipe, ["sample.num_images=3"]), finished.folder.parent, until="sample")
    assert more.folder != finished.folder
    assert more.header.model["trained_in"] == finished.folder.name
    assert weights(more) == weights(finished)
    assert np.array_equal(samples_of(more).pixels, samples_of(finished).pixels[:3])


def test_data_that_changed_since_is_refused(finished, recipe, monkeypatch):
    splits = load(recipe.data)
    other = replace(splits, train=replace(splits.train, pixels=255 - splits.train.pixels))
    monkeypatch.setattr(experiment, "load", lambda spec, progress: other)
    with pytest.raises(ValueError, match="was made from other training images"):
        run(recipe, finished.folder.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.blocks=6", "8 px cannot be halved 5 times"),
        ("sample.sampler=dimm", "unknown sampler 'dimm': did you mean 'ddim'"),
        ("sample.steps=2000", "2000 sampler steps, but the schedule has 1000"),
        ("audit.metrics=bais", "did you mean 'bias'"),
        ("data.num_images=400", "6.*181"),
    ],
)
def test_a_recipe_that_cannot_work_fails_before_training(recipe, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run(with_overrides(recipe, [change]), tmp_path)
    assert not list(tmp_path.glob("digits69*"))


def test_a_sweep_checks_all_recipes_first_and_shares_starting_noise(recipe, tmp_path):
    with pytest.raises(ValueError, match="cannot be halved"):
        sweep(members(recipe, [2, 5], [0]), tmp_path)
    assert not list(tmp_path.glob("digits69*"))
    found = sweep(members(recipe, [2, 3], [0, 1]), tmp_path)
    assert [(r.recipe.model.blocks, r.recipe.train.seed) for r in found] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert found[0].folder.name.removesuffix("-s0") == found[1].folder.name.removesuffix("-s1")
    assert weights(found[0]) != weights(found[1])
    assert {s for r in found for s in (samples_of(r).ids[0],)} == {"0/0"}


def test_an_audit_of_a_folder_of_images(tmp_path, recipe):
    """Copies of training images, as PNG files: found memorized, distance 0."""
    splits = load(recipe.data)
    (tmp_path / "images").mkdir()
    for i in range(5):
        Image.fromarray(splits.train.pixels[i, 0]).save(tmp_path / "images" / f"{i}.png")
    result = audit_images(
        tmp_path / "images",
        tmp_path / "audit",
        train=recipe.data,
        spec=AuditSpec(metrics="memorization", num_panels=1, labeler_epochs=1),
        sample=SampleSpec(),
    )
    found = result.audit()
    assert found is not None
    (nearest,) = found.find("nearest_distance", k=1, set="samples")
    assert nearest.value == 0
    (held_out,) = found.find("nearest_distance", k=1, set="held_out")
    assert held_out.value > 5
    assert result.header.kind == "audit"
    assert result.header.samples["n"] == 5


def test_an_audit_of_a_pipeline_samples_it_first(finished, recipe, tmp_path):
    result = audit_images(
        finished.model_folder,
        tmp_path / "audit",
        train=recipe.data,
        spec=AuditSpec(metrics="memorization", num_panels=1, labeler_epochs=1),
        sample=with_overrides(Recipe(), TINY).sample,
    )
    assert np.array_equal(samples_of(result).pixels, samples_of(finished).pixels)
    assert result.header.samples["sample"]["sampler"] == "ddim"


def test_an_audit_of_a_run_against_other_data_stands_beside_the_run(finished, recipe, tmp_path):
    other = with_overrides(recipe, ["data.seed=1"]).data
    result = audit_images(
        finished.folder, tmp_path / "audit", train=other, spec=AuditSpec(metrics="memorization", num_panels=0,
        labeler_epochs=1), sample=SampleSpec(),
    )  # fmt: skip
    assert result.header.samples["recipe"] == finished.header.recipe
    assert result.header.samples["sample"]["steps"] == 2
    assert result.header.data["train"]["fingerprint"] != finished.header.data["train"]["fingerprint"]
    assert result.audit().find("nearest_distance", k=1, set="samples")[0].n == 6


def test_an_audit_of_a_pipeline_of_another_size_is_refused(finished, recipe, tmp_path):
    with pytest.raises(ValueError, match="makes images of 1×8×8, the training data has 3×16×16"):
        audit_images(
            finished.model_folder,
            tmp_path,
            train=DataSpec(**{**recipe.data.model_dump(), "image_size": 16, "channels": 3}),
            spec=AuditSpec(),
            sample=SampleSpec(),
        )


def test_an_audit_of_an_audit_or_of_no_run_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match=r"is no run: .*--train DATA"):
        audit_run(tmp_path, [])
    Run.create(tmp_path / "a", title="an audit", kind="audit")
    with pytest.raises(ValueError, match="is itself an audit"):
        audit_run(tmp_path / "a", [])


def test_sample_draws_from_a_run_or_its_pipeline(finished, tmp_path):
    own = [change for change in TINY if change.startswith("sample.")]
    for name, source, overrides in (("run", finished.folder, []), ("pipeline", finished.model_folder, own)):
        sample_model(source, tmp_path / name, overrides)
        shard = "shard-00000.parquet"
        assert (tmp_path / name / shard).read_bytes() == (finished.samples_folder / shard).read_bytes()


def test_a_fault_in_one_metric_keeps_what_the_others_found(finished, tmp_path, monkeypatch):
    folder = tmp_path / finished.folder.name
    shutil.copytree(finished.folder, folder)

    def fault(*_, **__):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("leadline.audit.diversity.mean_pairwise_distance", fault)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a fault"):
        audit_run(folder, ["audit.level=0.9"])
    found = Run.open(folder).audit()
    assert found is not None
    assert math.isfinite(found.find("nearest_distance", k=1, set="samples")[0].value)


def test_several_processes_share_the_training_only(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="accelerate launch -m leadline train RECIPE"):
        run(recipe, tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_weights_behind_the_same_path_are_another_audit(tmp_path):
    file, folder = tmp_path / "weights.pth", tmp_path / "model"
    spec = AuditSpec(encoders=("labeler", f"squeezenet:{file}", f"dinov2:{folder}"))
    absent = stages.audit_fingerprint(spec)
    file.write_bytes(b"one")
    first = stages.audit_fingerprint(spec)
    file.write_bytes(b"two")
    second = stages.audit_fingerprint(spec)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"three")
    assert len({absent, first, second, stages.audit_fingerprint(spec)}) == 4


def test_an_audit_of_another_version_is_measured_again(monkeypatch):
    now = stages.audit_fingerprint(AuditSpec())
    assert now == stages.audit_fingerprint(AuditSpec())
    monkeypatch.setattr(stages, "AUDIT_VERSION", stages.AUDIT_VERSION + 1)
    assert stages.audit_fingerprint(AuditSpec()) != now

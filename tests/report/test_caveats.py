"""Caveats appear when, and only when, the runs give cause."""

from dataclasses import replace

import pytest

from leadline.records import Measurement
from leadline.report import caveats
from leadline.report.views import open_views


def all_of(*runs) -> str:
    return "\n".join(caveats.all_of(open_views(runs)))


@pytest.mark.parametrize(
    ("sampler", "steps", "warned"),
    [("ancestral", 50, True), ("ancestral", 249, True), ("ancestral", 250, False), ("ddim", 50, False)],
)
def test_a_coarse_ancestral_sampler(make_run, sampler: str, steps: int, warned: bool) -> None:
    run = make_run(sample={"sampler": sampler, "steps": steps})
    assert ("bends shares towards the majority by itself" in all_of(run)) is warned


def test_runs_that_differ_in_more_than_the_model(make_run) -> None:
    text = all_of(make_run(2), make_run(4, train={"steps": 3000, "seed": 1}))
    assert "These runs differ in more than the model: train.steps." in text
    assert "differ in more than the model" not in all_of(make_run(2), make_run(4))


def test_one_training_run_per_depth_until_there_are_replicates(make_run) -> None:
    runs = [make_run(2, train={"seed": seed}) for seed in (0, 1)]
    assert "One training run per depth" in all_of(*runs, make_run(4))
    assert "One training run per depth" not in all_of(*runs)


def test_depths_that_are_not_matched(make_run) -> None:
    assert "in size, in width and in where attention sits" in all_of(make_run(2), make_run(4))
    matched = [make_run(blocks, model={"match": ["parameters"]}) for blocks in (2, 4)]
    assert "differ not only in depth but also in width and in where attention sits" in all_of(*matched)
    assert "not only in depth" not in all_of(make_run(2))


def test_labels_by_a_classifier_come_with_its_accuracy(make_run) -> None:
    text = (
        "How often it is right: 98.4\xa0% (95\xa0% interval 97.6 to 99.0\xa0%) of labelled images it has not seen; on"
    )
    assert text in all_of(make_run())
    assert "labeler" not in all_of(make_run(measurements=[]))


def test_held_out_images_that_were_trained_on(make_run) -> None:
    run = make_run()
    result = run.audit()
    images = {"held_out": {"notes": {"training_images_left_out": 2}}}
    run.save_audit(replace(result, settings={**result.settings, "images": images}))
    assert "to the byte were left out: 2 (digits69, 2 blocks)" in all_of(run)
    assert "to the byte" not in all_of(make_run())


def test_foreign_images_have_no_caveat_on_training(make_run) -> None:
    text = all_of(make_run(kind="audit"))
    assert "training run" not in text
    assert "depth" not in text


def test_the_bias_of_a_frechet_distance_and_its_name(make_run) -> None:
    text = all_of(make_run(full=True))
    assert "A Fréchet distance reads larger the fewer images" in text
    assert "digits69, 2 blocks: there are no more images than dimensions" in text
    assert "Fréchet and kernel distances in labeler features are not FID and KID" in text
    canonical = Measurement(name="frechet_distance", value=3.0, params={"space": "inception-v3-compat features"})
    text = all_of(make_run(measurements=[canonical], folder="canonical"))
    assert "reads larger the fewer images" in text
    assert "more images than dimensions" not in text
    assert "are not FID" not in text


def test_a_feature_distance_is_not_lpips(make_run) -> None:
    assert "SqueezeNet feature distance, uncalibrated: this is not LPIPS." in all_of(make_run(full=True))
    assert "this is not LPIPS" not in all_of(make_run(folder="plain"))


def test_features_of_the_labeler_depend_on_its_labels(make_run) -> None:
    assert "The labeler's features are learned from its labels" in all_of(make_run())
    assert "features are learned" not in all_of(make_run(measurements=[], folder="none"))


def test_many_ways_to_count_copies_are_many_chances_of_a_false_alarm(make_run) -> None:
    assert "Copies were counted in 6 ways (rules and spaces)" in all_of(make_run(full=True))
    assert "Copies were counted" not in all_of(make_run(folder="plain"))

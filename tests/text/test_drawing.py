"""The prompts and starts of a run's samples, and how they are drawn into shards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_text import text_pipeline

from leadline.data.shards import read_shards
from leadline.recipe import SampleSpec, SteerSpec
from leadline.records import ImageSet
from leadline.text.drawing import Requests, draw_text, requests_for
from leadline.text.generating import GUIDANCE, generate, prepared

CLASSES = ("six", "nine")


def images(name: str, n: int, seed: int) -> ImageSet:
    """16×16 noise; three sixes for every nine, captioned with their class and number."""
    labels = (np.arange(n) % 4 == 3).astype(np.int64)
    return ImageSet(
        name=name,
        pixels=np.random.default_rng(seed).integers(0, 256, (n, 3, 16, 16), dtype=np.uint8),
        labels=labels,
        classes=CLASSES,
        captions=tuple(f"{CLASSES[label]} {name} {i}" for i, label in enumerate(labels)),
    )


TRAINING, HELD_OUT = images("t", 40, 0), images("h", 12, 1)
SPEC = SampleSpec(num_images=5, steps=2, batch_size=2, shard_size=3)
FROM_IMAGES = SPEC.model_copy(update={"init_strength": 0.5})


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return text_pipeline(tmp_path_factory.mktemp("tokenizer"))


def test_prompts_are_captions_of_training_images_with_their_class() -> None:
    asked = requests_for(SPEC.model_copy(update={"num_images": 2000}), TRAINING, None)
    assert set(asked.prompts) == set(TRAINING.captions)
    assert asked.prompted == tuple(prompt.split()[0] for prompt in asked.prompts)
    assert (asked.init, asked.starts) == (None, None)
    # 500 of 2,000 are expected, give or take 19.
    assert 440 < asked.prompted.count("nine") < 560


def test_more_images_of_a_seed_keep_the_prompts_of_the_first_ones() -> None:
    few, many = (
        requests_for(spec.model_copy(update={"num_images": n}), TRAINING, HELD_OUT)
        for n, spec in ((3, SPEC), (12, SPEC))
    )
    assert many.prompts[:3] == few.prompts
    assert requests_for(SPEC.model_copy(update={"seed": 1}), TRAINING, None).prompts != many.prompts[:5]
    begun = [requests_for(FROM_IMAGES.model_copy(update={"num_images": n}), TRAINING, HELD_OUT).init for n in (3, 12)]
    assert begun[1][:3] == begun[0]


def test_each_start_is_a_held_out_image_of_its_own_with_its_own_caption() -> None:
    asked = requests_for(FROM_IMAGES.model_copy(update={"num_images": 12}), TRAINING, HELD_OUT)
    assert asked.starts is HELD_OUT
    assert sorted(asked.init) == list(range(12))
    assert asked.prompts == tuple(HELD_OUT.captions[i] for i in asked.init)
    assert asked.prompted == tuple(CLASSES[HELD_OUT.labels[i]] for i in asked.init)


def test_held_out_images_that_are_training_images_are_no_starts() -> None:
    pixels = HELD_OUT.pixels.copy()
    pixels[4] = TRAINING.pixels[7]
    seen = replace(HELD_OUT, pixels=pixels)
    asked = requests_for(FROM_IMAGES.model_copy(update={"num_images": 11}), TRAINING, seen)
    assert sorted(asked.init) == [i for i in range(12) if i != 4]
    with pytest.raises(ValueError, match="each of 12 images .* there are 11 that are no training images"):
        requests_for(FROM_IMAGES.model_copy(update={"num_images": 12}), TRAINING, seen)


@pytest.mark.parametrize(
    ("spec", "training", "held_out", "message"),
    [
        (SPEC, replace(TRAINING, captions=()), None, "'t' has no captions .*--set data.captions=digits or celeba"),
        (FROM_IMAGES, TRAINING, None, "init_strength=0.5 starts from held-out images, and there are none"),
        (FROM_IMAGES, TRAINING, replace(HELD_OUT, captions=()), "'h' has no captions"),
    ],
)
def test_what_is_missing_is_said(spec: SampleSpec, training: ImageSet, held_out: ImageSet | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        requests_for(spec, training, held_out)


def test_without_classes_no_class_is_asked_for() -> None:
    asked = requests_for(SPEC, replace(TRAINING, labels=None, classes=()), None)
    assert asked.prompted is None
    assert asked.columns() == {"prompt": asked.prompts}


def test_no_class_is_asked_for_where_captions_do_not_tell_it() -> None:
    told = replace(TRAINING, captions=tuple(CLASSES[label] for label in TRAINING.labels))
    assert requests_for(SPEC, told, None).prompted == requests_for(SPEC, told, None).prompts
    unsaid = replace(TRAINING, captions=("a digit",) * 40)
    assert requests_for(SPEC, unsaid, None).prompted is None
    # The held-out images' captions are the prompts: they must agree with the training images' too.
    swapped = replace(HELD_OUT, captions=tuple(CLASSES[1 - label] for label in HELD_OUT.labels))
    assert requests_for(FROM_IMAGES, told, swapped).prompted is None


def test_shards_hold_the_images_of_the_prompts_and_what_was_asked(pipe: Any, tmp_path: Path) -> None:
    asked = requests_for(FROM_IMAGES, TRAINING, HELD_OUT)
    draw_text(pipe, FROM_IMAGES, asked, tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("*.parquet"))] == ["shard-00000.parquet", "shard-00001.parquet"]
    pixels, columns = read_shards(tmp_path)
    assert columns == {
        "index": list(range(5)),
        "seed": [0] * 5,
        "prompt": list(asked.prompts),
        "prompted": list(asked.prompted),
        "init": list(asked.init),
    }
    alone = generate(
        prepared(pipe, sampler="ddim", image_to_image=True),
        [asked.prompts[4]],
        seed=0,
        indices=[4],
        steps=2,
        guidance=GUIDANCE,
        init=torch.from_numpy(HELD_OUT.take([asked.init[4]]).images()),
        init_strength=0.5,
    )
    assert np.abs(pixels[4].astype(int) - alone[0].numpy()).max() <= 1


def test_an_interrupted_drawing_goes_on_and_other_prompts_are_refused(pipe: Any, tmp_path: Path) -> None:
    asked = requests_for(SPEC, TRAINING, None)
    draw_text(pipe, SPEC, asked, tmp_path)
    shards = {file: file.read_bytes() for file in tmp_path.glob("*.parquet")}
    lost = tmp_path / "shard-00001.parquet"
    lost.unlink()
    said: list[int] = []
    draw_text(pipe, SPEC, asked, tmp_path, progress=lambda stage, done, total, detail: said.append(done))
    assert said == [5]
    assert {file: file.read_bytes() for file in tmp_path.glob("*.parquet")} == shards
    other = replace(asked, prompts=("six", *asked.prompts[1:]))
    with pytest.raises(ValueError, match=r"other settings \(requests\)"):
        draw_text(pipe, SPEC, other, tmp_path)


def test_the_bypass_and_the_guidance_of_the_spec_are_used_and_leave_no_trace(pipe: Any, tmp_path: Path) -> None:
    asked, found = requests_for(SPEC, TRAINING, HELD_OUT), {}
    changes = {"plain": {}, "steered": {"steer": SteerSpec(strength=1.0)}, "guided": {"guidance": 3.0}, "again": {}}
    for name, change in changes.items():
        draw_text(pipe, SPEC.model_copy(update=change), asked, tmp_path / name)
        found[name] = read_shards(tmp_path / name)[0]
    assert np.array_equal(found["plain"], found["again"])
    assert not np.array_equal(found["plain"], found["steered"])
    assert not np.array_equal(found["plain"], found["guided"])
    assert not pipe.unet._forward_hooks
    assert not pipe.unet.mid_block._forward_hooks


@pytest.mark.parametrize(
    ("spec", "asked", "message"),
    [
        (SPEC, Requests(prompts=("six",) * 4), "5 images, but 4 prompts"),
        (SPEC.model_copy(update={"sampler": "ancestral"}), Requests(prompts=("six",) * 5), "'ancestral' is not one of"),
        (
            FROM_IMAGES,
            Requests(
                prompts=("six",) * 5,
                init=(0,) * 5,
                starts=replace(HELD_OUT, pixels=np.zeros((12, 3, 8, 8), np.uint8)),
            ),
            "draws 16×16 px, the images to start from have 8×8: --set data.image_size=16",
        ),
        (SPEC, Requests(prompts=("six", "a handwritten three") * 2 + ("",)), "three' is 19 tokens long.* reads 16"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(
    pipe: Any, tmp_path: Path, spec: SampleSpec, asked: Requests, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw_text(pipe, spec, asked, tmp_path)
    assert not list(tmp_path.iterdir())

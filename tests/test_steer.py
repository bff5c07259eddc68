"""`leadline steer` from the command line: the grid, the images, the page, resuming, and what is refused."""

import io
import json
import shutil
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from no_connection import no_network
from PIL import Image
from tiny_text import saved_pipeline, text_pipeline

from leadline.cli import main
from leadline.steer_grid import drawing
from leadline.text.generating import generate, prepared

PROMPTS = ("a woman", "a girl")
FEW = ("--steps", "2", "--encoder", "pixels")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_pipeline(tmp_path_factory.mktemp("steer") / "tiny-pipe")


@pytest.fixture(scope="module")
def done(pipeline: Path) -> Path:
    """A finished grid: two prompts, three strengths and FreeU, two seeds."""
    out = pipeline.parent / "done"
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert steer(pipeline, out, "--strength", "0", ".5", "1", "--seed", "7", "--images", "2", "--freeu")[0] == 0
    headline, page = printed.getvalue().splitlines()
    assert headline.startswith("tiny-pipe: mean distance between the pictures of different prompts")
    assert page == str(out / "report.html")
    return out


def steer(pipeline: Path | str, out: Path, *options: str, prompts: tuple[str, ...] = PROMPTS) -> tuple[int, str]:
    """Exit code of the command, and what it wrote to stderr."""
    words = ["steer", str(pipeline), *(part for prompt in prompts for part in ("--prompt", prompt)), *FEW, *options]
    said = io.StringIO()
    with redirect_stderr(said), pytest.raises(SystemExit) as end:
        main([*words, "--out", str(out)])
    return int(end.value.code or 0), said.getvalue()


def images_of(out: Path) -> dict[str, np.ndarray]:
    return {str(file.relative_to(out / "images")): np.asarray(Image.open(file)) for file in out.rglob("*-seed-*.png")}


def test_every_prompt_is_drawn_at_every_strength_from_the_same_noise(done: Path, pipeline: Path) -> None:
    found = images_of(done)
    assert len(found) == 2 * 4 * 2
    pipe = prepared(text_pipeline(pipeline.parent / "again"), sampler="ddim")
    for seed in (7, 8):
        expected = generate(pipe, ["a girl"], seed=seed, indices=[0], steps=2, guidance=7.5)[0].permute(1, 2, 0)
        (name,) = [name for name in found if name.startswith("strength-0/a-girl") and name.endswith(f"seed-{seed}.png")]
        assert (found[name] == expected.numpy()).all()
    by_setting = {name.split("/")[0]: pixels for name, pixels in found.items() if "a-girl" in name and "seed-7" in name}
    assert set(by_setting) == {"strength-0", "strength-0.5", "strength-1", "FreeU"}
    for name in ("strength-0.5", "strength-1", "FreeU"):
        assert (by_setting[name] != by_setting["strength-0"]).any()


def test_the_grid_holds_the_first_seeds_images(done: Path) -> None:
    with Image.open(done / "grid.png") as sheet:
        assert sheet.width > 4 * 128
        assert sheet.height > 2 * 128
        colours = {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3)}
    found = images_of(done)
    (name,) = [name for name in found if name.startswith("FreeU/a-girl") and "seed-7" in name]
    assert {tuple(pixel) for pixel in found[name].reshape(-1, 3)} <= colours


def test_page_and_json_say_how_far_apart_the_prompts_are(done: Path) -> None:
    content = json.loads((done / "report.json").read_text())
    whole = [m for m in content["measurements"] if "first" not in m["params"]]
    found = {(m["name"], m["params"]["setting"]): m for m in whole}
    by_seed = []
    pictures = images_of(done)
    for seed in (7, 8):
        two = [v for k, v in pictures.items() if k.startswith("strength-1/") and k.endswith(f"-{seed}.png")]
        by_seed.append(np.sqrt(np.square(two[0].astype(float) - two[1]).mean()))
    assert found["prompt_distance", "strength 1"]["value"] == pytest.approx(np.mean(by_seed))
    assert found["prompt_distance", "strength 1"]["n"] == 2
    assert ("prompt_distance_change", "FreeU") in found
    assert content["settings"]["FreeU"].startswith(
        "b1 1.5, b2 1.6, s1 0.9, s2 0.2 (none are published for this U-Net; FreeU's"
    )
    page = (done / "report.html").read_text()
    for words in ("a woman", "strength 0.5", "FreeU", "nearly the same picture", "raw pixels"):
        assert words in page


def test_what_is_there_is_not_drawn_again(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    drawn: list[str] = []

    def counting(pipe: object, prompts: list[str], **options: object) -> torch.Tensor:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(prompts[0])
        return generate(pipe, prompts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(drawing, "generate", counting)
    assert steer(pipeline, out, "--strength", "0,1")[0] == 130
    assert not (out / "report.html").exists()
    before = {name: pixels.copy() for name, pixels in images_of(out).items()}
    assert len(before) == 3
    drawn[:] = []
    assert steer(pipeline, out, "--strength", "0,1")[0] == 0
    assert drawn == ["a girl"]
    # More strengths and prompts, in another order: what is there stays.
    drawn[:] = []
    assert steer(pipeline, out, "--strength", "1", "0", prompts=("an actress", "a girl", "a woman"))[0] == 0
    assert drawn == ["an actress"] * 2
    after = images_of(out)
    assert all((after[name] == pixels).all() for name, pixels in before.items())


def test_other_settings_need_another_folder(done: Path, pipeline: Path) -> None:
    for options, name in (
        (("--sampler", "euler"), "sampler"),
        (("--size", "24"), "size"),
        (("--mode", "attenuate", "--guidance", "3"), "guidance, steer"),
    ):
        code, said = steer(pipeline, done, *options)
        assert code == 2
        assert f"holds images drawn with other settings ({name}): choose another --out" in said


def test_a_schedule_multiplies_the_strength(pipeline: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _ = steer(pipeline, out, "--strength", "0", ".5", "--schedule", "window(0.5, sigma_max=2)", "--steps", "3")
    assert code == 0
    content = json.loads((out / "report.json").read_text())
    (table,) = content["tables"]
    assert table["columns"][2:] == ["factor 0.5"]
    assert [row[2] for row in table["rows"]] == [0.25 if row[1] <= 2 else 0 for row in table["rows"]]
    assert {row[2] for row in table["rows"]} == {0, 0.25}
    page = (out / "report.html").read_text()
    assert "Strength of the bypass" in page
    assert "nearly the same picture" not in page


def test_a_prompt_that_is_too_long_is_said(pipeline: Path, tmp_path: Path) -> None:
    out, long = tmp_path / "out", "a woman " * 20
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, said = steer(pipeline, out, "--strength", "0", prompts=(long,))
    assert code == 0
    assert "has more than the 16 tokens that are read" in said
    assert json.loads((out / "report.json").read_text())["settings"]["cut prompts"] == [long]


def test_image_to_image_starts_from_the_picture(pipeline: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "start.png", tmp_path / "out"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)).save(file)
    code, _ = steer(pipeline, out, "--init-image", str(file), "--init-strength", "0.5", "--strength", "0", "1")
    assert code == 0
    settings = json.loads((out / "report.json").read_text())["settings"]
    assert settings["init image"] == "start.png, RGB, 20×30 cropped at the centre and resized (Lanczos) to 16×16"
    Image.fromarray(np.zeros((30, 20, 3), dtype=np.uint8)).save(file)
    code, said = steer(pipeline, out, "--init-image", str(file), "--init-strength", "0.5")
    assert code == 2
    assert "other settings (init)" in said


def test_a_damaged_image_is_named(done: Path, pipeline: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    file = next(out.rglob("strength-0/*-seed-7.png"))
    file.write_bytes(file.read_bytes()[:60])
    code, said = steer(pipeline, out, "--strength", "0", "--seed", "7")
    assert code == 2
    assert f"{file} cannot be read as an image" in said
    assert "remove this file" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strength", "0", "1.5"), "--strength 1.5: expected numbers from 0 to 1"),
        (("--strength", "half"), "--strength takes numbers from 0 to 1"),
        (("--schedule", "rampp(0, 1)"), "did you mean 'ramp'"),
        (("--mode", "belnd"), "SteerSpec.mode"),
        (("--init-image", "nowhere.png"), "nowhere.png cannot be read as an image"),
        (("--init-strength", "0.5"), "--init-image and --init-strength belong together"),
        (("--steps", "1001"), "DDIMScheduler takes no 1001 steps (--steps)"),
        (("--schedule", "window(sigma_max=100, sigma_min=50)"), "has strength 0 at all 2 noise levels"),
        (("--size", "17"), "--size 17: this pipeline draws multiples of 2 px"),
        (("--encoder", "lpips"), "unknown encoder 'lpips'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_drawn(
    options: tuple[str, ...], message: str, pipeline: Path, tmp_path: Path
) -> None:
    code, said = steer(pipeline, tmp_path / "out", *options)
    assert code == 2
    assert message in said
    assert not images_of(tmp_path / "out")


def test_a_pipeline_without_a_mid_block_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    folder = saved_pipeline(tmp_path / "pipe", mid_block=False)
    code, said = steer(folder, tmp_path / "out")
    assert code == 2
    assert "mid-block" in said
    assert not images_of(tmp_path / "out")


def test_a_hub_name_without_a_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with no_network() as touched:
        code, said = steer("someone/model", tmp_path / "out")
    assert code == 2
    assert "someone/model is not on this machine" in said
    assert "--download" in said
    assert touched == []
    assert not (tmp_path / "out").exists()

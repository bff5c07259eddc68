"""Training: known schedules, real kills, honest stops."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline
from safetensors.torch import load_file

from leadline import training
from leadline.fitting import TrainingDiverged, batch_indices, learning_rate
from leadline.models.unet import depth_unet
from leadline.presets import preset
from leadline.recipe import ModelSpec, TrainSpec
from leadline.records import ImageSet
from leadline.training import make_batch, train


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    return ImageSet(name="noise", pixels=pixels)


def spec(**fields):
    return TrainSpec(
        **{"steps": 6, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 2, "log_every": 3, **fields}
    )


def run(images, folder, train_spec):
    return train(ModelSpec(), train_spec, images, checkpoint=folder / "c.safetensors", curve=folder / "t.jsonl")


def weights(trained):
    return {name: value.clone() for name, value in trained.unet.state_dict().items()}


def test_learning_rate_warms_up_and_falls_as_a_cosine():
    options = TrainSpec(steps=110, warmup_steps=10, learning_rate=2.0)
    rates = [learning_rate(options, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < rates[-1] < 1e-3
    assert learning_rate(TrainSpec(steps=5, warmup_steps=0, learning_rate=1.0), 0) == 1.0


def test_every_epoch_sees_every_image_once():
    seen = np.concatenate([batch_indices(0, step, 3, 10) for step in range(20)])
    for epoch in range(6):
        assert sorted(seen[10 * epoch : 10 * (epoch + 1)]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:20])
    assert not np.array_equal(seen[:10], np.concatenate([batch_indices(1, s, 3, 10) for s in range(4)])[:10])


def test_a_batch_is_a_function_of_seed_and_step(images):
    first, again = make_batch(images, spec(), 3), make_batch(images, spec(), 3)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.x0, again.x0)
    assert not torch.equal(first.noise, make_batch(images, spec(), 4).noise)
    assert not torch.equal(first.noise, make_batch(images, spec(seed=1), 3).noise)
    halves = [make_batch(images, spec(), 3, part) for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(torch.cat([h.noise for h in halves]), first.noise)
    assert torch.equal(torch.cat([h.x0 for h in halves]), first.x0)


def test_flips_mirror_some_images_and_no_others(images):
    plain, flipped = make_batch(images, spec(batch_size=20), 0), make_batch(images, spec(batch_size=20, flip=True), 0)
    same = [torch.equal(a, b) for a, b in zip(plain.x0, flipped.x0, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(plain.x0, flipped.x0, strict=True)]
    assert all(s or m for s, m in zip(same, mirrored, strict=True))
    assert 0 < sum(same) < 20


def test_the_loss_falls_and_the_curve_says_so(tmp_path):
    dark = ImageSet(name="dark", pixels=np.zeros((8, 1, 8, 8), dtype=np.uint8))
    run(dark, tmp_path, spec(steps=40, log_every=10, learning_rate=3e-3, batch_size=8))
    curve = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [10, 20, 30, 40]
    assert curve[-1]["loss"] < 0.6 * curve[0]["loss"]
    assert all(line["images_per_second"] > 0 for line in curve)


def test_seeds_decide_and_the_global_generator_is_left_alone(images, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    results = [weights(run(images, tmp_path / str(i), spec(seed=seed))) for i, seed in enumerate((0, 0, 1))]
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not all(torch.equal(results[0][name], results[2][name]) for name in results[0])


def test_the_average_is_what_ema_says(images, tmp_path, monkeypatch):
    """Decay min(ema_decay, (1 + t) / (10 + t)) after step t, from the weights after the first step on."""
    seen = []
    original = training.Trainer.step

    def recording(self, batch, rate):
        original(self, batch, rate)
        seen.append([p.detach().clone() for p in self.model.parameters()])

    monkeypatch.setattr(training.Trainer, "step", recording)
    trained = run(images, tmp_path, spec(ema_decay=0.25))
    assert trained.precision == "fp32"
    with torch.random.fork_rng():
        torch.manual_seed(training.stream_seed(0, "weights"))
        average = [p.detach().clone() for p in depth_unet(2, 1, 8).parameters()]
    for step, current in enumerate(seen, 1):
        decay = 0.0 if step == 1 else min(0.25, step / (9 + step))
        average = [decay * a + (1 - decay) * c for a, c in zip(average, current, strict=True)]
    for given, expected in zip(trained.unet.parameters(), average, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(images, tmp_path, monkeypatch):
    original = training.make_batch

    def poisoned(images, options, step, part=slice(None)):
        batch = original(images, options, step, part)
        return training.Batch(batch.x0, batch.noise * (float("nan") if step == 4 else 1), batch.levels)

    monkeypatch.setattr(training, "make_batch", poisoned)
    with pytest.raises(TrainingDiverged, match=r"loss is nan at step 5: training stopped; the last good checkpoint"):
        run(images, tmp_path, spec())
    kept = load_file(tmp_path / "c.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())
    monkeypatch.setattr(training, "make_batch", original)
    resumed = weights(run(images, tmp_path, spec()))
    undisturbed = weights(run(images, tmp_path / "undisturbed", spec()))
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in resumed)


def test_broken_weights_are_never_saved(images, tmp_path):
    """The loss of the last step can be finite while the step itself breaks the weights."""
    with pytest.raises(TrainingDiverged, match="not finite"):
        run(images, tmp_path, spec(learning_rate=1e38, warmup_steps=0, checkpoint_every=1))
    if (tmp_path / "c.safetensors").exists():
        assert all(torch.isfinite(value).all() for value in load_file(tmp_path / "c.safetensors").values())


def test_a_checkpoint_of_another_training_is_refused(images, tmp_path):
    run(images, tmp_path, spec())
    with pytest.raises(ValueError, match="is of another training"):
        run(images, tmp_path, spec(learning_rate=1e-4))
    other = ImageSet(name="other", pixels=255 - images.pixels)
    with pytest.raises(ValueError, match="is of another training"):
        run(other, tmp_path, spec())
    (tmp_path / "c.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"cannot be read .*delete it to train anew"):
        run(images, tmp_path, spec())


def test_specs_that_do_not_fit_are_refused_before_training(images, tmp_path):
    with pytest.raises(ValueError, match="cannot be halved 4 times"):
        train(ModelSpec(blocks=5), spec(), images, checkpoint=tmp_path / "c", curve=tmp_path / "t")
    wide = ImageSet(name="wide", pixels=np.zeros((2, 1, 8, 16), dtype=np.uint8))
    with pytest.raises(ValueError, match="square images are expected, 8×16 px were given"):
        run(wide, tmp_path, spec())
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="fp16 training needs a GPU"):
            run(images, tmp_path, spec(precision="fp16"))


def test_bf16_trains_in_bf16(images, tmp_path):
    trained = run(images, tmp_path, spec(precision="bf16"))
    plain = run(images, tmp_path / "plain", spec(precision="fp32"))
    assert (trained.precision, plain.precision) == ("bf16", "fp32")
    assert all(value.dtype == torch.float32 for value in weights(trained).values())
    assert not all(torch.equal(weights(trained)[name], value) for name, value in weights(plain).items())


@pytest.mark.filterwarnings("ignore:Deprecated call to `pkg_resources")
def test_tensorboard_gets_the_curve(images, tmp_path):
    run(images, tmp_path, spec(tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_missing_tensorboard_prints_the_pip_line(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'leadline\[track\]'"):
        run(images, tmp_path, spec(tensorboard=True))


RECIPE = {
    "train": {"steps": 24, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 5, "log_every": 2},
    "sample": {"num_images": 4, "steps": 2},
}


def command(folder: Path) -> list[str]:
    content = preset("digits69").model_dump(mode="json")
    for part, fields in RECIPE.items():
        content[part] |= fields
    file = folder / "recipe.json"
    file.write_text(json.dumps(content))
    return [sys.executable, "-m", "leadline", "train", str(file), "--out", str(folder)]


def kill_when(folder: Path, condition) -> None:
    """Start `leadline train` and send SIGKILL as soon as condition(run folder) holds."""
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        runs = list(folder.glob("digits69-*"))
        if runs and condition(runs[0]):
            break
        assert process.poll() is None, "the training ended before the moment to kill it came"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def last_step(run_folder: Path) -> int:
    curve = run_folder / "train.jsonl"
    lines = curve.read_text().splitlines() if curve.exists() else []
    try:
        return json.loads(lines[-1])["step"] if lines else 0
    except json.JSONDecodeError:
        return 0


def test_killed_at_several_moments_it_ends_with_the_same_weights_to_the_bit(tmp_path):
    moments = [
        lambda run: last_step(run) >= 2,  # before the first checkpoint
        lambda run: last_step(run) >= 8,  # between two checkpoints, one line after the first
        lambda run: any(run.glob(".checkpoint.safetensors.*.tmp")),  # while a checkpoint is written
    ]
    disturbed, undisturbed = tmp_path / "disturbed", tmp_path / "undisturbed"
    for folder in (disturbed, undisturbed):
        folder.mkdir()
    for moment in moments:
        kill_when(disturbed, moment)
    ends = []
    for folder in (disturbed, undisturbed):
        output = subprocess.run(command(folder), capture_output=True, text=True, check=True).stdout
        ends.append(Path(output.strip()))
    assert isinstance(DDPMPipeline.from_pretrained(ends[0]), DDPMPipeline)
    files = [end / "unet" / "diffusion_pytorch_model.safetensors" for end in ends]
    assert files[0].read_bytes() == files[1].read_bytes()
    curves = [
        [
            {k: line[k] for k in ("step", "loss")}
            for line in map(json.loads, (end.parent / "train.jsonl").read_text().splitlines())
        ]
        for end in ends
    ]
    assert curves[0] == curves[1]
    assert [line["step"] for line in curves[0]] == list(range(2, 25, 2))
    assert not list(disturbed.glob("digits69-*/checkpoint.safetensors"))


def test_two_processes_of_accelerate_train_the_same_model(tmp_path):
    """`accelerate launch` shares the batch: the weights agree with one process's but for rounding."""
    launcher = shutil.which("accelerate", path=str(Path(sys.executable).parent)) or "accelerate"
    launch = [launcher, "launch", "--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "-m"]  # fmt: skip
    ends = []
    for name, start in (("one", [sys.executable, "-m"]), ("two", launch)):
        (tmp_path / name).mkdir()
        words = start + command(tmp_path / name)[2:]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        (model,) = (tmp_path / name).glob("digits69-*/model")
        ends.append(load_file(model / "unet" / "diffusion_pytorch_model.safetensors"))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-2, atol=1e-3)

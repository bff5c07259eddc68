"""Watched trainings: the same weights as unwatched ones, one look per step whatever happens, losses that are known."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline import watching
from leadline.audit import AuditFailed
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.experiment import run, watch_run
from leadline.looks import Look, bank_spec, check_same_bank, watched_steps
from leadline.models.denoiser import Denoiser, ddpm_sigmas
from leadline.models.pretrained import DiffusersDenoiser
from leadline.models.unet import build_unet
from leadline.presets import preset
from leadline.recipe import ModelSpec, SampleSpec, TextSpec, TrainSpec, with_overrides
from leadline.records import AuditResult, ImageLabels, ImageSet, Measurement, Splits
from leadline.runs import Run, adopt_model
from leadline.text.training import check_training
from leadline.training import Batch, ladder, noise_loss, noise_schedule
from leadline.watching import losses, noised_bank, watcher, weighted_loss

TINY = ["train.steps=6", "train.batch_size=4", "train.log_every=2", "model.channels=8,16", "train.snapshots=3,6",
        "data.labeler=200", "audit.labeler_epochs=1"]  # fmt: skip
WATCHED = ["train.watch_every=3", "train.watch_images=6", "train.watch_steps=2"]


def recipe(*changes):
    return with_overrides(preset("digits69-debug"), [*TINY, *changes])


def weights(result):
    return (result.model_folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


def darkness(samples, reference, **_):
    """In place of an audit: the mean pixel, and a label that hangs on it."""
    values = samples.pixels.mean((1, 2, 3))
    labels = tuple("dark" if value < 128 else "bright" for value in values)
    return AuditResult(
        measurements=(Measurement(name="mean_pixel", value=float(values.mean()), n=len(samples)),),
        labels=ImageLabels(ids=samples.ids, labels=labels),
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run(recipe(), tmp_path_factory.mktemp("plain"), until="train")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "measure", darkness)
        return run(recipe(*WATCHED), tmp_path_factory.mktemp("watched"), until="train")


def test_a_training_is_looked_at_every_so_many_steps_and_at_the_last():
    assert watched_steps(TrainSpec(steps=7, watch_every=3)) == [3, 6, 7]
    assert watched_steps(TrainSpec(steps=6, watch_every=3)) == [3, 6]
    assert watched_steps(TrainSpec(steps=6, watch_every=9)) == [6]
    assert watched_steps(TrainSpec(steps=6)) == []


def test_watching_changes_no_weight(plain, watched):
    assert weights(plain) == weights(watched)
    assert plain.folder.name == watched.folder.name
    assert not plain.looks()


def test_a_look_is_of_the_bank_after_each_step(watched):
    looks = watched.looks()
    assert [look.step for look in looks] == [3, 6]
    for look in looks:
        assert look.ids == tuple(f"0/{i}" for i in range(6))
        assert len(look.labels) == 6
        assert look.settings["num_images"] == 6
        assert len(list(watched.bank_folder(look.step).glob("*.parquet"))) == 1
    assert looks[0].find("training_loss") != looks[1].find("training_loss")


def test_a_look_measures_shares_copies_diversity_and_losses(tmp_path):
    whole = recipe(*WATCHED)
    result = Run.create(tmp_path / "run", title="run")
    look = watcher(result, whole, load(whole.data), tmp_path / ".cache", lambda *_: None)
    look(Grey(), 3)
    (found,) = result.looks()
    for name in ("nearest_copy_rate", "mean_pairwise_distance", "kernel_distance", "training_loss",
                 "held_out_loss", "unrecognised_share"):  # fmt: skip
        measured = found.find(name)
        assert measured is not None, name
        assert measured.value is not None, name
    assert found.find("share", "unclassified") is not None
    assert found.training_shares() == {"9": 0.1, "6": 0.9}
    unrecognised = sum(label not in "69" for label in found.labels)
    assert found.find("unrecognised_share").value == unrecognised / 6


def test_looks_at_the_snapshots_are_those_made_while_it_trained(watched, tmp_path, monkeypatch):
    folder = tmp_path / watched.folder.name
    shutil.copytree(watched.folder, folder)
    (folder / "watch.jsonl").unlink()
    shutil.rmtree(folder / "watch")
    monkeypatch.setattr(watching, "measure", darkness)
    shutil.rmtree(folder / "snapshots" / "step-000006")  # the finished model stands for it
    again = watch_run(folder)
    assert again.looks() == watched.looks()
    monkeypatch.setattr(watching, "load_pipeline", None)
    assert watch_run(folder).looks() == watched.looks()
    with pytest.raises(LeadlineError, match=r"other settings \(num_images: 6 and 7\).* --images"):
        watch_run(folder, num_images=7)


KILLED = """
import os, pathlib, signal
from leadline import watching
from leadline.experiment import run
from leadline.fitting import Trainer
from test_watching import darkness, recipe

save = Trainer.save
watching.measure = darkness
Trainer.save = lambda self, file, progress: (
    os.kill(os.getpid(), signal.SIGKILL) if progress.step == 4 else save(self, file, progress)
)
run(recipe(*{options!r}), pathlib.Path({out!r}), until="train")
"""
"""A training that is killed in earnest after the look at step 4 and before its checkpoint."""


def test_killed_between_a_look_and_its_checkpoint_it_looks_once_at_each_step(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "measure", darkness)
    options = (*WATCHED, "train.watch_every=2")
    undisturbed = run(recipe(*options, "train.checkpoint_every=2"), tmp_path / "whole", until="train")
    script = KILLED.format(options=(*options, "train.checkpoint_every=2"), out=str(tmp_path / "killed"))
    process = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=False)
    assert process.returncode == -signal.SIGKILL
    half = Run.open(tmp_path / "killed" / undisturbed.folder.name)
    assert [look.step for look in half.looks()] == [2, 4]
    whole = run(recipe(*options, "train.checkpoint_every=2"), tmp_path / "killed", until="train")
    assert [look.step for look in whole.looks()] == [2, 4, 6]
    assert whole.looks() == undisturbed.looks()
    assert weights(whole) == weights(plain)


def test_trained_anew_the_looks_begin_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "measure", darkness)
    stale = Look(step=5, settings={}, measurements=())
    result = Run.create(tmp_path / "run", title="run")
    splits = Splits(train=ImageSet(name="grey", pixels=np.full((4, 1, 8, 8), 128, np.uint8)))
    look = watcher(result, recipe(*WATCHED), splits, tmp_path, lambda *_: None)
    result.save_looks([stale])
    look(Grey(), 3)
    assert [found.step for found in result.looks()] == [3]
    assert result.looks()[0].find("held_out_loss").reason.startswith("no held-out real images")


def test_a_fault_of_a_metric_does_not_end_the_training(tmp_path, monkeypatch):
    def broken(samples, reference, **options):
        raise AuditFailed({"bias": RuntimeError("a fault")}, darkness(samples, reference))

    monkeypatch.setattr(watching, "measure", broken)
    splits = Splits(train=ImageSet(name="grey", pixels=np.full((4, 1, 8, 8), 128, np.uint8)))
    result = Run.create(tmp_path / "run", title="run")
    with pytest.warns(RuntimeWarning, match="the look at step 3 is not whole: 1 of the metrics failed .*a fault"):
        watcher(result, recipe(*WATCHED), splits, tmp_path, lambda *_: None)(Grey(), 3)
    assert result.looks()[0].find("mean_pixel").value == pytest.approx(127.5, abs=0.5)


class Grey(Denoiser):
    """D(x; sigma) = 0."""

    shape, sigmas, device = (1, 8, 8), ddpm_sigmas(), torch.device("cpu")

    def __call__(self, x, sigma):
        return torch.zeros_like(x)


class Idle(Grey):
    """D(x; sigma) = x: no noise is found."""

    def __call__(self, x, sigma):
        return x


@pytest.fixture(scope="module")
def images():
    return ImageSet(name="noise", pixels=np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize("objective", ["epsilon", "edm"])
def test_the_bank_of_noised_images_is_stratified_and_of_no_training_seed(images, objective):
    spec = TrainSpec(objective=objective)
    bank = noised_bank(images, spec, ladder(spec))
    again = noised_bank(images, TrainSpec(objective=objective, seed=5), ladder(spec))
    assert torch.equal(bank.noise, again.noise)
    assert torch.equal(bank.sigma, again.sigma)
    assert len(bank.sigma.unique()) == 160  # 40 images at 4 levels, each of its own
    per_image = bank.sigma.reshape(4, 40).sort(0).values
    assert (per_image[:-1].max(1).values < per_image[1:].min(1).values).all()
    if objective == "edm":
        logs = bank.sigma.log()
        assert logs.mean() == pytest.approx(-1.2, abs=0.01)
        assert logs.std() == pytest.approx(1.2, abs=0.03)
    else:
        steps = torch.searchsorted(ladder(spec), bank.sigma).sort().values
        assert steps.tolist() == [int((i + 0.5) / 160 * 1000) for i in range(160)]


def test_a_denoiser_that_finds_no_noise_has_the_noise_as_its_loss(images):
    for spec, factor in ((TrainSpec(), lambda s: 1), (TrainSpec(objective="edm"), lambda s: (s**2 + 0.25) / 0.25)):
        bank = noised_bank(images, spec, ladder(spec))
        expected = (factor(bank.sigma) * bank.noise.double().square().mean((1, 2, 3))).mean()
        # x - x0 is sigma noise but for float32's rounding of x.
        assert weighted_loss(Idle(), bank, 100) == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_is_the_training_s_own(images):
    spec, schedule = TrainSpec(), noise_schedule(TrainSpec())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_unet(ModelSpec(channels=(8, 16)), 1, 8)
    denoiser = DiffusersDenoiser(unet, schedule)
    bank = noised_bank(images, spec, denoiser.sigmas)
    steps = torch.searchsorted(denoiser.sigmas, bank.sigma)
    with torch.no_grad():
        expected = float(noise_loss(schedule, unet, Batch(bank.x0, bank.noise, steps)))
    found, missing = losses(denoiser, Splits(train=images), spec, 64)
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert found.n == 40
    assert missing.value is None


def test_a_model_taken_over_brings_its_looks_or_the_word_that_there_are_none(plain, watched, tmp_path):
    taken = Run.create(tmp_path / "taken", title="taken")
    adopt_model(taken, watched)
    assert taken.looks() == watched.looks()
    assert {file.name for file in taken.bank_folder(6).iterdir()} >= {"shard-00000.parquet"}
    other = recipe(*WATCHED, "sample.num_images=3")
    with pytest.warns(
        RuntimeWarning, match=r"lacks 2 of the looks .* the first at step 3: .*`leadline watch .*` looks"
    ):
        run(other, plain.folder.parent, until="train")


def test_what_cannot_be_watched_says_why(plain, tmp_path):
    with pytest.raises(LeadlineError, match="train.watch_every is of the unconditional depth family"):
        check_training(TrainSpec(watch_every=5))
    bare = tmp_path / "bare"
    shutil.copytree(plain.folder, bare)
    shutil.rmtree(bare / "snapshots")
    with pytest.raises(LeadlineError, match="has no snapshots to look at: .*train.snapshots=500,1000.*watch_every"):
        watch_run(bare)
    text = Run.create(tmp_path / "text", title="t", recipe=recipe().model_copy(update={"text": TextSpec()}).model_dump(
        mode="json"))  # fmt: skip
    with pytest.raises(LeadlineError, match="is a text-to-image model"):
        watch_run(text.folder)


def test_the_bank_is_the_first_images_of_the_run_s_own_seed_by_ddim():
    drawn = bank_spec(SampleSpec(seed=3, sampler="heun", num_images=1000), 64, 10)
    assert (drawn.seed, drawn.sampler, drawn.steps, drawn.num_images) == (3, "ddim", 10, 64)
    look = Look(step=1, settings={"seed": 3}, measurements=())
    check_same_bank((look,), {"seed": 3})
    with pytest.raises(LeadlineError, match=r"seed: 3 and 4"):
        check_same_bank((look,), {"seed": 4})


def test_damaged_looks_are_named(tmp_path):
    result = Run.create(tmp_path / "run", title="run")
    (result.folder / "watch.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(LeadlineError, match=r"watch\.jsonl cannot be read .*look again \(leadline watch\)"):
        result.looks()

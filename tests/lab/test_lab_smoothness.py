"""Models of random weights, measured whole; factors and directions on numbers that are known; the page and command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from typer.testing import CliRunner

from leadline.cli import app
from leadline.lab.keeping import Kept
from leadline.lab.smoothness import Smoothing, measure_smoothness, measuring
from leadline.lab.smoothness.directions import Case, between_blocks, between_depths, directions_table
from leadline.lab.smoothness.values import energy_measurements, factor_of, jacobian_values, way
from leadline.lab.sources import LabModel
from leadline.models.pretrained import DiffusersDenoiser, save_pipeline
from leadline.models.unet import depth_unet
from leadline.records import ImageSet, Splits
from leadline.report.lab import build_lab

SPEC = Smoothing(
    sigmas=(1000.0, 0.5), num_images=3, num_latent=2, tolerance=0.1, max_steps=6, num_probes=2, num_between=1
)


def images(n, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    return ImageSet(name="noise", pixels=pixels)


def unet(blocks):
    with torch.random.fork_rng():
        torch.manual_seed(blocks)
        return depth_unet(blocks, in_channels=1, sample_size=4)


def model(blocks, held_out=1):
    return LabModel(
        name=f"{blocks} blocks",
        denoiser=DiffusersDenoiser(unet(blocks), DDPMScheduler()),
        digest=f"weights-{blocks}",
        splits=Splits(train=images(12, 0), held_out=None if held_out is None else images(5, held_out)),
        depth=blocks,
    )


@pytest.fixture(scope="module")
def models():
    return [model(2), model(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("smoothness")


@pytest.fixture(scope="module")
def result(models, folder):
    return measure_smoothness(models, SPEC, Kept(folder / ".kept"))


def test_every_measure_at_every_level_or_its_reason(result):
    for name, exact in (("jacobian_gain", 0), ("scaled_hessian_norm", 2), ("latent_hessian_norm", 0)):
        outside = [m for m in result.find(name, sigma=1000.0) if m.params["denoiser"] == "trained"]
        assert {m.params["model"] for m in outside} == {"2 blocks", "3 blocks"}
        assert all("outside the model's range" in m.reason for m in outside)
        assert len(result.find(name, sigma=1000.0)) - len(outside) == exact
    assert [m.params["block"] for m in result.find("jacobian_norm", sigma=0.5, model="3 blocks")] == [1, 2, 3]
    assert [m.params["block"] for m in result.find("latent_hessian_norm", sigma=0.5, model="2 blocks")] == [0, 1, 2]
    assert {m.n for m in result.find("scaled_hessian_norm", sigma=0.5)} == {3}
    assert {m.n for m in result.find("latent_hessian_norm", sigma=0.5)} == {2}


def test_the_bound_is_the_largest_of_all_ways(result):
    for m in result.find("scaled_gradient_lipschitz", sigma=0.5):
        assert m.params["bound"] == "lower"
        assert m.value == max(m.params[way] for way in ("pairs", "segments", "Hessian"))
        [curvature] = result.find("scaled_hessian_norm", sigma=0.5, model=m.params["model"])
        assert m.value >= curvature.params["largest"] >= curvature.value


def test_the_gaussian_beside_them_has_its_closed_form(result, models):
    covariance = np.cov(models[0].splits.train.images().reshape(12, -1).astype(float).T, bias=True)
    [found] = result.find("scaled_hessian_norm", sigma=1000.0, model="Gaussian")
    lowest = max(np.linalg.eigvalsh(covariance)[0], 0)
    assert found.value == pytest.approx(1000.0**2 / (1000.0**2 + lowest), rel=1e-4)


def test_what_is_kept_is_not_computed_again(result, models, folder, monkeypatch):
    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(measuring, "COMPUTE", dict.fromkeys(measuring.COMPUTE, refuse))
    told = []
    again = measure_smoothness(models, SPEC, Kept(folder / ".kept"), lambda *line: told.append(line))
    assert again.measurements == result.measurements
    assert told[-1][1] == told[-1][2] == len(told) - 1 == 2 * 2 * 3 + 2 * 2
    with pytest.raises(AssertionError, match="computed again"):
        measure_smoothness(models, replace(SPEC, seed=1), Kept(folder / ".kept"))


def test_the_page_tells_what_was_counted_and_every_figure_stands_alone(result, folder):
    page = build_lab(result, folder)
    content = json.loads(page.with_suffix(".json").read_text())
    counts = {row[0]: row for row in result.tables[0].rows if row[1] == "from block to block"}
    told = content["headlines"][0]["headline"]
    assert f"of {counts['jacobian_norm'][-1]} steps" in told
    assert content["headlines"][1]["headline"].startswith("Energy in x: from 2 to 3 blocks σ²‖H‖")
    assert "One training run per depth" in content["headlines"][1]["sentences"]["Trainings"]
    html = page.read_text()
    assert "lower bound" in html
    assert "outside the model's range" in html.replace("&#39;", "'")
    assert len(list((folder / "figures").glob("*.svg"))) >= 5


def test_models_of_other_points_are_not_compared_by_depth(models, folder):
    spec = replace(SPEC, sigmas=(0.5,), num_latent=0, exact=False)
    found = measure_smoothness([models[0], model(3, held_out=2)], spec, Kept(folder / ".kept"))
    assert {"not measured at the same points" in m.reason for m in found.find("depth_factor")} == {True}
    assert all("--num-latent" in m.reason for m in found.find("latent_hessian_norm"))
    assert not found.find("scaled_hessian_norm", model="Gaussian")


def test_without_held_out_images_the_training_images_are_named(folder):
    spec = replace(SPEC, sigmas=(0.5,), num_latent=0, exact=False)
    found = measure_smoothness([model(2, held_out=None)], spec, Kept(folder / ".kept"))
    assert found.settings["points"] == {"2 blocks": "training"}
    assert not found.find("depth_factor")
    content = json.loads(build_lab(found, folder / "alone").with_suffix(".json").read_text())
    assert "Nothing was held out" in json.dumps(content)


def test_no_model_and_no_level(tmp_path):
    with pytest.raises(ValueError, match="give a run folder"):
        measure_smoothness([], SPEC, Kept(tmp_path))
    with pytest.raises(ValueError, match="above 0, each once"):
        measure_smoothness([], replace(SPEC, sigmas=(1.0, 1.0)), Kept(tmp_path))


def encoder_case(frobenius, blocks, sigma=1.0, group="same"):
    rows = np.asarray(frobenius, dtype=float)
    arrays = {
        "spectral": rows / 2,
        "converged": rows > 0,
        "frobenius": rows,
        "error": 0 * rows,
        "spread": np.ones_like(rows),
        "size": np.full(len(rows), 4),
        "image": np.full(rows.shape[1], 3.0),
    }
    return Case(
        subject=f"{blocks}",
        sigma=sigma,
        what="encoder",
        params={"model": f"{blocks}"},
        blocks=blocks,
        values=16,
        group=group,
        trained=True,
        arrays=arrays,
    )


def test_jacobian_values_are_scaled_as_they_say():
    found = jacobian_values(encoder_case([[8.0, 6.0]], 1).arrays, 16)
    np.testing.assert_allclose(found["jacobian_norm"], [[4, 3]])
    np.testing.assert_allclose(found["jacobian_norm_per_value"], [[8, 6]])  # √(16 / 4)
    np.testing.assert_allclose(found["jacobian_gain"], [[4, 3]])  # / √4
    np.testing.assert_allclose(found["relative_jacobian_gain"], [[12, 9]])  # x spreads 3, z 1


def test_factors_and_directions_of_known_numbers():
    falling = [[8.0, 8.8, 7.9], [4.0, 4.3, 4.1], [1.0, 30.0, 0.01]]
    steps = between_blocks([encoder_case(falling, 3)])
    gains = [m for m in steps if m.params["of"] == "jacobian_gain"]
    assert [way(m) for m in gains] == ["falls", "not decided"]
    assert gains[0].value == pytest.approx((4 * 4.3 * 4.1 / (8 * 8.8 * 7.9)) ** (1 / 3))
    assert gains[0].lower < gains[0].value < gains[0].upper < 1
    deep = between_depths([encoder_case(falling[:2], 2), encoder_case([[9.0, 9.9, 8.8]], 4)])
    [gain] = [m for m in deep if m.params["of"] == "jacobian_gain"]
    assert (way(gain), gain.params["runs"]) == ("grows", "1 and 1")
    table = directions_table([*steps, *deep])
    assert [row for row in table.rows if row[0] == "jacobian_gain"] == [
        ("jacobian_gain", "from block to block", 1, 0, 1, 0, 2),
        ("jacobian_gain", "from the shallowest to the deepest", 0, 1, 0, 0, 1),
    ]


def test_several_runs_of_a_depth_are_one_by_their_geometric_mean():
    runs = [encoder_case([[2.0, 2.0]], 2), encoder_case([[8.0, 8.0]], 2), encoder_case([[12.0, 12.5]], 5)]
    [gain] = [m for m in between_depths(runs) if m.params["of"] == "jacobian_gain"]
    assert gain.value == pytest.approx((12 * 12.5) ** 0.5 / 4)
    assert gain.params["runs"] == "2 and 1"


def test_a_factor_of_0_is_not_measurable():
    found = factor_of("block_factor", np.array([1.0, 2.0]), np.array([0.0, 1.0]), of="jacobian_gain")
    assert "a value is 0" in found.reason
    assert way(found) == "not measurable"


def test_energy_measurements_scale_by_sigma_squared():
    arrays = {name: np.array([1.0, 2.0]) for name in ("lowest", "highest", "norm", "asymmetry", "error")}
    arrays |= {"converged": np.array([True, False]), "pairs": np.array(3.0), "segments": np.array(1.0)}
    found = {m.name: m for m in energy_measurements(arrays, 0.5, model="m")}
    assert found["scaled_hessian_norm"].value == 1.5
    assert found["hessian_norm"].value == 6
    assert found["hessian_norm"].params["not converged"] == 1
    assert found["scaled_gradient_lipschitz"].value == 3
    assert found["gradient_lipschitz"].value == 12


def test_the_command_ends_in_the_page_and_goes_on_where_it_was(tmp_path):
    save_pipeline(unet(2), DDPMScheduler(), tmp_path / "model")
    command = ["theory", "smoothness", str(tmp_path / "model"), "--train", "digits", "--set", "data.image_size=4"]
    command += ["--set", "data.fit=resize", "--set", "data.num_images=20", "--set", "data.held_out=4"]
    command += ["--num-images", "2", "--num-latent", "0", "--sigma", "1", "--compare", "none", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    *_, page = done.stdout.strip().splitlines()
    assert page == str(tmp_path / "report.html")
    assert "Lemma 1: " in done.stdout
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / ".kept").glob("*.npz")}
    assert len(kept) == 2
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / ".kept").glob("*.npz")} == kept


def test_help_has_an_example_and_a_cost():
    told = CliRunner().invoke(app, ["theory", "smoothness", "--help"]).stdout
    assert "Example: leadline theory smoothness" in told
    assert "2 cores" in " ".join(told.split())

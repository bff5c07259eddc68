"""The landscape's page from the command to the files: what it says, draws and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from leadline.cli import app
from leadline.errors import LeadlineError
from leadline.lab.landscape import maps, measuring

SMALL = ["theory", "landscape", "--num-points", "16", "--queries", "16", "--num-taus", "3"]


@pytest.fixture(autouse=True)
def coarse_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of few places: what is tested is the page."""
    monkeypatch.setattr(maps, "RESOLUTION", 12)
    monkeypatch.setattr(measuring, "NUM_MAPS", 2)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*SMALL, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_toy_page_tells_and_draws_what_was_measured(tmp_path: Path) -> None:
    output = run("--toy", "grid", "--share", "0.75", "--replicates", "2", "--out", str(tmp_path))
    assert "grid: class majority, 75.0" in output
    assert str(tmp_path / "report.html") in output
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["kind"] == "landscape"
    assert {m["name"] for m in content["measurements"]} >= {"num_minima", "share", "odds_exponent"}
    assert [section["id"] for section in content["sections"]][:5] == ["answer", "maps", "minima", "shares", "mergers"]
    for name in ("maps", "minima", "shares"):
        assert (tmp_path / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    assert "minority" in (tmp_path / "figures" / "maps.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    assert "Share of class majority" in page
    assert "no majority" not in page
    # Means of two drawings that agree: one decimal, no interval.
    assert "16.0 at τ" in page
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays["map_points"].shape == (16, 2)


def test_image_page_says_that_the_map_is_of_a_plane(tmp_path: Path) -> None:
    output = run("--train", "digits", "--set", "data.shares=6:0.5,9:0.5", "--out", str(tmp_path))
    assert "digits" in output
    page = (tmp_path / "report.html").read_text()
    assert "another landscape than that of the images" in page
    assert "Where the flow takes some training images" in page
    assert "Share of class 6" in page
    assert "Among these 2 classes there is no majority: class 6" in page
    assert "16 at τ" in page
    assert "Theorem 2&#39;s exponent has none" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train", "digits", "--toy", "grid"], "leave out --toy"),
        (["--toy", "grid", "--set", "data.seed=1"], "a toy has no data fields: leave out --set"),
        (["--share", ".6", "--share", ".7"], "--share takes one number"),
        (["--tau", "1"], "--num-taus is of the default grid"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match=message):
        CliRunner().invoke(app, [*SMALL, *arguments, "--out", str(tmp_path)], catch_exceptions=False)

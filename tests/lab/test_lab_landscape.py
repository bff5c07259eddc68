"""Landscapes whose minima, basins and shares are known; what is kept; images; what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline.errors import LeadlineError
from leadline.lab.keeping import Kept
from leadline.lab.landscape import Points, image_points, landscape, levels, maps, measuring, toy_points
from leadline.lab.landscape.levels import winners
from leadline.lab.landscape.maps import principal_plane
from leadline.lab.landscape.measuring import OVER_LANDSCAPES
from leadline.lab.landscape.merged import Merged
from leadline.records import TheoryResult

KNOWN = Points(
    name="known",
    values=torch.tensor([[-1.0, 0.0], [-1.0, 0.2], [-0.8, 0.0], [1.0, 0.0]], dtype=torch.float64),
    labels=torch.tensor([0, 0, 0, 1]),
    classes=("majority", "minority"),
    facts={},
)
"""Three points of one class that merge at tau = .02 or above, and one of the other that joins them near 2."""
TAUS = (1e-4, 0.2, 10.0)


@pytest.fixture(scope="module", autouse=True)
def coarse_maps() -> Iterator[None]:
    """Maps of few places: half of them on each side of the middle, as with many."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(maps, "RESOLUTION", 32)
        patched.setattr(measuring, "NUM_MAPS", 3)
        yield


@pytest.fixture(scope="module")
def known() -> TheoryResult:
    return landscape([KNOWN], TAUS, num_queries=40)


def value(result: TheoryResult, name: str, **params: object) -> float | None:
    [found] = result.find(name, **params)
    return found.value


def test_known_minima_and_shares(known: TheoryResult) -> None:
    assert [value(known, "num_minima", tau=tau) for tau in TAUS] == [4, 2, 1]
    assert [value(known, "share", of="minima", tau=tau) for tau in TAUS] == [0.75, 0.5, 1]
    assert [value(known, "share", of="flow", tau=tau) for tau in TAUS] == [0.75, 0.75, 1]
    assert value(known, "share", of="data") == 0.75
    # The middle between the sides is at x = 0, half of the window; every place goes to one of them.
    assert value(known, "share", of="window", tau=0.2) == pytest.approx(0.5, abs=0.05)
    assert value(known, "share", of="window", tau=10.0) == 1
    [flow] = known.find("share", of="flow", tau=0.2)
    assert flow.group == "majority"
    assert flow.n == 40
    assert flow.lower is not None
    assert flow.upper is not None
    assert flow.lower < 0.75 < flow.upper


def test_known_mergers(known: TheoryResult) -> None:
    merged = next(table for table in known.tables if table.name == "merged")
    # At tau = .2 three of one class are one, which is no merger of both; at 10 all four are.
    assert [row[:4] for row in merged.rows] == [(10.0, 0, 3, 1)]
    rows = next(table for table in known.tables if table.name == "levels").rows
    assert [row[2:5] for row in rows] == [(4, 0, 1), (2, 1, 3), (1, 1, 4)]
    assert [row[-1] for row in rows] == [1, 1, 1]
    assert all(m.value is None and "here 0" in str(m.reason) for m in known.find("odds_exponent", tau=0.2))


def test_arrays_hold_the_maps(known: TheoryResult) -> None:
    assert known.settings["maps"]["tau"] == list(TAUS)
    side = known.arrays["map0_x"].shape[0]
    assert known.arrays["map0_energy"].shape == (side, side)
    assert known.arrays["map1_minima"].shape == (2, 2)
    assert set(np.unique(known.arrays["map1_basin"])) == {0, 1}
    # Flow lines end in a minimum.
    ends, places = known.arrays["map1_flows"][-1], known.arrays["map1_minima"]
    assert np.linalg.norm(ends[:, None] - places[None], axis=2).min(1).max() < 1e-3
    assert known.arrays["level0_parents"].shape == (0,)
    assert known.arrays["level1_parents"].shape == (4,)


def test_what_is_kept_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path)
    first = landscape([KNOWN], TAUS[:2], num_queries=4, kept=kept)
    monkeypatch.setattr(levels, "minima", None)
    again = landscape([KNOWN], TAUS[:2], num_queries=4, kept=kept)
    assert list(again) == list(first)
    assert again.tables == first.tables
    with pytest.raises(TypeError):
        landscape([KNOWN], TAUS[:2], num_queries=5, kept=kept)


def test_several_drawings_are_averaged() -> None:
    drawn = [toy_points("grid", 16, 0.75, 0, each) for each in range(3)]
    result = landscape(drawn, (1e-4, 0.2, 20.0), num_queries=16)
    # At the first tau all drawings have the same value: their spread is not known.
    for name, expected in (("share", 0.75), ("num_minima", 16.0)):
        rugged = result.find(name, tau=1e-4)[-1 if name == "num_minima" else 0]
        assert (rugged.value, rugged.lower, rugged.level, rugged.method) == (expected, None, None, None)
    [between] = result.find("num_minima", tau=0.2)
    assert between.method == OVER_LANDSCAPES
    assert between.lower is not None
    assert between.value is not None
    assert 1 <= between.lower < between.value
    [single] = result.find("share", of="flow", tau=20.0)
    assert single.method == "Wilson over landscapes"
    assert single.n == 3
    assert result.settings["replicates"] == 3


def with_minima(minima: int) -> levels.Level:
    return levels.Level(
        tau=1.0,
        minima=np.zeros((minima, 2)),
        votes=np.ones((minima, 1)),
        winner=np.zeros(minima, dtype=np.int64),
        images=np.zeros(1, dtype=np.int64),
        queries=np.zeros(1, dtype=np.int64),
        parents=np.zeros(0, dtype=np.int64),
        morse=np.zeros(0, dtype=np.int64),
    )


def test_a_mean_count_has_an_interval_of_three_or_more_that_stays_at_one() -> None:
    two = measuring._count([with_minima(1), with_minima(4)], 1.0)
    assert (two.value, two.lower, two.method) == (2.5, None, None)
    three = measuring._count([with_minima(1), with_minima(1), with_minima(4)], 1.0)
    assert three.value == 2
    assert three.lower == 1
    # sd = sqrt(3), t(2) at 97.5 % = 4.3027.
    assert three.upper == pytest.approx(2 + 4.3027, abs=1e-4)


def merged(exponent: float, num: int) -> Merged:
    p, q = np.arange(2, 2 + num), np.ones(num, dtype=np.int64)
    odds = p.astype(float) ** exponent
    return Merged(minimum=np.arange(num), p=p, q=q, vote=odds, flow=odds)


def test_the_exponent_is_of_each_drawing_and_its_interval_over_drawings() -> None:
    # Two drawings where the law holds with S = 1 and 2, however many minima; the third has too few.
    drawn = measuring._exponents([merged(1.0, 3), merged(2.0, 30), merged(9.0, 2)], 0.5)
    fit, explained, count = (m for m in drawn if m.params["of"] == "vote")
    assert fit.value == pytest.approx(1.5)
    # The standard error is 1/2, t(1) at 97.5 % = 12.706.
    assert fit.lower == pytest.approx(1.5 - 12.706 / 2, abs=1e-3)
    assert (fit.n, fit.method) == (2, OVER_LANDSCAPES)
    assert explained.value == pytest.approx(1)
    assert (count.value, count.n) == (33, 2)
    alone, *_ = measuring._exponents([merged(2.0, 30)], 0.5)
    assert alone.value == pytest.approx(2)
    assert (alone.lower, alone.method, alone.n) == (None, None, 1)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((55, 45), True),
        ((50, 50), False),
        ((54, 46), False),
        ((34, 33, 33), False),
        ((36, 33, 31), False),
        ((40, 30, 30), True),
        ((7,), True),
    ],
)
def test_a_majority_leads_and_is_above_an_even_share(counts: tuple[int, ...], expected: bool) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    values = torch.zeros(len(labels), 2, dtype=torch.float64)
    points = Points(name="p", values=values, labels=labels, classes=tuple(map(str, range(len(counts)))), facts={})
    assert points.majority is expected
    assert points.followed == 0


def test_default_taus_span_from_all_minima_to_one() -> None:
    result = landscape([toy_points("moons", 20, 0.6, 0)], num_taus=3, num_queries=10)
    counts = [m.value for m in result.find("num_minima")]
    assert counts[0] == 20
    assert counts[-1] == 1


def test_images_have_a_plane_and_what_is_recalled() -> None:
    points = image_points("digits", ("data.shares=6:0.75,9:0.25",), 16)
    assert points.classes == ("6", "9")
    assert points.classes[points.followed] == "6"
    assert torch.bincount(points.labels).tolist() == [12, 4]
    result = landscape([points], (0.01, 1e3), num_queries=8)
    [panel] = result.panels
    assert panel.tiles.shape == (3, 8, 1, 8, 8)
    # The finest landscape returns the images, the coarsest one image for all.
    np.testing.assert_array_equal(panel.tiles[0], panel.tiles[1])
    assert (panel.tiles[2] == panel.tiles[2, :1]).all()
    assert 0 < result.settings["maps"]["variance held"] < 1
    assert not result.find("share", of="window")
    plane = principal_plane(points)
    expected = torch.linalg.svdvals(points.values - points.values.mean(0))[:2]
    torch.testing.assert_close(plane.values.norm(dim=0), expected)


def test_points_without_labels_have_minima_but_no_shares() -> None:
    bare = Points(name="bare", values=KNOWN.values, labels=torch.zeros(4).long(), classes=("",), facts={})
    result = landscape([bare], TAUS, num_queries=4)
    assert value(result, "num_minima", tau=0.2) == 2
    assert all(m.value is None and "no labels" in str(m.reason) for m in result.find("share"))


def test_a_tied_vote_wins_nothing() -> None:
    shares = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.6, 0.4]], dtype=torch.float64)
    assert winners(shares).tolist() == [-1, 1, 0]


def test_refused_settings_say_what_to_change() -> None:
    with pytest.raises(LeadlineError, match="--tau"):
        landscape([KNOWN], (0.1, -1.0))
    with pytest.raises(LeadlineError, match="--queries"):
        landscape([KNOWN], TAUS, num_queries=0)
    with pytest.raises(LeadlineError, match="--num-points and --set data.num_images"):
        image_points("digits", ("data.num_images=20",), 10)

"""What runs of the same seeds say pair by pair: which are compared, which images are shown, and how p is corrected."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paired_runs import made_run, recipe_of
from statsmodels.stats.multitest import multipletests

from leadline.across import gathered, measure_across
from leadline.across.pairing import drawn_by, pairing, pairings
from leadline.across.pairs import pairs_of_runs
from leadline.audit.flips import paired_flips
from leadline.recipe import Recipe
from leadline.records import AuditResult
from leadline.runs import Run

A = ["six", "nine", "nine", "six", "nine", "nine", "six", "six", "nine", "unclassified"]
B = ["six", "six", "nine", "nine", "six", "six", "six", "six", "unclassified", "six"]
FORWARD, REVERSE = [1, 4, 5], [3]


def deep(blocks: int, seed: int = 0, **parts: dict[str, Any]) -> Recipe:
    return recipe_of(model={"blocks": blocks}, train={"seed": seed, "steps": 100}, **parts)


def found_in(*runs: Run) -> AuditResult:
    return gathered(pairs_of_runs(runs))


def chosen(*runs: Run) -> list[tuple[str, str, str]]:
    return [(found.kind, found.a, found.b) for found in pairings([drawn_by(run) for run in runs])]


def test_two_depths_are_compared_class_by_class(tmp_path: Path) -> None:
    found = found_in(made_run(tmp_path / "b", B, deep(4)), made_run(tmp_path / "a", A, deep(2)))
    tests = found.find("paired_flips")
    assert [m.group for m in tests] == ["six", "nine", "unclassified"]
    for m in tests:
        alone = paired_flips(A, B, group=m.group, level=1 - 0.05 / 3)
        assert (m.value, m.lower, m.upper, m.n) == (alone.value, alone.lower, alone.upper, 10)
        assert m.level == 0.95
        assert m.params["p"] == alone.params["p"]
        assert (m.params["a"], m.params["b"], m.params["kind"]) == ("2 blocks", "4 blocks", "depth")
        assert (m.params["folder_a"], m.params["folder_b"]) == ("a", "b")
        assert m.computed_from == {"a": "a", "b": "b"}
    assert tests[1].params["training_share"] == 0.1
    rate = found.find("flip_rate")[0]
    assert (rate.value, rate.params["forward"], rate.params["reverse"]) == (pytest.approx(0.6), 3, 1)
    assert [table.name for table in found.tables] == ["flip_matrix_1"]
    assert found.tables[0].rows[1] == ("nine", 3, 1, 1)


def test_the_galleries_hold_the_right_images_in_both_directions(tmp_path: Path) -> None:
    ids = [f"0/{index}" for index in range(10)]
    mixed = np.random.default_rng(0).permutation(10).tolist()
    first = made_run(tmp_path / "a", A, deep(2), ids=ids)
    second = made_run(tmp_path / "b", [B[i] for i in mixed], deep(4), ids=[ids[i] for i in mixed], value=20)
    forward, reverse = found_in(first, second).panels
    for panel, places, way in ((forward, FORWARD, ("nine", "six")), (reverse, REVERSE, ("six", "nine"))):
        assert panel.row_titles == tuple(ids[place] for place in places)
        assert panel.tiles[:, 0, 0, 0, 0].tolist() == places
        assert panel.tiles[:, 1, 0, 0, 0].tolist() == [place + 20 for place in places]
        assert panel.captions == way * len(places)
        assert panel.title == f"2 blocks → 4 blocks: from {way[0]} to {way[1]}"
        assert panel.column_titles == ("2 blocks", "4 blocks")


def test_the_galleries_of_the_turned_pair_are_each_others(tmp_path: Path) -> None:
    straight = found_in(made_run(tmp_path / "a", A, deep(2)), made_run(tmp_path / "b", B, deep(4))).panels
    turned = found_in(made_run(tmp_path / "c", B, deep(2)), made_run(tmp_path / "d", A, deep(4))).panels
    for one, other in zip(straight, turned[::-1], strict=True):
        assert one.row_titles == other.row_titles


def test_only_the_first_are_shown_and_none_is_said(tmp_path: Path) -> None:
    few = {"audit": {"num_panels": 2}}
    runs = [
        made_run(tmp_path / "a", ["nine"] * 7, deep(2, **few)),
        made_run(tmp_path / "b", ["six"] * 7, deep(4, **few)),
    ]
    forward, reverse = found_in(*runs).panels
    assert (forward.row_titles, forward.caption) == (
        ("0/0", "0/1"),
        "The first 2 of 7, in the order of their seeds.",
    )
    assert (len(reverse.tiles), reverse.caption) == (0, "0 found among 7 pairs.")


def test_holm_goes_over_all_pairs_and_classes(tmp_path: Path) -> None:
    labels = {2: A * 4, 3: B * 4, 4: (A[:5] + B[5:]) * 4}
    found = found_in(*(made_run(tmp_path / str(depth), held, deep(depth)) for depth, held in labels.items()))
    tests = found.find("paired_flips")
    assert [(m.params["b"], m.group) for m in tests][3:5] == [("4 blocks", "six"), ("4 blocks", "nine")]
    expected = multipletests([m.params["p"] for m in tests], method="holm")[1]
    assert [m.params["p_holm"] for m in tests] == pytest.approx(expected.tolist())
    assert {m.params["tests"] for m in tests} == {6}


def test_two_classes_without_unclassified_are_one_test(tmp_path: Path) -> None:
    sets = [[label.replace("unclassified", "six") for label in labels] * 3 for labels in (A, B)]
    found = found_in(*(made_run(tmp_path / str(i), held, deep(i)) for i, held in enumerate(sets, 2)))
    tests = found.find("paired_flips")
    assert [m.group for m in tests] == ["six", "nine"]
    assert {m.params["tests"] for m in tests} == {1}
    assert {m.params["p_holm"] for m in tests} == {paired_flips(*sets, group="nine").params["p"]}


def test_what_differs_in_one_thing_is_paired(tmp_path: Path) -> None:
    bypass = {"sample": {"steer": {"strength": 0.5}}}
    runs = [
        made_run(tmp_path / "4", A, deep(4)),
        made_run(tmp_path / "2", A, deep(2)),
        made_run(tmp_path / "3", A, deep(3)),
        made_run(tmp_path / "2-1", A, deep(2, seed=1)),
        made_run(tmp_path / "4-1", A, deep(4, seed=1)),
        made_run(tmp_path / "2-bypass", A, deep(2, **bypass)),
        made_run(tmp_path / "2-other-seeds", A, deep(2, sample={"seed": 1})),
        made_run(tmp_path / "2-twice", A, deep(2)),
    ]
    told = [(found.kind, found.a, found.b, found.of) for found in pairings([drawn_by(run) for run in runs])]
    assert told == [
        ("depth", "2 blocks", "3 blocks", "made, training seed 0"),
        ("depth", "2 blocks", "4 blocks", "made, training seed 0"),
        ("depth", "2 blocks", "4 blocks", "made, training seed 1"),
        ("bypass", "strength 0", "bypass 0.5 (constant, blend)", "made, 2 blocks, training seed 0"),
    ]


@pytest.mark.parametrize("field", [{"train": {"steps": 50}}, {"sample": {"steps": 7}}, {"data": {"seed": 3}}])
def test_what_differs_in_more_is_not(tmp_path: Path, field: dict[str, Any]) -> None:
    first, second = recipe_of(model={"blocks": 2}), recipe_of(model={"blocks": 4}, **field)
    runs = [made_run(tmp_path / "a", A, first), made_run(tmp_path / "b", B, second)]
    assert chosen(*runs) == []
    assert measure_across(runs).find("paired_flips") == []
    given = pairing(*map(drawn_by, runs))
    assert given.kind == "several"
    assert f"{next(iter(field))}.{next(iter(next(iter(field.values()))))}" in given.remark


def test_checkpoints_that_were_audited_stand_beside_the_last(tmp_path: Path) -> None:
    recipe = deep(2)
    run = made_run(tmp_path / "run", B, recipe)
    for step in (10, 50):
        noted = {"recipe": recipe.model_dump(mode="json"), "step": step}
        made_run(run.checkpoint_folder(step), A, recipe, samples=noted)
    found = found_in(run)
    assert [(m.params["a"], m.params["b"]) for m in found.find("flip_rate")] == [
        ("step 10", "step 100"),
        ("step 50", "step 100"),
    ]
    assert found.find("flip_rate")[0].params["of"] == "made, 2 blocks, training seed 0"


def test_a_smaller_set_pairs_by_its_ids(tmp_path: Path) -> None:
    few = {"sample": {"num_images": 6}}
    found = found_in(made_run(tmp_path / "a", A, deep(2)), made_run(tmp_path / "b", B[:6], deep(4, **few)))
    assert found.find("flip_rate")[0].n == 6
    assert found.find("paired_flips", "nine")[0].params["unpaired"] == 4


def test_of_many_classes_flips_are_followed_to_the_most_frequent(tmp_path: Path) -> None:
    counts = {"x": 50, "y": 30, "z": 15, "w": 5}
    runs = [
        made_run(tmp_path / "a", ["y", "z", "x", "y", "w", "v"], deep(2), counts=counts),
        made_run(tmp_path / "b", ["x", "x", "w", "z", "w", "x"], deep(4), counts=counts),
    ]
    found = found_in(*runs)
    assert [m.group for m in found.find("paired_flips")] == ["x", "y", "z", "w"]
    assert [panel.title.partition(": ")[2] for panel in found.panels] == [
        "from another class to x",
        "from x to another class",
    ]
    assert [panel.row_titles for panel in found.panels] == [("0/0", "0/1"), ("0/2",)]
    assert found.find("marginal_homogeneity")[0].params["changed"] == 5


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"labels": None}, r"kept no labels.*audit it again \(leadline audit"),
        ({"labels": B, "labeler": "other"}, "not labelled alike"),
        ({"labels": B, "ids": [f"1/{i}" for i in range(10)]}, "no image is in both sets"),
    ],
)
def test_what_cannot_be_paired_says_why(tmp_path: Path, second: dict[str, Any], reason: str) -> None:
    found = found_in(made_run(tmp_path / "a", A, deep(2)), made_run(tmp_path / "b", recipe=deep(4), **second))
    assert [m.name for m in found] == ["paired_flips"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(found[0].reason)
    assert found[0].params["a"] == "2 blocks"


@pytest.mark.parametrize(
    ("audit", "changed", "told"),
    [
        ({"labeler_model": "resnet18:other.safetensors"}, {}, "(audit.labeler_model: none and resnet18:"),
        ({"labeler_epochs": 3}, {}, "(audit.labeler_epochs: 30 and 3)"),
        ({"seed": 1}, {"labeler": "other"}, "(audit.seed: 0 and 1)"),
        ({"confidence": 0.5}, {}, "(audit.confidence: 0.9 and 0.5)"),
        ({}, {"labeler": "other"}, "(the labeler's weights: l and other)"),
        ({}, {"origin": "the file labels.csv"}, "(labels: the labeler and given labels)"),
    ],
)
def test_sets_that_were_labelled_unlike_are_not_paired_and_only_what_differs_is_named(
    tmp_path: Path, audit: dict[str, Any], changed: dict[str, Any], told: str
) -> None:
    runs = [
        made_run(tmp_path / "a", A, deep(2)),
        made_run(tmp_path / "b", B, deep(4, audit=audit), **changed),
    ]
    found = found_in(*runs)
    assert [m.value for m in found] == [None]
    assert f"not labelled alike {told}" in (found[0].reason or "")


def test_prompts_are_a_part_of_how_a_set_was_labelled(tmp_path: Path) -> None:
    recipes = [deep(2 + i, audit={"prompts": ["six=a 6", f"nine={words}"]}) for i, words in enumerate(("a 9", "nine"))]
    found = found_in(*(made_run(tmp_path / str(i), A, recipe) for i, recipe in enumerate(recipes)))
    assert "(audit.prompts: six=a 6; nine=a 9 and six=a 6; nine=nine)" in (found[0].reason or "")


@pytest.mark.parametrize(
    ("audit", "changed"),
    [
        ({"seed": 1, "labeler_epochs": 3, "labeler_model": "resnet18:f.safetensors"}, {}),
        ({"confidence": 0.5}, {"origin": "the file labels.csv"}),
    ],
)
def test_options_that_did_not_decide_the_labels_may_differ(
    tmp_path: Path, audit: dict[str, Any], changed: dict[str, Any]
) -> None:
    same = {name: value for name, value in audit.items() if name == "labeler_model"}
    first = made_run(tmp_path / "a", A, deep(2, audit=same), **changed)
    assert found_in(first, made_run(tmp_path / "b", B, deep(4, audit=audit), **changed)).find("flip_rate")


@pytest.mark.parametrize("spoilt", ["gone", "others"])
def test_without_the_audited_images_the_numbers_remain(tmp_path: Path, spoilt: str) -> None:
    first, second = made_run(tmp_path / "a", A, deep(2)), made_run(tmp_path / "b", B, deep(4), images=spoilt != "gone")
    if spoilt == "others":
        made_run(tmp_path / "c", B[::-1], ids=[f"0/{index}" for index in range(10)][::-1])
        file = "shard-000.parquet"
        (tmp_path / "c/samples" / file).replace(second.samples_folder / file)
    found = found_in(first, second)
    assert len(found.find("paired_flips")) == 3
    assert found.panels == ()
    assert found.find("flip_gallery")[0].status == "not_measurable"


@pytest.mark.parametrize("side", [0, 1])
def test_images_drawn_until_a_share_was_known_are_no_side_of_a_pair(tmp_path: Path, side: int) -> None:
    audits = [{"stopping": "anytime"} if side == i else {} for i in (0, 1)]
    runs = [made_run(tmp_path / str(i), A, deep(2 + i, audit=audit)) for i, audit in enumerate(audits)]
    found = found_in(*runs)
    assert [m.value for m in found] == [None]
    assert "were drawn until a share was known well enough" in (found[0].reason or "")
    assert str(runs[side].folder) in (found[0].reason or "")


def test_a_damaged_run_is_told_and_the_others_are_compared(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name, A, deep(depth)) for name, depth in (("a", 2), ("b", 4), ("bad", 3))]
    runs[2].update(recipe={"model": {"blocks": 99}})
    found = found_in(*runs)
    assert [m.value for m in found.find("flip_rate")] == [0]
    assert [m.reason for m in found if m.value is None and "bad cannot be read" in (m.reason or "")]

"""Watched runs side by side: looks whose shares, losses and labels are known by construction."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from leadline.across.watched import equal_looks, measure_watched, spaced
from leadline.audit.differences import newcombe
from leadline.audit.flips import paired_interval
from leadline.audit.intervals import wilson
from leadline.data.shards import write_shard
from leadline.errors import NotMeasurable
from leadline.looks import Look
from leadline.recipe import ModelSpec, Recipe, TrainSpec
from leadline.records import Measurement, Panel, Table
from leadline.runs import Run

N = 200
SETTINGS = {"num_images": N, "seed": 0, "steps": 10, "audit.level": 0.95}


def look(step, nines, *, loss=None, kernel=None, garbage=0, settings=SETTINGS, seen=500):
    """The first `nines` of the seeds are nines, the last `garbage` unclassified, all others sixes; training 10 %.

    seen: how many of 5,000 training images the labeler takes for nines.
    """
    labels = ["9"] * nines + ["6"] * (N - nines - garbage) + ["unclassified"] * garbage
    recognised = N - garbage
    lower, upper = wilson(nines, recognised)
    found = [
        Measurement(name="share", value=0.9, group="6", params={"set": "training"}),
        Measurement(name="share", value=0.1, group="9", params={"set": "training"}),
        Measurement(
            name="share_difference",
            value=nines / recognised - 0.1,
            lower=lower - 0.1,
            upper=upper - 0.1,
            level=0.95,
            n=recognised,
            group="9",
            params={
                "share": nines / recognised, "share_lower": lower, "share_upper": upper, "training_share": 0.1,
            },
        ),
    ]  # fmt: skip
    lower, upper = newcombe(nines, recognised, seen, 5000, 0.95)
    labeled = {"share": nines / recognised, "training_share_as_labeled": seen / 5000, "training_images": 5000}
    found.append(
        Measurement(
            name="labeled_difference", value=nines / recognised - seen / 5000, lower=lower, upper=upper, level=0.95,
            n=recognised, group="9", params=labeled,
        )
    )  # fmt: skip
    found += [Measurement(name="training_loss", value=loss)] if loss is not None else []
    found += (
        [Measurement(name="kernel_distance", value=kernel, params={"set": "samples"})] if kernel is not None else []
    )
    ids = tuple(f"0/{i}" for i in range(N))
    return Look(step=step, settings=settings, measurements=tuple(found), ids=ids, labels=tuple(labels))


def watched(root, blocks, looks, seed=0, name="", **train):
    recipe = Recipe(model=ModelSpec(blocks=blocks), train=TrainSpec(seed=seed, **train))
    run = Run.create(root / f"{name}blocks-{blocks}-s{seed}", title=f"{blocks}", recipe=recipe.model_dump(mode="json"))
    run.save_looks(looks)
    return run


SHALLOW = [look(100, 2, loss=0.08, kernel=0.05), look(200, 8, loss=0.05, kernel=0.03),
           look(300, 20, loss=0.04, kernel=0.02)]  # fmt: skip
DEEP = [look(100, 0, loss=0.09, kernel=0.09, garbage=60), look(200, 2, loss=0.06, kernel=0.04, garbage=10),
        look(300, 8, loss=0.05, kernel=0.03)]  # fmt: skip


def found_in(*runs):
    return list(measure_watched(runs))


def test_nothing_is_said_where_nothing_was_watched(tmp_path):
    assert not found_in(Run.create(tmp_path / "run", title="run"))


def standings_of(run):
    (table,) = (item for item in found_in(run) if isinstance(item, Table))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_where_a_share_stands_each_look_by_itself_and_all_jointly(tmp_path):
    """9 of 200, 4.5 %, excludes 10 % both by itself and at Bonferroni's level for three looks."""
    looks = [look(100, 2), look(200, 9), look(300, 20)]
    rows = standings_of(watched(tmp_path, 2, looks))
    assert [(row["intervals"], row["state"], row["since"], row["before"], row["until"]) for row in rows] == [
        ("each look by itself", "not shown", 300, "below", 200),
        ("all looks jointly", "not shown", 300, "below", 200),
    ]
    assert rows[0]["training share"] == 0.1
    assert rows[0]["last share"] == 0.1
    assert (rows[0]["lower"], rows[0]["upper"]) == pytest.approx(newcombe(20, N, 500, 5000, 0.95))
    expected = newcombe(20, N, 500, 5000, 1 - 0.05 / 3)
    assert (rows[1]["lower"], rows[1]["upper"]) == pytest.approx(expected, abs=1e-4)


def test_a_labeler_that_misses_nines_everywhere_makes_no_difference(tmp_path):
    """It takes half of the nines for sixes: 5 % of both sets are nines to it, as 10 % of both are."""
    rows = standings_of(watched(tmp_path, 2, [look(100, 10, seen=250)]))
    assert wilson(10, N)[1] < 0.1
    assert rows[0]["state"] == "not shown"
    assert (rows[0]["training share"], rows[0]["training share as labeled"], rows[0]["last share"]) == (0.1, 0.05, 0.05)
    assert standings_of(watched(tmp_path / "b", 2, [look(100, 20, seen=250)]))[0]["state"] == "above"


def test_the_joint_interval_of_no_nines_is_the_exact_one(tmp_path):
    """0 of 200: the exact upper end at level 1 - 0.05 / 4 is 1 - 0.00625^(1/200) = 2.5 %."""
    row = standings_of(watched(tmp_path, 2, [look(100 * i, 0) for i in range(1, 5)]))[1]
    assert row["state"] == "below"
    assert row["upper"] + 0.1 == pytest.approx(1 - 0.00625 ** (1 / N), abs=4e-3)


def test_jointly_an_interval_is_wider(tmp_path):
    """10 of 200: 5.0 %, upper end 8.96 % by itself; at Bonferroni's level for 40 looks above 10 %."""
    looks = [look(100, 10), *(look(100 * i, 20) for i in range(2, 41))]
    alone, jointly = standings_of(watched(tmp_path, 2, looks))
    assert wilson(10, N)[1] < 0.1 < wilson(10, N, 1 - 0.05 / 40)[1]
    names = ("state", "since", "before", "until")
    assert [alone[name] for name in names] == ["not shown", 200, "below", 100]
    assert [jointly[name] for name in names] == ["not shown", 100, None, None]
    assert jointly["upper"] - jointly["lower"] > alone["upper"] - alone["lower"]


def test_a_look_without_the_class_is_told_as_such(tmp_path):
    bare = Look(step=50, settings=SETTINGS, measurements=())
    row = standings_of(watched(tmp_path, 2, [bare, look(100, 40)]))[0]
    assert [row[name] for name in ("state", "since", "before", "until")] == ["above", 100, "not measurable", 50]
    last = standings_of(watched(tmp_path / "b", 2, [look(100, 40), bare.model_copy(update={"step": 200})]))[0]
    assert [last[name] for name in ("state", "last share", "lower")] == ["not measurable", None, None]


def test_equal_is_the_last_common_step_or_the_best_value_that_both_reach():
    found = equal_looks(SHALLOW, DEEP, "steps")
    assert [each.step for each in found.looks] == [300, 300]
    found = equal_looks(SHALLOW, DEEP, "training_loss")
    assert (found.reached, [each.step for each in found.looks], found.values) == (0.05, [200, 300], (0.05, 0.05))
    found = equal_looks(SHALLOW, DEEP, "kernel_distance")
    assert (found.reached, [each.step for each in found.looks]) == (0.03, [200, 300])
    with pytest.raises(NotMeasurable, match="no look at one step in common"):
        equal_looks(SHALLOW[:1], DEEP[1:], "steps")
    with pytest.raises(NotMeasurable, match="kernel_distance was measured at no look"):
        equal_looks([look(1, 3, loss=0.1)], DEEP, "kernel_distance")


def test_at_equal_steps_the_deep_run_lags_and_at_equal_loss_it_does_not(tmp_path):
    found = found_in(watched(tmp_path, 4, DEEP), watched(tmp_path, 2, SHALLOW))
    by = {(m.params["basis"], m.group): m for m in found if isinstance(m, Measurement)}
    assert set(by) == {(b, g) for b in ("steps", "training_loss", "kernel_distance") for g in ("9", "not recognised")}
    steps, loss = by["steps", "9"], by["training_loss", "9"]
    assert steps.value == pytest.approx(8 / N - 20 / N)
    assert steps.params["p"] == pytest.approx(mcnemar([[8, 12], [0, 180]], exact=True).pvalue)
    assert steps.upper < 0
    assert (steps.params["run_a"], steps.params["run_b"]) == ("blocks-2-s0", "blocks-4-s0")
    assert (steps.params["step_a"], steps.params["step_b"]) == (300, 300)
    assert loss.value == 0
    assert loss.params["p"] == 1
    # At equal loss and at equal kernel distance the same looks are compared: two tests each, counted once.
    assert {m.params["tests"] for m in by.values()} == {4}
    p = {key: m.params["p"] for key, m in by.items() if key[0] != "kernel_distance"}
    adjusted = multipletests(list(p.values()), method="holm")[1]
    assert [by[key].params["p_holm"] for key in p] == pytest.approx(adjusted.tolist())
    assert by["kernel_distance", "9"].params["p_holm"] == loss.params["p_holm"]
    assert (steps.lower, steps.upper) == pytest.approx(paired_interval(8, 0, 12, N, 1 - 0.05 / 4))
    assert (loss.params["step_a"], loss.params["step_b"], loss.params["reached"]) == (200, 300, 0.05)


def reasons(found):
    return [m.reason for m in found if isinstance(m, Measurement) and m.value is None]


def test_what_cannot_be_compared_says_why(tmp_path):
    shallow = watched(tmp_path, 2, SHALLOW)
    assert not reasons(found_in(shallow))
    other = Run.create(tmp_path / "unwatched", title="unwatched")
    assert "only one training was watched (blocks-2-s0)" in reasons(found_in(shallow, other))[0]
    assert "one training seed" in reasons(found_in(shallow, watched(tmp_path, 4, DEEP, seed=1)))[0]
    unlike = watched(tmp_path, 5, [look(100, 3, loss=0.05, settings={**SETTINGS, "num_images": 100})])
    told = reasons(found_in(shallow, unlike))
    assert len(told) == 3
    assert all("unlike settings (num_images: 200 and 100)" in reason for reason in told)
    no_kernel = watched(tmp_path, 6, [look(300, 3, loss=0.05)])
    assert reasons(found_in(shallow, no_kernel)) == [
        "kernel_distance was measured at no look: look again (leadline watch)"
    ]
    (unlike.folder / "watch.jsonl").write_text("{")
    assert "cannot be read" in reasons(found_in(shallow, unlike))[0]


def test_runs_are_compared_within_their_recipe_alone(tmp_path):
    """Two recipes of two depths each: the shallowest of all is held beside the deep one of its own recipe only."""
    runs = [watched(tmp_path, 2, SHALLOW), watched(tmp_path, 4, DEEP)]
    runs += [watched(tmp_path, 3, SHALLOW[:2], name="long-", steps=9000, watch_every=100),
             watched(tmp_path, 5, DEEP[:2], name="long-", steps=9000, snapshots=(100,))]  # fmt: skip
    found = [m for m in found_in(*runs) if isinstance(m, Measurement)]
    pairs = {(m.params["run_a"], m.params["run_b"]) for m in found}
    assert pairs == {("blocks-2-s0", "blocks-4-s0"), ("long-blocks-3-s0", "long-blocks-5-s0")}
    assert not reasons(found)


def test_what_else_differs_is_named(tmp_path):
    runs = [watched(tmp_path, 2, SHALLOW), watched(tmp_path, 4, DEEP)]
    odd = watched(tmp_path, 5, DEEP[:2], name="odd-", steps=9000, watch_every=100)
    assert reasons(found_in(*runs, odd)) == [
        "odd-blocks-5-s0 and blocks-2-s0 differ in more than their depth (train.steps): watch runs that differ in "
        "model.blocks alone (leadline sweep)"
    ]
    assert len(reasons(found_in(runs[0], odd))) == 1


def test_runs_that_share_a_training_count_once(tmp_path):
    found = found_in(watched(tmp_path, 2, SHALLOW), watched(tmp_path, 3, SHALLOW))
    assert "only one training was watched" in reasons(found)[0]


def test_the_strip_shows_the_same_seeds_over_the_looks(tmp_path):
    run = watched(tmp_path, 2, SHALLOW)
    for step, grey in ((100, 10), (300, 30)):
        run.bank_folder(step).mkdir(parents=True)
        pixels = np.full((12, 1, 4, 4), grey, np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None]
        columns = {"index": list(range(12)), "seed": [7] * 12}
        write_shard(run.bank_folder(step) / "shard-00000.parquet", pixels, columns)
    (panel,) = (item for item in found_in(run) if isinstance(item, Panel))
    assert panel.tiles.shape == (8, 2, 1, 4, 4)
    assert panel.tiles[:, :, 0, 0, 0].tolist() == [[10 + i, 30 + i] for i in range(8)]
    assert panel.column_titles == ("step 100", "step 300")
    assert panel.row_titles[1] == "seed 7, image 1"
    assert panel.captions[:4] == ("9", "9", "9", "9")
    assert panel.captions[4:6] == ("6", "9")


def test_looks_are_chosen_evenly_with_the_first_and_the_last():
    looks = [look(step, 1) for step in range(1, 26)]
    chosen = [each.step for each in spaced(looks, 10)]
    assert len(chosen) == 10
    assert (chosen[0], chosen[-1]) == (1, 25)
    gaps = np.diff(chosen)
    assert gaps.max() - gaps.min() <= 1
    assert [each.step for each in spaced(looks[:3], 10)] == [1, 2, 3]

"""`leadline flips`: runs, audits and snapshots beside each other."""

import json
from pathlib import Path

import pytest
from paired_runs import made_run, recipe_of

from leadline.across import measure_across
from leadline.cli import main
from leadline.errors import LeadlineError
from leadline.experiment import run
from leadline.flipping import split_step
from leadline.presets import preset
from leadline.recipe import with_overrides
from leadline.runs import Run

A, B = ["six", "nine", "nine"], ["six", "six", "unclassified"]


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    made_run(tmp_path / "a", A, recipe_of(model={"blocks": 2}, train={"steps": 9, "snapshots": [3]}))
    made_run(tmp_path / "b", B, recipe_of(model={"blocks": 4}, train={"steps": 9}))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_two_runs_are_compared_and_the_page_comes_last(two, tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.html"
    code, out, _ = say(capsys, "flips", *two, "--out", str(page))
    headline, path = out.splitlines()
    assert (code, path) == (0, str(page))
    assert headline.startswith("2 blocks → 4 blocks (made, training seed 0): of 3 pairs of the same seeds, 2 are nine")
    assert "from nine to six" in page.read_text(encoding="utf-8")


def test_one_class_and_json(two, tmp_path: Path, capsys) -> None:
    code, out, _ = say(capsys, "flips", *two, "--group", "six", "--json", "--out", str(tmp_path / "p.html"))
    found = [m for m in json.loads(out)["measurements"] if m["name"] == "paired_flips"]
    assert (code, [(m["group"], m["value"], m["params"]["p_holm"]) for m in found]) == (0, [("six", 1 / 3, 1.0)])


def test_audits_of_images_pair_by_their_ids(tmp_path: Path, capsys) -> None:
    for name, labels in (("a", A), ("b", B)):
        made_run(tmp_path / name, labels, samples={"source": name}, ids=["x.png", "y.png", "z.png"], images=False)
    page = tmp_path / "page.html"
    code, out, _ = say(capsys, "flips", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page))
    assert (code, "of 3 pairs of the same seeds, 2 are nine" in out) == (0, True)
    text = page.read_text(encoding="utf-8")
    assert "that their ids name the same seeds is assumed" in text
    assert "are not in its folder, so the flips among them are not shown" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{a}", "{a}"), "are the same images"),
        (("{a}@9", "{a}"), "are the same images"),
        (("{a}@4", "{b}"), "no snapshot after 4 steps, it has none: train with --set train.snapshots=4"),
        (("{a}@x", "{b}"), "after the @ stands the number of training steps"),
        (("{a}", "nowhere"), "nowhere is no run folder"),
        (("{a}", "{b}", "--group", "seven"), "no image is of class 'seven' (--group)"),
        (("{a}", "{b}", "--out", "page.json"), "--out names the page"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(two, capsys, words: tuple[str, ...], message: str) -> None:
    code, _, err = say(capsys, "flips", *(word.format(a=two[0], b=two[1]) for word in words))
    assert (code, message in err) == (2, True), err


def test_an_audit_without_labels_is_refused_before_a_snapshot_is_drawn(two, tmp_path: Path, capsys) -> None:
    made_run(tmp_path / "old", None)
    (tmp_path / "a/snapshots/step-000003").mkdir(parents=True)
    code, _, err = say(capsys, "flips", f"{two[0]}@3", str(tmp_path / "old"))
    assert (code, "kept no labels of its images" in err) == (2, True)
    assert not (tmp_path / "a/checkpoints").exists()


def test_a_folder_with_an_at_in_its_name_is_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "run@5").mkdir()
    assert split_step(f"{tmp_path}/run@5") == (tmp_path / "run@5", None)
    assert split_step(f"{tmp_path}/run@6") == (tmp_path / "run", 6)
    with pytest.raises(LeadlineError, match="number of training steps"):
        split_step(f"{tmp_path}/run@-6")


def test_a_snapshot_draws_the_runs_seeds_once_and_is_reported_beside_the_end(tmp_path: Path, capsys) -> None:
    changes = ["train.steps=2", "train.batch_size=4", "train.snapshots=1", "sample.num_images=6", "sample.steps=2"]
    changes += ["data.labeler=200", "audit.labeler_epochs=1", "audit.metrics=bias", "audit.confidence=0"]
    done = run(with_overrides(preset("digits69-debug"), changes), tmp_path / "runs")
    page = tmp_path / "flips.html"
    words = ("flips", f"{done.folder}@1", str(done.folder), "--out", str(page))
    code, out, err = say(capsys, *words)
    assert (code, "labeler: taken from the cache" in err) == (0, True), err
    assert out.startswith("step 1 → step 2 (")
    kept = Run.open(done.checkpoint_folder(1))
    labels = [audit.labels for audit in (kept.audit(), done.audit()) if audit is not None]
    ids = [held.ids for held in labels if held is not None]
    assert ids == [tuple(f"0/{index}" for index in range(6))] * 2
    assert (kept.header.status, kept.header.samples["step"]) == ("complete", 1)
    assert "drawn and labelled already" in say(capsys, *words)[2]
    assert {m.params["a"] for m in measure_across([done]).find("flip_rate")} == {"step 1"}

"""The run folder: what goes in comes out, and what does not belong there is said, not shown as a traceback."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from leadline.errors import LeadlineError
from leadline.files import write_text
from leadline.recipe import DataSpec, Recipe, TrainSpec
from leadline.records import SCHEMA_VERSION, AuditResult, ImageLabels, Measurement, Panel, Table
from leadline.runs import Run, adopt_model, find_trained, open_runs

RECIPE = Recipe(name="mine", data=DataSpec(shares="6:0.9,9:0.1", num_images=140), train=TrainSpec(steps=7, seed=3))


def make(root: Path, recipe: Recipe = RECIPE, **fields: Any) -> Run:
    return Run.create(
        root / recipe.folder_name(), title=recipe.folder_name(), recipe=recipe.model_dump(mode="json"), **fields
    )


def trained(root: Path, recipe: Recipe = RECIPE) -> Run:
    """A run with a finished model and its curve."""
    run = make(root, recipe, status="trained", model={"parameters": 12})
    (run.model_folder / "unet").mkdir(parents=True)
    (run.model_folder / "unet" / "weights").write_text(run.title)
    run.curve_file.write_text('{"step": 7, "loss": 0.5}\n')
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make(tmp_path)


def test_a_run_explains_itself(run: Run) -> None:
    header = run.header
    assert (header.schema_version, header.kind, header.status) == (SCHEMA_VERSION, "run", "started")
    assert header.packages["numpy"] == np.__version__
    assert header.packages["leadline"] != "not installed"
    assert header.python.startswith("3.")
    assert header.created.endswith("+00:00")
    assert run.recipe == RECIPE


def test_the_header_survives_the_disk(run: Run) -> None:
    run.update(
        status="sampled",
        overrides=("train.steps=7",),
        data={"train": {"n": 140, "counts": {"6": 126, "9": 14}}},
        seconds={"training": 1.5},
    )
    again = Run.open(run.folder)
    assert again.header == run.header
    assert again.header.status == "sampled"
    assert again.title == run.title
    assert again.recipe == RECIPE
    # Its text is JSON that a person can read.
    assert json.loads((run.folder / "run.json").read_text())["data"]["train"]["counts"] == {"6": 126, "9": 14}


def test_creating_it_again_opens_it(run: Run) -> None:
    run.update(status="trained")
    again = Run.create(run.folder, title="another title", kind="audit")
    assert again.header == run.header


def test_an_audit_of_foreign_images_has_no_recipe(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "deep" / "audit", title="foreign", kind="audit")
    assert Run.open(str(run.folder)).recipe is None
    assert Run.open(run.folder).header.kind == "audit"


def test_seconds_add_up_over_attempts(run: Run) -> None:
    run.add_seconds("training", 1.25)
    run.add_seconds("audit", 4.0)
    Run.open(run.folder).add_seconds("training", 2.5)
    assert Run.open(run.folder).header.seconds == {"training": 3.75, "audit": 4}


@pytest.mark.parametrize("fields", [{"status": "done"}, {"stauts": "trained"}, {"data": None}])
def test_an_update_that_could_not_be_opened_is_not_written(run: Run, fields: dict[str, Any]) -> None:
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(ValidationError):
        run.update(**fields)
    assert (run.folder / "run.json").read_bytes() == before
    assert run.header.status == "started"


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        LeadlineError, match=r"is no run folder: it has no run.json \(runs are made by `leadline run`\)"
    ):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json cannot be read: "),
        ("", "run.json cannot be read: "),
        ("\xff", "run.json cannot be read: .*codec"),
        ("[]", f"has schema version None, this leadline reads {SCHEMA_VERSION}"),
        ("{}", "has schema version None"),
        ('{"schema_version": 99, "title": "t", "new_field": 1}', "has schema version 99, this leadline reads"),
        ('{"schema_version": 1}', "run.json: run.title: Field required"),
        ('{"schema_version": 1, "title": "t", "status": "done"}', r"run.status: .*\(given: 'done'\)"),
        ('{"schema_version": 1, "title": "t", "new_field": 1}', "run.new_field: Extra inputs"),
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(LeadlineError, match=message):
        Run.open(tmp_path)


def test_a_recipe_that_does_not_fit_is_named(run: Run) -> None:
    run.update(recipe={"train": {"stepss": 3}})
    with pytest.raises(LeadlineError, match="TrainSpec has no field 'stepss'"):
        _ = Run.open(run.folder).recipe


def test_a_locked_run_is_in_use(run: Run) -> None:
    with run.lock(), pytest.raises(LeadlineError, match=f"{run.folder} is in use"), Run.open(run.folder).lock():
        pytest.fail("locked already")
    with run.lock():
        pass


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ('{"step": 1}\n{"step": 2}\n', [1, 2]),
        ('{"step": 1}\n{"step": 2}', [1, 2]),
        ('{"step": 1}\n{"step": 2, "lo', [1]),
        ('{"st', []),
    ],
)
def test_an_unfinished_last_line_of_the_curve_is_left_out(run: Run, text: str, steps: list[int]) -> None:
    run.curve_file.write_text(text)
    assert [record["step"] for record in run.curve()] == steps


def test_without_training_there_is_no_curve(run: Run) -> None:
    assert run.curve() == []


RESULT = AuditResult(
    measurements=(
        Measurement(
            name="share", value=0.1, lower=0.05, upper=0.2, level=0.95, n=30, group="<script>", params={"k": 5}
        ),
        Measurement(name="share_amplification", value=-math.inf, group="9"),
        Measurement.not_measurable("diversity", "one image: draw more (--set sample.num_images=)"),
    ),
    tables=(
        Table(name="counts", title="Counts", columns=("class", "n", "share"), rows=(("6", 27, 0.9), ("9", 3, None))),
    ),
    panels=(
        Panel(
            name="samples",
            title="Samples η",
            tiles=np.arange(96, dtype=np.uint8).reshape(2, 3, 1, 4, 4),
            caption="Six.",
            captions=tuple("abcdef"),
            column_titles=tuple("xyz"),
            row_titles=tuple("pq"),
        ),
        Panel(name="rgb", title="RGB", tiles=np.full((1, 1, 3, 2, 2), 255, dtype=np.uint8)),
    ),
    settings={"level": 0.95, "ks": [1, 5], "fingerprint": "0123"},
)


def same(found: AuditResult | None, wanted: AuditResult) -> None:
    assert found is not None
    assert found.measurements == wanted.measurements
    assert found.tables == wanted.tables
    assert found.settings == wanted.settings
    assert len(found.panels) == len(wanted.panels)
    for panel, other in zip(found.panels, wanted.panels, strict=True):
        assert panel.tiles.dtype == np.uint8
        assert np.array_equal(panel.tiles, other.tiles)
        assert {**vars(panel), "tiles": None} == {**vars(other), "tiles": None}


def test_an_audit_survives_the_disk(run: Run) -> None:
    assert run.audit() is None
    run.save_audit(RESULT)
    same(Run.open(run.folder).audit(), RESULT)


LABELS = ImageLabels(ids=("a\u2028b.png", 'c "d",e', "f\x0b", "0/3"), labels=("6", "blond, male", "9", "6"), origin="x")


def test_labels_of_images_with_any_name_survive_the_disk(run: Run) -> None:
    run.save_audit(replace(RESULT, labels=LABELS))
    found = run.audit()
    assert found is not None
    assert found.labels == LABELS
    run.save_audit(RESULT)
    assert not (run.folder / "labels.csv").exists()


def test_without_its_labels_an_audit_keeps_its_numbers(run: Run) -> None:
    run.save_audit(replace(RESULT, labels=LABELS))
    (run.folder / "labels.csv").unlink()
    same(run.audit(), RESULT)
    found = run.audit()
    assert found is not None
    assert found.labels is None


def test_labels_that_were_changed_are_refused(run: Run) -> None:
    run.save_audit(replace(RESULT, labels=LABELS))
    file = run.folder / "labels.csv"
    file.write_text(file.read_text().replace("0/3,6\n", ""))
    with pytest.raises(LeadlineError, match=r"labels.csv is not what the audit wrote: restore it, or remove it"):
        run.audit()


def test_a_later_audit_replaces_all_of_the_earlier(run: Run) -> None:
    run.save_audit(RESULT)
    later = AuditResult(measurements=RESULT.measurements[:1], settings={"level": 0.9})
    run.save_audit(later)
    same(run.audit(), later)
    assert list((run.folder / "panels").iterdir()) == []


def test_an_audit_whose_writing_was_cut_off_does_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the old one and the new one there is none: never the numbers of one and the panels of the other."""
    run.save_audit(RESULT)

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run.save_audit(AuditResult(measurements=RESULT.measurements[:1], panels=RESULT.panels))
    assert run.audit() is None


def hostile(run: Run, change: Any) -> None:
    """Save RESULT and change the content of its audit.json."""
    run.save_audit(RESULT)
    file = run.folder / "audit.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["../secret", "/SECRET", "link"])
def test_a_panel_is_read_from_its_own_folder_only(run: Run, name: str) -> None:
    secret = run.folder / "secret.npy"
    np.save(secret, np.zeros((1, 1, 1, 2, 2), dtype=np.uint8))
    named = str(secret.with_suffix("")) if name == "/SECRET" else name
    hostile(run, lambda content: content["panels"][1].update(name=named))
    (run.folder / "panels" / "link.npy").symlink_to(secret)
    with pytest.raises(LeadlineError, match="leads out of the folder .*: it was left unread"):
        run.audit()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("panels"), "KeyError: 'panels'"),
        (lambda content: content["panels"][0].update(name="none"), "FileNotFoundError"),
        (lambda content: content["panels"][0].update(colour="red"), "TypeError"),
        (lambda content: content["panels"][0].update(captions=["a"]), "6 captions or titles expected, 1 given"),
        (lambda content: content["tables"][0].update(rows=[["6"]]), "every row needs 3 cells"),
        (lambda content: content.update(tables=3), "TypeError"),
        (lambda content: content.update(settings=[]), "AttributeError"),
        (lambda content: content["settings"].update(fingerprints=["samples"]), "settings must be an object"),
    ],
)
def test_a_damaged_audit_is_named(run: Run, change: Any, message: str) -> None:
    hostile(run, change)
    with pytest.raises(LeadlineError, match=message):
        run.audit()


def test_a_damaged_audit_says_what_to_do(run: Run) -> None:
    run.save_audit(RESULT)
    (run.folder / "audit.json").write_text('{"settings": {')
    with pytest.raises(LeadlineError, match=r"audit.json and what .* \(JSONDecodeError: .*\): delete it, and measure"):
        run.audit()
    (run.folder / "audit.json").unlink()
    assert run.audit() is None


def test_measurements_cut_off_or_gone_are_named(run: Run) -> None:
    run.save_audit(RESULT)
    file = run.folder / "measurements.jsonl"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(LeadlineError, match="cannot be read .ValidationError"):
        run.audit()
    file.unlink()
    with pytest.raises(LeadlineError, match="cannot be read .FileNotFoundError"):
        run.audit()


def test_no_pickle_is_ever_opened(run: Run) -> None:
    run.save_audit(RESULT)
    np.save(run.folder / "panels" / "rgb.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(LeadlineError, match="allow_pickle=False"):
        run.audit()


def test_runs_are_found_in_order_and_other_folders_passed_over(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        make(tmp_path, Recipe(name="mine", train=TrainSpec(seed=seed)))
    (tmp_path / "notes").mkdir()
    (tmp_path / "deeper" / "run").mkdir(parents=True)
    (tmp_path / "deeper" / "run" / "run.json").write_text("{}")
    assert [run.folder.name[-2:] for run in open_runs(tmp_path)] == ["s0", "s1", "s2"]
    assert open_runs(tmp_path / "nowhere") == []


def test_a_damaged_neighbour_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    with pytest.warns(UserWarning, match="passed over when looking for a model of the same training: .*broken"):
        assert find_trained(tmp_path, Recipe()) is None


def with_field(part: str, **fields: Any) -> Recipe:
    return RECIPE.model_copy(update={part: getattr(RECIPE, part).model_copy(update=fields)})


@pytest.mark.parametrize(
    ("recipe", "is_found"),
    [
        (RECIPE, True),
        (with_field("sample", seed=9, sampler="heun"), True),
        (with_field("audit", seed=9), True),
        (RECIPE.model_copy(update={"name": "other"}), True),
        (with_field("train", log_every=9), True),
        (with_field("train", seed=4), False),
        (with_field("train", steps=8), False),
        (with_field("data", num_images=150), False),
        (with_field("model", blocks=3), False),
    ],
)
def test_a_model_trained_the_same_way_is_found(tmp_path: Path, recipe: Recipe, is_found: bool) -> None:
    run = trained(tmp_path)
    Run.create(tmp_path / "a-foreign-audit", title="no recipe", kind="audit", status="complete")
    found = find_trained(tmp_path, recipe)
    assert (found is not None and found.folder == run.folder) is is_found


def test_an_unfinished_model_is_not_found(tmp_path: Path) -> None:
    make(tmp_path)
    assert find_trained(tmp_path, RECIPE) is None


def test_an_adopted_model_is_a_copy_that_says_where_it_is_from(tmp_path: Path) -> None:
    source = trained(tmp_path)
    other = make(tmp_path, with_field("sample", seed=9))
    adopt_model(other, source)
    again = Run.open(other.folder)
    assert again.header.status == "trained"
    assert again.header.model == {"parameters": 12, "trained_in": source.folder.name}
    assert again.curve() == [{"step": 7, "loss": 0.5}]
    weights = again.model_folder / "unet" / "weights"
    assert weights.read_text() == source.title
    weights.write_text("changed")
    assert (source.model_folder / "unet" / "weights").read_text() == source.title


def test_a_linked_model_takes_no_room_and_is_not_changed_by_what_replaces_it(tmp_path: Path) -> None:
    source = trained(tmp_path)
    other = make(tmp_path, with_field("sample", seed=9))
    adopt_model(other, source, linked=True)
    own, weights = (run.model_folder / "unet" / "weights" for run in (other, source))
    assert own.stat().st_ino == weights.stat().st_ino
    write_text(own, "changed")
    assert weights.read_text() == source.title


def test_a_model_without_a_curve_is_adopted_too(tmp_path: Path) -> None:
    source = trained(tmp_path)
    source.curve_file.unlink()
    other = make(tmp_path, with_field("sample", seed=9))
    adopt_model(other, source)
    assert other.curve() == []
    assert find_trained(tmp_path, other.recipe or RECIPE) is not None

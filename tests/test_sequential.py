"""Audits that draw until a share is known: of exact denoisers of sixes and nines in known shares, by the real road."""

import numpy as np
import pytest

from leadline.audit.sequence import Look, Rule, Watched, looks_at, sequence_findings
from leadline.cli import main
from leadline.data import load
from leadline.errors import LeadlineError
from leadline.presets import preset
from leadline.recipe import with_overrides
from leadline.records import Measurement, Table
from leadline.runs import Run
from leadline.sampling import draw
from leadline.sequential import audit_pipeline_until, audit_run_until
from leadline.theory.exact import MixtureDenoiser

WATCHED = Watched(names=("6", "9"), shares=(0.9, 0.1), level=0.95)
CHANGES = ["sample.num_images=120", "sample.shard_size=50", "sample.steps=8", "audit.labeler_epochs=1"]
RECIPE = with_overrides(preset("digits69-debug"), [*CHANGES, "audit.confidence=0"])


@pytest.fixture(scope="module")
def splits():
    return load(RECIPE.data)


@pytest.fixture
def run(tmp_path, splits, monkeypatch):
    """A run of 120 images, in shards of 50, of an exact denoiser of 70 % sixes and 30 % nines."""
    six = splits.train.classes.index("6")
    labels = (splits.train.labels != six).astype(np.int64)
    denoiser = MixtureDenoiser.from_images(splits.train.images(), labels, (0.7, 0.3))
    monkeypatch.setattr("leadline.sequential.load_pipeline", lambda *_: denoiser)
    found = Run.create(tmp_path / "run", title="a mixture", recipe=RECIPE.model_dump(mode="json"))
    found.model_folder.mkdir()
    draw(denoiser, RECIPE.sample, found.samples_folder)
    found.update(status="sampled")
    return found


def test_it_goes_on_from_the_runs_own_images_until_the_interval_is_narrow(run, monkeypatch):
    said = []
    rule = Rule(width=0.35, group="9")
    found = audit_run_until(run.folder, rule, progress=lambda stage, *_: said.append(stage))
    looks = [line for line in said if line.startswith("look ")]
    assert found.folder == run.folder.with_name("run-until")
    assert looks[0].startswith("look 2: 100 images")  # the run's two whole shards; the third was cut short
    assert "more" in looks[0]
    assert looks[-1].endswith("sharp enough")
    first = found.samples_folder / "shard-00000.parquet"
    assert first.read_bytes() == (run.samples_folder / first.name).read_bytes()

    audit = found.audit()
    sequence = audit.find("share_sequence", "9")[0]
    assert sequence.params["sharp"]
    assert sequence.upper - sequence.lower <= 0.35
    assert sequence.params["images"] == found.header.samples["n"] == len(audit.labels.ids)
    assert sequence.params["looks"] == len(looks) + 1  # those of the first images are counted afterwards
    assert "confidence sequence" in sequence.method
    compared = audit.find("share_difference", "9")[0]
    assert (compared.params["share_lower"], compared.params["share_upper"]) == (sequence.lower, sequence.upper)
    assert all("confidence sequence" in m.method for m in audit.find("share", set="samples"))
    assert {m.name for m in audit if m.reason and "fixed beforehand" in m.reason} == {
        "labeled_difference",
        "detectable_difference",
    }
    assert run.audit() is None  # the run stays as it was

    monkeypatch.setattr("leadline.sequential.measure", None)
    audit_run_until(run.folder, rule, progress=lambda stage, *_: said.append(stage))
    assert said[-1] == "complete already, nothing to do"


def test_killed_it_goes_on_to_the_same_answer_also_by_another_rule(run):
    class Killed(Exception):
        pass

    def killing(stage, done, total, _):
        if stage == "sampling" and done > 200:
            raise Killed

    with pytest.raises(Killed):
        audit_run_until(run.folder, Rule(width=0.03), progress=killing)
    rule = Rule(width=0.02, at_most=260)
    again = audit_run_until(run.folder, rule)
    sequence = again.audit().find("share_sequence", "9")[0]
    assert not sequence.params["sharp"]
    assert sequence.params["images"] == 250  # whole shards only
    assert "the most that was asked for (--at-most)" in sequence.params["stopped_because"]
    again.folder.rename(run.folder.with_name("killed"))
    whole = audit_run_until(run.folder, rule)
    killed = Run.open(run.folder.with_name("killed"))
    assert whole.audit().labels == killed.audit().labels
    assert whole.audit().tables[-1] == killed.audit().tables[-1]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"width": 0.1, "group": "8"}, "--group 8: no class of the training data"),
        ({"width": 0.1, "at_most": 40}, "--at-most 40 is less than the 50 images of one look"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_before_anything_is_drawn(run, rule, words):
    with pytest.raises(LeadlineError, match=words):
        audit_run_until(run.folder, Rule(**rule))
    assert not run.folder.with_name("run-until").exists()


def test_without_a_labeler_nothing_is_drawn(run):
    run.update(recipe=with_overrides(RECIPE, ["data.labeler=0"]).model_dump(mode="json"))
    with pytest.raises(LeadlineError, match="needs labels for images that are yet to be drawn: no labeler"):
        audit_run_until(run.folder, Rule(width=0.1))
    assert not (run.folder.with_name("run-until") / "samples").exists()


def test_what_has_no_model_cannot_be_drawn_from(run, tmp_path):
    fields = {"train": RECIPE.data, "spec": RECIPE.audit, "sample": RECIPE.sample}
    with pytest.raises(LeadlineError, match="is neither a run nor a diffusers pipeline folder"):
        audit_pipeline_until(tmp_path, tmp_path / "out", Rule(width=0.1), **fields)
    run.model_folder.rmdir()
    with pytest.raises(LeadlineError, match=r"has no finished model \(its status is sampled\)"):
        audit_run_until(run.folder, Rule(width=0.1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"width": 2}, "--until-width is a part of 1, 0.02 for two percentage points"),
        ({"width": 0.1, "at_most": 0}, "--at-most must be 1 or more"),
    ],
)
def test_a_rule_without_sense_is_refused(fields, words):
    with pytest.raises(LeadlineError, match=words):
        Rule(**fields)
    with pytest.raises(LeadlineError, match="all training images are of one class"):
        Rule(width=0.1).check_group(["6"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--group", "9"], "--group need --until-width WIDTH beside it"),
        (["--until-width", "0.1", "--metrics", "diversity"], "--until-width measures bias alone"),
        (["--until-width", "0.1", "--labels", "l.csv", "--train", "digits"], "--labels are of images that there are"),
        (["--until-width", "3"], "--until-width is a part of 1"),
    ],
)
def test_the_command_refuses_what_it_would_not_look_at(capsys, words, told):
    with pytest.raises(SystemExit) as ended:
        main(["audit", ".", *words])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_looks_count_the_first_images_and_leave_out_the_others():
    labels = np.array([6, 9, 6, -1, 6, 6, 9])
    looks = looks_at(labels, [6, 9], WATCHED, every=3)
    assert [(look.n, look.recognised, look.counts) for look in looks] == [
        (3, 3, (2, 1)),
        (6, 5, (4, 1)),
        (7, 6, (4, 2)),
    ]
    assert looks_at(labels, [6, 9], WATCHED, every=3, first=7) == looks[2:]
    assert looks[2].widths[0] == pytest.approx(looks[2].widths[1])


def test_images_of_no_class_leave_everything_open():
    (look,) = looks_at(np.full(50, -1), [6, 9], WATCHED, every=50)
    assert look == Look(n=50, recognised=0, counts=(0, 0), intervals=((0.0, 1.0), (0.0, 1.0)))
    assert WATCHED.more_images(look, Rule(width=0.1, at_most=200)) == 150
    findings = list(sequence_findings([look], WATCHED, Rule(width=0.1), {}))
    assert all("none of the 50 images was recognised" in m.reason for m in findings if isinstance(m, Measurement))
    (table,) = (item for item in findings if isinstance(item, Table))
    assert table.rows[0] == (1, 50, "6", 0, 0, None, 0.0, 1.0, None, None)


def test_the_forecast_counts_the_images_that_are_not_recognised():
    labels = np.tile([6, 6, 6, 6, 6, 6, 6, 6, 6, 9], 20)
    rule = Rule(width=0.05, group="9")
    (whole,) = looks_at(labels, [6, 9], WATCHED, every=200)
    (half,) = looks_at(np.concatenate([labels, np.full(200, -1)]), [6, 9], WATCHED, every=400)
    assert WATCHED.more_images(half, rule) == pytest.approx(2 * WATCHED.more_images(whole, rule), rel=0.01)

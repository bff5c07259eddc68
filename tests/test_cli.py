"""The command line: light to start, plain in its errors, the path last."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leadline import cli
from leadline.audit import METRICS
from leadline.cli import main
from leadline.comparison import compare
from leadline.errors import LeadlineError
from leadline.gate import check
from leadline.judging import MEASURED_BESIDE, read_conditions, read_earlier
from leadline.options import audit_changes
from leadline.presets import preset
from leadline.recipe import AuditSpec, Recipe, with_overrides
from leadline.runs import Run

TINY = ["train.steps=2", "train.batch_size=4", "sample.num_images=4", "sample.steps=2", "audit.labeler_epochs=1"]
SET = [word for change in TINY for word in ("--set", change)]


def forbidden(*_, **__):
    raise AssertionError("nothing was to be done")


def say(capsys, *words):
    """(exit code, stdout, stderr) of a command, in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    captured = capsys.readouterr()
    return ended.value.code or 0, captured.out, captured.err


def test_help_imports_nothing_heavy():
    """The 0.4 s of the promise are spent on torch or not at all: what is imported is tested, the clock is not."""
    code = (
        "import sys; from leadline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'datasets', 'matplotlib', 'pydantic', 'rich'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in output
    assert all(word in output for word in ("demo", "run", "sweep", "train", "sample", "audit", "report", "presets"))


@pytest.mark.parametrize("command", ["demo", "run", "sweep", "train", "sample", "audit", "report", "presets"])
def test_every_command_has_help(capsys, command):
    code, out, _ = say(capsys, command, "--help")
    assert code == 0
    assert len(out.splitlines()) > 5


def test_presets_are_listed_shown_and_copied(capsys, tmp_path):
    code, out, _ = say(capsys, "presets", "ls")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    faces, digits = ["celeba-gender", "celeba-blond-male"], ["digits69", "mnist69"]
    presets = [*digits, *faces, "mnist-text", "celeba-text", "mnist-edm", "celeba-edm"]
    assert names == [name + twin for name in presets for twin in ("", "-debug")]
    assert json.loads(say(capsys, "presets", "show", "mnist69")[1])["model"]["blocks"] == 2
    file = tmp_path / "mine.json"
    assert say(capsys, "presets", "cp", "digits69", str(file))[1].strip() == str(file)
    assert cli.find_recipe(str(file), ["train.steps=7"]) == preset("digits69").model_copy(
        update={"train": preset("digits69").train.model_copy(update={"steps": 7})}
    )
    code, _, err = say(capsys, "presets", "cp", "digits69", str(file))
    assert (code, "exists already" in err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "digits96"], "unknown preset 'digits96': did you mean 'digits69'"),
        (["run", "digits69", "--set", "train.stepz=3"], "no field 'stepz': did you mean 'steps'"),
        (["run", "digits69", "--set", "train.steps"], "--set takes name=value"),
        (["run", "absent.json"], "recipe absent.json cannot be read"),
        (["sweep", "digits69", "--blocks", "2,x"], "--blocks takes numbers separated by commas"),
        (["audit", "."], "is no run: say what the model was trained on with --train DATA"),
        (["audit", ".", "--labels", "l.csv"], "--labels need --train DATA beside it"),
        (["audit", "absent", "--train", "digitz"], "did you mean 'digits'"),
        (["audit", ".", "--train", "digits", "--set", "train.steps=3"], "reads the parts audit, data or sample only"),
        (["sample", ".", "--out", "x"], "has no model_index.json"),
        (["report", "."], "is no run folder: it has no run.json"),
        (["run", "digits69", "--fail-if", "shar > 1"], "no measurement is called 'shar': did you mean 'share'"),
        (["run", "digits69", "--compare", "absent"], "absent is no run folder"),
        (["sweep", "digits69", "--fail-if", "share > 1%"], "'1%' is no finite number"),
        (["audit", ".", "--train", "digits", "--fail-if", "share"], "--fail-if takes NAME"),
        (
            ["audit", ".", "--train", "digits", "--metrics", "bias", "--fail-if", "precision < 1"],
            "of the metric fidelity",
        ),
        (["audit", ".", "--fail-if", "share > 1"], "is no run: say what the model was trained on with --train DATA"),
        (["audit", ".", "--out", "x"], "--out need --train DATA beside it"),
        (["audit", ".", "--train", "digits", "--prompt", "x"], "--prompt takes CLASS=TEXT"),
    ],
)
def test_bad_input_exits_with_2_and_one_message(capsys, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = say(capsys, *words)
    assert code == 2
    assert message in err
    assert err.startswith("leadline: error: ")
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_a_network_that_is_not_there_is_told_before_training(capsys, tmp_path):
    words = ("run", "digits69-debug", "--encoder", "inceptoin", "--out", str(tmp_path / "runs"))
    code, out, err = say(capsys, *words)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "leadline: error: unknown encoder 'inceptoin': did you mean 'inception'?"
    assert "training" not in err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("leadline.presets.preset_names", interrupted)
    code, _, err = say(capsys, "presets", "ls")
    assert code == 130
    assert err == "\nleadline: stopped; the same command goes on from here\n"
    with pytest.raises(SystemExit) as ended:
        main([], application=interrupted)
    assert ended.value.code == 130
    assert "the same command goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["run"], ["sweep"], ["audit"]])
def test_the_help_says_what_the_exit_codes_mean(capsys, words):
    _, out, _ = say(capsys, *words, "--help")
    told = " ".join(out.split())
    assert "0 done; 1 a fault in leadline" in told
    assert "3 done, but a condition of --fail-if holds or could not be checked; 130 interrupted." in told


def test_the_audits_flags_are_changes_of_its_spec():
    changes = audit_changes(
        ["audit.level=0.9"],
        metrics="bias,fidelity",
        encoders=["inception:/w/x.pth", "sscd"],
        flips=True,
        labeler_model="clip:/w/clip",
        prompts=["male=a photo of a man", "female=a=b, c"],
    )
    spec = with_overrides(Recipe(), changes).audit
    assert spec.level == 0.9
    assert spec.metrics == ("bias", "fidelity")
    assert spec.encoders == ("labeler", "inception:/w/x.pth", "sscd")
    assert spec.flips is True
    assert spec.labeler_model == "clip:/w/clip"
    assert spec.prompts == ("male=a photo of a man", "female=a=b, c")
    assert audit_changes(None) == []
    named = with_overrides(Recipe(), audit_changes([], encoders=["sscd", "labeler"])).audit
    assert named.encoders == ("sscd", "labeler")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"encoders": ["sscd"], "overrides": ["audit.encoders=clip"]}, "--encoder and --set audit.encoders both say"),
        ({"metrics": "bias", "overrides": ["audit.metrics=bias"]}, "--metrics and --set audit.metrics both say"),
        ({"flips": True, "overrides": ["audit.flips=false"]}, "--flips and --set audit.flips both say"),
        (
            {"prompts": ["male"], "labeler_model": "clip"},
            r"--prompt takes CLASS=TEXT \('male=a photo of a man'\), not 'male'",
        ),
        ({"prompts": ["=a man"], "labeler_model": "clip"}, "--prompt takes CLASS=TEXT"),
        ({"prompts": ["male=a man"]}, r"--prompt needs --labeler-model clip\[:FOLDER\] beside it"),
    ],
)
def test_flags_that_contradict_or_lack_each_other_are_refused(flags, message):
    with pytest.raises(LeadlineError, match=message):
        audit_changes(flags.pop("overrides", []), **flags)


def test_conditions_name_what_an_audit_can_report_and_will():
    known = {name for metric in METRICS.values() for name in metric.reports}
    for name in sorted(known | set(MEASURED_BESIDE)):
        assert read_conditions([f"{name}.lower > 0.1"])[0].name == name
    assert read_conditions(None) == ()
    with pytest.raises(LeadlineError, match=r"share is of the metric bias, which is not measured \(audit.metrics: div"):
        read_conditions(["share > 0.5"], AuditSpec(metrics="diversity"))
    with pytest.raises(LeadlineError, match="mean_pairwise_lpips is of the metric diversity, which is not measured"):
        read_conditions(["mean_pairwise_lpips > 0.5"], AuditSpec(metrics="bias"))
    assert read_conditions(["labeler_accuracy.lower < 0.9"], AuditSpec(metrics="bias"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo in small: both depths, by the real command in a process of its own."""
    folder = tmp_path_factory.mktemp("cli")
    words = [sys.executable, "-m", "leadline", "sweep", "digits69-debug", "--blocks", "2,4", "--out", str(folder), *SET]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_sweep_ends_with_the_answer_and_the_reports_path(finished):
    folder, done = finished
    lines = done.stdout.splitlines()
    page = Path(lines[-1])
    assert page == folder / "digits69-debug-report.html"
    assert "2 blocks" in page.read_text()
    assert "4 blocks" in page.read_text()
    assert len(json.loads(page.with_suffix(".json").read_text())["runs"]) == 2
    assert [line.partition(":")[0] for line in lines[:2]] == ["digits69-debug, 2 blocks", "digits69-debug, 4 blocks"]
    assert len(lines) == 3
    assert "run 1 of 2, training: 2 of 2" in done.stderr
    assert "run 2 of 2, sampling: 4 of 4" in done.stderr
    assert "Warning" not in done.stderr


def test_started_again_it_says_that_it_is_complete(finished, capsys):
    folder, _ = finished
    code, out, err = say(capsys, "sweep", "digits69-debug", "--blocks", "2,4", "--out", str(folder), *SET)
    assert code == 0
    assert err.count("complete already, nothing to do") == 2
    assert out.splitlines()[-1].endswith("digits69-debug-report.html")


def test_a_gate_on_a_finished_run_measures_nothing_and_exits_with_3(finished, capsys, monkeypatch):
    folder, _ = finished
    run = next(folder.glob("digits69-debug-*-s0"))
    monkeypatch.setattr("leadline.experiment.load", forbidden)
    code, out, err = say(
        capsys, "audit", str(run), "--fail-if", "nearest_distance[k=1] > 0", "--fail-if", "share[group=9].value > 2",
        "--fail-if", "share[group=eight] > 2",
    )  # fmt: skip
    assert code == 3
    failed = err.splitlines()
    assert len(failed) == 2
    assert failed[0].startswith(f"leadline: {Run.open(run).title}: gate failed: nearest_distance[k=1] > 0: nearest_")
    assert "95% interval" in failed[0]
    assert "could not be checked: no share of the audit is chosen by this (it has group = 6, 9" in failed[1]
    assert "gate passed: share[group=9].value > 2: does not hold, share [9" in out
    page = Path(out.splitlines()[-1])
    assert page == run / "report.html"
    assert "The gate failed" in page.read_text()
    assert [v.status for v in Run.open(run).gate()] == ["failed", "passed", "unchecked"]
    code, out, err = say(capsys, "audit", str(run), "--fail-if", "share[group=9].value > 2")
    assert (code, err) == (0, "")
    assert "The gate failed" not in page.read_text()


def test_a_run_is_gated_in_a_process_of_its_own(finished):
    folder, _ = finished
    words = [sys.executable, "-m", "leadline", "run", "digits69-debug", "--out", str(folder), *SET]
    done = subprocess.run([*words, "--fail-if", "share[group=9] >= 0"], capture_output=True, text=True)
    assert done.returncode == 3
    assert "gate failed: share[group=9] >= 0: share [9" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("report.html")
    assert "Traceback" not in done.stderr


def test_a_comparison_is_printed_kept_and_drawn(finished, capsys, monkeypatch):
    folder, _ = finished
    old, new = sorted(folder.glob("digits69-debug-*-s0"), key=lambda run: Run.open(run).recipe.model.blocks)
    monkeypatch.setattr("leadline.experiment.load", forbidden)
    code, out, _ = say(capsys, "audit", str(new), "--compare", str(old / "audit.json"))
    assert code == 0
    assert f"differ from digits69-debug, 2 blocks ({old.name}) by more than the interval" in out
    assert ["measurement", "before", "now", "difference"] in [line.split() for line in out.splitlines()]
    assert "more in the report" in out
    kept = Run.open(new).comparison()
    assert kept.headline in out
    assert kept.unchanged > 0  # held-out images and training shares are those of both
    assert not {change.new.params.get("set") for change in kept.tested} & {"held_out", "training"}
    assert "Not the same training data" not in "".join(kept.notes)
    assert "before → now" in (new / "report.html").read_text()
    code, out, _ = say(capsys, "audit", str(old), "--compare", str(old))
    assert "Both audits are of the same images" in out


def test_a_new_audit_drops_what_was_said_of_the_old_one(finished, tmp_path):
    folder, _ = finished
    run = Run.create(tmp_path / "copy", title="a copy")
    run.save_audit(Run.open(next(folder.glob("digits69-debug-*-s0"))).audit())
    run.save_gate(check(run.audit(), read_conditions(["share[group=9] >= 0"])))
    run.save_comparison(compare(run.audit(), run.audit()))
    assert run.gate()
    assert run.comparison() is not None
    run.save_audit(run.audit())
    assert run.gate() == ()
    assert run.comparison() is None


def test_an_audit_that_is_not_there_cannot_be_compared_with(tmp_path):
    run = Run.create(tmp_path / "r", title="r")
    with pytest.raises(LeadlineError, match=r"r has no finished audit \(its status is started\): audit it first"):
        read_earlier(run.folder)


def test_the_demo_is_the_digits_preset_at_2_and_4_blocks(monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "run_sweep", lambda *arguments: seen.append(arguments))
    with pytest.raises(SystemExit):
        main(["demo", "--out", "there"])
    assert seen == [(preset("digits69"), [2, 4], [0], Path("there"))]


def test_audit_and_sample_take_a_runs_model(finished, capsys, tmp_path, monkeypatch):
    folder, _ = finished
    monkeypatch.chdir(tmp_path)
    run = next(folder.glob("digits69-debug-*-s0"))
    assert say(capsys, "sample", str(run), "--out", "drawn", *SET[4:8])[0] == 0
    code, out, _ = say(
        capsys, "audit", "drawn", "--train", "digits", "--set", "data.classes=6,9", "--set", "data.num_images=100",
        "--set", "data.held_out=20", "--metrics", "memorization", "--set", "audit.ks=[1]",
    )  # fmt: skip
    assert code == 0
    page = Path(out.splitlines()[-1])
    assert page == Path("runs/audit-drawn/report.html")
    assert "audit of drawn" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())["runs"][0]["sampler"] == "ddim, 2\N{NO-BREAK SPACE}steps"


def test_ancestral_sampling_prints_its_warning_once(finished, tmp_path):
    folder, _ = finished
    run = next(folder.glob("digits69-debug-*-s0"))
    words = [sys.executable, "-m", "leadline", "sample", str(run), "--out", str(tmp_path / "drawn"), *SET[4:8]]
    words += ["--set", "sample.sampler=ancestral", "--set", "sample.batch_size=2"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.count("leadline: warning: ancestral sampling with 2 steps bends class shares") == 1


def test_a_second_process_is_told_that_the_folder_is_in_use(tmp_path):
    words = [sys.executable, "-m", "leadline", "train", "digits69-debug", "--out", str(tmp_path)]
    first = subprocess.Popen([*words, "--set", "train.steps=100000"], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/train.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = subprocess.run([*words, "--set", "train.steps=100000"], capture_output=True, text=True)
        assert second.returncode == 2
        assert "is in use by another leadline process" in second.stderr
    finally:
        first.kill()
        first.communicate()


def test_python_dash_m_is_the_command():
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
    done = subprocess.run([sys.executable, "-m", "leadline"], capture_output=True, text=True, env=environment)
    assert "Usage: " in done.stdout + done.stderr

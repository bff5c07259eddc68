"""The command line: light to start, plain in its errors, the path last."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leadline import cli
from leadline.cli import main
from leadline.presets import preset

TINY = ["train.steps=2", "train.batch_size=4", "sample.num_images=4", "sample.steps=2", "audit.labeler_epochs=1"]
SET = [word for change in TINY for word in ("--set", change)]


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
    assert names == ["digits69", "digits69-debug", "mnist69", "mnist69-debug", "celeba-gender", "celeba-gender-debug"]
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


def test_ctrl_c_says_how_to_go_on(capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        main([], application=interrupted)
    assert ended.value.code == 130
    assert "the same command goes on from here" in capsys.readouterr().err


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

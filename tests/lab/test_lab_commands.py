"""`leadline theory denoisers` and `linearity` from the words of the command to the files."""

import json
import re
from pathlib import Path

import pytest

from leadline.cli import main
from leadline.cli.theory.common import lab_folder

SMALL = ("--num-images", "8", "--sigma", "10", "1", ".1")


def say(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("command", ["denoisers", "linearity"])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = say(capsys, "theory", command, "--help")
    assert code == 0
    assert f"Example: leadline theory {command} " in out.replace("\n", " ")


def test_denoisers_of_data_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = ("--train", "digits", "--set", "data.num_images=40", "--set", "data.held_out=16")
    code, out, err = say(capsys, "theory", "denoisers", *data, *SMALL, "--ways", "4", "--out", tmp_path)
    assert code == 0, err
    assert out.startswith("digits: Gaussian against multi-delta denoiser at σ = 1: ")
    assert out.endswith(f"{tmp_path / 'report.html'}\n")
    assert "comparing denoisers: 3 of 3" in err
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["sigmas"] == [10, 1, 0.1]


def test_linearity_of_a_pipeline(capsys: pytest.CaptureFixture[str], pipeline: Path, tmp_path: Path) -> None:
    words = ("--train", "digits", *SMALL, "--samples", "4", "--steps", "2", "--out", tmp_path)
    code, out, err = say(capsys, "theory", "linearity", pipeline, *words)
    assert code == 0, err
    assert out.startswith("tiny: linearity at σ = 1: ")
    assert "sampling: 4 of 4" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("denoisers",), "give a model, or the training data"),
        (("denoisers", "--train", "digits", "--sigma", "0"), "noise levels are numbers above 0, each once"),
        (("denoisers", "nowhere"), "nowhere"),
        (("denoisers", "--train", "digits", "--rows", "9"), "--rows is of the linear map distilled from a model"),
        (("denoisers", "--train", "digits", "--sampler", "hoin"), "unknown sampler 'hoin'"),
        (("denoisers", "--train", "digits", "--sampler", "ancestral"), "ancestral follows no ODE"),
        (("bias-variance", "nowhere", "--sampler", "ancestral"), "ancestral follows no ODE"),
        (("bias-variance", "nowhere", "--sampler", "hoin"), "unknown sampler 'hoin'"),
        (
            ("bias-variance", "--train", "digits", "--sampler", "ddim", "--steps", "4"),
            "leave out --sampler and --steps",
        ),
        (("linearity", "nowhere", "--sampler", "hoin"), "unknown sampler 'hoin'"),
        (("linearity", "nowhere"), "nowhere"),
    ],
)
def test_what_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = say(capsys, "theory", *words)
    assert code == 2
    assert message in err


def test_where_the_page_goes(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    pair = lab_folder("linearity", [one, two])
    assert re.fullmatch("runs/theory-linearity-one-and-1-more-[0-9a-f]{6}", str(pair))
    assert re.fullmatch("runs/theory-denoisers-a-run-[0-9a-f]{6}", str(lab_folder("denoisers", [tmp_path / "a run"])))
    assert re.fullmatch("runs/theory-denoisers-mnist-data-x-.{6}", str(lab_folder("denoisers", [], "mnist:/data/x")))
    # What differs in any model, in the data or in its fields has a folder of its own; the same words find theirs again.
    folders = {pair, lab_folder("linearity", [one, three]), lab_folder("linearity", [tmp_path / "x" / "one", two])}
    folders |= {lab_folder("linearity", [one, two], "digits"), lab_folder("linearity", [one, two], "digits", ["a=1"])}
    assert len(folders) == 5
    assert lab_folder("linearity", [one, two]) == pair
    assert lab_folder("linearity", [one, two], out=three) == three


@pytest.mark.parametrize(
    "words",
    [
        ("denoisers", "--train", "digits"),
        ("bias-variance", "--train", "digits"),
        ("linearity", "nowhere"),
        ("smoothness", "nowhere"),
        ("landscape",),
        ("abstraction",),
    ],
)
def test_a_run_s_report_is_not_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple) -> None:
    (tmp_path / "run.json").write_text("{}")
    code, _, err = say(capsys, "theory", *words, "--out", tmp_path)
    assert code == 2
    assert "is a run, whose report would be replaced: choose another folder (--out)" in err
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]

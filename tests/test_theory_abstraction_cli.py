"""`leadline theory abstraction` and `bias-variance`, from the command line to the page."""

import json

import pytest

from leadline.cli import main


def run(capsys, *words):
    """Exit code, stdout and stderr of the command."""
    with pytest.raises(SystemExit) as end:
        main(["theory", *map(str, words)])
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


def test_abstraction_ends_in_figures_and_a_json(tmp_path, capsys):
    words = ("--share", ".5", ".8", "--size", "8", "--replicates", "200", "--out", tmp_path)
    code, out, err = run(capsys, "abstraction", *words)
    assert code == 0
    assert "from 50/50" in out
    assert out.splitlines()[-1] == str(tmp_path / "report.html")
    assert "grids of 80/20: 200 of 200" in err
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"figure-3.svg", "levels-1.svg", "levels-2.svg"}
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["settings"]["mixtures"] == {"50/50": [0.5, 0.5], "80/20": [0.8, pytest.approx(0.2)]}


def test_abstraction_of_named_shares(tmp_path, capsys):
    words = ("--shares", ".5,.3,.2", "--size", "3", "--window", "3", "--replicates", "5", "--out", tmp_path)
    code, out, _ = run(capsys, "abstraction", *words)
    assert code == 0
    assert "50/30/20" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shares", "a,b"], "one number per class"),
        (["--shares", ".5,.5", "--classes", "3"], "leave out --classes"),
        (["--size", "63"], "--size"),
        (["--share", "1.5"], "from 0 to 1"),
    ],
)
def test_abstraction_refuses_what_it_cannot_simulate(tmp_path, capsys, words, message):
    code, _, err = run(capsys, "abstraction", *words, "--out", tmp_path / "page")
    assert code == 2
    assert message in err
    assert not (tmp_path / "page").exists()


def test_bias_variance_of_soft_knn_on_digits(tmp_path, capsys):
    words = ("--train", "digits", "--set", "data.num_images=150", "--sigma", "3", ".1", "--num-images", "6")
    code, out, err = run(capsys, "bias-variance", *words, "--draws", "2", "--replicates", "2", "--out", tmp_path)
    assert code == 0
    assert out.startswith("soft k-NN: mean over 2 noise levels: bias of class")
    assert "soft k-NN, sigma 3: 4 of 4" in err
    assert (tmp_path / "figures" / "bias-1.svg").exists()
    content = json.loads((tmp_path / "report.json").read_text())
    assert len([m for m in content["measurements"] if m["name"] == "noise_variance"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give models, or the training data"),
        (["--encode-with", "a"], "--encode-with and --decode-with go together"),
        (["--train", "digits", "--sigma", "-1"], "--sigma"),
    ],
)
def test_bias_variance_refuses_what_is_not_there(tmp_path, capsys, words, message):
    code, _, err = run(capsys, "bias-variance", *words, "--out", tmp_path / "page")
    assert code == 2
    assert message in err


@pytest.mark.parametrize("command", ["abstraction", "bias-variance"])
def test_help_has_an_example(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"Example: leadline theory {command}" in " ".join(out.split())

"""`leadline plan`: sentences and tables on a terminal, JSON alone with --json, a page with --out."""

import json
from pathlib import Path

import pytest

from leadline.cli import main

PAPER = ["plan", "--share", ".0086", "--detect", ".006"]
CLASSIFIER = ["--sensitivity", ".9", "--specificity", ".99"]


def say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command, in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out.replace("\N{NO-BREAK SPACE}", " "), captured.err


def test_a_plan_is_said_in_sentences_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = say(capsys, *PAPER, *CLASSIFIER, "--replicates", "3")
    assert (code, err) == (0, "")
    assert out.startswith("Plan: 0.6 % is told from 0.86 % in 3 training runs only where their true shares differ by")
    assert "of one model by 9,232 images with a perfect classifier; by 24,790 images with this one" in out
    assert "54 rightly and 99 wrongly" in out
    assert "The spread is not known" in out
    assert "Note: The classifier is taken to err on generated images" in out


def test_json_is_all_that_is_printed_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = say(capsys, *PAPER, *CLASSIFIER, "--positives", "500", "--negatives", "5000", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["images_needed"] == {
        "normal": 8951,
        "perfect": 9232,
        "rates known": 24790,
        "rates estimated": None,
    }
    curve = found["curves"]["power_curve"]
    assert len(curve["images"]) == len(curve["rates estimated"]) > 20
    assert found["question"]["sensitivity"] == 0.9


def test_the_page_is_the_last_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    code, out, _ = say(capsys, "plan", "--share", ".4", "--images", "500", "--out", str(page))
    assert code == 0
    assert out.splitlines()[-1] == str(page)
    assert page.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "--share", ".1", "--detect", ".1"], "no number of images tells equal shares apart"),
        ([*PAPER, "--json", "--out", "p.html"], "give one of them"),
        ([*PAPER, "--sensitivity", ".3", "--specificity", ".6"], "add up to 1 or less"),
    ],
)
def test_a_bad_question_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = say(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("leadline: error: ")
    assert message in err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = say(capsys, "plan", "--help")
    assert code == 0
    assert "Example: leadline plan --share .0086" in " ".join(out.split())

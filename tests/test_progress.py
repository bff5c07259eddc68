"""What the console shows of long work, by a clock that the test turns."""

import pytest

from leadline import progress
from leadline.progress import ConsoleProgress, duration


class Clock:
    """Stands in for `time` in leadline.progress."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (41.6, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (86_459.0, "24 h 00 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_elsewhere_a_line_every_10_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """100 steps of 1 s each, seen after the first: step 1 + 10 i, and the last."""
    with ConsoleProgress() as shown:
        for step in range(1, 101):
            shown("training", step, 100, f"loss {step / 100:g}")
            clock.now += 1
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0] == "training: 1 of 100, loss 0.01"
    assert lines[1] == "training: 11 of 100, loss 0.11, 1 min 29 s left"
    assert lines[9] == "training: 91 of 100, loss 0.91, 9 s left"
    assert lines[10:] == ["training: 100 of 100, loss 1, took 1 min 39 s"]
    assert "\r" not in captured.err
    assert "\x1b" not in captured.err


def test_the_time_left_counts_only_what_this_process_did(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Resumed at 900 of 1,000: 10 steps in 20 s leave 90 steps of 2 s."""
    shown = ConsoleProgress()
    shown("training", 900, 1000, "")
    clock.now += 20
    shown("training", 910, 1000, "")
    assert capsys.readouterr().err.splitlines() == [
        "training: 900 of 1,000",
        "training: 910 of 1,000, 3 min 00 s left",
    ]


def test_a_new_stage_has_a_new_clock_and_is_shown_at_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ConsoleProgress()
    shown("training", 0, 2, "")
    clock.now += 100
    shown("training", 2, 2, "")
    clock.now += 1
    shown("sampling", 0, 10, "ddim")
    clock.now += 11
    shown("sampling", 1, 10, "ddim")
    assert capsys.readouterr().err.splitlines() == [
        "training: 0 of 2",
        "training: 2 of 2, took 1 min 40 s",
        "sampling: 0 of 10, ddim",
        "sampling: 1 of 10, ddim, 1 min 39 s left",
    ]


@pytest.mark.usefixtures("clock")
def test_work_of_unknown_length_is_named_alone(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress()("audit, measuring bias", 0, 0, "")
    assert capsys.readouterr().err == "audit, measuring bias\n"


def test_on_a_terminal_one_line_is_rewritten(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ConsoleProgress() as shown:
        for step in range(5):
            shown("training", step, 4, "")
            clock.now += 0.1
    # Every 0.2 s; the escape clears what a longer line left behind; the line is ended once.
    assert capsys.readouterr().err == "".join(
        [
            "\r\x1b[2Ktraining: 0 of 4",
            "\r\x1b[2Ktraining: 2 of 4, 0 s left",
            "\r\x1b[2Ktraining: 4 of 4, took 0 s",
            "\n",
        ]
    )


def test_on_a_terminal_each_stage_keeps_its_last_line(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with ConsoleProgress() as shown:
        shown("a", 1, 1, "")
        shown("b", 0, 1, "")
    assert capsys.readouterr().err == "\r\x1b[2Ka: 1 of 1, took 0 s\n\r\x1b[2Kb: 0 of 1\n"

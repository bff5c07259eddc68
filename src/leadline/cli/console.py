"""What the commands share: progress and warnings on stderr, the last words on stdout, lists after one flag."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from leadline.gate import Condition
    from leadline.judging import Earlier
    from leadline.progress import ConsoleProgress
    from leadline.runs import Run

GATE_FAILED = 3
LISTS = ("--strength", "--sigma", "--share", "--tau")
"""Flags that take several numbers: --strength 0 .25 .5, or --strength=0 .25 .5, is read as the flag before each."""


def spread(argv: Sequence[str]) -> list[str]:
    """The arguments with a flag of LISTS repeated before each number that follows it."""
    spelt: list[str] = []
    flag, fresh = "", False
    for word in argv:
        name, given, _ = word.partition("=")
        if name in LISTS:
            flag, fresh = name, not given
        elif flag and _is_number(word):
            spelt += [] if fresh else [flag]
            fresh = False
        else:
            flag = ""
        spelt.append(word)
    return spelt


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def finish(
    runs: "Sequence[Run]", page: Path, conditions: "Sequence[Condition]" = (), last: "Earlier | None" = None
) -> None:
    """Judge the runs, write the report, print the answer and, last, the page's path; exit with 3 if the gate failed."""
    from leadline.report import build

    said: list[str] = []
    failed: list[str] = []
    if conditions or last is not None:
        from leadline.judging import judge

        for run in runs:
            in_order, not_in_order = judge(run, conditions, last)
            said += in_order
            failed += not_in_order
    from leadline.across import measure_across

    tell(build(runs, page, across=measure_across(runs)), said)
    for sentence in failed:
        sys.stderr.write(f"leadline: {sentence}\n")
    if failed:
        raise typer.Exit(GATE_FAILED)


def tell(page: Path, said: Sequence[str] = ()) -> None:
    """Print the answers of a report, what else there is to say and, last, its path."""
    import json

    for finding in json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["headlines"]:
        print(finding["headline"])
    for text in (*said, page):
        print(text)


def console() -> "ConsoleProgress":
    """Progress on stderr; warnings as one line."""
    from leadline.progress import ConsoleProgress
    from leadline.runs import is_main_process

    def show(message: Warning | str, *_: object) -> None:
        sys.stderr.write(f"leadline: warning: {message}\n")

    warnings.showwarning = show  # type: ignore[assignment]
    return ConsoleProgress(quiet=not is_main_process())

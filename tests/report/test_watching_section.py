"""The section on watched trainings: what it says and draws of looks whose numbers are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from leadline.across import watched
from leadline.data.shards import write_shard
from leadline.looks import Look
from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.report import build
from leadline.report.views import open_views
from leadline.report.watching import watching_section
from leadline.runs import Run

N = 200
SETTINGS = {"num_images": N, "seed": 0, "steps": 10, "audit.level": 0.95}


def look(step: int, nines: int, loss: float, unrecognised: int = 0) -> Look:
    """The first seeds are nines, the last not recognised; the class is called <9>, as a hostile folder may call it."""
    n = N - unrecognised
    share, lower, upper = nines / n, max(0.0, nines / n - 0.03), nines / n + 0.03
    known = {"level": 0.95, "group": "<9>"}
    found = [
        Measurement(name="share", value=0.9, group="6", params={"set": "training"}),
        Measurement(name="share", value=0.1, group="<9>", params={"set": "training"}),
        Measurement(name="share", value=nines / N, n=N, params={"set": "samples"}, **known),
        Measurement(
            name="share_difference", value=share - 0.1, lower=lower - 0.1, upper=upper - 0.1, n=n,
            params={"share": share, "share_lower": lower, "share_upper": upper, "training_share": 0.1}, **known,
        ),
        Measurement(
            name="labeled_difference", value=share - 0.12, lower=lower - 0.12, upper=upper - 0.12, n=n,
            params={"share": share, "training_share_as_labeled": 0.12, "training_images": 5000}, **known,
        ),
        Measurement(name="unrecognised_share", value=unrecognised / N, lower=0.0, upper=0.9, level=0.95, n=N),
        Measurement(name="training_loss", value=loss),
        Measurement(name="held_out_loss", value=loss + 0.01),
        Measurement(name="nearest_copy_rate", value=0.015, n=N,
                    params={"set": "samples", "space": "pixels", "rule": "d1/d2"}),
        Measurement.not_measurable("kernel_distance", "too few images", params={"set": "samples"}),
    ]  # fmt: skip
    labels = ("<9>",) * nines + ("6",) * (n - nines) + ("unclassified",) * unrecognised
    return Look(
        step=step,
        settings=SETTINGS,
        measurements=tuple(found),
        ids=tuple(f"0/{i}" for i in range(N)),
        labels=labels,
    )


@pytest.fixture
def runs(make_run) -> list[Run]:
    shallow = make_run(2, train={"watch_every": 100, "steps": 300})
    shallow.save_looks([look(100, 2, 0.08, 150), look(200, 4, 0.05), look(300, 20, 0.04)])
    deep = make_run(4, train={"watch_every": 100, "steps": 300})
    deep.save_looks([look(200, 0, 0.06), look(300, 4, 0.05)])
    for run in (shallow, deep):
        run.bank_folder(300).mkdir(parents=True)
        pixels = np.full((8, 1, 4, 4), 9, np.uint8)
        columns = {"index": list(range(8)), "seed": [0] * 8}
        write_shard(run.bank_folder(300) / "shard-00000.parquet", pixels, columns)
    return [shallow, deep]


def across(runs: list[Run]) -> AuditResult:
    found = list(watched.measure_watched(runs))
    return AuditResult(
        measurements=tuple(item for item in found if isinstance(item, Measurement)),
        tables=tuple(item for item in found if isinstance(item, Table)),
        panels=tuple(item for item in found if isinstance(item, Panel)),
    )


def test_without_looks_it_says_how_to_get_them(make_run) -> None:
    section = watching_section(open_views([make_run()]))
    assert section.lead.startswith("No training here was watched: --set train.watch_every=500")
    assert not section.figures


def test_it_says_since_when_no_difference_is_shown_and_how_large_a_one_is_left_open(runs) -> None:
    section = watching_section(open_views(runs, across=across(runs)))
    first, second = section.findings
    assert first.headline == "looked at from step 100 to step 300."
    (_, sentence), = first.sentences  # fmt: skip
    told = sentence.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    assert told.startswith(
        "10.0 % in the training data, 12.0 % as the labeler sees it; 10.0 % of 200 recognised images at the last look. "
        "Each look by itself, the share lies below the training data's until step 200, and no difference is shown from "
        "step 300 on (at the last look -5.4 to +2.9 points). Jointly for 3 looks (Bonferroni), "
    )
    assert "by itself, the share lies below the training data's at every look (" in second.sentences[0][1]
    share = next(plot.alt for plot in section.figures if plot.alt.startswith("Share of “<9>” over training steps"))
    assert "training" in share
    told = " ".join(section.caveats)
    assert "That none is shown does not say that there is none" in told


@pytest.mark.parametrize("reason", ["the labeler recognised 0 samples", ""])
def test_looks_without_the_training_data_as_labelled_are_not_held_beside_its_true_share(make_run, reason) -> None:
    known = look(100, 2, 0.08)
    others = tuple(m for m in known.measurements if m.name != "labeled_difference")
    missing = (Measurement.not_measurable("labeled_difference", reason, group="<9>"),) if reason else ()
    run = make_run(2)
    run.save_looks([known.model_copy(update={"measurements": (*others, *missing)})])
    section = watching_section(open_views([run], across=across([run])))
    assert "Each look by itself, the difference is not measurable. Jointly" in section.findings[0].sentences[0][1]
    assert (reason or "hold no share of the training data as the labeler sees it") in " ".join(section.caveats)


def test_the_numbers_of_every_look_are_there_and_a_gap_is_named(runs) -> None:
    section = watching_section(open_views(runs, across=across(runs)))
    table = next(table for table in section.tables if table.key.startswith("looks-"))
    row = [cell.text for cell in table.rows[1]]
    assert row[:3] == ["200", "0.05000", "0.06000"]
    assert row[3] == "2.0\N{NO-BREAK SPACE}%"
    assert row[-1] == "not measurable"
    told = " ".join(section.caveats)
    assert "digits69, 4 blocks: no look at step 100, which train.watch_every asks for" in told
    assert "2 blocks: 50 of 200 images of the bank are recognised at step 100, the look with the fewest: its" in told
    assert "4 blocks: " not in "".join(text for text in section.caveats if "rest on few" in text)
    assert "kernel distance are not measurable: too few images" in told


@pytest.mark.parametrize(
    ("unrecognised", "told"),
    [
        ((0, 20, 199), ["1 of 200 images of the bank are recognised at step 300, the last look, and that with the"]),
        ((180, 190, 155), ["10 of 200 images of the bank are recognised at step 200, the look with the fewest",
                           "45 of 200 images of the bank are recognised at step 300, the last look:"]),
        ((90, 0, 50), []),
    ],
)  # fmt: skip
def test_the_worst_look_and_a_last_one_of_few_recognised_images_are_cautioned(make_run, unrecognised, told) -> None:
    run = make_run(2)
    run.save_looks([look(100 * i, 1, 0.05, count) for i, count in enumerate(unrecognised, 1)])
    section = watching_section(open_views([run], across=across([run])))
    found = [text for text in section.caveats if "rest on few images" in text]
    assert len(found) == len(told)
    assert all(words in text for words, text in zip(told, found, strict=True))
    n = N - unrecognised[-1]
    assert f"of {n} recognised image{'s' if n > 1 else ''} at the last look" in section.findings[0].sentences[0][1]


def test_runs_are_compared_at_equal_steps_and_at_equal_loss(runs) -> None:
    section = watching_section(open_views(runs, across=across(runs)))
    table = next(table for table in section.tables if table.key == "share_difference_at_equal")
    rows = [[cell.text for cell in row] + [row[1].detail] for row in table.rows]
    assert table.columns[-1] == "Holm over 4 tests"
    assert "read equal training loss first" in table.note
    by = {(row[1], row[2]): row for row in rows}
    assert by["equal step", "“<9>”"][0] == "4 blocks against 2 blocks"
    assert by["equal step", "“<9>”"][5] == "\N{MINUS SIGN}8.0 points"
    assert by["equal step", "“<9>”"][-1] == "step 300"
    assert by["equal training loss", "“<9>”"][5] == "0 points"
    assert by["equal training loss", "“<9>”"][-1] == "0.0500 and 0.0500, steps 200 and 300"


def test_the_drawings_have_a_line_per_run_and_the_page_is_whole(runs, tmp_path: Path) -> None:
    page = build(runs, tmp_path / "page.html", across=across(runs))
    text = page.read_text(encoding="utf-8")
    assert "<9>" not in text
    sections = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["sections"]
    (section,) = (each for each in sections if each["id"] == "watching")
    told = [figure["alt"] for figure in section["figures"]]
    share = next(alt for alt in told if alt.startswith("Share of “<9>” over training steps"))
    assert "2 blocks: step 100 4.0" in share
    assert "4 blocks: step 200 0" in share
    falling = next(alt for alt in told if "over falling training loss" in alt)
    assert "4 blocks: 0.0600 0" in falling
    assert any(alt.startswith("Losses of the averaged weights") for alt in told)
    assert sum("step 300, " in alt for alt in told) == 2  # the two strips
    assert [s["id"] for s in sections].index("watching") == [s["id"] for s in sections].index("training") + 1


def test_runs_of_one_training_are_shown_once_and_damaged_looks_with_their_reason(runs, make_run) -> None:
    twin = make_run(3, train={"watch_every": 100, "steps": 300})
    twin.save_looks(runs[0].looks())
    (runs[1].folder / "watch.jsonl").write_text("{")
    section = watching_section(open_views([*runs, twin]))
    assert len(section.findings) == 1
    assert any("4 blocks: the looks at the training cannot be read" in caveat for caveat in section.caveats)

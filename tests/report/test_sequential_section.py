"""The section on images that were drawn until a share was known: why it stopped, the drawing, every look."""

import numpy as np
import pytest

from leadline.audit.sequence import Rule, Watched, looks_at, sequence_findings
from leadline.records import AuditResult, Measurement, Table
from leadline.report.sections import SECTIONS
from leadline.report.sequential import sequential_section
from leadline.report.views import open_views
from leadline.report.words import SPACE
from leadline.runs import Run


def audited(folder, names=("6", "<nine>"), shares=(0.9, 0.1), group="<nine>", width=0.2):
    """An audit whose every eighth image is of the last class, looked at four times."""
    labels = np.array([len(names) - 1 if i % 8 == 0 else i % (len(names) - 1) for i in range(200)])
    watched = Watched(names=names, shares=shares, level=0.95)
    looks = looks_at(labels, range(len(names)), watched, every=50)
    found = list(sequence_findings(looks, watched, Rule(width=width, group=group, at_most=200), {}))
    run = Run.create(folder, title="a mixture", kind="audit")
    measured = tuple(item for item in found if isinstance(item, Measurement))
    run.save_audit(AuditResult(measurements=measured, tables=tuple(item for item in found if isinstance(item, Table))))
    run.update(status="complete")
    return run


def test_it_says_why_it_stopped_and_draws_the_class_that_was_waited_for(tmp_path):
    section = sequential_section(open_views([audited(tmp_path / "a")]))
    stopped, reading = section.caveats
    assert stopped.startswith("a mixture: stopped after 4 looks: the interval of '<nine>' is 13.78 points wide")
    assert "goes on" not in stopped
    assert "One training run" in reading
    (plot,) = section.figures
    assert plot.alt.startswith("Share of “<nine>” among the recognised images")
    assert "<nine>" not in plot.svg
    assert "not valid when looked at repeatedly" in plot.caption
    overall, looks = section.tables
    assert [row[0].text for row in overall.rows] == ["6", "<nine>"]
    assert overall.rows[1][1].text.replace(SPACE, " ") == "12.5 %"
    assert overall.rows[1][2].text.replace(SPACE, " ") == "10.0 %"
    assert len(looks.rows) == 8
    assert "Wilson: the interval of a single look" in looks.note


def test_it_says_that_the_answer_is_not_as_sharp_as_was_wanted(tmp_path):
    section = sequential_section(open_views([audited(tmp_path / "a", width=0.01)]))
    assert "200 images were drawn, the most that was asked for (--at-most), and the interval" in section.caveats[0]
    assert section.caveats[0].endswith("the same command with a larger --at-most goes on.")


@pytest.mark.parametrize(("names", "drawn"), [(("6", "9"), 1), (("1", "2", "3"), 3), (tuple("123456"), 4)])
def test_without_a_class_of_its_own_it_draws_the_first_few(tmp_path, names, drawn):
    shares = tuple(1 / len(names) for _ in names)
    run = audited(tmp_path / "a", names, shares, group=None)
    assert len(sequential_section(open_views([run])).figures) == drawn


def test_a_page_without_such_an_audit_says_how_to_get_one(tmp_path):
    run = Run.create(tmp_path / "a", title="fixed")
    section = SECTIONS["sequential"](open_views([run]))
    assert "--until-width 0.02" in section.lead
    assert not section.figures
    assert not section.tables


def test_an_audit_that_lacks_what_it_should_hold_is_shown_without_it(tmp_path):
    run = Run.create(tmp_path / "a", title="strange", kind="audit")
    run.save_audit(AuditResult(measurements=(Measurement(name="share_sequence", value=0.5, group="x"),)))
    section = sequential_section(open_views([run]))
    assert "no reason was noted" in section.caveats[0]
    assert not section.figures

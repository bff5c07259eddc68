"""The page and its JSON: everything that the runs hold is there, as text, whatever it is called."""

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from leadline.errors import LeadlineError
from leadline.records import AuditResult, Measurement, Panel, Table
from leadline.report import SECTIONS, build
from leadline.report.settings import flat
from leadline.report.views import open_views

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """The page's elements with their attributes, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.elements if a.get("id")]


def report(runs, tmp_path: Path, **options) -> tuple[Page, dict]:
    """Page and JSON; the JSON is read with NaN and infinities refused."""
    out = build(runs, tmp_path / "report.html", **options)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return Page(out), json.loads(out.with_suffix(".json").read_text(), parse_constant=refuse)


def test_two_runs_side_by_side_sorted_by_depth(make_run, tmp_path: Path) -> None:
    page, content = report([make_run(4, share=0.09), make_run(2)], tmp_path)
    assert [run["depth"] for run in content["runs"]] == ["2", "4"]
    assert content["headlines"][0]["headline"].startswith("digits69, 2 blocks: makes 9 less often")
    assert page.text.index("digits69, 2 blocks") < page.text.index("digits69, 4 blocks")
    assert content["title"] == "digits69: 2 blocks and 4 blocks"
    assert [s["id"] for s in content["sections"]] == list(SECTIONS)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_every_measurement_reaches_the_json_and_every_unknown_one_the_page(make_run, tmp_path: Path) -> None:
    run = make_run()
    page, content = report([run], tmp_path)
    assert len(content["runs"][0]["measurements"]) == len(run.audit())
    for text in ("sharpness", "colourfulness", "needs images in colour: give RGB images"):
        assert text in page.text


def test_sampler_and_steps_stand_at_the_top_of_every_report(make_run, tmp_path: Path) -> None:
    page, content = report([make_run(sample={"sampler": "heun", "steps": 25})], tmp_path)
    assert "sampler: heun, 25\xa0steps" in page.text.split("The answer", 1)[0]
    assert content["runs"][0]["sampler"] == "heun, 25\xa0steps"


def test_the_recipe_stands_in_full_with_what_differs_marked(make_run, tmp_path: Path) -> None:
    run = make_run(2)
    _, content = report([run, make_run(4)], tmp_path)
    settings = next(s for s in content["sections"] if s["id"] == "settings")
    recipe = {row[0]: row[1:] for row in settings["tables"][0]["rows"]}
    fields = {name for name, _ in flat(run.header.recipe)} - {"name", "description"}
    assert {name.split(" (")[0] for name in recipe} == fields
    assert {"data.shares", "model.blocks", "train.steps", "sample.steer.strength", "audit.metrics"} <= fields
    assert recipe["model.blocks (differs)"] == ["2", "4"]
    assert recipe["data.shares"] == ["6: 0.9, 9: 0.1"] * 2
    provenance = {row[0].split(" (")[0]: row[1] for row in settings["tables"][-1]["rows"]}
    assert provenance["recipe fingerprint"] == run.recipe.fingerprint()
    assert provenance["time for train"] == "100\xa0s"
    assert provenance["train data fingerprint"] == "0f" * 8


def test_data_counts_and_unreadable_files_are_told(make_run, tmp_path: Path) -> None:
    page, content = report([make_run()], tmp_path)
    counts, notes = next(s for s in content["sections"] if s["id"] == "data")["tables"]
    assert counts["rows"][0] == ["train", "140", "126", "14", "0f" * 8]
    assert ["notes.unreadable.files", "bad.png"] in notes["rows"]
    assert "grey, 8×8 as they are" in page.text


def test_the_confusion_matrix_has_its_numbers_and_shades(make_run, tmp_path: Path) -> None:
    page, content = report([make_run()], tmp_path)
    matrix = next(s for s in content["sections"] if s["id"] == "labeler")["tables"][0]
    assert matrix["rows"][9] == ["9", "0", "1", "2", "0", "1", "2", "0", "1", "2", "140", "4"]
    shades = [a["style"] for tag, a in page.elements if tag == "td" and "--shade" in (a.get("style") or "")]
    assert len(shades) == 10 * 11
    assert shades.count("--shade: 1.000") == 10


@pytest.mark.parametrize("kind", ["run", "audit"])
def test_a_hostile_name_is_text_everywhere(make_run, tmp_path: Path, kind: str) -> None:
    run = make_run(minority=HOSTILE, title='a "quoted" <b>run</b>', kind=kind)
    page, content = report([run], tmp_path, title=f"{HOSTILE} & 'title'")
    tags = [tag for tag, _ in page.elements]
    assert "script" not in tags
    assert "b" not in tags
    assert HOSTILE in page.text
    assert 'a "quoted" <b>run</b>' in page.text
    assert tags.count("svg") >= 4
    assert content["title"] == f"{HOSTILE} & 'title'"
    assert any(HOSTILE in m["group"] for m in content["runs"][0]["measurements"] if m["group"])


def test_names_that_utf8_cannot_hold_are_written_escaped(make_run, tmp_path: Path) -> None:
    run = make_run()
    run.header = run.header.model_copy(update={"data": {"notes": {"unreadable": {"files": ["bad\udc80\x00.png"]}}}})
    page, _ = report([run], tmp_path)
    assert "bad\\udc80\\x00.png" in page.text


def test_infinite_and_missing_values_are_written_and_never_zero(make_run, tmp_path: Path) -> None:
    page, content = report([make_run(share=0.0)], tmp_path)
    table = next(s for s in content["sections"] if s["id"] == "bias")["tables"][0]
    row = next(row for row in table["rows"] if row[0] == "9")
    assert row[6].startswith("−∞")
    values = [m["value"] for m in content["runs"][0]["measurements"] if m["name"] == "share_amplification"]
    assert values == ["Infinity", "-Infinity"]
    assert "∞" in page.text


def test_a_run_without_audit_or_curve_says_why_and_the_other_is_shown(make_run, tmp_path: Path) -> None:
    page, content = report([make_run(2), make_run(4, audit=False, curve=False)], tmp_path)
    assert content["runs"][1]["measurements"] == []
    assert "the audit is not finished" in content["runs"][1]["audit_reason"]
    assert "digits69, 4 blocks is missing here: the audit is not finished" in page.text
    assert "digits69, 4 blocks: no curve was recorded." in page.text
    assert "digits69, 2 blocks: makes 9 less often" in content["headlines"][0]["headline"]


def test_a_damaged_audit_is_a_reason_and_no_crash(make_run, tmp_path: Path) -> None:
    run = make_run()
    (run.folder / "measurements.jsonl").write_text("{broken\n")
    page, _ = report([run, make_run(4)], tmp_path)
    assert "the audit's files cannot be read" in page.text


def test_a_damaged_recipe_is_a_reason_and_no_crash(make_run, tmp_path: Path) -> None:
    run = make_run()
    run.update(recipe={**run.header.recipe, "model": {"blocks": 99}})
    page, _ = report([run], tmp_path)
    assert "the recipe in run.json cannot be read: ModelSpec.blocks" in page.text


def test_an_audit_of_foreign_images_needs_no_recipe(make_run, tmp_path: Path) -> None:
    page, content = report([make_run(kind="audit", curve=False, title="faces")], tmp_path)
    assert content["title"] == "faces"
    assert content["runs"][0]["depth"] is None
    assert "not recorded (images from elsewhere)" in page.text
    assert "there was no training" in page.text


def test_an_audit_in_which_nothing_was_measurable(make_run, tmp_path: Path) -> None:
    names = ("share", "share_difference", "nearest_distance", "nearest_similarity", "mean_pairwise_distance")
    page, content = report(
        [make_run(measurements=[Measurement.not_measurable(n, f"{n} needs --labeler DATA") for n in names])], tmp_path
    )
    assert all(f"{name} needs --labeler DATA" in page.text for name in names)
    assert {m["value"] for m in content["runs"][0]["measurements"]} == {None}


def test_replicates_of_one_depth_are_told_apart_and_the_caveat_goes(make_run, tmp_path: Path) -> None:
    seeds = [make_run(2, train={"seed": seed}, folder=f"s{seed}") for seed in (0, 1)]
    page, content = report(seeds, tmp_path)
    assert [run["name"] for run in content["runs"]] == ["digits69, 2 blocks, seed 0", "digits69, 2 blocks, seed 1"]
    assert "2 blocks, seed 1" in page.text
    assert "One training run per depth" not in page.text
    assert "These runs differ in more than the model" not in page.text


def test_many_classes_and_other_tables_and_panels_are_shown(make_run, tmp_path: Path) -> None:
    groups = [f"class {i}" for i in range(12)]
    found = []
    for index, group in enumerate(groups):
        found += [
            Measurement(name="share", value=1 / 12, n=100, group=group, params={"set": "training"}),
            Measurement(name="share", value=1 / 12, n=100, group=group, params={"set": "samples"}),
            Measurement(name="share_difference", value=0.001 * index, lower=-0.05, upper=0.05, group=group),
        ]
    run = make_run()
    run.save_audit(
        AuditResult(
            measurements=tuple(found),
            tables=(Table(name="extra", title="An extra table", columns=("a", "b"), rows=(("x", None),)),),
            panels=(Panel(name="flips", title="Flips", tiles=np.zeros((1, 2, 3, 8, 8), dtype=np.uint8)),),
        )
    )
    page, content = report([run], tmp_path)
    assert "no difference from the training data is shown for any of 12 classes" in content["headlines"][0]["headline"]
    assert all(group in page.text for group in groups)
    assert "An extra table" in page.text
    assert any("Flips" in (a.get("alt") or "") for tag, a in page.elements if tag == "img")


def test_the_page_is_one_well_formed_document(make_run, tmp_path: Path) -> None:
    page, _ = report([make_run(2), make_run(4)], tmp_path)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    assert dict(page.elements)["html"]["lang"] == "en"
    assert len(page.ids()) == len(set(page.ids()))
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    assert tags.count("caption") == tags.count("table")
    policy = next(a for tag, a in page.elements if tag == "meta" and a.get("http-equiv"))
    assert policy["content"].startswith("default-src 'none'")


def test_nothing_is_loaded_from_anywhere(make_run, tmp_path: Path) -> None:
    page, _ = report([make_run()], tmp_path)
    for tag, attributes in page.elements:
        assert (attributes.get("src") or "data:").startswith("data:"), tag
        assert (attributes.get("href") or "#").startswith(("#", "data:")), tag
    style = (tmp_path / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_same_runs_give_the_same_bytes(make_run, tmp_path: Path) -> None:
    runs = [make_run(2), make_run(4)]
    files = [build(runs, tmp_path / name / "report.html") for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].with_suffix(".json").read_bytes() == files[1].with_suffix(".json").read_bytes()


def test_the_number_of_a_curve_that_is_not_finite_is_no_crash(make_run, tmp_path: Path) -> None:
    run = make_run()
    run.curve_file.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n')
    _, content = report([run], tmp_path)
    assert content["runs"][0]["curve"][1]["loss"] == "NaN"
    assert math.isclose(content["runs"][0]["curve"][0]["loss"], 0.5)


def test_bad_requests_are_refused_before_any_work(make_run, tmp_path: Path) -> None:
    with pytest.raises(LeadlineError, match="needs at least one run"):
        build([], tmp_path / "report.html")
    with pytest.raises(LeadlineError, match=r"cannot end in \.json: use \.html"):
        build([make_run()], tmp_path / "report.json")
    with pytest.raises(LeadlineError, match="is a folder: name the file"):
        build([make_run()], tmp_path)


def test_nothing_is_left_beside_the_two_files(make_run, tmp_path: Path) -> None:
    build([make_run()], tmp_path / "out" / "report.html")
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]


def test_the_report_imports_neither_torch_nor_pyplot() -> None:
    code = "import sys, leadline.report; print([m for m in ('torch', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\[\]\s*", done.stdout)


def section(name: str, *runs) -> dict:
    """One section as the JSON has it, without drawing the others."""
    return SECTIONS[name](open_views(runs)).to_json()


def test_what_has_a_section_is_not_told_again(make_run) -> None:
    (other,) = section("other", make_run(full=True))["tables"]
    assert [row[0] for row in other["rows"]] == ["sharpness", "colourfulness"]


def test_the_networks_stand_in_the_settings_once(make_run) -> None:
    tables = {table["name"]: table["rows"] for table in section("settings", make_run(full=True))["tables"]}
    assert tables["networks"] == [
        ["labeler", "a small network trained on 1,497 images"],
        ["inception-v3-compat", "Inception v3 of 2015-12-05"],
        ["lpips-alex", "AlexNet with LPIPS's heads"],
    ]
    assert [row[0] for row in tables["audit_settings"]] == ["level", "ks"]


def test_no_line_mixes_two_spaces(make_run) -> None:
    run = make_run()
    audit = run.audit()
    half = {"value": 0.5, "lower": 0.4, "upper": 0.6}
    squeezed = [
        m.model_copy(update={**half, "params": {**m.params, "space": "SqueezeNet features"}})
        for m in audit.find("nearest_similarity")
    ]
    tested = {"space": "pixels", "k": 1, "p": 0.0001}
    difference = Measurement(name="nearest_distance_difference", value=-2.0, lower=-3.0, upper=-1.0, params=tested)
    run.save_audit(AuditResult(measurements=(*audit.measurements, *squeezed, difference)))
    found = section("memorization", run)
    assert [table["caption"].partition(":")[0] for table in found["tables"][:3]] == [
        "nearest_distance in pixels",
        "nearest_similarity in labeler features",
        "nearest_similarity in SqueezeNet features",
    ]
    assert found["tables"][0]["rows"][2][1:4] == ["generated − held-out", "–", "−2.0, p < 0.001 (−3.0 to −1.0)"]
    drawn = [figure["alt"] for figure in found["figures"] if "Cosine similarity" in figure["alt"]]
    assert len(drawn) == 2
    assert "k = 1: 0.5000" not in drawn[0]
    assert "k = 1: 0.5000, k = 2: 0.5000" in drawn[1]


def test_the_overview_shows_copies_where_they_could_be_counted_and_no_empty_column(make_run) -> None:
    def columns(run) -> set[str]:
        return set(section("overview", run)["tables"][0]["columns"])

    assert {"Depth", "Parameters", "Nearest training image"} <= columns(make_run())
    foreign = columns(make_run(kind="audit", full=True))
    assert "Counted as copies" in foreign
    assert not {"Depth", "Parameters", "Training steps", "Nearest training image"} & foreign

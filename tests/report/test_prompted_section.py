"""The section on prompts: agreement beside chance and real images, nearness to the starts beside the others."""

from typing import Any

from leadline.records import Measurement
from leadline.report.prompted import prompted_section
from leadline.report.sections import SECTIONS
from leadline.report.views import open_views
from leadline.report.words import SPACE

RUN = "digits69, 2 blocks"


def share(value: float, n: int, group: str | None = None, **params: Any) -> Measurement:
    """An agreement with an interval of ± 5 points."""
    return Measurement(
        name="prompt_agreement",
        value=value,
        lower=value - 0.05,
        upper=value + 0.05,
        level=0.95,
        method="Wilson",
        n=n,
        group=group,
        params={"set": "samples", **params},
    )


def near(name: str, space: str, own: float, others: float) -> list[Measurement]:
    return [
        Measurement(
            name=name,
            value=value,
            lower=value - 1,
            upper=value + 1,
            level=0.95,
            n=400,
            params={"set": s, "space": space},
        )
        for s, value in (("samples", own), ("other_starts", others))
    ]


FOUND = [
    share(0.8, 400, by_chance=0.125),
    share(0.9, 300, "six"),
    share(0.5, 100, "<nine>"),
    share(0.95, 500, set="held_out"),
    *near("init_distance", "pixels", 20.0, 70.0),
    *near("init_similarity", "labeler features", 0.5, 0.25),
]


def tables(runs: list[Any]) -> dict[str, dict[str, Any]]:
    """By key, with the spaces that hold a number and its unit together as plain ones."""
    found = {}
    for table in prompted_section(open_views(runs)).tables:
        words = table.to_json()
        found[table.key] = words | {"rows": [[cell.replace(SPACE, " ") for cell in row] for row in words["rows"]]}
    return found


def test_agreement_stands_beside_chance_and_real_images(make_run) -> None:
    found = tables([make_run(2, measurements=FOUND)])
    assert found["prompt_agreement"]["rows"] == [
        [RUN, "80.0 % (75.0 to 85.0 %)", "400", "12.5 %", "95.0 % (90.0 to 100.0 %)"]
    ]
    by_class = found["prompt_agreement_by_class"]
    assert by_class["columns"] == ("Class", RUN)
    assert by_class["rows"] == [
        ["six", "90.0 % of 300 (85.0 to 95.0 %)"],
        ["<nine>", "50.0 % of 100 (45.0 to 55.0 %)"],
    ]


def test_nearness_stands_beside_that_to_the_other_held_out_images(make_run) -> None:
    assert tables([make_run(2, measurements=FOUND)])["init_distance"]["rows"] == [
        ["Distance to the start", "pixels", RUN, "20.0 (19.0 to 21.0)", "70.0 (69.0 to 71.0)", "400"],
        ["Similarity to the start", "labeler features", RUN, "0.5 (−0.5 to 1.5)", "0.2 (−0.8 to 1.2)", "400"],
    ]  # fmt: skip


def test_from_noise_there_is_no_table_of_starts(make_run) -> None:
    section = prompted_section(open_views([make_run(2, measurements=FOUND[:4])]))
    assert [table.key for table in section.tables] == ["prompt_agreement", "prompt_agreement_by_class", "reading"]
    assert "started from" not in section.lead


def test_other_runs_have_one_sentence_and_reasons_are_told(make_run) -> None:
    section = prompted_section(open_views([make_run(2)]))
    assert (section.lead, section.tables, section.caveats) == ("No text-to-image model is shown here.", (), [])
    missing = Measurement.not_measurable("prompt_agreement", "the samples bring no prompts")
    section = SECTIONS["prompted"](open_views([make_run(3, measurements=[missing])]))
    assert section.caveats == [
        f"{RUN.replace('2', '3')}: prompt_agreement not measurable: the samples bring no prompts"
    ]

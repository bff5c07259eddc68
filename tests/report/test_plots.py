"""Plots: well-formed SVG in the page's colours, text kept as text, no drawing in the way of another."""

from xml.etree import ElementTree

import pytest

from leadline.report.dots import Row, draw_rows
from leadline.report.plots import Level, Line, Point, draw, folded, spread

SVG = "{http://www.w3.org/2000/svg}"


def make(name: str = "p", label: str = "2 blocks", **options):
    points = (Point(x=0, y=0.061, lower=0.048, upper=0.077), Point(x=1, y=0.09))
    options = {"categories": ("2", "4"), "levels": (Level(y=0.1, label="training data"),)} | options
    return draw(
        (Line(label=label, points=points),), name=name, alt="the alt", caption="c", x_label="x", y_label="y", **options
    )


def texts(svg: str) -> str:
    return " ".join("".join(t.itertext()) for t in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_the_drawing_is_an_image_with_words_and_the_pages_colours() -> None:
    plot = make()
    root = ElementTree.fromstring(plot.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == plot.alt == "the alt"
    assert "var(--series-1)" in plot.svg
    assert "var(--ink)" in plot.svg
    assert "#0101" not in plot.svg
    assert "#0102" not in plot.svg


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "$x^$", '"quoted" & more', "数字", "nul\x00 char"])
def test_a_label_is_text_whatever_it_holds(label: str) -> None:
    plot = make(label=label)
    assert label.replace("\x00", "\\x00").split()[0] in texts(plot.svg)
    assert "<script" not in plot.svg


def test_ids_of_two_drawings_do_not_clash_and_references_hold() -> None:
    ids = [
        {e.get("id") for e in ElementTree.fromstring(make(name).svg).iter() if e.get("id")} for name in ("one", "two")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
    root = ElementTree.fromstring(make("one").svg)
    used = {e.get("clip-path") for e in root.iter() if e.get("clip-path")}
    used |= {e.get("{http://www.w3.org/1999/xlink}href") for e in root.iter()} - {None}
    assert used
    assert all(reference.removeprefix("url(").strip("()#") in ids[0] for reference in used)


def test_the_same_values_give_the_same_bytes() -> None:
    assert make().svg == make().svg


def test_labels_are_moved_apart_and_no_further() -> None:
    assert spread([0.5, 0.1, 0.52], [0.1] * 3) == pytest.approx([0.5, 0.1, 0.6])
    assert spread([0.1, 0.5], [0.1] * 2) == [0.1, 0.5]
    assert spread([0.2, 0.25], [0.1, 0.3]) == pytest.approx([0.2, 0.4])


def test_labels_at_the_top_are_moved_down() -> None:
    assert spread([0.95, 1.0, 0.99], [0.1] * 3) == pytest.approx([0.8, 1.0, 0.9])


def test_a_logarithmic_axis_is_written_in_plain_numbers() -> None:
    written = texts(make(log_y=True, categories=(), levels=()).svg)
    assert "0.05" in written
    assert "$" not in written


def test_long_names_are_folded_and_words_without_an_end_broken() -> None:
    assert folded("A folder of images") == "A folder of\nimages"
    assert folded("x" * 28) == "x" * 28
    assert folded("x" * 200) == "x" * 14 + "\n" + "x" * 13 + "…"


def test_dots_of_two_sets_stand_beside_each_other_with_their_names() -> None:
    rows = [
        Row(label="in pixels", points=(Point(x=0, y=0.02, lower=0.01, upper=0.03), Point(x=0, y=0.01))),
        Row(label="$x^$ <b>", points=(None, Point(x=0, y=0.0))),
    ]
    level = Level(y=0.01, label="allowed 1 %")
    plot = draw_rows(rows, ["one", "other"], name="d", alt="a", caption="c", x_label="share", level=level, factor=100)
    written = texts(plot.svg)
    assert all(words in written for words in ("in pixels", "$x^$ <b>", "one", "other", "allowed 1 %", "share"))
    assert "var(--series-2)" in plot.svg
    assert "#0101" not in plot.svg
    assert "#0102" not in plot.svg

"""Plots: well-formed SVG in the page's colours, text kept as text, no drawing in the way of another."""

from xml.etree import ElementTree

import pytest

from leadline.report.plots import Level, Line, Point, draw, spread

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

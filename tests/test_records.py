"""The nouns that travel between stages: what they refuse, and that nothing is lost on the way through JSON."""

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from jaxtyping import config
from pydantic import ValidationError

from leadline.errors import LeadlineError
from leadline.records import AuditResult, ImageSet, Measurement, Panel, Table, describe


@pytest.fixture
def images() -> ImageSet:
    """Six grey images of 2×3 px, all different; classes a, b and c, of c none."""
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 1, 2, 3) * 7
    labels = np.array([0, 1, 1, 0, 1, 1])
    return ImageSet(
        name="six", pixels=pixels, labels=labels, classes=("a", "b", "c"), ids=tuple("uvwxyz"), notes={"from": "here"}
    )


def test_an_image_set_says_what_it_is(images: ImageSet) -> None:
    assert (len(images), images.shape) == (6, (1, 2, 3))
    assert images.counts() == {"a": 2, "b": 4, "c": 0}
    assert replace(images, labels=None).counts() == {}
    with pytest.raises(FrozenInstanceError):
        images.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, "labels run from 0 to 3, but there are 3 classes"),
        ({"labels": np.array([0, 1, -1, 0, 0, 0])}, "labels run from -1 to 1, but there are 3 classes"),
        ({"classes": ()}, "labels run from 0 to 1, but there are 0 classes"),
        ({"prompted": np.array([0, 1, 2, 3, 0, 0])}, "prompted run from 0 to 3, but there are 3 classes"),
        ({"ids": ("u", "v")}, "image set 'six': 6 images but 2 ids"),
    ],
)
def test_image_sets_that_do_not_fit_are_refused(images: ImageSet, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        replace(images, **fields)


def test_labels_of_another_number_are_refused_without_type_checks_too(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users have no checks of shapes switched on."""
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    with pytest.raises(LeadlineError, match="image set 'six': 6 images but 5 labels"):
        replace(images, labels=np.zeros(5, dtype=np.int64))
    with pytest.raises(LeadlineError, match="image set 'six': 6 images but 5 init"):
        replace(images, init=np.zeros(5, dtype=np.int64))


def test_an_empty_image_set_has_counts() -> None:
    nothing = ImageSet(
        name="none", pixels=np.zeros((0, 1, 2, 2), np.uint8), labels=np.zeros(0, np.int64), classes=("a",)
    )
    assert nothing.counts() == {"a": 0}
    assert len(nothing.images()) == 0


def test_images_run_from_minus_1_to_1() -> None:
    """255 values in between, each one 1 / 127.5 from the next; every one leads back to its byte."""
    values = ImageSet(name="all", pixels=np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)).images()
    assert values.dtype == np.float32
    assert (values.min(), values.max()) == (-1, 1)
    assert np.diff(values.ravel()) == pytest.approx(1 / 127.5, abs=1e-6)
    assert np.array_equal(np.rint((values.ravel() + 1) * 127.5), np.arange(256))


def test_a_part_of_the_images(images: ImageSet) -> None:
    assert np.array_equal(images.images(2, 5), images.images()[2:5])
    assert len(images.images(4)) == 2


def test_taking_keeps_order_labels_and_ids_together(images: ImageSet) -> None:
    taken = images.take([4, 0, 4])
    assert taken.ids == ("y", "u", "y")
    assert np.array_equal(taken.pixels, images.pixels[[4, 0, 4]])
    assert taken.labels is not None
    assert taken.labels.tolist() == [1, 0, 1]
    assert (taken.name, taken.classes, taken.notes) == ("six", images.classes, images.notes)
    assert images.take(np.array([1]), name="one").name == "one"
    bare = ImageSet(name="bare", pixels=images.pixels).take([1])
    assert (bare.labels, bare.ids, bare.prompted, bare.init) == (None, (), None, None)
    asked = replace(images, prompted=np.arange(6) % 2, init=np.arange(6) + 3).take([4, 0])
    assert (asked.prompted.tolist(), asked.init.tolist()) == ([0, 0], [7, 3])


def test_the_fingerprint_hangs_on_the_content(images: ImageSet) -> None:
    assert images.labels is not None
    other_pixel = images.pixels.copy()
    other_pixel[5, 0, 1, 2] += 1
    others = [
        replace(images, prompted=images.labels),
        replace(images, init=images.labels),
        replace(images, pixels=other_pixel),
        replace(images, pixels=images.pixels.reshape(6, 1, 3, 2)),
        replace(images, pixels=images.pixels[::-1]),
        replace(images, labels=images.labels[::-1]),
        replace(images, labels=None),
        replace(images, classes=("a", "b", "d")),
        replace(images, classes=("a", "b")),
        images.take(range(5)),
    ]
    found = [images.fingerprint(), *(other.fingerprint() for other in others)]
    assert len(set(found)) == len(found)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in found)


def test_the_fingerprint_does_not_hang_on_where_the_content_came_from(images: ImageSet, tmp_path: Any) -> None:
    assert images.labels is not None
    np.save(tmp_path / "pixels.npy", images.pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    strided = np.repeat(images.pixels, 2, axis=3)[..., ::2]
    for same in (
        replace(images, name="other", ids=(), notes={}),
        replace(images, pixels=mapped),
        replace(images, pixels=strided),
        replace(images, labels=images.labels.astype(np.int32)),
    ):
        assert same.fingerprint() == images.fingerprint()


def test_the_fingerprint_sees_every_block_of_a_large_set() -> None:
    """Pixels are read 4,096 images at a time."""
    pixels = np.zeros((4097, 1, 1, 1), dtype=np.uint8)
    plain = ImageSet(name="n", pixels=pixels).fingerprint()
    last = pixels.copy()
    last[-1] = 1
    assert ImageSet(name="n", pixels=last).fingerprint() != plain


FULL = Measurement(
    name="share",
    value=0.061,
    lower=0.048,
    upper=0.077,
    level=0.95,
    method="Wilson",
    n=1000,
    unit="",
    direction="larger: more of the class",
    group="9",
    params={"k": 5, "space": "pixels"},
    computed_from={"samples": "0123456789abcdef"},
)


@pytest.mark.parametrize("value", [0.1 + 0.2, -0.0, 1e-300, math.inf, -math.inf])
def test_every_value_survives_json(value: float) -> None:
    measured = FULL.model_copy(update={"value": value, "lower": -math.inf, "upper": math.inf})
    text = measured.model_dump_json()
    again = Measurement.model_validate_json(text)
    assert again == measured
    assert again.value is not None
    assert math.copysign(1, again.value) == math.copysign(1, value)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    # Infinity and NaN as bare words are what other readers of JSON refuse.
    json.loads(text, parse_constant=refuse)


def test_what_is_not_measurable_survives_json() -> None:
    missing = Measurement.not_measurable("share", "no labels: name a column with --groups", group="9", n=3)
    assert (missing.value, missing.status, missing.group, missing.n) == (None, "not_measurable", "9", 3)
    assert Measurement.model_validate_json(missing.model_dump_json()) == missing


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": None}, "value is None exactly when the status is not_measurable"),
        ({"value": 1.0, "status": "not_measurable", "reason": "why"}, "value is None exactly when"),
        ({"value": None, "status": "not_measurable"}, "needs a reason that says how to get the number"),
        ({"value": None, "status": "not_measurable", "reason": ""}, "needs a reason"),
        ({"value": math.nan}, "a value or bound that is not a number is not_measurable"),
        ({"value": 1.0, "lower": math.nan}, "a value or bound that is not a number"),
        ({"value": 1.0, "status": "fine"}, "'ok' or 'not_measurable'"),
        ({"value": 1.0, "valeu": 1.0}, "Extra inputs are not permitted"),
    ],
)
def test_measurements_that_contradict_themselves_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Measurement(name="share", **fields)


def test_measurements_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.value = 0.1  # type: ignore[misc]


def test_a_measurement_in_one_line() -> None:
    assert describe(FULL) == "share [9, k=5, space=pixels]: 0.061 (95% interval 0.048 to 0.077), n = 1,000"
    plain = Measurement(name="distance", value=1234567.0, unit="px", params={"sizes": [1, 2]})
    assert describe(plain) == "distance: 1.235e+06 px"
    assert describe(Measurement.not_measurable("share", "no labels")) == "share: not measurable: no labels"
    half = Measurement(name="share", value=0.5, lower=0.4, level=0.95)
    assert describe(half) == "share: 0.5"


@pytest.mark.parametrize(("level", "word"), [(0.95, "95%"), (0.999, "99.9%"), (0.975, "97.5%"), (0.29, "29%")])
def test_the_level_of_an_interval_is_not_rounded_away(level: float, word: str) -> None:
    measured = Measurement(name="share", value=0.5, lower=0.4, upper=0.6, level=level)
    assert describe(measured) == f"share: 0.5 ({word} interval 0.4 to 0.6)"


def test_tables_are_rectangular() -> None:
    table = Table(name="counts", title="Counts", columns=("class", "n"), rows=(("6", 126), ("9", None)))
    assert Table.model_validate_json(table.model_dump_json()) == table
    with pytest.raises(ValidationError, match="table 'counts': every row needs 2 cells"):
        Table(name="counts", title="Counts", columns=("class", "n"), rows=(("6", 126), ("9",)))


def test_the_cells_of_a_table_keep_their_types() -> None:
    """A class called "6" is no number, a count is no float."""
    rows = (("6", 6, 6.0), (None, 0, math.inf))
    table = Table(name="t", title="t", columns=("a", "b", "c"), rows=rows)
    again = Table.model_validate(json.loads(json.dumps(table.model_dump(mode="json"))))
    assert [[type(cell) for cell in row] for row in again.rows] == [[type(cell) for cell in row] for row in rows]
    assert again.rows == rows


TILES = np.zeros((2, 3, 1, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"captions": tuple("abcdef"), "column_titles": tuple("abc"), "row_titles": tuple("ab")},
    ],
)
def test_panels_take_no_words_or_all(words: dict[str, tuple[str, ...]]) -> None:
    panel = Panel(name="p", title="P", tiles=TILES, **words)
    assert {name: getattr(panel, name) for name in words} == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"captions": tuple("abc")}, "panel 'p': 6 captions or titles expected, 3 given"),
        ({"column_titles": tuple("ab")}, "panel 'p': 3 captions or titles expected, 2 given"),
        ({"row_titles": tuple("abc")}, "panel 'p': 2 captions or titles expected, 3 given"),
    ],
)
def test_panels_with_some_words_missing_are_refused(words: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(LeadlineError, match=message):
        Panel(name="p", title="P", tiles=TILES, **words)


@pytest.fixture
def result() -> AuditResult:
    """Shares of two classes, and distances for two k."""
    return AuditResult(
        measurements=(
            Measurement(name="share", value=0.9, group="6"),
            Measurement(name="share", value=0.1, group="9"),
            Measurement(name="distance", value=1.0, params={"k": 1, "set": "samples"}),
            Measurement(name="distance", value=2.0, params={"k": 5, "set": "samples"}),
            Measurement.not_measurable("distance", "no held-out images", params={"k": 5, "set": "held_out"}),
        )
    )


def test_a_result_is_a_sequence(result: AuditResult) -> None:
    assert len(result) == 5
    assert result[1].value == 0.1
    assert [m.name for m in result[1:3]] == ["share", "distance"]
    assert list(result) == list(result.measurements)
    assert result.measurements[3] in result


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"name": "share"}, [0, 1]),
        ({"name": "share", "group": "9"}, [1]),
        ({"name": "share", "group": "8"}, []),
        ({"name": "distance", "k": 5}, [3, 4]),
        ({"name": "distance", "k": 5, "set": "samples"}, [3]),
        ({"name": "distance", "kk": 5}, []),
        ({"name": "shares"}, []),
    ],
)
def test_find_by_name_group_and_params(result: AuditResult, query: dict[str, Any], found: list[int]) -> None:
    assert result.find(**query) == [result[i] for i in found]


def test_a_result_prints_one_line_each(result: AuditResult) -> None:
    lines = str(result).splitlines()
    assert len(lines) == 5
    assert lines[0] == "share [6]: 0.9"
    assert lines[-1] == "distance [k=5, set=held_out]: not measurable: no held-out images"
    assert str(AuditResult(measurements=())) == "(no measurements)"

"""Numbers into words: one way to write a share, an interval, a measurement that could not be made."""

import math
import re
from collections.abc import Iterable
from typing import Any

from leadline.records import Measurement
from leadline.report.content import Cell

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SHARES = {
    "share_sequence",
    "share",
    "corrected_share",
    "unrecognised_share",
    "human_share",
    "prediction_powered_share",
    "labeler_agreement_on_samples",
    "share_between_runs",
    "corrected_share_between_runs",
    "labeler_accuracy",
    "nearest_copy_rate",
    "authentic_rate",
    "prompt_agreement",
    "class_changed",
    "flip_rate",
}
"""Names whose value is a part of one whole: written in per cent."""
POINTS = {
    "share_difference",
    "corrected_difference",
    "labeled_difference",
    "detectable_difference",
    "share_difference_at_equal",
    "prediction_powered_difference",
    "share_between_runs_difference",
    "copy_rate_excess",
    "paired_flips",
    "class_bias",
    "class_bias_change",
}
"""Names whose value is a difference of two shares: written in percentage points."""
SETS = {"samples": "generated", "held_out": "held-out real", "training": "training"}
"""Sets of images -> what a reader calls them."""
DIFFERENCE = f"generated {MINUS} held-out"

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def plain(text: object) -> str:
    """Text that UTF-8, HTML and SVG can all hold: what they cannot is written as a backslash escape."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def number(value: int | float, digits: int = 4, *, signed: bool = False) -> str:
    """`value` with `digits` significant digits, thousands apart, a true minus sign and ∞ where it is infinite."""
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    size = abs(value)
    if math.isinf(size):
        return f"{sign}∞"
    if size == int(size) and size < 1e15:
        return f"{sign}{int(size):,}"
    if not 1e-4 <= size < 1e7:
        return f"{sign}{size:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{sign}{size:,.{decimals}f}"


def short(value: int | float) -> str:
    """A number without zeros at its end: `0.5`, `1,000`, `0.3333`."""
    return f"{value:,.4g}".replace("-", MINUS) if abs(value) < 1000 else number(value)


def percentage(value: float, *, signed: bool = False) -> str:
    """A share as a percentage without its sign `%`: one decimal, or two significant digits below 0.1 %."""
    hundredth = 100 * value
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    size = abs(hundredth)
    if size == 0:
        return "0"
    if size >= 0.1:
        return f"{sign}{size:.1f}"
    return f"{sign}{size:.2g}"


def percent(value: float) -> str:
    """A share in per cent: `6.1 %`."""
    return f"{percentage(value)}{SPACE}%"


def digits_after_point(measurement: Measurement) -> int | None:
    """Decimals that its interval bears: its width to two digits. None where there is no finite interval."""
    m = measurement
    width = math.inf if m.lower is None or m.upper is None else m.upper - m.lower
    return max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else None


def like(measurement: Measurement, value: float, *, ending: bool = True) -> str:
    """A number as the page writes it where it belongs to this measurement: its value, an end of its interval.

    Shares in per cent, differences of shares in points, all else with the decimals that the interval bears.
    """
    if measurement.name in SHARES:
        return percent(value) if ending else percentage(value)
    if measurement.name in POINTS:
        return percentage(value, signed=True) + (" points" if ending else "")
    decimals = digits_after_point(measurement)
    if decimals is None or math.isinf(value):
        return number(value)
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def ends_text(measurement: Measurement) -> str:
    """Both ends of the interval, `4.8 to 7.7 %`; empty where there is none."""
    m = measurement
    if m.lower is None or m.upper is None:
        return ""
    return f"{like(m, m.lower, ending=False)} to {like(m, m.upper)}"


def interval_text(measurement: Measurement) -> str:
    """`95 % interval 4.8 to 7.7 %`; empty where there is none."""
    level = "" if measurement.level is None else f"{number(100 * measurement.level)}{SPACE}% "
    ends = ends_text(measurement)
    return f"{level}interval {ends}" if ends else ""


def interval_note(measurements: Iterable[Measurement | None], *, methods: bool = True) -> str:
    """What stands below the values of a table and, if wanted, by which methods."""
    found = [m for m in measurements if m is not None and m.lower is not None]
    if not found:
        return ""
    levels = dict.fromkeys(f"{number(100 * m.level)}{SPACE}%" for m in found if m.level is not None)
    by = "; ".join(dict.fromkeys(m.method for m in found if m.method)) if methods else ""
    return f"Below a value: its {' or '.join(levels)} interval" + (f" ({by})." if by else ".")


def not_measurable(measurement: Measurement) -> str:
    """What stands in the place of a number that could not be measured."""
    return f"not measurable: {measurement.reason}"


def measurement_text(measurement: Measurement, *, unit: bool = False) -> str:
    """Value and interval in one line, or why there is no value."""
    m = measurement
    if m.value is None:
        return not_measurable(m)
    interval = interval_text(m)
    own_unit = f"{SPACE}{m.unit}" if unit and m.unit and m.name not in SHARES | POINTS else ""
    return like(m, m.value) + own_unit + (f" ({interval})" if interval else "")


def accuracy_text(accuracy: Measurement) -> str:
    """A labeler's accuracy with the images that it was judged on: 98.4 % (97.6 to 99.0 %) of labelled images ..."""
    of = accuracy.unit.removeprefix("share") if accuracy.value is not None else ""
    return measurement_text(accuracy) + of


def measurement_cell(found: Measurement | None, missing: str = "not measured") -> Cell:
    """The cell of one measurement: the value, its interval below; never a 0 for a number that is not there."""
    if found is None:
        return Cell(text=missing, muted=True)
    if found.value is None:
        return Cell(text=not_measurable(found), muted=True)
    return Cell(text=like(found, found.value), detail=ends_text(found), numeric=True)


def brief_cell(found: Measurement | None, beside: str = "") -> Cell:
    """The cell of one measurement whose reason, where it has no value, stands elsewhere in the section.

    `beside` comes after the value.
    """
    if found is None or found.value is None:
        return Cell(text="–" if found is None else "not measurable", muted=True)
    return Cell(text=like(found, found.value) + beside, detail=ends_text(found), numeric=True)


def p_text(p: float) -> str:
    """`p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.995 else "p = 1"


def table_cell(value: str | int | float | None) -> Cell:
    """The cell of a value that the audit put in a table; None is shown as a dash."""
    if value is None:
        return Cell(text="–", muted=True)
    if isinstance(value, bool | str):
        return Cell(text=str(value))
    return Cell(text="not a number" if math.isnan(value) else number(value), numeric=True)


def setting(value: Any) -> str:
    """A setting's value in words: lists with commas, mappings as name: value, yes and no, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {setting(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(": ".join(map(setting, v)) if _is_pair(v) else setting(v) for v in value) or "none"
    if isinstance(value, float):
        return "not a number" if math.isnan(value) else f"{value:g}".replace("-", MINUS)
    return str(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def params_text(measurement: Measurement) -> str:
    """The options behind a measurement: `k = 1, set = samples`."""
    return ", ".join(f"{name} = {setting(value)}" for name, value in measurement.params.items())


def quoted(group: str) -> str:
    """A class name inside a sentence: bare when it is one plain word or number, else in quotation marks."""
    return group if re.fullmatch(r"[\w.-]+", group) else f"“{group}”"


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = list(items)
    return f"{', '.join(first)} and {last}" if first else last


def counted(number_of: int, noun: str, nouns: str = "") -> str:
    """`1 image`, `1,000 images`; `nouns` where the plural takes more than an s."""
    return f"{number_of:,} {noun if number_of == 1 else nouns or noun + 's'}"

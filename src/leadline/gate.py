"""A gate for releases: conditions that finished results must not fulfil; a number that is missing fails it too.

nearest_copy_rate[space=pixels, rule=d1/d2].lower > 0.01
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from leadline.errors import LeadlineError, did_you_mean
from leadline.records import AuditResult, Measurement, describe

FIELDS = ("value", "lower", "upper")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
SETS = ("samples", "training", "held_out")
GRAMMAR = 'NAME[option=value, ...].lower > NUMBER, as in "nearest_copy_rate[rule=d1/d2].lower > 0.01"'

_CONDITION = re.compile(
    r"\s*(?P<name>\w+)\s*"
    r"(?:\[(?P<selectors>(?:\"[^\"]*\"|[^\]\"])*)\]\s*)?"
    r"(?:\.\s*(?P<field>\w+)\s*)?"
    r"(?P<operator>[<>=!~]+)\s*"
    r"(?P<limit>\S+)\s*"
)
_SELECTOR = re.compile(r"\s*(\w+)\s*=\s*(?:\"([^\"]*)\"|([^\",\[\]=]*[^\",\[\]=\s]))\s*(?:,|$)")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What must not hold: `field` of every chosen measurement compared with `limit`.

    text: as it was written. selectors: group and params that a measurement must have; without `set` among them only
    measurements of the samples are meant, never those of training or held-out images.
    """

    text: str
    name: str
    field: Literal["value", "lower", "upper"]
    operator: str
    limit: float
    selectors: tuple[tuple[str, str], ...] = ()

    def holds(self, number: float) -> bool:
        """Whether the number fulfils the condition, so that the gate fails."""
        return OPERATORS[self.operator](number, self.limit)

    def chooses(self, m: Measurement) -> bool:
        """Whether the measurement is one of those that are meant."""
        of_samples = "set" in dict(self.selectors) or m.params.get("set", "samples") == "samples"
        return m.name == self.name and of_samples and all(_has(m, key, value) for key, value in self.selectors)

    def answered_by(self, m: Measurement) -> bool:
        """Whether it is the record that no measurement of this name was possible, kept once for all options."""
        told = [(key, value) for key, value in self.selectors if _tells(m, key)]
        return m.value is None and m.name == self.name and all(_has(m, key, value) for key, value in told)


class Verdict(BaseModel):
    """What came of one condition. lines: each a measurement with its interval, or why it could not be checked.

    passed: no chosen measurement fulfils the condition, and each has the number that it asks for. unchecked: a number
    is missing, which fails the gate as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: str
    status: Literal["passed", "failed", "unchecked"]
    lines: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """One sentence per line: whether the gate passed, by which condition, and the measurement."""
        word = "passed" if self.status == "passed" else "failed"
        return [f"gate {word}: {self.condition}: {line}" for line in self.lines]


def parse(text: str, known: Iterable[str]) -> Condition:
    """A condition from its text; `known` holds the names that an audit can report.

    Raises LeadlineError, with the part that does not fit, on anything else.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise LeadlineError(f"--fail-if takes {GRAMMAR}, not {text!r}")
    name, field = found["name"], found["field"] or "value"
    names = list(known)
    if name not in names:
        raise LeadlineError(f"--fail-if {text!r}: no measurement is called {name!r}: {did_you_mean(name, names)}")
    if field not in FIELDS:
        raise LeadlineError(f"--fail-if {text!r}: a measurement has no {field!r}: it has {', '.join(FIELDS)}")
    if found["operator"] not in OPERATORS:
        raise LeadlineError(f"--fail-if {text!r}: {found['operator']!r} is none of {' '.join(OPERATORS)}")
    return Condition(
        text=" ".join(text.split()),
        name=name,
        field=field,  # type: ignore[arg-type]
        operator=found["operator"],
        limit=_limit(text, found["limit"]),
        selectors=() if found["selectors"] is None else _selectors(text, found["selectors"]),
    )


def check(result: AuditResult, conditions: Sequence[Condition]) -> tuple[Verdict, ...]:
    """One verdict per condition, in their order."""
    return tuple(_verdict(result, condition) for condition in conditions)


def _verdict(result: AuditResult, condition: Condition) -> Verdict:
    chosen = [m for m in result if condition.chooses(m)] or [m for m in result if condition.answered_by(m)]
    if not chosen:
        return Verdict(condition=condition.text, status="unchecked", lines=(_no_match(result, condition),))
    numbers = [(m, getattr(m, condition.field)) for m in chosen]
    holding = [describe(m) for m, number in numbers if number is not None and condition.holds(number)]
    missing = [_missing(m, condition.field) for m, number in numbers if number is None]
    if holding or missing:
        return Verdict(
            condition=condition.text, status="failed" if holding else "unchecked", lines=(*holding, *missing)
        )
    nearest = (max if ">" in condition.operator else min)(numbers, key=lambda found: found[1])[0]
    of = f"holds for none of {len(numbers)}, nearest " if len(numbers) > 1 else "does not hold, "
    return Verdict(condition=condition.text, status="passed", lines=(of + describe(nearest),))


def _missing(m: Measurement, field: str) -> str:
    if m.value is None:
        return f"could not be checked: {describe(m)}"
    return f"could not be checked: there is no {field} bound ({m.method or 'no interval was made'}): {describe(m)}"


def _no_match(result: AuditResult, condition: Condition) -> str:
    """Why nothing was found, with the options by which the measurements of that name can be chosen."""
    options: dict[str, dict[str, None]] = {}
    for m in result.find(condition.name):
        told = {"group": m.group, **{key: m.params[key] for key, _ in condition.selectors if key in m.params}}
        for key, value in {**told, "set": m.params.get("set")}.items():
            if value is not None:
                options.setdefault(key, {})[str(value)] = None
    if not result.find(condition.name):
        return f"could not be checked: the audit has no {condition.name}"
    there = "; ".join(f"{key} = {', '.join(values)}" for key, values in options.items())
    return (
        f"could not be checked: no {condition.name} of the audit is chosen by this"
        f" (it has {there or 'none of these options'})"
    )


def _limit(text: str, limit: str) -> float:
    try:
        number = float(limit)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LeadlineError(f"--fail-if {text!r}: {limit!r} is no finite number (one per cent is written 0.01)")
    return number


def _selectors(text: str, inner: str) -> tuple[tuple[str, str], ...]:
    """`group=nine, space="a, b"` as pairs."""
    pairs: dict[str, str] = {}
    position = 0
    while position < len(inner) or not pairs:
        found = _SELECTOR.match(inner, position)
        if found is None:
            raise LeadlineError(
                f"--fail-if {text!r}: [{inner}] must hold option=value, separated by commas (a value that has a comma, "
                'a bracket or = in it stands in double quotes: group="a, b")'
            )
        key, value = found[1], found[2] if found[2] is not None else found[3]
        if key in pairs:
            raise LeadlineError(f"--fail-if {text!r}: {key} is given twice: write two conditions (--fail-if twice)")
        if key == "set" and value not in SETS:
            raise LeadlineError(f"--fail-if {text!r}: set is one of {', '.join(SETS)}, not {value!r}")
        pairs[key] = value
        position = found.end()
    return tuple(pairs.items())


def _tells(m: Measurement, key: str) -> bool:
    return m.group is not None if key == "group" else key in m.params


def _has(m: Measurement, key: str, wanted: str) -> bool:
    """Whether group or param reads as `wanted`: numbers by value (1 is 1.0), yes and no as true and false."""
    if not _tells(m, key):
        return False
    own: Any = m.group if key == "group" else m.params[key]
    if isinstance(own, bool):
        return wanted.lower() == str(own).lower()
    if isinstance(own, int | float):
        try:
            return math.isclose(own, float(wanted), rel_tol=1e-9)
        except ValueError:
            return False
    return str(own) == wanted

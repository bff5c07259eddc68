"""Data, settings, hashes, versions, times: what is needed to make the runs again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leadline.report.content import Cell, Section, TableView
from leadline.report.views import RunView, who
from leadline.report.words import SPACE, listed, number, plain, setting

Views = Sequence[RunView]
DESCRIPTIVE = {"name", "description"}
"""Fields of a recipe that are words about it."""
COUNT_FIELDS = {"name", "n", "counts", "fingerprint"}
"""Fields of a split that stand in the table of counts; all its other fields are listed."""


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf of nested mappings."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def recipe_fields(view: RunView) -> dict[str, str]:
    """Every setting of the run's recipe, in words; empty where there is no recipe."""
    content = view.header.recipe or {}
    shown = {name: value for name, value in content.items() if name not in DESCRIPTIVE}
    return {name: plain(setting(value)) for name, value in flat(shown)}


def differing_fields(views: Views) -> list[str]:
    """Settings in which the runs that have a recipe differ."""
    fields = [recipe_fields(view) for view in views if view.header.recipe is not None]
    names = dict.fromkeys(name for one in fields for name in one)
    return [name for name in names if len({one.get(name) for one in fields}) > 1]


def _comparison(key: str, caption: str, columns: Mapping[str, Mapping[str, str]]) -> TableView:
    """One row per field, one column per run; a field in which the runs differ says so."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = []
    for name in names:
        values = [column.get(name, "–") for column in columns.values()]
        differs = "differs" if len(set(values)) > 1 else ""
        rows.append((Cell(text=plain(name), detail=differs), *(Cell(text=plain(value)) for value in values)))
    return TableView(key=key, caption=caption, columns=("Field", *columns), rows=tuple(rows), style="dense")


def settings_section(views: Views) -> Section:
    """The recipes field by field, then where each run came from."""
    with_recipe = {view.name: recipe_fields(view) for view in views if view.header.recipe is not None}
    tables = []
    if with_recipe:
        tables.append(_comparison("recipe", "Recipe, in full", with_recipe))
    networks = {view.name: found for view in views if (found := _networks(view))}
    if networks:
        tables.append(_comparison("networks", "Networks that read the images", networks))
    audits = {
        view.name: {name: setting(value) for name, value in flat(view.audit.settings) if name not in _shown(view)}
        for view in views
        if view.audit is not None and view.audit.settings
    }
    if audits:
        tables.append(_comparison("audit_settings", "Settings of the audit", audits))
    tables.append(_comparison("provenance", "Hashes, versions, times", {v.name: _provenance(v) for v in views}))
    samplers = dict.fromkeys(
        f"{drawn.sampler} with {number(drawn.steps)} steps" for view in views if (drawn := view.sampling) is not None
    )
    lead = f"Sampler: {listed(samplers)}." if samplers else "Sampler: not recorded (images from elsewhere)."
    return Section(
        id="settings",
        title="Settings and hashes",
        lead=lead,
        tables=tables,
        caveats=[f"{view.name}: {view.recipe_reason}." for view in views if view.recipe_reason],
    )


def _networks(view: RunView) -> dict[str, str]:
    """Name of each network of the audit -> what it is, in the audit's words."""
    settings = {} if view.audit is None else view.audit.settings
    labeler, encoders = settings.get("labeler"), settings.get("encoders")
    found = {"labeler": labeler["description"]} if isinstance(labeler, Mapping) and "description" in labeler else {}
    return found | ({name: setting(words) for name, words in encoders.items()} if isinstance(encoders, Mapping) else {})


def _shown(view: RunView) -> set[str]:
    """Settings that the table of networks has."""
    return {"labeler.description", "encoders", *(f"encoders.{name}" for name in _networks(view))}


def _provenance(view: RunView) -> dict[str, str]:
    header = view.header
    facts: dict[str, Any] = {"folder": view.folder, "status": header.status, "created": header.created}
    if view.recipe is not None:
        facts |= {"recipe fingerprint": view.recipe.fingerprint()}
        facts |= {"training fingerprint": view.recipe.training_fingerprint()}
    facts |= {f"{split} data fingerprint": d["fingerprint"] for split, d in _splits(view) if "fingerprint" in d}
    facts |= {f"samples: {name}": value for name, value in flat(header.samples)}
    facts |= {f"model: {name}": value for name, value in flat(header.model)}
    facts |= {"overrides (--set)": header.overrides, "commit": header.commit, "uncommitted changes": header.dirty}
    facts |= {"device": header.device or None, "Python": header.python}
    facts |= {f"package {name}": version for name, version in header.packages.items()}
    facts |= {f"time for {stage}": f"{number(seconds, 3)}{SPACE}s" for stage, seconds in header.seconds.items()}
    return {name: setting(value) for name, value in facts.items()}


def _splits(view: RunView) -> list[tuple[str, Mapping[str, Any]]]:
    found = view.header.data.items()
    return [(name, value) for name, value in found if isinstance(value, Mapping) and "n" in value]


def data_section(views: Views) -> Section:
    """Realised counts per split and what happened to the images; once for all runs of the same data."""
    by_data: dict[str, list[RunView]] = {}
    for view in views:
        if view.header.data:
            by_data.setdefault(repr(sorted(view.header.data.items())), []).append(view)
    if not by_data:
        return Section(id="data", title="Data", lead="The runs hold no record of their data.")
    tables = []
    for same in by_data.values():
        names = who([view.name for view in same], views)
        tables += [table for table in (_counts(same[0], names), _notes(same[0], names)) if table.rows]
    lead = (
        "What was loaded, as it was realised: numbers of images per class, how they were converted, what was left out."
    )
    return Section(id="data", title="Data", lead=lead, tables=tables)


def _counts(view: RunView, names: str) -> TableView:
    splits = _splits(view)
    classes = list(dict.fromkeys(str(name) for _, split in splits for name in split.get("counts", {})))
    rows = []
    for name, split in splits:
        counts = split.get("counts", {})
        numbers = [_count(split.get("n")), *(_count(counts.get(c)) for c in classes)]
        rows.append((Cell(text=plain(name)), *numbers, Cell(text=setting(split.get("fingerprint")))))
    columns = ("Split", "Images", *map(plain, classes), "Fingerprint")
    return TableView(key="counts", caption=f"{names}: images per split and class", columns=columns, rows=tuple(rows))


def _count(value: Any) -> Cell:
    if isinstance(value, int | float):
        return Cell(text=number(value), numeric=True)
    return Cell(text="–", muted=True)


def _notes(view: RunView, names: str) -> TableView:
    notes: list[tuple[str, Any]] = []
    for name, value in view.header.data.items():
        rest = {k: v for k, v in value.items() if k not in COUNT_FIELDS} if isinstance(value, Mapping) else value
        notes += flat({name: rest}) if rest not in ({}, None) else []
    rows = tuple((Cell(text=plain(name)), Cell(text=plain(setting(value)))) for name, value in notes)
    return TableView(key="data_notes", caption=f"{names}: how the data was made", columns=("Note", "Value"), rows=rows)

"""Sections -> one HTML page that needs nothing but itself, and one JSON with all that the page says."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from leadline.errors import LeadlineError
from leadline.files import write_text
from leadline.frontier import SteerSweep
from leadline.records import SCHEMA_VERSION, AuditResult
from leadline.report.content import Section
from leadline.report.findings import sampler_text
from leadline.report.sections import SECTIONS, headlines
from leadline.report.views import RunView, open_views
from leadline.report.words import counted, listed, plain
from leadline.runs import Run


def build(
    runs: Sequence[Run],
    out: Path,
    title: str | None = None,
    sweep: SteerSweep | None = None,
    across: AuditResult | None = None,
) -> Path:
    """Write the report of `runs` to `out` (HTML) and beside it a JSON of the same name; returns `out`.

    sweep: the steering sweep whose settings the runs are: the page then answers for it. across: what
    `leadline.across.measure_across` found in all of them together.

    A run whose audit is not finished is shown with its reason. Both files are there whole or not at all. The page has
    no script, loads nothing, and depends on the runs alone: the same runs give the same bytes.
    Raises LeadlineError when there is no run, or `out` is a folder or would be its own JSON.
    """
    if not runs:
        raise LeadlineError("a report needs at least one run: give one or more run folders")
    if out.suffix == ".json":
        raise LeadlineError(
            f"the report is an HTML page with a JSON beside it, so {out} cannot end in .json: use .html"
        )
    if out.is_dir():
        raise LeadlineError(f"{out} is a folder: name the file of the report, such as {out / 'report.html'}")
    views = open_views(runs, sweep, across)
    heading = plain(title or _title(views))
    sections = [make(views) for make in SECTIONS.values()]
    write_text(out.with_suffix(".json"), _json(heading, views, sections))
    write_text(out, _html(heading, views, sections))
    return out


def _title(views: Sequence[RunView]) -> str:
    if views[0].sweep is not None:
        settings = counted(len(views[0].sweep.settings), "setting")
        return f"{views[0].sweep.title}: bypass of the mid-block, {settings}"
    names = {view.recipe.name for view in views if view.recipe is not None}
    if len(views) == 1:
        return views[0].name
    if len(names) == 1 and all(view.recipe is not None for view in views):
        return f"{names.pop()}: {listed(view.label for view in views)}"
    return f"Audit of {counted(len(views), 'run')}"


def _html(title: str, views: Sequence[RunView], sections: Sequence[Section]) -> str:
    samplers = "; ".join(dict.fromkeys(sampler_text(view) for view in views))
    created = sorted(view.header.created for view in views)[-1][:10]
    facts = [counted(len(views), "run"), f"sampler: {samplers}", created]
    return render(title, facts, sections, views[-1].header.packages.get("leadline", ""))


def render(title: str, facts: Sequence[str], sections: Sequence[Section], version: str) -> str:
    """The page. facts: what stands below the title; version: leadline's, "" where it is not known."""
    environment = Environment(
        loader=PackageLoader("leadline.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("leadline.report").joinpath("report.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html.jinja").render(
        title=title,
        css=Markup(css),  # noqa: S704 - our own file
        sections=sections,
        facts=[*facts, *([f"leadline {version}"] if version else [])],
        version=version,
    )
    return plain(page)


def _json(title: str, views: Sequence[RunView], sections: Sequence[Section]) -> str:
    content = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "headlines": [found.to_json() for found in headlines(views)],
        "runs": [_run_json(view) for view in views],
        "sections": [section.to_json() for section in sections],
    }
    if views[0].across is not None:
        content["across"] = {
            "measurements": [m.model_dump(mode="json") for m in views[0].across],
            "tables": [t.model_dump(mode="json") for t in views[0].across.tables],
        }
    if views[0].sweep is not None:
        content["steer_sweep"] = views[0].sweep.model_dump(mode="json")
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def _run_json(view: RunView) -> dict[str, Any]:
    audit = view.audit
    return {
        "name": view.name,
        "folder": view.folder,
        "depth": view.depth,
        "sampler": sampler_text(view),
        "header": view.header.model_dump(mode="json"),
        "fingerprint": None if view.recipe is None else view.recipe.fingerprint(),
        "curve": list(view.curve),
        "curve_reason": view.curve_reason,
        "audit_reason": view.audit_reason,
        "recipe_reason": view.recipe_reason,
        "measurements": [] if audit is None else [m.model_dump(mode="json") for m in audit],
        "tables": [] if audit is None else [t.model_dump(mode="json") for t in audit.tables],
        "audit_settings": {} if audit is None else audit.settings,
    }


def finite(value: Any) -> Any:
    """The value with numbers that JSON does not know as words: "Infinity", "-Infinity", "NaN"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value

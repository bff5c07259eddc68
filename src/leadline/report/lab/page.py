"""The page of a command of the theory lab: the answer, its figures (each an SVG file too), tables, settings."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leadline.files import atomic_file, write_text
from leadline.records import SCHEMA_VERSION, TheoryResult
from leadline.registry import Registry
from leadline.report.content import Cell, Finding, Plot, Section, TableView
from leadline.report.page import finite, render
from leadline.report.plots import INK, MUTED, PAPER, RULE, SERIES, THEME
from leadline.report.settings import flat
from leadline.report.words import plain, setting


@dataclass(frozen=True, kw_only=True)
class LabPage:
    """What a command's page says beside its settings. facts: a line below the title."""

    title: str
    findings: Sequence[Finding]
    sections: Sequence[Section]
    caveats: Sequence[str] = ()
    facts: Sequence[str] = ()


PAGES: Registry[Callable[[TheoryResult], LabPage]] = Registry("page of the theory lab")
"""By TheoryResult.kind."""

ON_PAPER = dict(
    zip(
        (INK, MUTED, RULE, PAPER, *SERIES),
        ("#1d2025", "#5c626b", "#dcddd6", "#ffffff", "#0b5fa5", "#b34700", "#1a7a52", "#8a3d8f", "#6b5b00", "#3c4650"),
        strict=True,
    )
)
"""What the page's CSS variables are in a figure that stands alone."""


def build_lab(result: TheoryResult, folder: Path) -> Path:
    """Write report.html, report.json, figures/NAME.svg and arrays.npz into `folder`; returns the page."""
    page = PAGES[result.kind](result)
    answer = Section(
        id="answer",
        title="Answer",
        lead="",
        findings=page.findings,
        caveats=[plain(text) for text in page.caveats],
    )
    sections = [answer, *page.sections, _settings(result)]
    title = plain(page.title)
    content = {
        "schema_version": SCHEMA_VERSION,
        "kind": result.kind,
        "title": title,
        "headlines": [finding.to_json() for finding in page.findings],
        "measurements": [m.model_dump(mode="json") for m in result],
        "tables": [table.model_dump(mode="json") for table in result.tables],
        "settings": result.settings,
        "sections": [section.to_json() for section in sections],
    }
    for section in sections:
        plots = [figure for figure in section.figures if isinstance(figure, Plot)]
        for index, plot in enumerate(plots, 1):
            name = section.id if len(plots) == 1 else f"{section.id}-{index}"
            write_text(folder / "figures" / f"{name}.svg", standalone(plot))
    if result.arrays:
        with atomic_file(folder / "arrays.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **result.arrays)  # type: ignore[arg-type]
    write_text(folder / "report.json", json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    version = result.settings.get("packages", {}).get("leadline", "")
    write_text(folder / "report.html", render(title, [plain(fact) for fact in page.facts], sections, version))
    return folder / "report.html"


def standalone(plot: Plot) -> str:
    """The drawing as an SVG file of its own: the page's colours and fonts written out, on white."""
    text = plot.svg
    for placeholder, variable in THEME.items():
        text = text.replace(variable, ON_PAPER[placeholder])
    text = text.replace("var(--sans)", "DejaVu Sans, Arial, sans-serif")
    head, _, rest = text.partition(">")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head} style="background:#fff">{rest}\n'


def _settings(result: TheoryResult) -> Section:
    rows = [(Cell(text=plain(name)), Cell(text=plain(setting(value)))) for name, value in flat(result.settings)]
    table = TableView(
        key="settings", caption="What decided the numbers", columns=("Field", "Value"), rows=tuple(rows), style="dense"
    )
    return Section(id="settings", title="Settings", lead="", tables=[table])

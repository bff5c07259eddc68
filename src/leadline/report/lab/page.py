"""The page of a command of the theory lab: the answer, its figures (each an SVG file too), tables, settings."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leadline.errors import LeadlineError
from leadline.files import atomic_file, inside, write_text
from leadline.records import SCHEMA_VERSION, Panel, TheoryResult
from leadline.registry import Registry
from leadline.report.content import Cell, Finding, Plot, Section, TableView
from leadline.report.page import finite, render
from leadline.report.plots import INK, MUTED, PAPER, RULE, SERIES, THEME
from leadline.report.settings import flat
from leadline.report.sheet import sheet
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
FIGURES = "figures"
"""The folder of the figures; in report.json the names of those in it."""
WRITTEN = ("report.html", "report.json", "arrays.npz")

ON_PAPER = dict(
    zip(
        (INK, MUTED, RULE, PAPER, *SERIES),
        ("#1d2025", "#5c626b", "#dcddd6", "#ffffff", "#0b5fa5", "#b34700", "#1a7a52", "#8a3d8f", "#6b5b00", "#3c4650"),
        strict=True,
    )
)
"""What the page's CSS variables are in a figure that stands alone."""


def build_lab(result: TheoryResult, folder: Path) -> Path:
    """Write report.html, report.json, figures/NAME.svg and .png and arrays.npz into `folder`; returns the page.

    Figures and arrays of an earlier result in the folder are removed, and the page comes last. Raises LeadlineError
    where the folder holds something else, as `check_folder` does.
    """
    check_folder(folder)
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
        FIGURES: [*_plots(sections), *(f"{panel.name}.png" for panel in result.panels)],
    }
    for name in _earlier(folder).get(FIGURES, []):
        inside(folder / FIGURES, str(name)).unlink(missing_ok=True)
    (folder / "arrays.npz").unlink(missing_ok=True)
    # Before what it lists: an interrupted command leaves nothing that the next one takes for another's.
    write_text(folder / "report.json", json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    _write_figures(folder / FIGURES, sections, result.panels)
    if result.arrays:
        with atomic_file(folder / "arrays.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **result.arrays)  # type: ignore[arg-type]
    version = result.settings.get("packages", {}).get("leadline", "")
    write_text(folder / "report.html", render(title, [plain(fact) for fact in page.facts], sections, version))
    return folder / "report.html"


def check_folder(folder: Path) -> None:
    """Raise LeadlineError where a page in `folder` would take the place of what is no page of the theory lab."""
    if (folder / "run.json").exists():
        raise LeadlineError(f"{folder} is a run, whose report would be replaced: choose another folder (--out)")
    there = [name for name in (*WRITTEN, FIGURES) if (folder / name).exists()]
    if there and not _earlier(folder):
        raise LeadlineError(
            f"{folder} holds {', '.join(there)} that no theory command wrote: choose another folder (--out)"
        )


def _earlier(folder: Path) -> dict[str, Any]:
    """The report.json of an earlier result of the lab in the folder; empty where there is none."""
    try:
        content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("kind") in list(PAGES) else {}


def _plots(sections: Sequence[Section]) -> dict[str, Plot]:
    """The drawings by their files' names: that of the section, numbered where it has several."""
    found = {}
    for section in sections:
        plots = [figure for figure in section.figures if isinstance(figure, Plot)]
        for index, plot in enumerate(plots, 1):
            found[f"{section.id}.svg" if len(plots) == 1 else f"{section.id}-{index}.svg"] = plot
    return found


def _write_figures(folder: Path, sections: Sequence[Section], panels: Sequence[Panel]) -> None:
    """Each drawing as SVG, and each panel of images as PNG, by its own name."""
    for name, plot in _plots(sections).items():
        write_text(folder / name, standalone(plot))
    for panel in panels:
        with atomic_file(inside(folder, f"{panel.name}.png")) as temporary:
            sheet(panel).save(temporary, format="PNG")


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

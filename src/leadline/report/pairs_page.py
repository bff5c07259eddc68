"""The page of `leadline flips`: two sets of images of the same seeds."""

import json
from pathlib import Path
from typing import Any

from leadline.errors import LeadlineError
from leadline.files import write_text
from leadline.records import SCHEMA_VERSION, AuditResult
from leadline.report.page import finite, render
from leadline.report.pairs import section_of


def build_pairs(found: AuditResult, out: Path) -> Path:
    """Write the page of two sets of images (HTML), and beside it a JSON of the same name; returns `out`.

    Raises LeadlineError where `out` cannot be such a page.
    """
    check_page(out)
    section = section_of(found)
    title = section.findings[0].run if section.findings else section.title
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "title": title,
        "headlines": [finding.to_json() for finding in section.findings],
        "measurements": [m.model_dump(mode="json") for m in found],
        "tables": [table.model_dump(mode="json") for table in found.tables],
        "sections": [section.to_json()],
    }
    write_text(out.with_suffix(".json"), json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
    write_text(out, render(title, [], [section], ""))
    return out


def check_page(out: Path) -> None:
    """Raise LeadlineError where `out` cannot be a page with a JSON beside it."""
    if out.suffix == ".json" or out.is_dir():
        raise LeadlineError(f"--out names the page, an HTML file with a JSON beside it (flips.html), not {out}")

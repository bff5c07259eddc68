"""A TheoryResult -> one page, its figures as SVG files, and a JSON."""

from leadline.report.lab.page import PAGES, build_lab

__all__ = ["PAGES", "build_lab"]

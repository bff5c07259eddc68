"""Runs -> one self-contained HTML page and a JSON beside it. Draws and words what was measured; computes no number."""

from leadline.report.content import Section
from leadline.report.page import build
from leadline.report.sections import SECTIONS

__all__ = ["SECTIONS", "Section", "build"]
